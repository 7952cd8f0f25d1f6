"""The page with the items: what it holds, what it leaves out, and that no text of an item becomes a part of it."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pandas as pd
import pytest
from tests import made

from silvertune.evaluation.findings import Finding
from silvertune.items import views_of
from silvertune.reports import item_records, labels_browser
from silvertune.reports.labels_browser import LabelledItems, Settings

HOSTILE = (
    "<script>document.title='hacked'</script>", "</script><img src=x onerror=\"document.title='hacked'\">", "<!--",
    "\u2028\u2029\x00]]>", "${document.title='hacked'}", "&lt;b&gt;'\"`", "\u202egnp.exe",
)  # fmt: skip


def labelled(n: int = 24) -> LabelledItems:
    data = made.data(n)
    votes = made.votes(data.items, data.gold, wrong=0.3, null=0.1).assign(stage="labeler")
    label = pd.Series(["soe"] * n, index=data.items.index, dtype=object)
    label.iloc[0] = None
    keep = pd.Series([k % 3 > 0 for k in range(n)], index=data.items.index)
    pool = pd.DataFrame({
        "label": label, "confidence": [0.5 + k / 100 for k in range(n)], "keep": keep & label.notna(),
        "weight": 1.0, "reason": ["" if kept else "agreement" for kept in keep], "score:margin": 0.123456,
        "train_label": label.where(keep, None), "source": ["labeler" if kept else "dropped" for kept in keep],
    })  # fmt: skip
    probs = {"prob:other": 0.25, "prob:soe": 0.75}
    predictions = pd.DataFrame({"label": "soe", "fold": [k % 2 for k in range(n)], **probs}, index=data.items.index)
    decisions = pd.concat([pool.assign(fold=0), pool.assign(fold=1)])
    return LabelledItems(
        items=data.items, classes=made.SOE.classes, gold=data.gold, annotations=data.annotations, votes=votes,
        decisions=decisions, predictions=predictions,
    )  # fmt: skip


class _Parts(HTMLParser):
    """The tags of a page, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)
            self._in_script = False


def content(page: str) -> Any:
    """What the page's script reads."""
    return json.loads(gzip.decompress(base64.b64decode(_Parts(page).scripts[0])))


def made_page(run: LabelledItems | None = None, findings: tuple[Finding, ...] = (), **settings: Any) -> str:
    return labels_browser.page(run or labelled(), findings, "filtered/tfidf/s0", Settings(**settings))


def test_an_item_with_everything_that_is_known_of_it() -> None:
    shown = content(made_page())
    assert [item["id"] for item in shown["items"]] == list(labelled().items.index)
    item = shown["items"][3]
    assert (item["id"], item["group"], item["gold"]) == ("i003", "g01", "soe")
    (name, blocks, is_cut), second = item["views"]
    assert (name, is_cut, second[0]) == ("json", False, "text")
    assert blocks[0][0][-1] == "row3"
    assert {vote[0] for vote in item["votes"]} == {"labeler", "with the data"}
    of_machine = [vote for vote in item["votes"] if vote[1] == "machine"]
    assert [vote[2] for vote in of_machine] == ["json", "text"]
    assert item["decisions"] == [
        {"folds": [0, 1], "label": "soe", "confidence": 0.53, "keep": False, "weight": 1.0, "reason": "agreement",
         "train_label": None, "source": "dropped", "scores": {"score:margin": 0.1235}}
    ]  # fmt: skip
    assert item["predictions"] == [[1, "soe", [0.25, 0.75]]]
    assert {"dropped", "dropped_though_right"} <= set(item["marks"])
    assert shown["items"][0]["marks"] == ["prediction_wrong", "no_label"] or "no_label" in shown["items"][0]["marks"]
    assert shown["classes"] == ["other", "soe"]


