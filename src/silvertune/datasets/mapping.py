"""How the views of items are made of the columns of a file: what a tuned model keeps of its dataset."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from silvertune.datasets.files import PARTS_OF_TABLES, views_of_rows
from silvertune.datasets.formats import Columns
from silvertune.datasets.rows import Rows
from silvertune.datasets.values import names_of, normal_form
from silvertune.errors import UserError

TARGET = "silvertune.datasets.load_files"


@dataclass(frozen=True)
class ItemTexts:
    """The texts of some rows.

    Attributes:
        ids: The id of each row; "" where it has none.
        views: View -> the text of each row; None where the row has no such view.
        bad_rows: Number of the row, from 0 -> what is wrong with it; it has no text.
    """

    ids: list[str]
    views: dict[str, list[str | None]]
    bad_rows: dict[int, str]


@dataclass(frozen=True)
class ColumnMapping:
    """The settings of a dataset that say how views are made: nothing of labels, gold and groups.

    Attributes:
        id: The column of the item's id, or a path into one; None: rows are numbered.
        views: View -> template over the columns.
        cells: The column of a table's cells; None: items are texts.
        page_text: The column of the text of a table's page, or None.
        caption: The column of a table's caption, or None.
        footnotes: The column of a table's footnotes, or None.
        captions: False leaves the caption of a table out.
        encoding: Of text files.
        separator: Of the columns of a CSV; None: as the ending of the file says.
    """

    id: str | None
    views: Mapping[str, str]
    cells: str | None = None
    page_text: str | None = None
    caption: str | None = None
    footnotes: str | None = None
    captions: bool = True
    encoding: str = "utf-8"
    separator: str | None = None

    @classmethod
    def of_dataset(cls, dataset: Mapping[str, Any]) -> Self | None:
        """The mapping of a dataset's configuration; None where the dataset is not read from files by columns."""
        if dataset.get("_target_") != TARGET:
            return None
        return cls(**{name: dataset[name] for name in cls.__dataclass_fields__ if name in dataset})

    @classmethod
    def of_views(cls, views: Sequence[str]) -> Self:
        """The mapping of files that have a column for each view, and no ids."""
        return cls(id=None, views={name: '{"' + name + '"}' for name in views})

    def only(self, views: Collection[str]) -> Self:
        """The mapping of some of the views. Raises UserError where it lacks one."""
        if missing := [name for name in views if name not in self.views]:
            raise UserError(
                f"view {missing[0]!r}: the columns that it is made of are unknown; want --view {missing[0]}=..."
            )
        return replace(self, views={name: self.views[name] for name in views})

    def fields_in(self, columns: Columns, files: str) -> frozenset[str]:
        """The columns, and paths into columns, that the mapping reads.

        Args:
            columns: The first rows of a file.
            files: The name of the file, for messages.

        Raises:
            UserError: The rows lack one.
        """
        rows = Rows([(None, columns)], files, "")
        fields = set()
        for key, column in {"--id": self.id, **self._parts()}.items():
            if column is not None:
                rows.require(column, key)
                fields.add(normal_form(column))

        def has(name: str) -> bool:
            if is_there := rows.has(name):
                fields.add(name)
            return is_there

        none = Rows([(None, Columns({name: [] for name in columns.values}, [], columns.place))], files, "")
        try:
            views_of_rows(none, self.views, self._parts(), self.captions, has)
        except UserError as error:
            raise UserError(f"{files}: {str(error).replace('dataset.views.', '--view ', 1)}") from None
        return frozenset(fields)

    def texts(self, columns: Columns, fields: Collection[str], first: int = 1) -> ItemTexts:
        """The texts of rows.

        Args:
            columns: The rows.
            fields: What `fields_in` says of the first rows of the same file. A row that lacks one has it empty.
            first: The number of the first row, for rows that are numbered.
        """
        count = len(columns.numbers)
        try:
            return self._texts(columns, fields, first)
        except UserError:
            pass
        texts = ItemTexts([], {name: [] for name in self.views}, {})
        for number in range(count):
            row = Columns(
                {name: [columns.of(name)[number]] for name in columns.values}, [columns.numbers[number]], columns.place
            )
            try:
                one = self._texts(row, fields, first + number)
            except UserError as error:
                texts.bad_rows[number] = str(error)
                one = ItemTexts([""], {name: [None] for name in self.views}, {})
            texts.ids.extend(one.ids)
            for name, column in one.views.items():
                texts.views[name].extend(column)
        return texts

    def _texts(self, columns: Columns, fields: Collection[str], first: int) -> ItemTexts:
        rows = Rows([(None, columns)], "", "")
        if self.id is None:
            ids = [str(number) for number in range(first, first + len(rows))]
        else:
            ids = names_of(rows.values(self.id), rows.places, f"column {self.id!r}")
        return ItemTexts(ids, views_of_rows(rows, self.views, self._parts(), self.captions, fields.__contains__), {})

    def _parts(self) -> dict[str, str | None]:
        return {name: getattr(self, name) for name in PARTS_OF_TABLES}
