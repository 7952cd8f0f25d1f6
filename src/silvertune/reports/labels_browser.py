"""`labels_browser.html`: one self-contained page on which a person looks at the items of a run and their labels.

The page works from a file: it holds its data, its script and its style, and asks no server for anything. The data are
JSON, compressed with gzip and written in base64, so that no text of an item is ever a part of the page's HTML; the
script puts every text in as text. A policy in the page's head (Content-Security-Policy) lets no other script run.
"""

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from silvertune.errors import UserError, check_whole_number
from silvertune.evaluation import item_marks
from silvertune.evaluation.findings import Finding
from silvertune.items import copy_keys, views_of
from silvertune.reports import item_records, item_sample, item_text
from silvertune.reports.item_sample import Sample
from silvertune.votes import WHOLE_ITEM

FILE = "labels_browser.html"
COLUMNS = ("item_id", "group_id", "annotator", "gold")
"""What the page can leave out besides views. Items and annotators are numbered then."""
LONGEST_VIEW = 20_000
"""Bytes of one view of an item that the page shows at most."""
ALL_VIEWS = 12_000_000
"""Bytes of all views together; where they have more, the longest are cut further."""
LARGEST_PAGE = 20_000_000
"""Bytes. A page that is larger in spite of the cuts shows fewer items."""
SAMPLED = (
    "dropped", "doubted", "wrong_and_confident", "trained_on_wrong", "dropped_though_right", "disagree",
    "student_differs", "prediction_wrong", "from_fallback", "no_label", item_sample.COPIES,
)  # fmt: skip
"""The kinds of doubt of which a page with a sample shows some items each, however rare they are."""
RANDOM = "at_random"
SHOWS = {
    RANDOM: ("At random", "A random sample of all items, whatever is said of them; other items are shown as well."),
    "dropped": ("Dropped", "The filter drops their label."),
    "kept": ("Kept", "The filter keeps their label."),
    "doubted": (
        "Kept but doubted",
        "The filter keeps their label, and the labeler's votes disagree, or the confidence is among the lowest tenth "
        "of the kept labels, or a student that was not trained on the item predicts another class.",
    ),
    "wrong_and_confident": (
        "Wrong with confidence",
        "The label differs from gold, and its confidence is at least the median of all labels.",
    ),
    "wrong": ("Wrong", "The label differs from gold."),
    "trained_on_wrong": ("Trained on though wrong", "A student is trained on a label that differs from gold."),
    "dropped_though_right": ("Dropped though right", "The filter drops a label that is that of gold."),
    "disagree": ("Votes disagree", "The labeler's votes name different classes."),
    "student_differs": ("Student differs", "A student that was not trained on the item predicts another class."),
    "prediction_wrong": ("Prediction wrong", "The predicted class differs from gold."),
    "from_fallback": ("From the fallback", "The fallback gave the label."),
    "no_label": ("No label", "The votes came to no label."),
    "copies": ("Copies", "Another item has the same words."),
}
"""Mark -> its button and what it means, in the page's order."""


@dataclass(frozen=True)
class LabelledItems:
    """What the page shows.

    Attributes:
        items: `group_id` and the views, indexed by item_id.
        classes: The task's classes.
        gold: The gold class, by item_id.
        annotations: The votes that came with the data.
        votes: The votes of the run, with `stage`.
        decisions: One row an item and fold, indexed by item_id.
        predictions: One row a test item, indexed by item_id.
    """

    items: pd.DataFrame
    classes: Sequence[str]
    gold: pd.Series
    annotations: pd.DataFrame
    votes: pd.DataFrame
    decisions: pd.DataFrame
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Settings:
    """What the page leaves out.

    Attributes:
        items: How many items it shows at most; of more, a sample with some of every kind of doubt. 0: no page.
        leave_out: Views, and any of `COLUMNS`.
    """

    items: int = 5000
    leave_out: frozenset[str] = field(default_factory=frozenset)

    @staticmethod
    def of(tracking: Mapping[str, Any], views: Sequence[str]) -> "Settings":
        """Read the settings.

        Args:
            tracking: The configuration's `tracking`.
            views: The views of the items.

        Returns:
            The settings.

        Raises:
            UserError: `labels_browser.items` is no number from 0, or `labels_browser.leave_out` names what is not
                there: a misspelt name would show what shall not be shown.
        """
        content = tracking.get("labels_browser") or {}
        key = "tracking.labels_browser"
        if unknown := sorted(set(content) - {"items", "leave_out"}):
            raise UserError(f"{key}.{unknown[0]}: no such setting; there is items, leave_out")
        items, leave_out = content.get("items", 5000), list(content.get("leave_out") or ())
        check_whole_number(f"{key}.items", items, 0)
        if unknown := sorted(set(leave_out) - {*views, *COLUMNS}):
            raise UserError(
                f"{key}.leave_out={leave_out}: no view {unknown[0]!r}; there is {', '.join([*views, *COLUMNS])}"
            )
        return Settings(items, frozenset(leave_out))


