"""Agreement against published examples, scikit-learn and crowd-kit."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from silvertune.stats import rater_agreement
from silvertune.votes import WHOLE_ITEM, table

CLASSES = ["a", "b", "c"]


def ratings(votes: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    return rater_agreement.ratings(votes, classes, whole_item=WHOLE_ITEM)


def long(rows: list[str]) -> pd.DataFrame:
    """One string a rater, one letter a unit, `.` where there is no label."""
    return pd.DataFrame(
        [
            {"task": unit, "worker": rater, "label": None if letter == "." else letter}
            for rater, letters in enumerate(rows)
            for unit, letter in enumerate(letters)
        ]
    )


@pytest.mark.parametrize(
    ("rows", "alpha"),
    [
        (["0100000010", "1110010000"], 0.095),  # Krippendorff 2011, A
        (["aabbdcccedda", "babbbccceddd"], 0.692),  # B
        (["123321412...", "1233224125.3", ".3332342251.", "12332441251."], 0.743),  # C
    ],
)
def test_krippendorffs_alpha_of_the_published_examples(rows: list[str], alpha: float) -> None:
    rated = long(rows)
    assert rater_agreement.krippendorff_alpha(rated["task"], rated["label"]) == pytest.approx(alpha, abs=6e-4)


@given(st.lists(st.text("abc.", min_size=7, max_size=7), min_size=2, max_size=4))
@settings(deadline=None, max_examples=60)
def test_krippendorffs_alpha_is_crowd_kits_where_that_is_defined(rows: list[str]) -> None:
    from crowdkit.metrics.data import alpha_krippendorff  # takes seconds to import

    rated = long(rows)
    mine = rater_agreement.krippendorff_alpha(rated["task"], rated["label"])
    given = rated.dropna()
    paired = given[given.groupby("task")["label"].transform("size") >= 2]
    if paired["label"].nunique() < 2:
        assert np.isnan(mine)
    else:
        assert mine == pytest.approx(alpha_krippendorff(paired))


def votes(said: dict[str, str]) -> pd.DataFrame:
    return table(
        [
            {
                "item_id": f"i{k}",
                "annotator": who.split(":")[0],
                "view": who.split(":")[1] if ":" in who else "item",
                "label": None if letter == "." else letter,
            }
            for who, letters in said.items()
            for k, letter in enumerate(letters)
        ],
        CLASSES,
    )


@given(st.text("abc.", min_size=6, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_pairs_agree_with_scikit_learn_and_crosstabs_with_pandas(one: str, random: "np.random.Generator") -> None:
    other = "".join(random.choice("abc.") for _ in one)  # type: ignore[arg-type]
    rated = ratings(votes({"x": one, "m:text": other}), CLASSES)
    assert list(rated) == ["x", "m:text"]
    common = [(a, b) for a, b in zip(one, other, strict=True) if "." not in (a, b)]
    crosses = rater_agreement.crosstabs(rated, CLASSES)
    assert {(row["label_a"], row["label_b"]): row["n"] for _, row in crosses.iterrows()} == (
        {(a, b): common.count((a, b)) for a in CLASSES for b in CLASSES} if common else {}
    )
    pairs = rater_agreement.pairs(crosses)
    if not common:
        assert pairs.empty
        return
    mine, yours = zip(*common, strict=True)
    assert pairs.loc[0, "n"] == len(common)
    assert pairs.loc[0, "agreement"] == pytest.approx(np.mean([a == b for a, b in common]))
    if len({*mine, *yours}) > 1:
        assert pairs.loc[0, "kappa"] == pytest.approx(cohen_kappa_score(mine, yours))
    else:
        assert np.isnan(pairs.loc[0, "kappa"])


def test_shared_errors_by_hand() -> None:
    rated = ratings(votes({"x": "abbac.", "y": "abbbbb"}), CLASSES)
    true = rater_agreement.codes(pd.Series(list("aaaaaa")), CLASSES)
    row = rater_agreement.shared_errors(rated, true).iloc[0]
    assert row["either_wrong"] == 4  # 1, 2, 3, 4; x has no label for 5
    assert row["same_error"] == 2 / 4
    unknown = rater_agreement.shared_errors(rated, np.full(6, -1)).iloc[0]
    assert unknown["either_wrong"] == 0
    assert np.isnan(unknown["same_error"])


def test_alphas_of_views_repeats_and_annotators() -> None:
    cast = pd.concat([votes({"m:json": "abcabc", "m:text": "abcabb", "n:json": "ab.abc"}), votes({"m:json": "aaaaab"})])
    cast.loc[cast.duplicated(["item_id", "annotator", "view"]), "repeat"] = 1
    found = rater_agreement.alphas(cast, votes({"x": "aabb"})).set_index(["between", "of"])["alpha"]
    assert set(found.index) == {
        ("all votes", "the labeler"),
        ("annotators", "view json"),
        ("views", "m"),
        ("repeats", "m"),
    }
    counts = rater_agreement.alphas(cast, cast.iloc[:0]).set_index(["between", "of"])["n"]
    assert counts["annotators", "view json"] == 10  # n has no label for one of six
    assert found["annotators", "view json"] == 1
    assert found["views", "m"] < 1
    assert found["repeats", "m"] < 0.5
    from_one = cast.assign(repeat=cast["repeat"] + 1)
    pd.testing.assert_frame_equal(ratings(from_one, CLASSES), ratings(cast, CLASSES))
    assert rater_agreement.alphas(from_one, cast.iloc[:0])["n"].tolist() == counts.tolist()


def test_nothing_to_compare() -> None:
    none = votes({"x": "..."})
    assert rater_agreement.alphas(none, none.iloc[:0]).empty
    assert rater_agreement.crosstabs(ratings(none.iloc[:0], CLASSES), CLASSES).empty
    assert rater_agreement.pairs(rater_agreement.crosstabs(ratings(none, CLASSES), CLASSES)).empty


def test_of_a_crowd_those_with_the_most_votes_are_compared() -> None:
    crowd = votes({f"w{k:03d}": "ab" for k in range(300)} | {"busy": "abcabc"})
    assert "busy" in ratings(crowd, CLASSES)
    assert ratings(crowd, CLASSES).shape == (6, rater_agreement.MOST_RATERS)


def test_two_raters_of_one_name_are_one_and_the_first_of_its_votes_counts() -> None:
    on_view, on_item = votes({"m:json": "ab."}), votes({"m:json": "ccc"}).assign(annotator="m:json", view=WHOLE_ITEM)
    assert ratings(pd.concat([on_view, on_item]), CLASSES)["m:json"].tolist() == [0, 1, -1]
    assert ratings(pd.concat([on_item, on_view]), CLASSES)["m:json"].tolist() == [2, 2, 2]


def test_many_items_take_linear_time() -> None:
    def computed(n: int) -> tuple[float, float]:
        """Alpha, and the seconds of this process that it took: others on the machine do not count."""
        unit, label = np.tile(np.arange(n), 2), np.random.default_rng(0).choice(CLASSES, 2 * n)
        started = time.process_time()
        alpha = rater_agreement.krippendorff_alpha(pd.Series(unit), pd.Series(label))
        return alpha, time.process_time() - started

    alpha, seconds = computed(100_000)
    assert alpha == pytest.approx(0, abs=0.02)
    # On a slow machine: eight times the items take eight times as long, and 64 times where time grows with the square.
    assert seconds < 3 or seconds < 20 * computed(12_500)[1]
