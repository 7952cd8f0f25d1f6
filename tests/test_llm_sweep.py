"""The command line with an LLM behind it: what it costs, what it keeps, and what it never shows."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import cli
from tests.llms.openai_double import Double, error, serving

SECRET = "sk-planted-9Q8w7E6r5T4y3U2i1O0p"
LIMITS = "labeler.llm.openai_compatible.limits.requests_per_minute"
N = 9 * 8 * 2
"""Questions: items x views."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cli.write_tables(tmp_path)
    return tmp_path


@pytest.fixture
def double() -> Iterator[Double]:
    with serving(Double(key=SECRET)) as running:
        # It knows a schedule when it sees one, but for every tenth text.
        running.says = lambda text: "YES" if ("Procedure" in text) != (hash_of(text) % 10 == 0) else "NO"
        yield running


def hash_of(text: str) -> int:
    return sum(text.encode())


def llm(double: Double, *more: str) -> list[str]:
    name = "labeler.llm.openai_compatible"
    return ["dataset.path=tables.jsonl", "labeler=openai_compatible", f"{name}.base_url={double.url}",
            f"{name}.model=double-1", f"{name}.api_key_env=PLANTED_KEY", f"{name}.price.input=1",
            f"{name}.price.output=2", "evaluation.replicates=50",
            "evaluation.folds=2", *more]  # fmt: skip


def everything(folder: Path, *texts: str) -> bytes:
    """All that is on disk under `folder`, databases and archives included, and what was printed."""
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()) + "".join(texts).encode()


def test_a_run_asks_once_and_shows_no_part_of_its_key(folder: Path, double: Double) -> None:
    planned = cli.silvertune(folder, *llm(double, "mode=plan", f"{LIMITS}=1440"))
    assert planned.returncode == 0, planned.stderr
    assert double.received == 0
    assert not (folder / "mlruns").exists()
    words = next(
        line for line in planned.stdout.splitlines() if "openai_compatible" in line and f" {N} " in line
    ).split()
    assert words.count(str(N)) == 1
    assert "0.1 min" in planned.stdout

    checked = cli.silvertune(folder, *llm(double, "mode=check"), PLANTED_KEY=SECRET)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "fails" not in checked.stdout

    # Before anything else, a server that fails with the key in its mouth, and one that refuses it.
    double.fixed = lambda: error(400, f"bad request by {SECRET} or {SECRET[:9]}...{SECRET[-8:]}")
    failed = cli.silvertune(folder, *llm(double), PLANTED_KEY=SECRET)
    assert failed.returncode == 1
    assert "[hidden]" in failed.stderr
    double.fixed = None
    refused = cli.silvertune(folder, *llm(double), PLANTED_KEY=SECRET[:-1], HYDRA_FULL_ERROR="1")
    assert refused.returncode == 1
    assert "the server refused the key (401" in refused.stderr

    before = double.received
    done = cli.silvertune(folder, *llm(double), PLANTED_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    assert double.received - before == N
    (run,) = [run for run in cli.runs(folder, "silvertune") if run.info.status == "FINISHED"]
    assert run.data.metrics["labels/cost_usd"] == pytest.approx(N * 110e-6)

    again = cli.silvertune(folder, *llm(double, "mode=plan", "filter=none"))
    assert f"{N} calls, {N} of them already stored, and $0.00" in again.stdout
    assert double.received - before == N

    results = (planned, checked, failed, refused, done, again)
    found = everything(folder, *(text for result in results for text in (result.stdout, result.stderr)))
    assert len(found) > 100_000
    for start in range(len(SECRET) - 5):
        assert SECRET[start : start + 6].encode() not in found, SECRET[start : start + 6]


def test_a_check_tells_what_to_mend(folder: Path, double: Double) -> None:
    found = cli.silvertune(folder, *llm(double, "mode=check"))
    assert found.returncode == 1
    assert "export PLANTED_KEY" in found.stdout
    assert double.received == 0
    assert not (folder / "mlruns" / "mlflow.db").exists()


@pytest.mark.soak
def test_a_sweep_of_8_filters_and_5_seeds_asks_each_question_once(folder: Path, double: Double) -> None:
    filters = ["none", "agreement", "confidence", "random_matched", "top_k_per_class", "[agreement,confidence]",
               "[agreement,top_k_per_class]", "[confidence,top_k_per_class]"]  # fmt: skip
    sweep = ["-m", *llm(double, f"filter={','.join(filters)}", "seed=range(5)", "evaluation=holdout")]
    process = cli.start(folder, *sweep, PLANTED_KEY=SECRET)
    _, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err
    assert len(cli.runs(folder, "silvertune")) == 40
    assert double.received == N
    with sqlite3.connect(folder / "mlruns" / "cache" / "labels.sqlite") as store:
        assert store.execute("SELECT COUNT(*) FROM payments").fetchone() == (N,)
    print(f"\n40 runs, {N} questions, {double.received} requests")