def test_the_page_stands_alone_and_lets_no_other_script_run() -> None:
    page = made_page()
    parts = _Parts(page)
    assert not [value for _, attributes in parts.tags for name, value in attributes.items() if name in ("src", "href")]
    policy = next(dict(attributes) for tag, attributes in parts.tags if "http-equiv" in attributes)["content"] or ""
    assert "default-src 'none'" in policy
    digest = base64.b64encode(hashlib.sha256(parts.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert len(parts.scripts) == 2
    for risky in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "http://",
        "https://",
        "fetch(",
    ):
        assert risky not in parts.scripts[1]
    assert "url(" not in page
    assert "@import" not in page


def hostile() -> LabelledItems:
    """Items whose ids, groups, texts, annotators, reasons and classes are an attack."""
    run = labelled(len(HOSTILE))
    ids = dict(zip(run.items.index, HOSTILE, strict=True))
    table = json.dumps([[HOSTILE[0], HOSTILE[1]], [HOSTILE[3], ""]])
    items = run.items.rename(index=ids).assign(group_id=list(HOSTILE), text=list(HOSTILE), json=table)
    return replace(
        run,
        items=items,
        gold=run.gold.rename(index=ids),
        annotations=run.annotations.iloc[:0],
        votes=run.votes.assign(item_id=run.votes["item_id"].map(ids), annotator=HOSTILE[1]),
        decisions=run.decisions.rename(index=ids).assign(reason=HOSTILE[0]),
        predictions=run.predictions.rename(index=ids),
    )


def test_no_text_of_an_item_is_a_part_of_the_page() -> None:
    findings = (Finding("odd", HOSTILE[0], {"label": HOSTILE[1]}),)
    page = labels_browser.page(hostile(), findings, HOSTILE[1], Settings())
    usual = made_page()
    assert [tag for tag, _ in _Parts(page).tags] == [tag for tag, _ in _Parts(usual).tags]
    assert "onerror" not in re.sub(r"<title>.*?</title>", "", page)
    shown = content(page)
    assert [item["id"] for item in shown["items"]] == list(HOSTILE)
    assert shown["items"][0]["views"][1][1] == [HOSTILE[0]]
    assert shown["items"][0]["views"][0][1][0][0] == list(HOSTILE[:2])


def test_the_same_run_has_the_same_bytes() -> None:
    assert made_page() == made_page()


def test_of_many_items_a_sample_is_shown_the_same_for_every_arm_and_the_page_says_so() -> None:
    run = labelled(60)
    shown = content(made_page(run, items=20))
    ids = [item["id"] for item in shown["items"]]
    assert len(ids) == 20
    assert ids == sorted(ids)
    assert "20 of 60 items" in shown["notes"][0]
    assert "up to 1 of each kind of doubt" in shown["notes"][0]
    marks = {mark for item in shown["items"] for mark in item["marks"]}
    assert {"dropped", "doubted", "wrong_and_confident", "at_random", "no_label"} <= marks
    assert {name: total for name, _, _, total in shown["shows"]}["no_label"] == 1
    other_arm = replace(run, votes=run.votes.iloc[::-1], items=run.items.iloc[::-1])
    assert {item["id"] for item in content(made_page(other_arm, items=20))["items"]} == set(ids)
    assert content(made_page(run, items=60))["notes"] == []


def test_long_texts_are_cut_and_the_page_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_browser, "ALL_VIEWS", 6000)
    run = labelled()
    run.items.loc["i003", "text"] = "long " * 1000
    shown = content(made_page(run))
    text = {name: (blocks, is_cut) for name, blocks, is_cut in shown["items"][3]["views"]}["text"]
    assert text[1]
    assert 10 < len(text[0][0]) < 4000
    assert shown["items"][4]["views"][1][1:] == [[run.items["text"].iloc[4]], False]
    assert "cut where it says so" in shown["notes"][0]


