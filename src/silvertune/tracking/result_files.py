"""The files that are logged with a run: its tables, its figures and its pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from silvertune.evaluation import findings
from silvertune.interfaces import PredictorTraits
from silvertune.items import Data, views_of
from silvertune.reports import drawing, figures, item_records, label_files, labels_browser
from silvertune.runner import Result


def write(
    result: Result, data: Data, classes: Sequence[str], folder: Path, title: str, tracking: Mapping[str, Any]
) -> list[findings.Finding]:
    """Write the files.

    Args:
        result: What the run found.
        data: What it was computed from.
        classes: The task's classes.
        folder: An existing folder to write to.
        title: The title of the figures and pages.
        tracking: The configuration's `tracking`.

    Returns:
        The findings about the labels.
    """
    (folder / "figures").mkdir()
    for name in ("votes", "decisions", "predictions"):
        result.tables.write(name, folder / f"{name}.parquet")
    run_findings = findings.find(result.labels)
    settings = labels_browser.Settings.of(tracking, views_of(data.items))
    label_files.write(result.labels, run_findings, folder, title, has_browser=settings.items > 0)
    if settings.items:
        shown = labels_browser.LabelledItems(
            items=data.items,
            classes=classes,
            gold=data.gold,
            annotations=data.annotations,
            votes=result.votes,
            decisions=result.tables.read("decisions", [*item_records.DECIDED, "fold", "score:"]),
            predictions=result.tables.read("predictions", ["label", "prob:", "fold"]),
        )
        page = labels_browser.page(shown, run_findings, title, settings)
        (folder / labels_browser.FILE).write_text(page, encoding="utf-8", newline="\n")
    if len(result.report.groups):  # a production run tests nothing
        result.report.groups.to_csv(folder / "groups.csv")
        (folder / "figures" / "groups.png").write_bytes(drawing.png(figures.groups(result.report.groups, title)))
    if (matrix := figures.agreement(result.labels.agreement)) is not None:
        (folder / "figures" / "agreement.png").write_bytes(drawing.png(matrix))
    epochs = [
        {"fold": fold, "epoch": number, **epoch}
        for fold, student in enumerate(result.students)
        for number, epoch in enumerate(student.history)
    ]
    if epochs:
        pd.DataFrame(epochs).to_csv(folder / "tuning.csv", index=False)
    for fold, student in enumerate(result.students):
        if log := PredictorTraits.of(student.predictor).log:
            (folder / "tuning_log").mkdir(exist_ok=True)
            (folder / "tuning_log" / f"fold{fold}.txt").write_text(log, encoding="utf-8")
    return run_findings


def remove_page_of_other_settings(folder: Path, tracking: Mapping[str, Any]) -> None:
    """Remove the page with the items from a result that was kept, where it was to show something else.

    Args:
        folder: The result's files.
        tracking: The configuration's `tracking`: what the page may show now.
    """
    page = folder / labels_browser.FILE
    if page.is_file() and not labels_browser.was_made_with(page, tracking):
        page.unlink()
