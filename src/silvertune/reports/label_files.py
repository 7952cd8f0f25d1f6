"""The report on a run's labels as files: tables, figures, findings, and one page with all of them."""

from pathlib import Path

from silvertune.evaluation.findings import NO_FINDING, Finding, markdown
from silvertune.evaluation.label_quality import Report, tables
from silvertune.reports import drawing, html_page, label_figures

HEADINGS = {
    "by_class": "Labels by class, before and after the filter",
    "reasons": "What was kept and dropped, and why",
    "by_view": "Votes of the labeler, by annotator and view",
    "by_fold": "Folds",
    "prevalence": "Class shares",
    "annotators": "Votes of every annotator",
    "agreement": "Agreement of every pair of annotators",
    "alphas": "Krippendorff's alpha",
    "crosstabs": "Labels of every pair of annotators",
    "rankings": "How well confidence and scores rank the wrong labels last",
}
"""The tables of the page, in its order."""
FIGURE_HEADINGS = {
    "label_noise": "Wrong labels, before and after the filter",
    "risk_coverage": "Wrong labels among the most confident ones",
    "reliability": "Confidence and accuracy",
    "prevalence": "Class shares of labels, gold and predictions",
}
MOST_ROWS = 60
"""How many rows of a table the page shows at most; its file has all."""


def write(report: Report, findings: list[Finding], folder: Path, title: str) -> None:
    """Write label_quality/<table>.csv, figures/<name>.png, findings.md and label_quality.html.

    Args:
        report: The quality of a run's labels.
        findings: Its findings.
        folder: An existing folder to write to.
        title: The name of the run, for the page's heading.
    """
    for name in ("label_quality", "figures"):
        (folder / name).mkdir(exist_ok=True)
    images = {name: drawing.png(figure) for name, figure in label_figures.draw(report).items()}
    for name, table in tables(report).items():
        table.to_csv(folder / "label_quality" / f"{name}.csv", index=False)
    for name, image in images.items():
        (folder / "figures" / f"{name}.png").write_bytes(image)
    (folder / "findings.md").write_text(markdown(findings), encoding="utf-8")
    (folder / "label_quality.html").write_text(_page(report, findings, images, title), encoding="utf-8")


def _page(report: Report, findings: list[Finding], images: dict[str, bytes], title: str) -> str:
    sentences = html_page.bullets([finding.sentence for finding in findings] or [NO_FINDING])
    pictures = "".join(
        f"<h2>{FIGURE_HEADINGS[name]}</h2>{html_page.picture(image, FIGURE_HEADINGS[name])}"
        for name, image in images.items()
    )
    table_by_name = tables(report)
    sections = "".join(
        f"<h2>{heading}</h2>"
        + html_page.wide(
            table_by_name[name].head(MOST_ROWS).to_html(index=False, border=0, float_format="{:.3f}".format, na_rep="")
        )
        + html_page.left_out(MOST_ROWS, len(table_by_name[name]), f"label_quality/{name}.csv")
        for name, heading in HEADINGS.items()
        if name in table_by_name
    )
    return html_page.page(f"Labels of {title}", sentences + pictures + sections)
