"""The data that pages speak of: made up here, as many rows as a run needs. Pages show the first rows."""

import csv
import random
from pathlib import Path

from tests import cli

REVIEWS = ["review_id", "customer", "title", "body", "checked", "crowd_share", "gpt_label", "gpt_confidence"]
MESSAGES = ["message_id", "customer", "subject", "body", "checked"]


def write_reviews(folder: Path) -> None:
    """`reviews.csv`: complaints and others, with the labels of a crowd and of an LLM."""
    rng = random.Random(0)
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(REVIEWS)
        for k in range(90):
            bad = k % 3 == 0
            body = " ".join(rng.choices(["broken", "refund", "late"] if bad else ["great", "thanks", "love"], k=6))
            answer = "unsure" if k % 20 == 7 else "yes" if bad != (rng.random() < 0.1) else "no"
            share = min(max(0.7 * bad + rng.random() * 0.4, 0), 1)
            sure = rng.uniform(0.8, 1)
            rows.writerow([f"r{k}", f"c{k % 15}", "Review", body, int(bad), f"{share:.2f}", answer, f"{sure:.2f}"])


def write_messages(folder: Path) -> None:
    """`messages.csv`: texts that a person has checked, for an LLM to label."""
    with (folder / "messages.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(MESSAGES)
        rows.writerows([f"m{k}", f"c{k % 5}", "Order", f"Text {k}", k % 2] for k in range(20))


def write_lines(folder: Path) -> None:
    """`lines.tsv`: group, class and text, for the example of a dataset."""
    lines = [
        f"group{k % 8}\t{'soe' if k % 2 else 'other'}\t{'visit screening ' * 4 if k % 2 else 'dose mg'}\n"
        for k in range(40)
    ]
    (folder / "lines.tsv").write_text("".join(lines))


def write_all(folder: Path) -> None:
    """All of them, and `tables.jsonl`."""
    cli.write_tables(folder)
    write_reviews(folder)
    write_messages(folder)
    write_lines(folder)
