"""Adding a part: each kind by new files alone, as `docs/adding-a-part.md` shows them (`tests/extensions/`)."""

import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Run
from tests import cli

EXTENSIONS = Path(__file__).parent / "extensions"
FILES = {
    "filter": ["my_filter.py", "conf/filter/short_text.yaml"],
    "labeler": ["my_labeler.py", "conf/labeler/keywords.yaml"],
    "aggregation": ["my_aggregation.py", "conf/aggregation/unanimous.yaml"],
    "llm": ["my_llm.py", "conf/labeler/llm/rule.yaml", "conf/labeler/rule.yaml"],
    "dataset": ["my_dataset.py", "conf/dataset/lines.yaml"],
    "model": ["my_model.py", "conf/model/length.yaml"],
    "backend": ["my_backend.py", "conf/backend/processes.yaml"],
    "launcher": ["hydra_plugins/my_launcher.py", "conf/hydra/launcher/fresh_process.yaml"],
}
PARTS = ["dataset=lines", "dataset.path=lines.tsv", "aggregation=unanimous", "filter=short_text", "model=length"]
FAST = ["evaluation.replicates=50", "evaluation.folds=2", "evaluation.decision=mean"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with the examples and forty lines of data."""
    shutil.copytree(EXTENSIONS, tmp_path, dirs_exist_ok=True)
    rng = random.Random(0)
    lines = []
    for number in range(40):
        soe = number % 2 == 0
        words = ["visit", "screening"] if soe else ["dose", "mg"]
        lines.append(f"group{number % 8}\t{'soe' if soe else 'other'}\t{' '.join(rng.choices(words, k=3 + 9 * soe))}\n")
    (tmp_path / "lines.tsv").write_text("".join(lines))
    return tmp_path


def test_every_file_of_the_examples_belongs_to_a_kind_of_part() -> None:
    there = {str(file.relative_to(EXTENSIONS)) for file in EXTENSIONS.rglob("*") if file.suffix in (".py", ".yaml")}
    assert there == {file for files in FILES.values() for file in files}


@pytest.mark.parametrize("kind", FILES)
def test_an_example_is_the_size_of_a_commit(kind: str) -> None:
    lines = sum(len((EXTENSIONS / file).read_text().splitlines()) for file in FILES[kind])
    assert len(FILES[kind]) <= 3
    assert lines <= 80, f"{kind}: {lines} lines"


def test_runs_are_made_of_parts_of_a_users_own_and_their_student_labels_in_its_turn(folder: Path) -> None:
    done = cli.silvertune(
        folder, "labeler=keywords", *PARTS, *FAST, "backend=processes", "hydra/launcher=fresh_process"
    )
    assert done.returncode == 0, done.stderr
    (run,) = cli.runs(folder, "silvertune")
    check(folder, run, "keywords", "keywords")
    model = cli.client(folder).download_artifacts(run.info.run_id, "model/fold0", str(folder))
    done = cli.silvertune(folder, "labeler=tuned_model", f"labeler.path={model}", *PARTS, "model=none", *FAST)
    assert done.returncode == 0, done.stderr


def test_a_run_asks_an_llm_of_a_users_own(folder: Path) -> None:
    done = cli.silvertune(folder, "labeler=rule", *PARTS, *FAST)
    assert done.returncode == 0, done.stderr
    (run,) = cli.runs(folder, "silvertune")
    check(folder, run, "rule", "rule")


def check(folder: Path, run: Run, labeler: str, annotator: str) -> None:
    """The run is made of the parts, and they work."""
    names = {
        "dataset": "lines",
        "labeler": labeler,
        "aggregation": "unanimous",
        "filter": "short_text",
        "model": "length",
    }
    assert names.items() <= run.data.tags.items()
    assert run.data.metrics["test/f1"] > 0.9
    votes = pd.read_parquet(cli.client(folder).download_artifacts(run.info.run_id, "votes.parquet", str(folder)))
    assert set(votes["annotator"]) == {annotator}
