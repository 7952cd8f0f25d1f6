"""`silvertune-cascade`: a threshold on labels that the model was not tuned on, its curve, and what it refuses."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest
from tests import cli
from tests.production.conftest import COLUMNS, TASK

from silvertune.production import cascade, model, populations
from silvertune.tracking import models

SURE = ["green leaf", "hot cup", "black brew", "barrel price", "crude well"]
UNSURE = ["cup price", "leaf well"]


@pytest.fixture(scope="module")
def labelled(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 rows: the labeler says what the model says where it is sure, and a coin's side else."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("labelled") / "rows.csv"
    rows = [
        {
            "id": f"r{k}",
            "a": "",
            "b": f"{rng.choice(SURE if k % 4 else UNSURE)} {k}",
            "g": k // 4,
            "h": "" if k < 2 else k,
        }
        for k in range(400)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    loaded = model.from_folder(folder)
    said = populations.predict(loaded, COLUMNS, [(str(path), "csv")]).table["label"]
    for k, row in enumerate(rows):
        row["llm"] = said[f"r{k}"] if k % 4 else rng.choice(["oil", "tea"])
    rows[0]["llm"] = ""
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def status_of(*arguments: object) -> int | str | None:
    return cli.status_of(cascade.main, *arguments)


def test_it_chooses_the_lowest_confidence_that_keeps_the_bound(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    arguments = (folder, labelled, "--labels-in", "llm", "--out", out, "--labeler-dollars", 2, "--labeler-seconds", 60)
    assert status_of(*arguments) == 0
    said = capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content["model_digest"] == model.from_folder(folder).digest
    assert content["items"] == 399
    assert out.stat().st_mode & 0o777 == 0o644
    assert content["bound"] >= content["target"] == 0.95
    table = populations.predict(model.from_folder(folder), COLUMNS, [(str(labelled), "csv")]).table
    labels = pd.read_csv(labelled, keep_default_na=False).set_index("id")["llm"]
    used = table[labels.reindex(table.index) != ""]
    answered = used[used["confidence"] >= content["threshold"]]
    assert content["answered"] == len(answered) >= 200
    assert content["agreement"] == pytest.approx((answered["label"] == labels[answered.index]).mean())
    assert "1 items without a label" in said
    assert f"dollars for 1,000 items: {2 * (1 - content['share']):.3f}, the labeler alone 2.000" in said
    curve = pd.read_csv(tmp_path / "c.csv")
    assert curve["dollars_per_1000"].iloc[-1] == pytest.approx(2 * (1 - curve["share"].iloc[-1]))
    assert (tmp_path / "c.png").read_bytes()[:4] == b"\x89PNG"


def test_votes_of_a_file_are_the_labels_and_their_costs_the_dollars(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(labelled, keep_default_na=False)
    votes = pd.DataFrame({"item_id": rows["id"], "annotator": "llm", "label": rows["llm"], "cost_usd": 0.003})
    other = votes.assign(annotator="other", label="oil")
    file = tmp_path / "votes.csv"
    pd.concat([votes[votes["label"] != ""], other]).to_csv(file, index=False)
    out = tmp_path / "c.json"
    assert status_of(folder, labelled, "--votes", file, "--annotator", "llm", "--out", out) == 0
    assert json.loads(out.read_text())["labeler_dollars_per_1000"] == pytest.approx(3)
    assert json.loads(out.read_text())["items"] == 399
    assert "the labeler alone 3.000" in capsys.readouterr().out


def test_where_no_threshold_keeps_the_bound_only_the_curve_is_written(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "c.json"
    arguments = (folder, labelled, "--labels-in", "llm", "--target", 0.999, "--out", out)
    assert status_of(*arguments) == cascade.NO_THRESHOLD
    said = capsys.readouterr().out
    assert "no threshold keeps an agreement of 0.999 at 95%" in said
    assert "all answers together, 399 items, can't show it and agree in 0.8" in said
    assert "at least 2995 items that count each for itself are needed" in said
    assert not out.exists()
    assert (tmp_path / "c.csv").exists()


def test_copies_of_a_text_are_told_and_a_group_allows_for_them(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(labelled, keep_default_na=False)
    copies = tmp_path / "rows.csv"
    rows.assign(b=["hot cup" if k < 30 else text for k, text in enumerate(rows["b"])]).to_csv(copies, index=False)
    arguments = (folder, copies, "--labels-in", "llm", "--target", 0.7, "--out", tmp_path / "c.json")
    status_of(*arguments)
    assert "28 items repeat the text of another (one text is there 29 times)" in capsys.readouterr().out
    alone = pd.read_csv(tmp_path / "c.csv")
    status_of(*arguments, "--group", "b")
    assert "repeat the text" not in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "c.csv")["effective"].iloc[-1] < alone["effective"].iloc[-1]


def test_groups_make_fewer_items_count(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (folder, labelled, "--labels-in", "llm", "--target", 0.8, "--out", tmp_path / "c.json")
    assert status_of(*arguments, "--group", "g") == 0
    curve = pd.read_csv(tmp_path / "c.csv")
    assert (curve["effective"] <= curve["answered"]).all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--labels-in", "none"), "--labels-in"),
        (("--labels-in", "b"), "rows.csv:2: --labels-in=b: unknown label"),
        (("--labels-in", "llm", "--value", "1=coffee"), "--value=1=coffee: want VALUE=CLASS, of oil, tea"),
        (("--labels-in", "llm", "--target", "1"), "--target=1.0: want a number above 0"),
        (("--labels-in", "llm", "--group", "nowhere"), "--group"),
        (("--labels-in", "llm", "--out", "c.txt"), "--out=c.txt: want a .json file"),
        (("--votes", "nowhere.csv"), "--votes=nowhere.csv: can't be read"),
        (("--labels-in", "llm", "--group", "h"), "rows.csv:3: --group=h: the item has a label and no group"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, labelled: Path, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    said = str(status_of(folder, labelled, "--out", tmp_path / "c.json", *arguments))
    assert said.startswith("silvertune-cascade: ")
    assert line in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_read_is_not_written_over(folder: Path, labelled: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(labelled, keep_default_na=False)
    mine, votes = tmp_path / "mine.csv", tmp_path / "votes.csv"
    rows.to_csv(mine, index=False)
    rows[["id", "llm"]].set_axis(["item_id", "label"], axis=1).assign(annotator="llm").to_csv(votes, index=False)
    before = {file: file.read_bytes() for file in (mine, votes)}
    for labels, out in ((("--labels-in", "llm"), "mine.json"), (("--votes", votes), "votes.json")):
        said = str(status_of(folder, mine, *labels, "--out", tmp_path / out))
        assert f"{tmp_path / out}: {(tmp_path / out).with_suffix('.csv')} would be written over" in said
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_items_that_the_model_was_tuned_on_do_not_count(
    folder: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = model.from_folder(folder)
    monkeypatch.setattr(model, "load", lambda *_: loaded)
    monkeypatch.setattr(models, "tuned_on", lambda *_: frozenset(f"r{k}" for k in range(100)))
    arguments = ("models:/tea/1", labelled, "--labels-in", "llm", "--out", tmp_path / "c.json")
    assert status_of(*arguments) == 0
    assert json.loads((tmp_path / "c.json").read_text())["items"] == 300
    assert "99 that the model was tuned on" in capsys.readouterr().out
    assert "is not known here" not in capsys.readouterr().out
    monkeypatch.setattr(models, "tuned_on", lambda *_: frozenset(f"r{k}" for k in range(400)))
    assert "the model was tuned on 400 of them" in (said := str(status_of(*arguments)))
    assert said.endswith("; want labelled items that it was not tuned on")
    monkeypatch.setattr(models, "tuned_on", lambda *_: frozenset(map(str, range(1, 401))))
    assert "name a column of ids with --id" in str(status_of(*arguments, "--id", ""))
    monkeypatch.setattr(models, "tuned_on", lambda *_: None)
    assert status_of(*arguments) == 0
    assert "which items" in (said := capsys.readouterr().out)
    assert "was tuned on is not known here, so none is left out" in said


def test_items_that_the_model_was_tuned_on_are_known_by_the_number_that_a_spreadsheet_made_of_their_id(
    folder: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = model.from_folder(folder)
    monkeypatch.setattr(model, "load", lambda *_: loaded)
    monkeypatch.setattr(models, "tuned_on", lambda *_: frozenset(f"{k:04d}" for k in range(100)))
    rows = pd.read_csv(labelled, keep_default_na=False)
    rows.assign(id=range(len(rows))).to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "c.json"
    assert status_of("models:/tea/1", tmp_path / "rows.csv", "--labels-in", "llm", "--out", out) == 0
    assert json.loads(out.read_text())["items"] == 300


@pytest.mark.parametrize("form", ["semicolons", "utf-16", "no ending", "parquet", "standard"])
def test_labels_and_groups_are_read_as_the_items_are(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    rows = pd.read_csv(labelled, keep_default_na=False).replace({"llm": {"tea": "thé"}})
    file, options = tmp_path / "rows.csv", list[str]()
    if form == "semicolons":
        rows.to_csv(file, index=False, sep=";")
        options = ["--separator", ";"]
    elif form == "utf-16":
        rows.to_csv(file, index=False, encoding="utf-16")
        options = ["--encoding", "utf-16"]
    elif form == "no ending":
        file = tmp_path / "rows"
        rows.to_csv(file, index=False)
        options = ["--format", "csv"]
    elif form == "parquet":
        file = tmp_path / "rows.parquet"
        rows.replace({"llm": {"": None}}).to_parquet(file)
    else:
        rows.to_csv(file, index=False)
    command = (folder, file, "--labels-in", "llm", "--value", "thé=tea", "--group", "g", "--target", 0.8)
    assert status_of(*command, "--out", tmp_path / "c.json", *options) == 0
    assert json.loads((tmp_path / "c.json").read_text())["items"] == 399
    assert pd.read_csv(tmp_path / "c.csv")["effective"].iloc[-1] <= 399


def test_rows_that_can_not_be_read_are_left_out_and_told(
    folder: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(labelled, keep_default_na=False, dtype=str).to_dict("records")
    lines = [json.dumps({name: value or None for name, value in row.items()}) + "\n" for row in rows]
    lines[5:5] = ["\n", "no JSON\n"]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    chosen = []
    for names in ((), ("--id", "")):  # rows that are numbered keep their labels behind one that can't be read
        command = (folder, tmp_path / "rows.jsonl", "--labels-in", "llm", *names)
        assert status_of(*command, "--out", tmp_path / "c.json") == 0
        assert "1 row(s) that can't be read (the first: " in (said := capsys.readouterr().out)
        assert "rows.jsonl:7: not JSON" in said
        chosen.append(json.loads((tmp_path / "c.json").read_text()))
    assert chosen[0]["items"] == 399
    assert chosen[0] == chosen[1]


def test_confidence_is_the_distance_from_the_decisions_threshold() -> None:
    table = pd.DataFrame({"label": ["tea", "oil", None, "oil"], "prob:tea": [0.3, 0.1, 0.9, 0.2]})
    table["prob:oil"] = 1 - table["prob:tea"]
    given = model.confidence(table, TASK, 0.2)
    assert given.tolist()[:2] == pytest.approx([0.5625, 0.75])
    assert given.isna().tolist() == [False, False, True, False]
    assert given[3] == pytest.approx(0.5)
    assert model.confidence(table, TASK, 0.5)[1] == pytest.approx(0.9)


def test_a_run_tells_its_votes_and_the_items_that_a_fold_was_tuned_on(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    place = {"uri": f"sqlite:///{tmp_path}/mlflow.db", "dir": str(tmp_path)}
    client = MlflowClient(tracking_uri=place["uri"], registry_uri=place["uri"])
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    run_id = client.create_run(experiment).info.run_id
    decisions = pd.DataFrame({"item_id": ["a", "b", "b", "c"], "fold": [0, 0, 1, 1], "keep": True})
    decisions.to_parquet(tmp_path / "decisions.parquet")
    client.log_artifact(run_id, str(tmp_path / "decisions.parquet"))
    assert models.tuned_on(f"runs:/{run_id}/model/fold1", place, tmp_path) == {"b", "c"}
    assert models.tuned_on(f"runs:/{run_id}", place, tmp_path) == {"a", "b", "c"}
    assert models.file_of_run(f"runs:/{run_id}", place, "votes.parquet", tmp_path) is None
    client.create_registered_model("tea")
    client.create_model_version("tea", str(tmp_path / "artifacts" / run_id / "artifacts" / "model" / "fold0"), run_id)
    assert models.tuned_on("models:/tea/1", place, tmp_path) == {"a", "b"}
    assert models.tuned_on("runs:/none", place, tmp_path) is None