def test_a_page_that_is_too_large_shows_fewer_items(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(made_page(labelled(60)))
    monkeypatch.setattr(labels_browser, "LARGEST_PAGE", whole - 1)
    page = made_page(labelled(60))
    assert len(page) < whole
    assert "30 of 60 items" in content(page)["notes"][0]


def test_of_a_crowd_the_first_votes_are_shown_and_how_many_more_there_are() -> None:
    run = labelled(4)
    crowd = made.votes_of({"item_id": "i001", "annotator": f"worker{k}", "label": "soe"} for k in range(100))
    votes = content(made_page(replace(run, votes=crowd.assign(stage="labeler"))))["items"][1]["votes"]
    assert len(votes) == item_records.MOST_VOTES + 1
    assert votes[-1] == 100 + 1 - item_records.MOST_VOTES  # and the expert's


@pytest.mark.parametrize("name", ["text", "item_id", "group_id", "annotator", "gold"])
def test_what_is_left_out_is_nowhere_in_the_page(name: str) -> None:
    run = labelled()
    secrets = {
        "text": " ".join(run.items["text"].iloc[5].split()[:6]),
        "item_id": "i005", "group_id": "g01", "annotator": "machine", "gold": "expert",
    }  # fmt: skip
    finding = Finding("unlike", "One.", {"annotator": "machine"})
    whole = json.dumps(content(made_page(run, (finding,))))
    shown = content(made_page(run, (finding,), leave_out=frozenset({name})))
    assert secrets[name] in whole
    assert secrets[name] not in json.dumps(shown)
    assert f"leave_out: {name}." in shown["notes"][-1]
    if name == "gold":
        assert not [mark for item in shown["items"] for mark in item["marks"] if "wrong" in mark or "right" in mark]
        assert {item["gold"] for item in shown["items"]} == {None}
    if name == "annotator":
        tells = Finding("unlike", "The machine hardly agrees.", {})
        page = content(made_page(run, (finding, tells), leave_out=frozenset({name})))
        assert page["findings"] == [["One.", ""]]
        assert "1 finding(s) that would tell it" in page["notes"][-1]
        assert shown["items"][0]["votes"][0][1] == "annotator 1"
        assert shown["findings"] == [["One.", ""]]


def test_scores_of_any_type_and_confidences_of_none_can_be_shown() -> None:
    run = labelled(4)
    n = len(run.decisions)
    scores: dict[str, Any] = {"score:int": range(n), "score:bool": True, "score:text": "</script>", "weight": 1}
    nothing = {"confidence": float("nan"), "score:infinite": float("inf"), "score:none": None}
    run = replace(run, decisions=run.decisions.assign(**scores, **nothing), gold=run.gold.iloc[:0])
    row = content(made_page(run))["items"][1]["decisions"][0]
    assert (row["confidence"], row["weight"]) == (None, 1)
    assert list(row["scores"].values()) == [0.1235, 1, True, "</script>", None, None]
    assert '"gold":null' in json.dumps(content(made_page(run))["items"], separators=(",", ":"))


def test_settings_that_are_wrong_are_refused() -> None:
    views = views_of(labelled().items)
    assert Settings.of({}, views) == Settings()
    read = Settings.of({"labels_browser": {"items": 7, "leave_out": ["text", "gold"]}}, views)
    assert read == Settings(7, frozenset({"text", "gold"}))
    with made.refused("tracking.labels_browser.leave_out=['txet']", "'txet'", "json, text, item_id"):
        Settings.of({"labels_browser": {"items": 7, "leave_out": ["txet"]}}, views)
    with made.refused("tracking.labels_browser.items=-1"):
        Settings.of({"labels_browser": {"items": -1, "leave_out": []}}, views)
    with made.refused("tracking.labels_browser.itmes"):
        Settings.of({"labels_browser": {"itmes": 1}}, views)


def test_a_page_tells_with_what_settings_it_was_made(tmp_path: Path) -> None:
    file = tmp_path / labels_browser.FILE
    file.write_text(made_page(leave_out=frozenset({"text", "gold"})), encoding="utf-8")
    content = {"items": 5000, "leave_out": ["text", "gold"]}
    assert labels_browser.was_made_with(file, {"labels_browser": content})
    assert not labels_browser.was_made_with(file, {"labels_browser": {**content, "leave_out": ["text"]}})
    assert not labels_browser.was_made_with(file, {})


def test_findings_lead_to_their_items() -> None:
    findings = (
        Finding("drops", "The filter drops.", {"show": "dropped", "label": "a & b=c"}),
        Finding("from_fallback", "Of no item here.", {"show": "from_fallback"}),
        Finding("nothing", "About all."),
    )
    shown = content(made_page(findings=findings))["findings"]
    assert [sentence for sentence, _ in shown] == ["The filter drops.", "Of no item here.", "About all."]
    assert parse_qs(shown[0][1]) == {"show": ["dropped"], "label": ["a & b=c"]}
    assert [fragment for _, fragment in shown[1:]] == ["", ""]


def test_copies_are_marked_where_a_finding_is_about_them() -> None:
    run = labelled()
    for view in views_of(run.items):
        run.items.loc["i007", view] = str(run.items[view].iloc[3]).upper()
    finding = Finding("copies_across_split", "One test item is a copy.", {"show": "copies"})
    marked = [item["id"] for item in content(made_page(run, (finding,)))["items"] if "copies" in item["marks"]]
    assert marked == ["i003", "i007"]


def test_a_run_without_gold_votes_or_predictions_has_a_page() -> None:
    run = labelled()
    bare = replace(
        run, gold=run.gold.iloc[:0], annotations=run.annotations.iloc[:0], votes=run.votes.iloc[:0],
        predictions=pd.DataFrame(), decisions=run.decisions.iloc[:0],
    )  # fmt: skip
    shown = content(made_page(bare))
    assert {(item["gold"], len(item["votes"]), len(item["predictions"])) for item in shown["items"]} == {(None, 0, 0)}
