"""Self-contained HTML pages, for comparisons and for reports on labels."""

import base64
import html

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #222; }
h2, summary { font-size: 1.15em; font-weight: 600; margin: 1.4em 0 .5em; } summary { cursor: pointer; }
table { border-collapse: collapse; } th, td { padding: .3em .7em; text-align: right; white-space: nowrap; }
th { border-bottom: 2px solid #222; vertical-align: bottom; } td { border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.wide { overflow-x: auto; } img { max-width: 100%; margin: .5em 1em .5em 0; vertical-align: top; }
"""


def page(title: str, body: str) -> str:
    """Make a page.

    Args:
        title: The heading, plain text.
        body: HTML.

    Returns:
        The page, HTML.
    """
    heading = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{heading}</title><style>{STYLE}</style></head><body>
<h1>{heading}</h1>
{body}</body></html>
"""


def picture(png: bytes, description: str) -> str:
    """Embed a figure.

    Args:
        png: The figure.
        description: A text for readers who can't see it.

    Returns:
        HTML with the figure in it.
    """
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def bullets(texts: list[str]) -> str:
    """Make a list.

    Args:
        texts: Plain texts.

    Returns:
        HTML.
    """
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def wide(table: str) -> str:
    """Let a table scroll sideways where the window is narrow.

    Args:
        table: HTML.

    Returns:
        HTML.
    """
    return f'<div class="wide">{table}</div>'


def left_out(shown: int, rows: int, file: str) -> str:
    """Say that a page shows only the first rows of a table.

    Args:
        shown: How many rows the page shows at most.
        rows: How many rows the table has.
        file: The file that has all of them.

    Returns:
        HTML; "" where the page shows all.
    """
    return f"<p>The first {shown:,} of {rows:,} rows; {html.escape(file)} has all.</p>" if rows > shown else ""
