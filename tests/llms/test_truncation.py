import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silvertune.llms.truncation import LEFT_OUT, fit, longest, tokens

ROWS, COLUMNS = 60, 12


def cell(row: int, column: int) -> str:
    return f"{'head' if row < 4 else 'row' if column == 0 else 'x'}{row}_{column}"


GRID = [[cell(i, j) for j in range(COLUMNS)] for i in range(ROWS)]
AS_COLUMNS = json.dumps({str(j): {str(i): GRID[i][j] for i in range(ROWS)} for j in range(COLUMNS)})
AS_ROWS = json.dumps(GRID)
AS_LINES = "\n".join(" | ".join(row) for row in GRID)


@pytest.mark.parametrize("text", [AS_COLUMNS, AS_ROWS, AS_LINES])
def test_a_long_table_keeps_its_header_rows_and_its_first_column(text: str) -> None:
    cut = fit(text, tokens(text) // 3)
    assert tokens(cut) <= tokens(text) // 3
    assert LEFT_OUT in cut
    for row in range(4):
        assert all(GRID[row][j] in cut for j in range(COLUMNS))
    assert all(f"row{i}_0" in cut for i in range(4, ROWS))
    assert f"x{ROWS - 1}_{COLUMNS - 1}" not in cut


def test_a_cut_table_is_still_of_its_form() -> None:
    assert json.loads(fit(AS_COLUMNS, 500))["0"]["0"] == "head0_0"
    assert json.loads(fit(AS_ROWS, 500))[0][0] == "head0_0"


def test_a_table_too_long_even_for_that_keeps_its_first_rows() -> None:
    cut = fit(AS_LINES, 60)
    assert cut.startswith("head0_0 | head0_1")
    assert tokens(cut) <= 60


@given(st.text(min_size=0, max_size=400), st.integers(50, 120))
def test_it_never_exceeds_and_never_touches_what_fits(text: str, most: int) -> None:
    cut = fit(text, most)
    assert tokens(cut) <= most
    assert tokens(text) > most or cut == text


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_cut(content: object) -> None:
    text = json.dumps(content) * 1
    assert tokens(fit(text + " " * 200, 50)) <= 50


def test_prose_keeps_its_beginning_and_its_end() -> None:
    cut = fit("begin " + "middle " * 500 + "end", 100)
    assert cut.startswith("begin")
    assert cut.endswith("end")
    assert LEFT_OUT in cut


@given(st.text(max_size=400), st.integers(0, 90), st.integers(1, 4))
def test_the_longest_rendering_within_a_limit_is_found(text: str, limit: int, bytes_a_token: int) -> None:
    def rendered(most: int) -> tuple[str, int]:
        shown = f"<{fit(text, most)}>"
        return shown, -(-len(shown.encode()) // bytes_a_token)

    whole = tokens(text)
    shown, most = longest(rendered, whole, limit)
    if shown is None:
        assert rendered(0)[1] > limit
        return
    assert (shown, rendered(most)[1] <= limit) == (rendered(most)[0], True)
    if rendered(whole)[1] <= limit:
        assert most == whole
    else:
        assert most < whole


def test_little_of_the_room_is_left_over() -> None:
    text = "word " * 2000

    def rendered(most: int) -> tuple[str, int]:
        shown = fit(text, most)
        return shown, len(shown.split())

    shown, most = longest(rendered, tokens(text), 500)
    assert shown is not None
    assert 450 < len(shown.split()) <= 500
    assert most < tokens(text)
