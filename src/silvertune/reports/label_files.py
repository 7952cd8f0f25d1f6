"""The report on a run's labels as files: tables, figures, findings, and one page with all of them."""

from pathlib import Path

from silvertune.evaluation.findings import Finding, markdown
from silvertune.evaluation.label_quality import Report, tables
from silvertune.reports import html_page, label_figures

SHOWN = {
    "by_class": "Labels by class, before and after the filter",
    "by_view": "The labeler's votes, by annotator and view",
    "by_fold": "Folds",
    "prevalence": "Class shares",
    "annotators": "Who voted, and what",
    "agreement": "Agreement of every pair",
    "alphas": "Krippendorff's alpha",
    "crosstabs": "Every pair, label by label",
    "rankings": "How well scores order the errors",
}
MOST_ROWS = 60
"""The page shows this many of a table's rows; its file has all."""


def write(report: Report, found: list[Finding], folder: Path, title: str) -> None:
    """Write to `folder`: label_quality/<table>.csv, figures/<name>.png, findings.md and label_quality.html."""
    for name in ("label_quality", "figures"):
        (folder / name).mkdir(exist_ok=True)
    made, pictures = tables(report), label_figures.draw(report)
    for name, table in made.items():
        table.to_csv(folder / "label_quality" / f"{name}.csv", index=False)
    for name, figure in pictures.items():
        figure.savefig(folder / "figures" / f"{name}.png")
    (folder / "findings.md").write_text(markdown(found), encoding="utf-8")
    images = {name: (folder / "figures" / f"{name}.png").read_bytes() for name in pictures}
    (folder / "label_quality.html").write_text(_page(report, found, images, title), encoding="utf-8")


def _page(report: Report, found: list[Finding], images: dict[str, bytes], title: str) -> str:
    said = html_page.bullets([finding.sentence for finding in found] or ["No rule found anything."])
    pictures = "".join(html_page.picture(image, name) for name, image in images.items())
    made = tables(report)
    shown = "".join(
        f"<h2>{heading}</h2>"
        + html_page.wide(
            made[name].head(MOST_ROWS).to_html(index=False, border=0, float_format="{:.3f}".format, na_rep="")
        )
        for name, heading in SHOWN.items()
        if name in made
    )
    return html_page.page(f"Labels of {title}", said + pictures + shown)
