"""What students learn from in the tests: texts about tea, oil and ore, in two views."""

import numpy as np
import pandas as pd

WORDS = {"tea": ["green leaf", "hot cup", "leaf brew"], "oil": ["black barrel", "crude well", "barrel price"]}
NOTHING = pd.DataFrame({"group_id": [], "json": [], "text": [], "label": [], "weight": []})


def training(n: int = 24, classes: tuple[str, ...] = ("tea", "oil")) -> pd.DataFrame:
    """Items with label and weight; every fifth has no json view."""
    rng = np.random.default_rng(5)
    words = {**WORDS, "ore": ["red iron", "deep mine", "iron rail"]}
    label = [classes[i % len(classes)] for i in range(n)]
    text = [f"{rng.choice(words[name])} {rng.choice(words[name])} n{i % 4}" for i, name in enumerate(label)]
    return pd.DataFrame(
        {
            "group_id": [f"g{i // 3}" for i in range(n)],
            "json": [None if i % 5 == 0 else f'["{entry}"]' for i, entry in enumerate(text)],
            "text": text,
            "label": label,
            "weight": 1.0,
        },
        index=pd.Index([f"i{i:02d}" for i in range(n)], name="item_id"),
    )


ITEMS = pd.DataFrame(
    {
        "group_id": ["x", "x", "y"],
        "json": ["green leaf", None, "crude well"],
        "text": ["hot cup", "barrel", None],
    },
    index=pd.Index(["p", "q", "r"], name="item_id"),
)
