"""What the README shows works as it stands there: its blocks are written to files and run."""

import csv
import random
import re
import shlex
from pathlib import Path

import pytest
from tests import cli

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def write_blocks(folder: Path) -> list[str]:
    """Write the README's Python and YAML blocks under the names that they begin with; returns the names."""
    written = []
    for body in re.findall(r"```(?:python|yaml)\n(.*?)```", README, flags=re.DOTALL):
        name = re.search(r"^# ((?:conf|experiments|my_filters)\S*)", body, flags=re.MULTILINE)
        assert name is not None, body
        path = folder / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
        written.append(name[1])
    return written


def write_reviews(path: Path) -> None:
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["review_id", "customer", "title", "body", "checked", "crowd_share", "gpt_label", "gpt_confidence"]
        )
        for k in range(90):
            bad = k % 3 == 0
            body = " ".join(rng.choices(["broken", "refund", "late"] if bad else ["great", "thanks", "love"], k=6))
            said = "unsure" if k % 20 == 7 else "yes" if bad != (rng.random() < 0.1) else "no"
            share = min(max(0.7 * bad + rng.random() * 0.4, 0), 1)
            rows.writerow(
                [f"r{k}", f"c{k % 15}", "Review", body, int(bad), f"{share:.2f}", said, f"{rng.uniform(0.8, 1):.2f}"]
            )


def test_its_filter_its_data_set_and_its_study_work(tmp_path: Path) -> None:
    names = write_blocks(tmp_path)
    assert names == [
        "my_filters.py",
        "conf/filter/short_text.yaml",
        "conf/dataset/mine.yaml",
        "conf/task/mine.yaml",
        "conf/task/complaints.yaml",
        "conf/dataset/messages.yaml",
        "experiments/mine.yaml",
    ]
    write_reviews(tmp_path / "reviews.csv")
    study = cli.silvertune(tmp_path, "experiments=mine", "study.seeds=1", "evaluation.replicates=50")
    assert study.returncode == 0, study.stderr
    assert len(cli.runs(tmp_path, "mine")) == 4

    cli.write_tables(tmp_path)
    commands = re.findall(r"^(silvertune .*short_text.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        done = cli.silvertune(tmp_path, *command.split()[1:], "labeler=expert", "evaluation.replicates=50")
        assert done.returncode == 0, done.stderr
    kept = {run.data.tags["arm"]: run.data.metrics["labels/kept_fraction"] for run in cli.runs(tmp_path, "silvertune")}
    assert set(kept) == {"expert/none", "expert/short_text", "expert/random_matched"}
    assert kept["expert/random_matched"] == kept["expert/short_text"]


MISTAKES: dict[str, tuple[str, str, list[str]]] = {
    "Could not find 'filter/shrt_text'": ("", "", ["filter=shrt_text"]),
    "filter.short_text.longset: no such setting": ("", "", ["filter.short_text.longset=500"]),
    "filter.short_text.lables: my_filters.short_text needs it": ("labels:", "lables:", []),
    "filter.short_text: my_filters.short_text asks for gold": ("longest: int", "longest: int, gold", []),
    "its answer is indexed by item_id, each once": (".fillna(0)", ".reset_index(drop=True)", []),
    "TypeError: Invalid comparison between dtype=int64 and str (my_filters.py:7)": (
        "", "", ["filter.short_text.longest=abc"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", MISTAKES)
def test_its_filter_written_wrong_is_told_as_it_shows(tmp_path: Path, told: str) -> None:
    assert told in README
    right, wrong, overrides = MISTAKES[told]
    write_blocks(tmp_path)
    module = tmp_path / "my_filters.py"
    module.write_text(module.read_text().replace(right, wrong) if right else module.read_text())
    cli.write_tables(tmp_path)
    done = cli.silvertune(tmp_path, "dataset.path=tables.jsonl", "labeler=expert", "filter=short_text", *overrides)
    assert done.returncode != 0
    assert told in done.stderr


def test_its_labelling_by_an_llm_can_be_planned(tmp_path: Path) -> None:
    write_blocks(tmp_path)
    with (tmp_path / "messages.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["message_id", "customer", "subject", "body", "checked"])
        rows.writerows([f"m{k}", f"c{k % 5}", "Order", f"Text {k}", k % 2] for k in range(20))
    planned = cli.silvertune(
        tmp_path, "dataset=messages", "task=complaints", "labeler=gemini", "mode=plan", GEMINI_API_KEY="none"
    )
    assert planned.returncode == 0, planned.stderr
    assert "labelling all items takes at most 20 calls, 0 of them already stored" in planned.stdout
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


def test_what_it_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    for link in links:
        assert (Path(__file__).parents[1] / link).exists(), link


def test_people_answer_in_a_spreadsheet_as_it_says(tmp_path: Path) -> None:
    write_blocks(tmp_path)
    write_reviews(tmp_path / "reviews.csv")
    (command,) = re.findall(r"^silvertune (dataset=mine .*budgeted_answer_sheet.*)$", README.replace("\\\n", ""), re.M)
    # Seven of each of two pools, for speed.
    given = shlex.split(command.replace("budget.items=50", "budget.items=7"))
    given += ["evaluation.folds=2", "evaluation.replicates=20"]
    plan = cli.silvertune(tmp_path, *given, "mode=plan")
    assert "at most 14 calls" in plan.stdout, plan.stderr
    waiting = cli.silvertune(tmp_path, *given)
    assert waiting.returncode == 1
    assert "wait for an answer" in waiting.stderr
    with (tmp_path / "answers.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 7 <= len(rows) <= 14
    with (tmp_path / "answers.csv").open("w", encoding="utf-8-sig", newline="") as file:
        sheet = csv.DictWriter(file, list(rows[0]))
        sheet.writeheader()
        sheet.writerows(row | {"label": "complaint" if "Review: broken" in row["text"] else "other"} for row in rows)
    done = cli.silvertune(tmp_path, *given)
    assert done.returncode == 0, done.stderr
    (run,) = [run for run in cli.runs(tmp_path, "silvertune") if run.info.status == "FINISHED"]
    assert run.data.metrics["labels/human_labels"] == len(rows)
    assert 0 <= run.data.metrics["labels/audit_noise"] <= 1
