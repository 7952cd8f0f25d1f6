import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from silvertune.models import saved


@dataclass(frozen=True)
class LengthModel:
    """Tells classes apart by how long their texts are: the probability of a class falls with the distance to its mean.

    Attributes:
        scale: Characters over which the odds fall by a factor e.
    """

    scale: float

    def fit(self, train: pd.DataFrame, validation: pd.DataFrame, seed: int) -> "LengthPredictor":
        """Tune on `train`: items with `label` and `weight`."""
        length = train["text"].str.len()
        means = (length * train["weight"]).groupby(train["label"]).sum() / train["weight"].groupby(train["label"]).sum()
        return LengthPredictor({str(name): float(mean) for name, mean in means.items()}, self.scale)


@dataclass(frozen=True)
class LengthPredictor:
    """A tuned `LengthModel`.

    Attributes:
        means: Class to mean length of its texts.
        scale: As the model has it.
    """

    means: dict[str, float]
    scale: float

    @property
    def classes(self) -> Sequence[str]:
        """The classes that it was tuned on."""
        return list(self.means)

    @property
    def views(self) -> Sequence[str]:
        """The views that it reads."""
        return ["text"]

    def predict_proba(self, items: pd.DataFrame) -> pd.DataFrame:
        """Class probabilities, indexed by (item_id, view); items without a text are left out."""
        length = items["text"].dropna().str.len()
        odds = pd.DataFrame(
            {name: 2.718281828 ** (-(length - mean).abs() / self.scale) for name, mean in self.means.items()}
        )
        odds.index = pd.MultiIndex.from_product([odds.index, ["text"]], names=["item_id", "view"])
        return odds.div(odds.sum(axis=1), axis=0)

    def save(self, path: Path) -> None:
        """Write it to the new folder `path`."""
        with saved.new_folder(path, f"{__name__}.load", {}) as folder:
            (folder / "means.json").write_text(json.dumps({"means": self.means, "scale": self.scale}))


def load(folder: Path) -> LengthPredictor:
    """The predictor saved in `folder`."""
    return LengthPredictor(**json.loads((folder / "means.json").read_text()))