def was_made_with(file: Path, tracking: Mapping[str, Any]) -> bool:
    """Whether a page was made with these settings.

    Args:
        file: The page.
        tracking: The configuration's `tracking`.
    """
    with file.open(encoding="utf-8") as page:
        return _mark(tracking) in page.read(10_000)


def _mark(settings: Mapping[str, Any]) -> str:
    content = settings.get("labels_browser") or {}
    words = json.dumps([content.get("items", 5000), sorted(content.get("leave_out") or ())])
    return f'<meta name="labels_browser" content="{html.escape(words)}">'


def fragment(finding: Finding) -> str:
    """The part of the page's address, behind its #, that shows the items behind a finding."""
    return urlencode(finding.items)


def page(run: LabelledItems, findings: Sequence[Finding], title: str, settings: Settings) -> str:
    """Make the page.

    Args:
        run: What it shows.
        findings: The findings of the run, each of which the page can show the items of.
        title: The name of the run.
        settings: How many items, and what is left out.

    Returns:
        The page, HTML; the same for the same run. It has at most `LARGEST_PAGE` bytes.
    """
    n_items = settings.items
    marks, copies = _marks(run, findings, settings.leave_out)
    labels = _labels(run, marks.index)
    while True:
        sample = item_sample.drawn(marks, labels, [name for name in SAMPLED if name in marks], copies, n_items)
        text = _html(title, _content(run, findings, settings, marks, sample), settings)
        if len(text) <= LARGEST_PAGE or n_items <= 1:
            return text
        n_items = min(n_items, len(run.items)) // 2


