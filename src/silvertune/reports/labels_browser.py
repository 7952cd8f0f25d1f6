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
from collections.abc import Iterable, Mapping, Sequence
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
from silvertune.reports import item_text
from silvertune.votes import WHOLE_ITEM, prob_columns

FILE = "labels_browser.html"
COLUMNS = ("item_id", "group_id", "annotator", "gold")
"""What the page can leave out besides views. Items and annotators are numbered then."""
LONGEST_VIEW = 20_000
"""Bytes of one view of an item that the page shows at most."""
ALL_VIEWS = 12_000_000
"""Bytes of all views together; where they have more, the longest are cut further."""
LARGEST_PAGE = 20_000_000
"""Bytes. A page that is larger in spite of the cuts shows fewer items."""
MOST_VOTES = 60
"""So many votes on an item are shown at most."""
SHOWS = {
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
        items: How many items it shows at most; of more, a sample. 0: there is no page.
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
    while True:
        text = _html(title, _content(run, findings, settings, n_items), settings)
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


def _content(run: LabelledItems, findings: Sequence[Finding], settings: Settings, n_items: int) -> dict[str, Any]:
    """Everything that the script reads."""
    shown = run.items.iloc[_sample(run.items.index, n_items)]
    left_out = settings.leave_out
    marks = item_marks.of_items(shown.index, run.decisions, run.votes, run.predictions, run.gold)
    if any(finding.items.get("show") == "copies" for finding in findings):
        keys = copy_keys(shown)
        marks["copies"] = keys.duplicated(keep=False) & (keys != "")
    if "gold" in left_out:
        hidden = [name for name in marks if "wrong" in str(name) or "right" in str(name)]
        marks, findings = marks.drop(columns=hidden), []
    shows = [name for name in SHOWS if name in marks and (marks[name].any() or name in ("dropped", "doubted"))]
    views = [name for name in views_of(shown) if name not in left_out]
    texts, n_cut = _views(shown, views)
    votes = _votes(run, shown.index, _Names("annotator" in left_out), "gold" in left_out)
    decisions, predictions = _decisions(run.decisions, shown.index), _predictions(run, shown.index)
    gold = run.gold.reindex(shown.index)
    rows: list[dict[str, Any]] = []
    for k, (item_id, group) in enumerate(zip(shown.index, shown["group_id"], strict=True)):
        rows.append(
            {
                "id": f"item {k + 1}" if "item_id" in left_out else str(item_id),
                "group": None if "group_id" in left_out else _plain(group),
                "gold": None if "gold" in left_out else _plain(gold.iloc[k]),
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
        "shows": [[name, *SHOWS[name]] for name in shows],
        "findings": [[one.sentence, fragment(one) if _can_be_shown(one, shows, left_out) else ""] for one in findings],
        "notes": _notes(len(run.items), len(shown), n_cut, left_out),
        "items": rows,
    }


def _can_be_shown(finding: Finding, shows: Sequence[str], left_out: frozenset[str]) -> bool:
    """Whether the page has the items behind a finding."""
    if not finding.items or ("annotator" in left_out and {"annotator", "rater", "other_rater"} & set(finding.items)):
        return False
    return finding.items.get("show", shows[0]) in shows


def _sample(item_ids: pd.Index, n_items: int) -> np.ndarray:
    """The positions of at most `n_items` items, in their order.

    They are drawn by a digest of their ids, so that the pages of all arms of a study show the same items.
    """
    if len(item_ids) <= n_items:
        return np.arange(len(item_ids))
    digests = pd.util.hash_array(item_ids.to_numpy(dtype=object), hash_key="silvertune-items", categorize=False)
    return np.sort(np.argsort(digests, kind="stable")[:n_items])


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


class _Names:
    """The names of annotators, or numbers in their place."""

    def __init__(self, is_hidden: bool) -> None:
        self._is_hidden = is_hidden
        self._numbers: dict[str, int] = {}

    def __call__(self, annotator: object) -> str:
        name = str(annotator)
        return f"annotator {self._numbers.setdefault(name, len(self._numbers) + 1)}" if self._is_hidden else name


def _votes(run: LabelledItems, item_ids: pd.Index, names: _Names, is_blind: bool) -> dict[Any, list[Any]]:
    """[stage, annotator, view, repeat, label, confidence, status, distribution] of every vote on each item.

    Where gold is left out, so are the annotations that came with the data: an expert's are gold by another name.
    """
    key = ["item_id", "annotator", "view", "repeat"]
    votes = run.votes[run.votes["item_id"].isin(item_ids)]
    recorded = run.annotations[run.annotations["item_id"].isin(item_ids) & ~is_blind]
    both = pd.concat([votes, recorded.assign(stage="with the data")]) if len(recorded) else votes
    both = both[~both.duplicated(key)]  # a labeler's votes that are also among the annotations
    distributions = _distributions(both, run.classes)
    columns = ["item_id", "stage", "annotator", "view", "repeat", "label", "confidence", "status"]
    by_item: dict[Any, list[Any]] = {}
    for row, probs in zip(both[columns].itertuples(index=False, name=None), distributions, strict=True):
        item_id, stage, annotator, view, repeat, label, confidence, status = row
        of_item = by_item.setdefault(item_id, [])
        of_item.append([stage, names(annotator), view, int(repeat), _plain(label), _number(confidence), status, probs])
    return {item: [*of_item[:MOST_VOTES], *_more(len(of_item) - MOST_VOTES)] for item, of_item in by_item.items()}


def _more(count: int) -> list[Any]:
    """In the place of votes that are not shown: how many."""
    return [count] if count > 0 else []


def _decisions(decisions: pd.DataFrame, item_ids: pd.Index) -> dict[Any, list[Any]]:
    """What the folds decided of each item; folds that decided the same are one row."""
    of_items = decisions[decisions.index.isin(item_ids)]
    scores = [str(name) for name in decisions if str(name).startswith("score:")]
    columns = ["label", "confidence", "keep", "weight", "reason", "train_label", "source", *scores]
    by_item: dict[Any, dict[tuple[Any, ...], list[int]]] = {}
    rows = of_items.reindex(columns=columns).itertuples(index=False, name=None)
    for item_id, fold, row in zip(of_items.index, of_items["fold"], rows, strict=True):
        values = tuple(_number(value) if isinstance(value, float) else _plain(value) for value in row)
        by_item.setdefault(item_id, {}).setdefault(values, []).append(int(fold))
    names = ["label", "confidence", "keep", "weight", "reason", "train_label", "source"]
    return {
        item_id: [
            dict(zip(names, values, strict=False))
            | {"folds": folds, "scores": dict(zip(scores, values[len(names) :], strict=True))}
            for values, folds in of_item.items()
        ]
        for item_id, of_item in by_item.items()
    }


def _predictions(run: LabelledItems, item_ids: pd.Index) -> dict[Any, list[Any]]:
    """[fold, label, distribution] of every prediction of each item."""
    table = run.predictions[run.predictions.index.isin(item_ids)]
    if "label" not in table:
        return {}
    by_item: dict[Any, list[Any]] = {}
    folds: Iterable[Any] = table["fold"] if "fold" in table else [0] * len(table)
    rows = zip(table.index, folds, table["label"], _distributions(table, run.classes), strict=True)
    for item_id, fold, label, probs in rows:
        by_item.setdefault(item_id, []).append([int(fold), _plain(label), probs])
    return by_item


def _distributions(table: pd.DataFrame, classes: Sequence[str]) -> list[list[float] | None]:
    """The probabilities of the classes in each row; None where it has none."""
    columns = prob_columns(classes)
    if not set(columns) <= set(table.columns):
        return [None] * len(table)
    probs = table[columns].to_numpy(dtype=float)
    is_known = ~np.isnan(probs).any(axis=1)
    return [row if known else None for row, known in zip(probs.round(4).tolist(), is_known, strict=True)]


def _notes(n_items: int, n_shown: int, n_cut: int, left_out: frozenset[str]) -> list[str]:
    """What the page does not show."""
    notes = []
    if n_shown < n_items:
        notes.append(f"A random sample: {n_shown:,} of {n_items:,} items, the same in every arm of a study. Numbers "
                     "on the buttons count items of the sample.")  # fmt: skip
    if n_cut:
        views = "view is" if n_cut == 1 else "views are"
        notes.append(f"{n_cut:,} {views} too long for this page, and cut where it says so.")
    if left_out:
        notes.append(f"Left out by tracking.labels_browser.leave_out: {', '.join(sorted(left_out))}.")
    return notes


def _plain(value: Any) -> Any:
    """A value that JSON has."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return None if pd.isna(value) else str(value)


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 4)
