"""One self-contained HTML page, as comparisons and reports on labels are delivered."""

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
    """A page with this heading; `body` is HTML."""
    heading = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{heading}</title><style>{STYLE}</style></head><body>
<h1>{heading}</h1>
{body}</body></html>
"""


def picture(png: bytes, what: str) -> str:
    """A figure, in the page itself. what: said where it can't be seen."""
    return f'<img alt="{html.escape(what)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def bullets(texts: list[str]) -> str:
    """A list of plain texts."""
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def wide(table: str) -> str:
    """A table (HTML) that scrolls by itself where the window is narrow."""
    return f'<div class="wide">{table}</div>'