def _html(title: str, content: Mapping[str, Any], settings: Settings) -> str:
    text = json.dumps({"title": title, **content}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 6, mtime=0)).decode()
    script, style = (_beside(name) for name in ("labels_browser.js", "labels_browser.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}; form-action 'none'">
{_mark({"labels_browser": {"items": settings.items, "leave_out": settings.leave_out}})}
<title>{html.escape(title)}: items and labels</title><style>{style}</style></head><body>
<noscript>This page needs JavaScript to show its items.</noscript>
<main id="page"><p>Reading the items ...</p></main>
<script type="application/octet-stream" id="data">{data}</script>
<script>{script}</script></body></html>
"""


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _marks(
    run: LabelledItems, findings: Sequence[Finding], left_out: frozenset[str]
) -> tuple[pd.DataFrame, pd.Series | None]:
    """The marks of all items that the page may tell, and what copies have in common where a finding is about them."""
    marks = item_marks.of_items(run.items.index, run.decisions, run.votes, run.predictions, run.gold)
    keys = None
    if any(finding.items.get("show") == item_sample.COPIES for finding in findings):
        keys = copy_keys(run.items)
        marks[item_sample.COPIES] = keys.duplicated(keep=False) & (keys != "")
    if "gold" in left_out:
        marks = marks.drop(columns=[name for name in marks if "wrong" in str(name) or "right" in str(name)])
    return marks, keys


def _labels(run: LabelledItems, item_ids: pd.Index) -> pd.Series:
    """The label of each item: by its first decision, else as it is predicted."""
    predicted = run.predictions["label"] if "label" in run.predictions else pd.Series(dtype=object)
    by_source = [table[~table.index.duplicated()].reindex(item_ids) for table in (run.decisions["label"], predicted)]
    return by_source[0].astype(object).where(by_source[0].notna(), by_source[1].astype(object))


def _content(
    run: LabelledItems, findings: Sequence[Finding], settings: Settings, all_marks: pd.DataFrame, sample: Sample
) -> dict[str, Any]:
    """Everything that the script reads."""
    shown, marks = run.items.iloc[sample.positions], all_marks.iloc[sample.positions]
    left_out = settings.leave_out
    counts = {str(name): int(all_marks[name].sum()) for name in all_marks}
    if sample.quota:
        marks = marks.assign(**{RANDOM: sample.is_random})
    shows = [name for name in SHOWS if name in marks and (marks[name].any() or name in ("dropped", "doubted"))]
    shown_findings = _that_may_be_told(run, findings, left_out)
    views = [name for name in views_of(shown) if name not in left_out]
    texts, n_cut = _views(shown, views)
    # Where gold is left out, so are the annotations that came with the data: an expert's are gold by another name.
    annotations = run.annotations.iloc[:0] if "gold" in left_out else run.annotations
    names = item_records.Names("annotator" in left_out)
    votes = item_records.of_votes(run.votes, annotations, shown.index, run.classes, names)
    decisions = item_records.of_decisions(run.decisions, shown.index)
    predictions = item_records.of_predictions(run.predictions, shown.index, run.classes)
    gold = run.gold.reindex(shown.index)
    rows: list[dict[str, Any]] = []
    for k, (item_id, group) in enumerate(zip(shown.index, shown["group_id"], strict=True)):
        rows.append(
            {
                "id": f"item {k + 1}" if "item_id" in left_out else str(item_id),
                "group": None if "group_id" in left_out else item_records.plain(group),
                "gold": None if "gold" in left_out else item_records.plain(gold.iloc[k]),
                "marks": [],
                "views": texts[k],
                "votes": votes.get(item_id, []),
                "decisions": decisions.get(item_id, []),
                "predictions": predictions.get(item_id, []),
            }
        )
    for name in shows:
        for position in np.flatnonzero(marks[name].to_numpy(dtype=bool)):
            rows[position]["marks"].append(name)
    return {
        "classes": list(run.classes),
        "whole_item": WHOLE_ITEM,
        "shows": [[name, *SHOWS[name], counts.get(name, 0)] for name in shows],
        "findings": [
            [one.sentence, fragment(one) if _can_be_shown(one, shows, left_out) else ""] for one in shown_findings
        ],
        "notes": [
            *_of_sample(sample, len(run.items), shows, counts),
            *_notes(n_cut, left_out, len(findings) - len(shown_findings)),
        ],
        "items": rows,
    }


def _can_be_shown(finding: Finding, shows: Sequence[str], left_out: frozenset[str]) -> bool:
    """Whether the page has the items behind a finding."""
    if not finding.items or ("annotator" in left_out and {"annotator", "rater", "other_rater"} & set(finding.items)):
        return False
    return finding.items.get("show", shows[0]) in shows


def _that_may_be_told(run: LabelledItems, findings: Sequence[Finding], left_out: frozenset[str]) -> Sequence[Finding]:
    """The findings without those that say what is left out: what gold tells, or how annotators are called."""
    if "gold" in left_out:
        return []
    if "annotator" not in left_out:
        return findings
    names = {str(name) for table in (run.votes, run.annotations) for name in table["annotator"].unique()}
    return [finding for finding in findings if not any(name in finding.sentence for name in names)]


def _views(shown: pd.DataFrame, views: Sequence[str]) -> tuple[list[list[Any]], int]:
    """[view, blocks, whether it is cut] of each view of each item, and how many are cut."""
    texts: list[list[Any]] = [[] for _ in range(len(shown))]
    for name in views:
        for k, text in enumerate(shown[name]):
            if not pd.isna(text):
                whole = str(text)
                parts, is_cut = item_text.cut(item_text.blocks(whole[:1_000_000]), LONGEST_VIEW)
                texts[k].append([name, parts, is_cut or len(whole) > 1_000_000])
    limit = item_text.common_limit([item_text.size(view[1]) for item in texts for view in item], ALL_VIEWS)
    for item in texts:
        for view in item:
            view[1], is_cut = item_text.cut(view[1], limit)
            view[2] |= is_cut
    return texts, sum(view[2] for item in texts for view in item)


def _of_sample(sample: Sample, n_items: int, shows: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """What a page with a sample shows, and of how many."""
    n_shown = len(sample.positions)
    if n_shown == n_items:
        return []
    kinds = [SHOWS[name][0] for name in SAMPLED if name in shows and counts[name]]
    rest = (
        f" The others are up to {sample.quota:,} of each kind of doubt, from each label alike, so they say nothing of "
        f"shares: {', '.join(kinds)}. The buttons say how many of how many are here."
    )
    return [
        f"A sample: {n_shown:,} of {n_items:,} items. {int(sample.is_random.sum()):,} of them are drawn at random, by "
        f"their ids, so that the arms of a study share most of them.{rest if sample.quota else ''}"
    ]


def _notes(n_cut: int, left_out: frozenset[str], n_untold: int) -> list[str]:
    """What the page does not show."""
    notes = []
    if n_cut:
        views = "view is" if n_cut == 1 else "views are"
        notes.append(f"{n_cut:,} {views} too long for this page, and cut where it says so.")
    if left_out:
        untold = f" With it, {n_untold} finding(s) that would tell it." if n_untold else ""
        notes.append(f"Left out by tracking.labels_browser.leave_out: {', '.join(sorted(left_out))}.{untold}")
    return notes
