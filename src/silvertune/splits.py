"""Which groups are trained on and which are tested on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from silvertune.errors import UserError
from silvertune.items import Data, copy_keys
from silvertune.schema import Evaluation, Task


@dataclass(frozen=True)
class Fold:
    """The items of one split. No group is on two sides.

    Attributes:
        train: Ids of the items to train on.
        validation: Ids of the items set aside for validation; may be empty.
        test: Ids of the items to test; all have gold.
    """

    train: pd.Index
    validation: pd.Index
    test: pd.Index


def split(data: Data, how: Evaluation, task: Task, seed: int) -> list[Fold]:
    """The folds of one run.

    Only groups in which some item has gold can be tested; the others are always trained on. Of a tested group, only
    the items with gold are tested and no item is trained on. Which groups are tested depends on the seed alone. With
    `none` every item is trained on, but those of a validation file of the data's own.

    Args:
        data: The dataset.
        how: How it is split.
        task: Its classes, for messages.
        seed: Of the split.

    Returns:
        One fold for `holdout`, `given` and `none`, `how.folds` for `kfold`.

    Raises:
        UserError: A group is on two sides, a side is empty, or the test items are all of one class.
    """
    groups = data.items["group_id"]
    if how.split == "none":
        is_validation = pd.Series(False, groups.index) if data.partition is None else data.partition == "validation"
        return [Fold(groups.index[~is_validation], groups.index[is_validation], groups.index[:0])]
    if how.split == "given":
        folds = [_given(data, groups)]
    elif data.partition is not None:
        raise UserError(
            f"evaluation={how.split}: dataset.files already says what is trained and tested on; use evaluation=given"
        )
    elif how.split in ("holdout", "kfold"):
        folds = [_fold(groups, data.gold.index, tested) for tested in _tested(data, groups, how, seed)]
    else:
        raise UserError(f"evaluation.split={how.split}: want holdout, kfold, given or none")
    tested = data.gold.reindex(folds[0].test.append([fold.test for fold in folds[1:]]))
    if not all(len(fold.train) and len(fold.test) for fold in folds):
        raise UserError(f"evaluation.split={how.split}: no item to train on, or none with gold to test on")
    if tested.nunique() < 2:
        raise UserError(
            f"evaluation.split={how.split}: every test item is {tested.iloc[0]!r}; want both sides of "
            f"{', '.join(task.classes)} among them: more groups, or another seed"
        )
    return folds


def with_validation(folds: list[Fold], groups: pd.Series, fraction: float, seed: int) -> list[Fold]:
    """The folds, with a share of the training groups of each set aside where it has no validation side yet.

    Args:
        folds: The folds.
        groups: The group of each item.
        fraction: Of the groups, 0-1; at least one is set aside, and one is left to train on. 0 changes nothing.
        seed: Of the draw.

    Returns:
        As many folds, in the same order.

    Raises:
        UserError: A fold has only one training group.
    """
    if fraction == 0:
        return folds
    split_folds = []
    for number, fold in enumerate(folds):
        groups_of_train = groups[fold.train]
        names = np.sort(groups_of_train.unique().astype(str))
        if len(fold.validation) == 0:
            if len(names) < 2:
                raise UserError(
                    f"model.validation_fraction={fraction}: there is one group to train on, and it can't be on both "
                    "sides; want 0, or more groups"
                )
            count = min(max(round(fraction * len(names)), 1), len(names) - 1)
            away = groups_of_train.isin(np.random.default_rng([seed, number]).permutation(names)[:count])
            fold = Fold(fold.train[~away], fold.train[away], fold.test)
        split_folds.append(fold)
    return split_folds


def copied_test_items(items: pd.DataFrame, folds: Sequence[Fold]) -> float:
    """How many test items are copies of an item on the training side of their fold.

    Args:
        items: Items with their views, which say what is a copy (`silvertune.items.copy_keys`).
        folds: The folds of a run.

    Returns:
        The number of test items, summed over the folds; NaN where nothing is tested.
    """
    if not any(len(fold.test) for fold in folds):
        return float("nan")
    keys = copy_keys(items)
    return float(
        sum(int(keys[fold.test].isin(set(keys[fold.train.append(fold.validation)]) - {""}).sum()) for fold in folds)
    )


def _tested(data: Data, groups: pd.Series, how: Evaluation, seed: int) -> Sequence[Sequence[object]]:
    from sklearn.model_selection import GroupKFold, GroupShuffleSplit

    # Sorted, so that the split does not depend on the order of the file.
    candidates = np.sort(groups[data.gold.index].unique().astype(str))
    if not len(candidates):
        raise UserError(
            "dataset.gold: no item has a trusted label, so there is nothing to test on; name what holds it, or tune "
            "with evaluation=none"
        )
    if how.split == "kfold":
        if not 2 <= how.folds <= len(candidates):
            raise UserError(
                f"evaluation.folds={how.folds}: want from 2 to the number of groups with gold, here {len(candidates)}"
            )
        splitter = GroupKFold(n_splits=how.folds, shuffle=True, random_state=seed)
    else:
        if not 0 < how.test_fraction < 1 or len(candidates) < 2:
            raise UserError(
                f"evaluation.test_fraction={how.test_fraction}: want a number between 0 and 1 and at least two groups "
                f"with gold (here {len(candidates)})"
            )
        splitter = GroupShuffleSplit(n_splits=1, test_size=how.test_fraction, random_state=seed)
    try:
        return [candidates[test] for _, test in splitter.split(candidates, groups=candidates)]
    except ValueError:
        raise UserError(
            f"evaluation.test_fraction={how.test_fraction}: leaves nothing on one side "
            f"of {len(candidates)} groups with gold"
        ) from None


def _fold(groups: pd.Series, gold: pd.Index, tested: Sequence[object]) -> Fold:
    away = groups.isin(tested)
    return Fold(groups.index[~away], groups.index[:0], groups.index[away & groups.index.isin(gold)])


def _given(data: Data, groups: pd.Series) -> Fold:
    if data.partition is None:
        raise UserError(
            "evaluation=given: dataset.files names no train and test files; set them, or use evaluation=holdout"
        )
    sides = pd.DataFrame({"group": groups, "side": data.partition}).drop_duplicates()
    twice = sides[sides.duplicated("group", keep=False)]
    if len(twice):
        name = twice["group"].iloc[0]
        raise UserError(
            f"dataset.files: group {name!r} is in {' and '.join(twice.loc[twice['group'] == name, 'side'])}; "
            "each group belongs to one of them"
        )
    train, validation, test = (data.partition.index[data.partition == side] for side in ("train", "validation", "test"))
    return Fold(train, validation, test.intersection(data.gold.index, sort=False))
