"""The report on a run's labels as files: tables, figures, findings, and one page with all of them."""

import html
from pathlib import Path

from silvertune.evaluation.findings import NO_FINDING, Finding, markdown
from silvertune.evaluation.label_quality import Report, tables
from silvertune.reports import drawing, html_page, label_figures, labels_browser

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


def write(report: Report, findings: list[Finding], folder: Path, title: str, *, has_browser: bool = False) -> None:
    """Write label_quality/<table>.csv, figures/<name>.png, findings.md and label_quality.html.

    Args:
        report: The quality of a run's labels.
        findings: Its findings.
        folder: An existing folder to write to.
        title: The name of the run, for the page's heading.
        has_browser: Whether `labels_browser.html` stands beside it, which the findings are linked to.
    """
    for name in ("label_quality", "figures"):
        (folder / name).mkdir(exist_ok=True)
    images = {name: drawing.png(figure) for name, figure in label_figures.draw(report).items()}
    for name, table in tables(report).items():
        table.to_csv(folder / "label_quality" / f"{name}.csv", index=False)
    for name, image in images.items():
        (folder / "figures" / f"{name}.png").write_bytes(image)
    (folder / "findings.md").write_text(markdown(findings), encoding="utf-8")
    (folder / "label_quality.html").write_text(_page(report, findings, images, title, has_browser), encoding="utf-8")


def _page(report: Report, findings: list[Finding], images: dict[str, bytes], title: str, has_browser: bool) -> str:
    sentences = html_page.bullets([NO_FINDING])
    if findings:
        lines = (html.escape(one.sentence) + has_browser * _link_to_items(one) for one in findings)
        sentences = "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>"
    if has_browser:
        sentences += (
            f'<p><a href="{labels_browser.FILE}">The items themselves</a>, with every vote and decision '
            f"({labels_browser.FILE}, beside this file).</p>"
        )
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


def _link_to_items(finding: Finding) -> str:
    """A link to the items behind a finding."""
    if not finding.items:
        return ""
    return f' <a href="{labels_browser.FILE}#{html.escape(labels_browser.fragment(finding))}">the items</a>'
