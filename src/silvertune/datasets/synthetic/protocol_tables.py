"""The tables of one made-up protocol, not yet divided over pages."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import groupby
from random import Random
from typing import Any, NamedTuple

from silvertune.datasets.synthetic import protocol_words as words
from silvertune.datasets.synthetic.protocol_words import Grid, List

SOE = ("main", "sub_schedule", "header_only", "fragment", "amendment_copy")
"""The kinds of tables whose gold is `soe`; all others are `other`."""
OTHER = tuple(words.FORMS)


@cache
def _pieces(template: str) -> list[str]:
    return re.split(r"\{([^{}]+)\}", template)


@dataclass(frozen=True)
class Style:
    """How a sponsor draws tables and pages: one of each of `protocol_words.STYLES`."""

    corner: str
    mark: str
    title: str
    footnotes: str  # the signs that are glued to marks and names; empty: none
    case: str  # of headers
    merge: str  # where a merged cell's text ends up
    levels: tuple[str, ...]  # the rows of a schedule's header
    bare: bool  # "4" under a header that says "Week"
    notes: str  # the head of a last column of notes; empty: none
    sections: bool
    header_again: float  # share of continuation pages with a header, and
    caption_again: float  # with a caption
    rows_a_page: int
    columns_a_page: int
    numbering: str
    week: str
    day: str
    month: str
    hour: str
    cycle: str
    visit: str
    window: str
    periods: tuple[str, str, str, str, str]
    header: str  # of pages
    footer: str
    row_break: str  # what parts the cells of a row in the page's text
    wrap: int  # letters that fit in a cell
    noise: float  # share of tables that one kind of extraction noise reaches
    watermark: str
    prose: int  # most sentences between tables
    transposed: bool  # visits in the rows
    by_list: bool  # lists of visits in the cells


class Visit(NamedTuple):
    """One column of a schedule: its stage (screening, b first dose, treatment, end, follow-up) and its headers."""

    stage: str
    period: str
    block: str
    number: str
    time: str
    short: str  # the time without its unit
    window: str


@dataclass(frozen=True)
class Draft:
    """A table before it is divided over pages: the first `head` rows are its header."""

    kind: str
    rows: list[list[str]]
    head: int
    caption: str
    footnotes: tuple[str, ...] = ()
    continuation: bool = False


# ------------------------------------------------------------------------------------------------- a protocol


class ProtocolTables:
    """The tables of one protocol: `drafts` draws them, and each method one part of them."""

    def __init__(self, name: str, random: Random) -> None:
        self.name, self.random = name, random
        self.words: Mapping[str, Sequence[str]] = words.WORDS
        self.style = Style(**{field.name: self.pick(words.STYLES[field.name]) for field in fields(Style)})
        cases: dict[str, Callable[[str], str]] = {"plain": str, "upper": str.upper, "lower": str.capitalize}
        self.cased = cases[self.style.case]
        self.family = self.pick(words.FAMILIES)
        self.level_words = {level: self.pick(options) for level, options in words.LEVEL_WORDS.items()}
        self.habits: dict[str, tuple[List | Grid, str]] = {}
        syllables = "".join(self.pick(words.SYLLABLES) for _ in range(2))
        code = f"{syllables[:3].upper()}-{random.randint(100, 9999)}"
        stem = self.pick(words.SYLLABLES) + self.pick(words.SYLLABLES)
        self.unit = self.pick(words.UNITS[self.family])
        self.plan = self.visits(self.unit)
        self.sequences = words.SEQUENCES | {"visits": tuple(visit.time.replace("\n", " ") for visit in self.plan)}
        self.words = words.WORDS | {
            "company": (f"{stem.capitalize()} {self.pick(words.COMPANIES)}",),
            "number": (f"{code}-{random.randint(1, 4)}0{random.randint(1, 9)}",),
            "drug": (code if self.chance(0.5) else syllables + self.pick(words.SUFFIXES),),
            "disease": (self.pick(words.DISEASES[self.family]),),
            "page": ("#",),
            "visit": self.sequences["visits"] + tuple(visit.number for visit in self.plan if len(visit.number) > 2),
        }
        self.page_header, self.page_footer = self.say(self.style.header), self.say(self.style.footer)

    # ---------------------------------------------------------------------------------------------- draws

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.random.random() * len(options))]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def say(self, template: str) -> str:
        pieces = _pieces(template)
        return "".join(self._word(piece) if i % 2 else piece for i, piece in enumerate(pieces))

    def _word(self, name: str) -> str:
        bare = name.lstrip("^")
        if bare in self.words:
            text = self.say(self.pick(self.words[bare]))
        else:
            low, high = bare.split("-")
            text = str(self.random.randint(int(low), int(high)))
        return text[:1].upper() + text[1:] if name[0] == "^" else text

    # ------------------------------------------------------------------------------------------ schedules

    def visits(self, unit: str) -> list[Visit]:
        """A plan of visits: screening, treatment by `unit`, end, follow-up."""
        pick, blocks = self.pick, self.random.sample(words.BLOCKS, 3)
        plan: list[Visit] = []

        def add(stage: str, time: str, block: str = "", short: str = "") -> None:
            period = self.style.periods["sbtef".index(stage)]
            number = self.style.visit.format(n=len(plan) + 1)
            window = "" if stage in "sb" else self.style.window.format(n=1 + len(plan) // 3)
            plan.append(Visit(stage, period, block, number, time, short or time, window))

        for _ in range(pick((0, 1, 1, 1, 2))):
            add("s", pick(words.SCREENING))
        times = list(self._times(unit, int(self.random.triangular(2, 26, 10))))
        for i, (block, number) in enumerate(times):
            time = getattr(self.style, "day" if unit == "visit" else unit).format(n=number, c=block)
            part = f"Cycle {block}" if unit == "cycle" else blocks[3 * i // len(times)]
            add("t" if i else "b", time, part, number)
        for _ in range(pick((0, 1, 1, 2))):
            add("e", pick(words.END))
        for _ in range(pick((0, 1, 1, 2, 3))):
            add("f", self.say(pick(words.FOLLOW_UP)))
        return plan

    def _times(self, unit: str, count: int) -> Iterator[tuple[int, str]]:
        pick = self.pick
        if unit == "cycle":
            days = pick(((1,), (1, 8), (1, 8, 15), (1, 15), (1, 2, 8, 15), (1, 8, 15, 22)))
            for block in range(1, 2 + count // len(days)):
                yield from ((block, str(day)) for day in days[: max(1, len(days) - max(0, block - 2))])
        elif unit == "hour":
            yield from ((1, hour) for hour in words.SEQUENCES["hours"][pick((0, 0, 2)) :][:count])
        else:
            steps = {"week": (1, 2, 4, 4, 6, 8, 12), "month": (1, 1, 3, 6), "day": (1, 1, 7, 14)}.get(unit, (7, 14, 28))
            number, step = pick((0, 1)), 0
            for i in range(count):
                yield i + 1, str(number)
                step = max(step, pick(steps)) if i < 3 or self.chance(0.2) else step
                number += step

    def schedule(self, visits: list[Visit], unit: str, kind: str, share: float) -> Draft:
        """A plan as a grid: a stacked header, then about `share` of the family's assessments."""
        style = self.style
        rows = self._header(visits, unit)
        head, last = len(rows), ""
        done = [line for line in words.ASSESSMENTS if self.family[0] in line[1] and self.chance(share)]
        for section, _, when, names in done:
            for name in dict.fromkeys(self.pick(names) for _ in range(self.pick((1, 1, 1, 2, 3)))):
                if style.sections and section != last:
                    rows.append([self.pick(words.SECTION_WORDS[section])] + [""] * (len(rows[0]) - 1))
                    last = section
                notes = [self.say("{^note}") if self.chance(0.5) else ""] if style.notes else []
                rows.append([self.say(name + "{tail}") + self._sign(0.15), *self._marks(when, visits), *notes])
        if style.by_list:
            rows, head = self._by_list(rows, head, visits), 1
        elif style.transposed and kind != "main":
            rows, head = [list(column) for column in zip(*rows, strict=True)], 1
        title = style.title + (self.say(": " + self.pick(words.SUBTITLES)) if kind == "sub_schedule" else "")
        notes_below = tuple(
            f"{style.footnotes[i]}{self.pick(('. ', ' ', ') '))}{self.say('{^note}')}; {self.say('{note}')}."
            for i in range(self.random.randint(0, len(style.footnotes)))
        )
        abbreviations = "; ".join(self.say("{abbr}").replace("|", "=") for _ in range(self.pick((0, 3, 6))))
        return Draft(kind, rows, head, title, (abbreviations, *notes_below) if abbreviations else notes_below)

    def _header(self, visits: list[Visit], unit: str) -> list[list[str]]:
        style = self.style
        rows = []
        for level in style.levels:
            field = "short" if level == "time" and style.bare else level
            cells = [style.title if level == "title" else str(getattr(visit, field)) for visit in visits]
            if level in ("title", "period", "block"):
                cells = [text for name, run in groupby(cells) for text in self._merged(name, len(list(run)))]
            corner = unit.capitalize() if field == "short" else self.level_words[level]
            if any(cells):
                rows.append([corner, *map(self.cased, cells), *([""] if style.notes else [])])
        rows[-1 if style.bare or len(style.corner) % 2 else 0][0] = self.cased(style.corner)
        if style.notes:
            rows[0][-1] = style.notes
        return rows

    def _merged(self, text: str, wide: int) -> list[str]:
        if self.style.merge == "repeat":
            return [text] * wide
        at = 0 if self.style.merge == "first" else (wide - 1) // 2
        return [text if i == at else "" for i in range(wide)]

    def _marks(self, when: str, visits: list[Visit]) -> list[str]:
        """A row of marks: where an assessment that is done `when` is done, and with what sign."""
        every, first, last = self.pick((1, 2, 3, 4, 6, 8)), self.chance(0.6), self.chance(0.6)
        stages = {"s": "s", "b": "b", "a": "sb", "e": "sbtef", "t": "bt", "f": "f", "n": "e", "c": ""}
        done = []
        for i, visit in enumerate(visits):
            if when in stages:
                is_done = visit.stage in stages[when]
            elif visit.stage in "bt":
                is_done = i % every == 0 or (when == "o" and visit.stage == "b")
            else:
                is_done = {"s": first, "e": last, "f": last and every < 3}[visit.stage] and when in "lm"
            done.append(is_done != self.chance(0.03))
        if when == "c" or (when in "moe" and self.chance(0.06)):
            return self._merged(self.say(self.pick(words.CONTINUOUS)), len(visits))
        if not any(done):
            done[self.random.randrange(len(done))] = True
        return [self._mark() if is_done else "" for is_done in done]

    def _mark(self) -> str:
        if self.chance(0.025):
            return self.say(self.pick(words.ODD_MARKS)).replace("X", self.style.mark)
        return self.style.mark + self._sign(0.07)

    def _sign(self, share: float) -> str:
        """A footnote's sign to be glued to what stands before it."""
        signs = self.style.footnotes
        return str(self.pick((*signs, f"{signs[0]},{signs[1]}"))) if signs and self.chance(share) else ""

    def _by_list(self, rows: list[list[str]], head: int, visits: list[Visit]) -> list[list[str]]:
        """The same grid with a column a period, and in its cells the visits at which there is a mark."""
        periods = list(dict.fromkeys(visit.period for visit in visits))
        grid = [[self.cased(self.style.corner), *periods]]
        for row in rows[head:]:
            marked = [(visit.period, visit.number) for visit, cell in zip(visits, row[1:], strict=False) if cell]
            lists = (", ".join(number for period, number in marked if period == name) for name in periods)
            grid.append([row[0], *lists])
        return grid

    # -------------------------------------------------------------------------------------- other tables

    def other(self, kind: str) -> Draft:
        """A table of one of the forms of `kind`; a protocol tends to draw a kind as it did before."""
        if kind not in self.habits or self.chance(0.4):
            form = self.pick(words.FORMS[kind])
            self.habits[kind] = form, self.pick(form.heads if isinstance(form, List) else form.corners)
        form, heads = self.habits[kind]
        rows = self._list(form, heads) if isinstance(form, List) else self._grid(form, heads)
        rows = [[self._mark() if cell == "X" else cell for cell in row] for row in rows]
        signs = self.style.footnotes[: self.pick((0, 0, 1, 2))]
        notes = tuple(f"{sign} {self.say('{^note}')}; {self.say('{sentence}')}." for sign in signs)
        if self.chance(0.3):
            notes = ("; ".join(self.say("{abbr}").replace("|", ": ") for _ in range(4)), *notes)
        head = int(any(rows[0])) + (isinstance(form, Grid) and len(rows) > 2 and not rows[0][0])
        return Draft(kind, rows[0 if head else 1 :], head, self.say(self.pick(form.captions)), notes)

    def _list(self, form: List, heads: str) -> list[list[str]]:
        drawn = [self.say(self.pick(form.rows)) for _ in range(self.random.randint(*form.size))]
        rows = [row.split("|") for row in (self.say(heads), *dict.fromkeys(drawn))]
        wide = max(len(rows[0]), 2)
        head, *body = [(row + [""] * wide)[:wide] for row in rows]
        order = {name: i for i, name in reversed(list(enumerate(row[0] for row in body)))}
        body.sort(key=lambda row: order[row[0]])  # rows that begin alike stand together, as merged cells
        above = ["", *(row[0] for row in body)]
        for row, name in zip(body, above, strict=False):
            row[0] = "" if row[0] == name or self.chance(form.merged) else row[0]
        return [[self.cased(cell) for cell in head], *body]

    def _grid(self, form: Grid, corner: str) -> list[list[str]]:
        wide = self.random.randint(*form.wide)
        if form.across in self.sequences:
            run = self.sequences[form.across]
            step = self.pick((1, 1, 2, 7)) if len(run) > 3 * wide else 1
            start = self.random.randrange(max(1, min(3, len(run) - wide * step)))
            columns = list(run[start::step][:wide])
        else:
            columns = list(dict.fromkeys(self.say(form.across) for _ in range(wide)))
        over = self.say(self.pick(form.over))
        rows = [["", *self._merged(over, len(columns))]] if over else []
        rows.append([corner, *columns])
        cells = [self.pick(form.cells) for _ in range(3)]
        for name in dict.fromkeys(self.say(self.pick(form.down)) for _ in range(self.random.randint(*form.size))):
            rows.append([name + self._sign(0.08), *(self.say(self.pick(cells)) for _ in columns)])
        return rows

    def copied(self, schedule: Draft) -> Draft:
        """A few rows of a schedule with its header, as amendments quote them."""
        body = schedule.rows[schedule.head :]
        start = self.random.randrange(max(1, len(body) - 4))
        rows = schedule.rows[: schedule.head] + body[start : start + self.random.randint(2, 5)]
        return Draft("amendment_copy", rows, schedule.head, self.say("{part}: {change}"), ("{reason}",))

    # --------------------------------------------------------------------------------- the whole protocol

    def drafts(self) -> Iterator[Draft]:
        """All tables of the protocol in their order, not yet divided over pages."""
        parts = self.pick((("schedules", "others"),) * 12 + (("schedules",), ("others",)))
        schedules, others = [], []
        if "schedules" in parts:
            schedules = [self.schedule(self.plan, self.unit, "main", self.pick((0.5, 0.65, 0.8, 0.95)))]
            for unit in self.random.sample((*words.UNITS[self.family], "hour"), self.pick((0, 0, 1, 1, 2))):
                kind = "main" if unit == self.unit else "sub_schedule"
                schedules.append(self.schedule(self.visits(unit), unit, kind, self.pick((0.35, 0.5, 0.65))))
        if "others" in parts:
            weights = [share * self.random.gammavariate(0.5, 2.0) for share in words.SHARES.values()]
            count = min(130, 3 + int(self.random.lognormvariate(2.7, 0.7)))
            order = self.random.sample(list(words.SHARES), len(words.SHARES))
            drawn = sorted(self.random.choices(list(words.SHARES), weights, k=count), key=order.index)
            others = [self.other(kind) for kind in drawn]
            if schedules and "amendment" in drawn and self.chance(0.2):
                others.insert(drawn.index("amendment"), self.copied(self.pick(schedules)))
        at = self.random.randint(0, len(others))
        yield from others[:at] + schedules + others[at:]
