"""The rows of a spreadsheet that people fill in: CSV, as a spreadsheet saves it, or an Excel workbook."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from silvertune.datasets.values import name_of
from silvertune.errors import UserError

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

LONGEST_CELL = 32_767
"""Characters that a cell of Excel holds."""


@dataclass(frozen=True)
class SheetRow:
    """A row.

    Attributes:
        columns: Column -> what is written there, "" where nothing is.
        place: File and row, for messages.
        sheet: Name of the sheet; "" in the first sheet of a workbook, and in CSV.
    """

    columns: Mapping[str, str]
    place: str
    sheet: str = ""


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook, by its name."""
    return path.suffix.lower() == ".xlsx"


def read(path: Path, wanted: Sequence[str]) -> list[SheetRow]:
    """The rows of a file; none where there is no file.

    Args:
        path: The file.
        wanted: Columns that it must have.

    Raises:
        UserError: It can't be read, or lacks a column.
    """
    if not path.is_file():
        return []
    return list(_workbook_rows(path, wanted) if is_workbook(path) else _csv_rows(path, wanted))


def append(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    """Add rows below those that are there. What is written there stays; a file is changed whole or not at all.

    Args:
        path: The file; it is made, with a row of column names, where there is none.
        columns: The columns of a new file; one that is there keeps its own.
        rows: Column -> what to write.

    Raises:
        UserError: A text does not fit into a cell.
    """
    unfinished = path.with_name(f"{path.name}.tmp")
    if is_workbook(path):
        _append_to_workbook(path, unfinished, columns, rows)
    else:
        _append_to_csv(path, unfinished, columns, rows)
    unfinished.replace(path)


def _check_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    if missing := [name for name in wanted if name not in columns]:
        present = ", ".join(map(repr, columns)) or "none"
        between = "" if is_workbook(path) else ", between commas"
        raise UserError(f"{path}: has no column {missing[0]!r}; want item_id and label (columns{between}: {present})")


def _csv_rows(path: Path, wanted: Sequence[str]) -> Iterator[SheetRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # as spreadsheets save it
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read as UTF-8 CSV ({error}); save it as CSV UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    header = next(reader, [])
    _check_columns(path, header, wanted)
    for number, cells in enumerate(reader, start=2):
        if any(cell.strip() for cell in cells):  # a spreadsheet saves empty rows, too
            columns = dict(zip(header, [*cells, *[""] * len(header)], strict=False))
            yield SheetRow(columns, f"{path}, row {number}")


def _append_to_csv(path: Path, to: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
    separator = _separator(text)
    header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), None)
    out = io.StringIO(text if text.endswith("\n") or not text else f"{text}\n", newline="")
    out.seek(0, io.SEEK_END)
    writer = csv.DictWriter(out, header or columns, extrasaction="ignore", restval="", delimiter=separator)
    if not text:
        writer.writeheader()
    writer.writerows(rows)
    to.write_text(out.getvalue(), encoding="utf-8-sig", newline="")


def _separator(text: str) -> str:
    """What separates the columns of a file: the comma that we write, or what a spreadsheet made of it."""
    header = text.split("\n", 1)[0]
    return next((separator for separator in ",;\t" if separator in header), ",")


def _openpyxl(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError:
        raise UserError(
            f"labeler.path={path}: workbooks need a package: pip install 'silvertune[sheets]', or name a .csv"
        ) from None
    return openpyxl


def _workbook_rows(path: Path, wanted: Sequence[str]) -> Iterator[SheetRow]:
    openpyxl = _openpyxl(path)
    try:
        book = openpyxl.load_workbook(path, data_only=True)
    except Exception as error:  # whatever is wrong in the archive or its XML
        raise UserError(f"{path}: can't be read as an Excel workbook ({type(error).__name__}: {error})") from None
    for position, sheet in enumerate(book.worksheets):
        cells = sheet.iter_rows(values_only=True)
        header = [_written(value) for value in next(cells, ())]
        if position and not any(header):
            continue  # the empty sheets that some programs add
        _check_columns(path, header, wanted)
        where = f"{path}, sheet {sheet.title}" if len(book.worksheets) > 1 else str(path)
        for number, values in enumerate(cells, start=2):
            written = list(map(_written, values))
            if any(text.strip() for text in written):
                columns = dict(zip(header, written, strict=False))
                yield SheetRow(columns, f"{where}, row {number}", sheet.title if position else "")


def _written(value: Any) -> str:
    """A cell's value as text; a number such as 7.0 is 7, and a date that Excel made of a text is told as one."""
    return name_of(str(value).lower() if isinstance(value, bool) else value, "cell") if value is not None else ""


def _append_to_workbook(path: Path, to: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    openpyxl = _openpyxl(path)
    is_new = not path.is_file()
    book = openpyxl.Workbook() if is_new else openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    if is_new:
        _write_row(sheet, 1, columns, path)
        sheet.freeze_panes = "A2"
    header = [_written(cell.value) for cell in sheet[1]]
    for number, row in enumerate(rows, start=sheet.max_row + 1):
        _write_row(sheet, number, [row.get(name, "") for name in header], path)
    with to.open("wb") as file:
        book.save(file)


def _write_row(sheet: "Worksheet", number: int, texts: Sequence[str], path: Path) -> None:
    """Write a row as text, so that Excel makes no number, date or formula of it."""
    from openpyxl.utils.exceptions import IllegalCharacterError

    for column, text in enumerate(texts, start=1):
        if len(text) > LONGEST_CELL:
            raise UserError(
                f"{path}, row {number}: a text of {len(text)} characters, and a cell of Excel holds {LONGEST_CELL}; "
                "want labeler.path=....csv, or labeler.views without that view"
            )
        cell = sheet.cell(number, column)
        cell.number_format = "@"
        if text:
            try:
                cell.value = text
            except IllegalCharacterError:
                raise UserError(
                    f"{path}, row {number}: a text with characters that a workbook can't hold; want "
                    "labeler.path=....csv"
                ) from None
            cell.data_type = "s"
