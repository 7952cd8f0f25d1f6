"""The pages of one made-up protocol: its tables divided over them, with prose around and the noise of extraction."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

from silvertune.datasets.synthetic import protocol_words as words
from silvertune.datasets.synthetic.protocol_tables import OTHER, SOE, Draft, ProtocolTables


@dataclass(frozen=True)
class Placed:
    """A table on its page. `kind` is one of SOE or OTHER; `continuation` says that it began on an earlier page.

    caption: up to six lines above the table, footnotes: up to four below, joined by ` | `, whatever they say.
    """

    item_id: str
    group_id: str
    kind: str
    continuation: bool
    rows: list[list[str]]
    caption: str
    footnotes: str
    page_text: str


class ProtocolPages:
    """Puts the tables of a protocol on pages, by the style and the random numbers of the protocol."""

    def __init__(self, tables: ProtocolTables) -> None:
        self.tables = tables
        self.style, self.random = tables.style, tables.random
        self.pick, self.chance, self.say = tables.pick, tables.chance, tables.say

    def divided(self, draft: Draft) -> Iterator[Draft]:
        """The pages of a table: by columns, then by rows, their header repeated or not, at times left alone."""
        soe = draft.kind in SOE
        most = self.style.columns_a_page if soe else 99
        letters = sum(len(cell) for row in draft.rows for cell in row) / len(draft.rows)
        fit = self.style.rows_a_page * self.random.uniform(0.7, 1.3) if soe else 2600 / max(letters, 30)
        again = False
        for left in range(1, len(draft.rows[0]), most):
            rows = [[row[0], *row[left : left + most]] for row in draft.rows]
            header, body = rows[: draft.head], rows[draft.head :]
            if soe and draft.head > 1 and self.chance(0.03):
                yield replace(draft, kind="header_only", rows=header, continuation=again)
                again = True
            start, size = 0, max(2, int(fit) - (draft.head if soe else 0))
            while start < len(body):
                end = len(body) if len(body) - start - size == 1 else start + size
                shown = (header if not again or self.chance(self.style.header_again) else []) + body[start:end]
                kind = "fragment" if soe and again and len(shown) < 5 and draft.kind != "amendment_copy" else draft.kind
                yield replace(draft, kind=kind, rows=shown, continuation=again)
                start, again = end, True

    def placed(self) -> Iterator[Placed]:
        """The tables on their pages: the page's header, prose, caption, table, footnotes, prose, footer."""
        queue = [part for draft in self.tables.drafts() for part in self.divided(draft)]
        page = self.random.randint(2, 12)
        while queue:
            together = 1
            while together < len(queue) and self.chance(0.2) and len(queue[together].rows) < 9:
                together += 1
            lines = self.tables.page_header.split("\n") if self.tables.page_header else []
            spans = []
            for draft in queue[:together]:
                lines += self._above(draft)
                rows = self._spoiled([[_folded(cell, self.style.wrap) for cell in row] for row in draft.rows])
                top = len(lines)
                lines += [
                    self.style.row_break.join(filter(str.strip, row)).replace("\n", " ") for row in rows if any(row)
                ]
                spans.append((draft, rows, top, len(lines)))
                lines += [self.say(line) for line in draft.footnotes]
            lines += self._prose(0.8)
            lines += self.tables.page_footer.replace("#", str(page)).split("\n") if self.tables.page_footer else []
            for i, (draft, rows, top, bottom) in enumerate(spans):
                item, above, below = (
                    f"{self.tables.name}_p{page:03d}_t{i}",
                    lines[max(0, top - 6) : top],
                    lines[bottom : bottom + 4],
                )
                around = " | ".join(above), " | ".join(below), "\n".join(lines)
                yield Placed(item, self.tables.name, draft.kind, draft.continuation, rows, *around)
            queue, page = queue[together:], page + self.pick((1, 1, 1, 2, 3))

    def _above(self, draft: Draft) -> list[str]:
        """What stands above a table: prose, and a caption, which is at times left out or another table's."""
        if draft.continuation:
            return [f"{draft.caption} (continued)"] if self.chance(self.style.caption_again) else []
        caption = draft.caption
        if self.chance(0.04):
            caption = self.say(self.pick(self.pick(words.FORMS[self.pick(OTHER)]).captions))
        titled = [self.say(self.style.numbering) + caption] if self.chance(0.88) else []
        return self._prose(0.3 if draft.kind in SOE else 0.8) + titled

    def _prose(self, share: float) -> list[str]:
        if not self.chance(share):
            return []
        text = " ".join(self.say("{^sentence}") + "." for _ in range(self.random.randint(0, self.style.prose)))
        heading = [self.say("{1-11}.{1-9} {chapter}")] if self.chance(0.4) else []
        return heading + (_folded(text, 95).split("\n") if text else [])

    # --------------------------------------------------------------------------------------------- noise

    def _spoiled(self, rows: list[list[str]]) -> list[list[str]]:
        """The rows as an extractor might give them: each kind of noise reaches `style.noise` of the tables."""
        for spoil in (self._watermarked, self._split, self._broken, self._lost, self._garbled):
            if self.chance(self.style.noise):
                rows = spoil(rows)
        return rows

    def _watermarked(self, rows: list[list[str]]) -> list[list[str]]:
        """A watermark's word or letters in cells that have nothing to do with it."""
        mark = self.style.watermark
        for piece in [mark] if self.chance(0.5) else list(mark[:6]):
            row, at = self.pick(rows), self.random.randrange(len(rows[0]))
            row[at] = f"{row[at]}\n{piece}".strip()
        return rows

    def _split(self, rows: list[list[str]]) -> list[list[str]]:
        """A column over-split: its texts cut at their last blank, or an empty column beside it."""
        at, cut = self.random.randrange(len(rows[0])), self.chance(0.5)
        pairs = [row[at].rpartition(" ")[::2] if cut and " " in row[at] else (row[at], "") for row in rows]
        return [[*row[:at], *pair, *row[at + 1 :]] for row, pair in zip(rows, pairs, strict=True)]

    def _lost(self, rows: list[list[str]]) -> list[list[str]]:
        """Glyphs of short cells replaced by what a font without a map gives."""
        glyph = self.pick(("\uf0d6", "(cid:1)", "\ufffd", "þ", "□"))
        return [[glyph if len(cell) == 1 else cell for cell in row] for row in rows]

    def _garbled(self, rows: list[list[str]]) -> list[list[str]]:
        """One letter missing from every text."""
        letter = self.pick("aeirnstl")
        return [[cell.replace(letter, "") or cell for cell in row] for row in rows]

    def _broken(self, rows: list[list[str]]) -> list[list[str]]:
        """A row for every line of text, as where no rule parts the rows."""
        pairs = [[cell.split("\n") for cell in row] for row in rows]
        broken = [list(line) for row in pairs for line in zip_longest(*row, fillvalue="")]
        return broken if len(broken) <= 60 else rows


def _folded(text: str, width: int) -> str:
    """The text with line breaks at blanks so that lines have at most `width` letters, longer words aside."""
    return text if len(text) <= width else re.sub(rf"(.{{1,{width}}})(?: +|$)", r"\1\n", text).rstrip("\n")
