import hashlib
from pathlib import Path

import pandas as pd

from silvertune import votes
from silvertune.items import Data
from silvertune.schema import Task


def load_lines(task: Task, *, path: str) -> Data:
    """Load a file of `group<TAB>class<TAB>text` lines: the class is gold, and an annotator's vote as well.

    Args:
        task: The task, whose classes the second column names.
        path: The file, UTF-8.

    Returns:
        One item a line, with the view `text`.
    """
    content = Path(path).read_text(encoding="utf-8")
    table = pd.DataFrame([line.split("\t") for line in content.splitlines()], columns=["group_id", "label", "text"])
    table.index = pd.Index([f"line{number}" for number in range(1, len(table) + 1)], name="item_id", dtype=object)
    rows = [
        {"item_id": item, "annotator": "expert", "view": "item", "label": label}
        for item, label in table["label"].items()
    ]
    return Data(
        items=table[["group_id", "text"]],
        annotations=votes.table(rows, task.classes),
        gold=table["label"],
        partition=None,
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )
