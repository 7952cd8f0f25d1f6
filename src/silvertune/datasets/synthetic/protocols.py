"""Fictional clinical-trial protocols: a seeded corpus with gold, for trying the project without any data.

A protocol is a style (how its sponsor draws tables), a plan (visits and assessments) and its own words (drug,
disease, company). All of its tables are composed of these and of the small parts in `protocol_words`: a
schedule is the plan drawn in the style, and so are the look-alikes that quote it. Nothing is one table's own
case, and nothing was copied from a real protocol.

Gold is known because the kind of a table is decided before its text. The kinds and their labels follow the
rulings for the real tables: a grid of several assessments by visit is a schedule, also its pages without a
header, its header alone and a copy of it in an amendment; a list of samples of one kind, a plan of doses or a
text about the schedule is not.
"""

import hashlib
import json
from collections.abc import Mapping
from random import Random

import pandas as pd

from silvertune import votes
from silvertune.datasets import tables
from silvertune.datasets.synthetic.protocol_pages import Placed, ProtocolPages
from silvertune.datasets.synthetic.protocol_tables import SOE, ProtocolTables
from silvertune.datasets.views import rendered
from silvertune.errors import UserError, check_whole_number
from silvertune.items import Data
from silvertune.schema import Task


def load(task: Task, *, protocols: int, seed: int, captions: bool, views: Mapping[str, str]) -> Data:
    """Make the tables of some protocols, their gold, and an `expert` who votes as gold says.

    Args:
        task: A task with the classes `soe` and `other`.
        protocols: How many protocols, from 1; about 27 tables each. The first n of more are the same.
        seed: Another seed is another corpus.
        captions: False leaves what stands above a table out of every view, and its lines out of the page's text.
        views: View -> template over `silvertune.datasets.tables.FIELDS`.

    Returns:
        The tables as items, the protocols as groups.

    Raises:
        UserError: There is less than one protocol, the task has not both classes, or a template names another field.
    """
    check_whole_number("dataset.protocols", protocols, 1)
    if missing := [name for name in ("soe", "other") if name not in task.classes]:
        raise UserError(f"dataset=synthetic_protocols: is soe or other, and task={task.name} has no {missing.pop()!r}")
    placed = [table for n in range(1, protocols + 1) for table in protocol(n, seed)]
    index = pd.Index([table.item_id for table in placed], name="item_id", dtype=object)
    items = pd.DataFrame({"group_id": [table.group_id for table in placed]}, index=index, dtype=object)
    fields = [
        tables.fields(t.rows, page_text=t.page_text, caption=t.caption, footnotes=t.footnotes, captions=captions)
        for t in placed
    ]
    columns = {name: [of_table[name] for of_table in fields] for name in tables.FIELDS}
    for name, texts in rendered(views, columns.__getitem__, sorted(columns), list(index), columns.__contains__).items():
        items[name] = pd.Series(texts, index=index, dtype=object)
    gold = pd.Series(["soe" if table.kind in SOE else "other" for table in placed], index=index, name="gold")
    expert = {"annotator": "expert", "view": votes.WHOLE_ITEM}
    content = [protocols, seed, captions, dict(views), items.reset_index().to_dict("list"), gold.to_list()]
    return Data(
        items=items,
        annotations=votes.table(({**expert, "item_id": i, "label": label} for i, label in gold.items()), task.classes),
        gold=gold.astype(object),
        partition=None,
        digest=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    )


def protocol(n: int, seed: int) -> list[Placed]:
    """The tables of one protocol.

    Args:
        n: Its number in the corpus, from 1.
        seed: Of the corpus.

    Returns:
        Its tables in the order of their pages.
    """
    return list(ProtocolPages(ProtocolTables(f"SYN-{n:04d}", Random(f"{seed}/{n}"))).placed())
