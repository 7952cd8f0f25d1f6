import numpy as np
import pandas as pd
import pytest
from tests import made

from silvertune import fallback_budget
from silvertune.fallback_budget import Budget
from silvertune.schema import Task


def decision(n: int = 40, *, wrong: float = 0.3, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The labels of a pool of which the two views' agreement keeps some, and the votes."""
    about = made.usual_evidence(made.SOE, n=n, wrong=wrong, null=0.1)
    agree = about.votes.groupby("item_id")["label"].agg(lambda own: own.nunique() == 1 and own.notna().all())
    return about.labels.assign(keep=agree.reindex(about.labels.index) & about.labels["label"].notna()), about.votes


def test_without_a_budget_all_rejected_items_go(task: Task) -> None:
    table, votes = decision()
    why = fallback_budget.reasons_to_ask(table, votes, task, None, 0)
    assert (why == "rejected").equals(~table["keep"])


def test_a_budget_is_an_audit_and_the_most_uncertain_rejected_items(task: Task) -> None:
    table, votes = decision()
    why = fallback_budget.reasons_to_ask(table, votes, task, Budget(12, 0.25), 0)
    assert why.value_counts().reindex(["audit", "uncertain"]).tolist() == [3, 9]
    uncertain, audited = why.index[why == "uncertain"], why.index[why == "audit"]
    assert not table.loc[uncertain, "keep"].any()
    assert table.loc[audited, "label"].notna().all()
    others = table.index[~table["keep"] & (why == "")]
    assert len(others)
    gap = votes.groupby("item_id").apply(lambda own: abs((own["prob:soe"] - own["prob:other"]).mean()))
    assert gap.reindex(uncertain).fillna(-1).max() <= gap[others].min()
    assert set(table.index[table["label"].isna()]) <= set(uncertain)


@pytest.mark.parametrize(("audit", "counts"), [(0.0, {"uncertain": 5}), (1.0, {"audit": 5})])
def test_a_budget_may_be_all_of_one_kind(task: Task, audit: float, counts: dict[str, int]) -> None:
    table, votes = decision()
    why = fallback_budget.reasons_to_ask(table, votes, task, Budget(5, audit), 0)
    assert why[why != ""].value_counts().to_dict() == counts


def test_a_budget_that_is_more_than_there_is_asks_about_all_rejected(task: Task) -> None:
    table, votes = decision()
    why = fallback_budget.reasons_to_ask(table, votes, task, Budget(1000, 0.01), 0)
    assert (why[~table["keep"]] != "").all()


def test_the_order_of_the_items_does_not_matter_and_the_seed_does(task: Task) -> None:
    table, votes = decision()
    why = fallback_budget.reasons_to_ask(table, votes, task, Budget(12, 0.5), 0)
    again = fallback_budget.reasons_to_ask(table.iloc[::-1], votes.iloc[::-1], task, Budget(12, 0.5), 0)
    pd.testing.assert_series_equal(again.reindex(why.index), why)
    assert not fallback_budget.reasons_to_ask(table, votes, task, Budget(12, 0.5), 1).equals(why)


def test_the_audit_is_unbiased_and_its_error_is_as_said(task: Task) -> None:
    """Over 300 draws the mean is the true noise, and the draws spread as their standard errors say."""
    table, votes = decision(300)
    gold = made.gold(300)
    labelled = table[table["label"].notna()]
    found = [
        fallback_budget.audit(
            [table.assign(asked=fallback_budget.reasons_to_ask(table, votes, task, Budget(60, 1.0), seed))], gold
        )
        for seed in range(300)
    ]
    draws = pd.DataFrame(found)
    for name, part in (("", slice(None)), ("_kept", labelled["keep"]), ("_rejected", ~labelled["keep"])):
        own = labelled.loc[part]
        true = (own["label"] != gold[own.index]).mean()
        key = f"labels/audit_noise{name}"
        assert draws[key].mean() == pytest.approx(true, abs=4 * draws[key].std() / np.sqrt(300))
        assert draws[f"{key}_se"].mean() == pytest.approx(draws[key].std(), rel=0.2)


def test_what_was_picked_for_being_uncertain_is_not_counted() -> None:
    table = pd.DataFrame(
        {"label": "soe", "keep": [True, True, False, False], "asked": ["audit", "audit", "uncertain", "audit"]},
        index=list("abcd"),
    )
    answers = pd.Series({"a": "soe", "b": "other", "c": "other", "d": "other"})
    found = fallback_budget.audit([table], answers)
    assert found["labels/audit_noise"] == pytest.approx(2 / 3)
    assert found["labels/audit_noise_kept"] == 0.5
    assert found["labels/audit_noise_rejected"] == 1.0
    assert found["labels/audit_noise_kept_se"] == 0.0  # both kept ones were looked at
    assert np.isnan(found["labels/audit_noise_rejected_se"])


def test_without_answers_nothing_is_estimated() -> None:
    table = pd.DataFrame({"label": ["soe"], "keep": [True], "asked": ["audit"]}, index=["a"])
    assert all(np.isnan(value) for value in fallback_budget.audit([table], pd.Series(dtype=object)).values())


def test_a_pool_without_an_audited_reject_leaves_the_others_their_noise() -> None:
    one = pd.DataFrame({"label": "soe", "keep": [True, False], "asked": "audit"}, index=["a", "b"])
    other = pd.DataFrame({"label": "soe", "keep": [True, True], "asked": "audit"}, index=["c", "d"])
    found = fallback_budget.audit([one, other], pd.Series({"a": "soe", "b": "other", "c": "other", "d": "soe"}))
    assert found["labels/audit_noise_rejected"] == 1.0
    assert found["labels/audit_noise"] == 0.5


@pytest.mark.parametrize(("items", "audit", "number"), [(1, 0.3, 1), (10, 0.05, 1), (50, 0.3, 15), (10, 0.0, 0)])
def test_a_small_audit_is_one_all_the_same(task: Task, items: int, audit: float, number: int) -> None:
    about = made.usual_evidence(task)
    table = about.labels.assign(keep=False)
    why = fallback_budget.reasons_to_ask(table, about.votes, task, Budget(items, audit), 0)
    assert (why == "audit").sum() == min(number, table["label"].notna().sum())
