from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from tests import made

from silvertune.errors import UserError
from silvertune.items import Data, copy_keys, groups_with_copies_together
from silvertune.schema import Evaluation, Task
from silvertune.splits import Fold, copied_test_items, split

KFOLD = Evaluation(split="kfold", folds=3)
HOLDOUT = Evaluation(split="holdout", test_fraction=0.25)
GIVEN = Evaluation(split="given")


def sides(fold: Fold) -> tuple[set[str], set[str], set[str]]:
    return set(fold.train), set(fold.validation), set(fold.test)


def reordered(data: Data, seed: int) -> Data:
    partition = None if data.partition is None else data.partition.sample(frac=1, random_state=seed)
    return replace(
        data,
        items=data.items.sample(frac=1, random_state=seed),
        gold=data.gold.sample(frac=1, random_state=seed + 1),
        partition=partition,
    )


def parted(data: Data, of_group: dict[str, str]) -> Data:
    return replace(data, partition=data.items["group_id"].map(of_group).rename("partition"))


@st.composite
def datasets(draw: st.DrawFn) -> Data:
    """Items in groups of any size; some items have no gold, and so have some whole groups."""
    n = draw(st.integers(8, 30))
    groups = draw(st.lists(st.sampled_from([f"p{k}" for k in range(8)]), min_size=n, max_size=n))
    without = draw(st.lists(st.sampled_from(made.gold(n).index.tolist()), unique=True, max_size=n // 3))
    data = made.data(n, without_gold=without)
    data = replace(data, items=data.items.assign(group_id=groups))
    with_gold = data.items.loc[data.gold.index, "group_id"].nunique()
    assume(with_gold >= 4)
    return data


@settings(max_examples=60, deadline=None)
@given(datasets(), st.sampled_from([KFOLD, HOLDOUT]), st.integers(0, 5))
def test_no_group_is_on_both_sides_and_nothing_is_lost(data: Data, how: Evaluation, seed: int) -> None:
    groups = data.items["group_id"]
    # A test side of one class is another test's business.
    for fold in _split_or_skip(data, how, seed):
        train, validation, test = sides(fold)
        assert not validation
        assert not set(groups[list(train)]) & set(groups[list(test)])
        assert test <= set(data.gold.index)
        left_out = set(data.items.index) - train - test
        assert not left_out & set(data.gold.index)
        assert set(groups[list(left_out)]) <= set(groups[list(test)])


@settings(max_examples=60, deadline=None)
@given(datasets(), st.integers(0, 5))
def test_kfold_tests_each_item_with_gold_once(data: Data, seed: int) -> None:
    folds = _split_or_skip(data, KFOLD, seed)
    assert len(folds) == 3
    tested = [item for fold in folds for item in fold.test]
    assert sorted(tested) == sorted(data.gold.index)


@settings(max_examples=40, deadline=None)
@given(datasets(), st.sampled_from([KFOLD, HOLDOUT]), st.integers(0, 5), st.integers(0, 99))
def test_the_split_does_not_depend_on_the_order_of_the_rows(data: Data, how: Evaluation, seed: int, order: int) -> None:
    folds = _split_or_skip(data, how, seed)
    again = split(reordered(data, order), how, made.SOE, seed)
    assert [sides(fold) for fold in folds] == [sides(fold) for fold in again]


@settings(max_examples=40, deadline=None)
@given(datasets(), st.integers(0, 5))
def test_items_of_groups_without_gold_are_always_trained_on(data: Data, seed: int) -> None:
    groups = data.items["group_id"]
    always = set(groups.index[~groups.isin(groups[data.gold.index])])
    for fold in _split_or_skip(data, KFOLD, seed):
        assert always <= set(fold.train)


def _split_or_skip(data: Data, how: Evaluation, seed: int) -> list[Fold]:
    try:
        return split(data, how, made.SOE, seed)
    except UserError as error:
        if "every test item is" not in str(error):
            raise
        reject()


@pytest.mark.parametrize("how", [KFOLD, HOLDOUT])
def test_a_seed_gives_the_same_split_and_another_seed_another(how: Evaluation, task: Task) -> None:
    data = made.data(36)
    splits = [[sides(fold) for fold in split(data, how, task, seed)] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_the_split_is_the_same_whichever_of_the_labels_were_drawn(task: Task) -> None:
    """Arms are compared on the same test items: only the seed decides which."""
    data = made.data(36)
    other = replace(data, annotations=data.annotations.iloc[:0], gold=data.gold.iloc[::-1])
    for fold, again in zip(split(data, KFOLD, task, 0), split(other, KFOLD, task, 0), strict=True):
        assert sides(fold) == sides(again)


def test_holdout_tests_the_fraction_of_the_groups(task: Task) -> None:
    data = made.data(36)  # 12 groups of 3
    (fold,) = split(data, HOLDOUT, task, 0)
    assert data.items.loc[fold.test, "group_id"].nunique() == 3
    assert len(fold.train) == 27


# ------------------------------------------------------------------------------------------- the data's own files

OF_GROUP = {"g00": "train", "g01": "train", "g02": "validation", "g03": "test"}


def test_given_files_are_the_split(task: Task) -> None:
    data = parted(made.data(12), OF_GROUP)
    (fold,) = split(data, GIVEN, task, 0)
    assert list(fold.train) == [f"i{k:03d}" for k in range(6)]
    assert list(fold.validation) == [f"i{k:03d}" for k in range(6, 9)]
    assert list(fold.test) == [f"i{k:03d}" for k in range(9, 12)]


def test_given_files_are_the_split_whatever_the_seed_and_the_order(task: Task) -> None:
    data = parted(made.data(12), OF_GROUP)
    (fold,) = split(data, GIVEN, task, 0)
    (again,) = split(reordered(data, 3), GIVEN, task, 1)
    assert sides(fold) == sides(again)


def test_of_a_given_test_file_only_the_items_with_gold_are_tested(task: Task) -> None:
    data = parted(made.data(12, without_gold=["i011"]), OF_GROUP)
    (fold,) = split(data, GIVEN, task, 0)
    assert sides(fold)[2] == {"i009", "i010"}
    assert "i011" not in set(fold.train)


def test_a_group_in_two_given_files_is_named(task: Task) -> None:
    data = parted(made.data(12), OF_GROUP)
    data.partition["i003"] = "test"  # type: ignore[index]
    with made.refused("dataset.files: group 'g01' is in", "test", "train"):
        split(data, GIVEN, task, 0)


# ------------------------------------------------------------------------------------------------------- the errors


def test_given_needs_files(task: Task) -> None:
    with made.refused("evaluation=given", "dataset.files names no train and test files"):
        split(made.data(), GIVEN, task, 0)


@pytest.mark.parametrize("how", [KFOLD, HOLDOUT])
def test_files_need_given(how: Evaluation, task: Task) -> None:
    with made.refused(f"evaluation={how.split}", "use evaluation=given"):
        split(parted(made.data(12), OF_GROUP), how, task, 0)


def test_an_unknown_split_is_refused_with_those_there_are(task: Task) -> None:
    with made.refused("evaluation.split=leave_one_out", "holdout, kfold, given or none"):
        split(made.data(), replace(KFOLD, split="leave_one_out"), task, 0)


@pytest.mark.parametrize("folds", [-1, 0, 1, 9])
def test_the_number_of_folds_is_checked_against_the_groups_with_gold(folds: int, task: Task) -> None:
    with made.refused(f"evaluation.folds={folds}", "here 8"):
        split(made.data(24), replace(KFOLD, folds=folds), task, 0)


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, 3.0])
def test_the_test_fraction_is_between_nought_and_one(fraction: float, task: Task) -> None:
    with made.refused(f"evaluation.test_fraction={fraction}", "between 0 and 1"):
        split(made.data(24), replace(HOLDOUT, test_fraction=fraction), task, 0)


def test_a_test_fraction_that_leaves_no_group_to_train_on_is_refused(task: Task) -> None:
    with made.refused("evaluation.test_fraction=0.9"):
        split(made.data(12), replace(HOLDOUT, test_fraction=0.9), task, 0)


@pytest.mark.parametrize("how", [KFOLD, HOLDOUT])
def test_data_without_gold_can_not_be_split(how: Evaluation, task: Task) -> None:
    data = made.data(24)
    with made.refused("dataset.gold: no item has a trusted label"):
        split(replace(data, gold=data.gold.iloc[:0]), how, task, 0)


def test_given_files_without_gold_to_test_on_are_refused(task: Task) -> None:
    data = parted(made.data(12, without_gold=["i009", "i010", "i011"]), OF_GROUP)
    with made.refused("evaluation.split=given", "none with gold to test on"):
        split(data, GIVEN, task, 0)


def test_given_files_without_a_training_item_are_refused(task: Task) -> None:
    data = parted(made.data(12), dict.fromkeys(OF_GROUP, "test"))
    with made.refused("evaluation.split=given", "no item to train on"):
        split(data, GIVEN, task, 0)


@pytest.mark.parametrize("how", [KFOLD, HOLDOUT])
def test_test_items_of_one_class_only_are_refused(how: Evaluation, task: Task) -> None:
    data = made.data(24)
    with made.refused(f"evaluation.split={how.split}", "every test item is 'soe'", "other, soe"):
        split(replace(data, gold=data.gold[data.gold == "soe"]), how, task, 0)


# ---------------------------------------------------------------------------------------------------------- copies


def texts(*words: str | None) -> pd.DataFrame:
    index = pd.Index([f"i{number}" for number in range(len(words))], name="item_id")
    return pd.DataFrame({"group_id": index, "text": words}, index=index, dtype=object)


@pytest.mark.parametrize(
    "copy", ["The cat sat.", "the CAT  sat.", " The\u00a0cat\nsat.", "T\uff48e cat sat."], ids=ascii
)
def test_copies_have_the_same_words_whatever_their_case_blanks_and_unicode_form(copy: str) -> None:
    items = texts("The cat sat.", copy, "The cat sits.", None, None)
    keys = copy_keys(items)
    assert keys["i0"] == keys["i1"] != keys["i2"]
    assert groups_with_copies_together(items).tolist() == ["i0", "i0", "i2", "i3", "i4"]


def test_items_are_copies_only_if_all_of_their_views_are() -> None:
    items = texts("a", "a", "a").assign(json=["x", "x", "y"])
    assert groups_with_copies_together(items).tolist() == ["i0", "i0", "i2"]


def test_groups_that_have_copies_in_common_become_one() -> None:
    items = texts("a", "b", "c", "b", "c", "d").assign(group_id=["g", "g", "h", "h", "k", "l"])
    assert groups_with_copies_together(items).tolist() == ["g", "g", "g", "g", "g", "l"]


@given(st.lists(st.tuples(st.sampled_from("ghijk"), st.sampled_from("abcdef")), min_size=1, max_size=12))
def test_copies_share_a_group_and_no_group_is_torn_apart(pairs: list[tuple[str, str]]) -> None:
    items = texts(*(text for _, text in pairs)).assign(group_id=[group for group, _ in pairs])
    groups = groups_with_copies_together(items)
    assert (groups.groupby(items["text"]).nunique() == 1).all()
    assert (groups.groupby(items["group_id"]).nunique() == 1).all()


def test_test_items_that_are_copies_of_training_items_are_counted() -> None:
    items = texts("a", "A", "b", None, None, "a")
    index = items.index
    folds = [Fold(index[[0, 2, 3]], index[[5]], index[[1, 4]]), Fold(index[[2]], index[:0], index[[0, 1, 5]])]
    assert copied_test_items(items, folds) == 1
    together = items.assign(group_id=groups_with_copies_together(items))
    data = Data(together, made.votes_of([]), pd.Series(list("xyxyxy"), index=index), None, "")
    how = Evaluation(split="kfold", folds=4)
    assert copied_test_items(together, split(data, how, Task(name="t", classes=["x", "y"]), 0)) == 0


@given(data=datasets(), seed=st.integers(0, 5))
def test_a_production_run_trains_on_everything(data: Data, seed: int) -> None:
    how = Evaluation(split="none")
    without_gold = replace(data, gold=data.gold.iloc[:0])
    (fold,) = split(without_gold, how, made.SOE, seed)
    assert sides(fold) == (set(data.items.index), set(), set())
    of_group = {
        group: ("train", "validation", "test")[number % 3]
        for number, group in enumerate(sorted(set(data.items["group_id"])))
    }
    (fold,) = split(parted(without_gold, of_group), how, made.SOE, seed)
    assert {of_group[group] for group in data.items.loc[fold.train, "group_id"]} <= {"train", "test"}
    assert len(fold.train) + len(fold.validation) == len(data.items)
    assert copied_test_items(data.items, [fold]) != copied_test_items(data.items, [fold])  # not 0: nothing is tested
