"""Every rule, where it has something to say and where it has not."""

import dataclasses
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from silvertune.evaluation import findings, item_marks, label_quality
from silvertune.schema import Task

PETS = Task(name="pets", classes=["other", "cat"], positive="cat")
N = 200
INDEX = pd.Index([f"i{k}" for k in range(N)], name="item_id", dtype=object)
CATS = np.arange(N) % 2 == 0  # gold
EARLY = np.arange(N) < 80


def names(cats: np.ndarray) -> pd.Series:
    return pd.Series(np.where(cats, "cat", "other"), index=INDEX, dtype=object)


def report(
    *,
    said: np.ndarray = CATS,
    text: np.ndarray | None = None,
    keep: np.ndarray | None = None,
    confidence: np.ndarray | None = None,
    predicted: np.ndarray = CATS,
    prob: float = 1.0,
    null: int = 0,
    gold: pd.Series | None = None,
    jury: Sequence[np.ndarray] = (),
) -> label_quality.Report:
    """Labels that are `said` (True: cat) by view json, and by view text too unless it says otherwise.

    jury: What further annotators, j0, j1 ..., say on view json.
    """
    sure = np.ones(N) if confidence is None else confidence
    keep = np.ones(N, dtype=bool) if keep is None else keep
    label = names(said)
    decisions = pd.DataFrame(
        {"label": label, "confidence": sure, "keep": keep, "train_label": label.where(keep, None), "fold": 0}, INDEX
    ).assign(source=np.where(keep, "labeler", "dropped"))
    votes = pd.concat(
        pd.DataFrame({"item_id": INDEX, "annotator": who, "view": view, "repeat": 0, "label": names(cats).to_numpy()})
        for who, view, cats in (
            ("m", "json", said),
            ("m", "text", said if text is None else text),
            *((f"j{number}", "json", cats) for number, cats in enumerate(jury)),
        )
    ).assign(confidence=np.nan, status="ok", cost_usd=0.0, stage="labeler")
    votes.iloc[:null, votes.columns.get_indexer(["label", "status"])] = [None, "refused"]
    predictions = pd.DataFrame(
        {
            "label": names(predicted),
            "prob:other": np.where(predicted, 1 - prob, prob),
            "prob:cat": np.where(predicted, prob, 1 - prob),
            "fold": 0,
        },
        index=INDEX,
    )
    return label_quality.report(
        decisions, votes, votes.iloc[:0], predictions, names(CATS) if gold is None else gold, PETS
    )


def with_copies(made: label_quality.Report, copies: int) -> label_quality.Report:
    made.metrics["labels/copied_test_items"] = float(copies)
    return made


SETTINGS = {
    "show": {*item_marks.MARKS, "copies"}, "label": {*PETS.classes}, "predicted": {*PETS.classes}, "fold": {"0", "1"},
    "annotator": {"m", "j0", "j1", "j2", "j3"}, "view": {"json", "text"}, "vote": {"none", "differs", "wrong"},
    "sort": {"confident", "doubtful", "predicted"},
}  # fmt: skip
"""What a finding may say of the items behind it; raters are named by their annotator and view."""


def found(made: label_quality.Report) -> dict[str, str]:
    for finding in findings.find(made):
        assert finding.items, f"{finding.name} leads to no items"
        for name, value in finding.items.items():
            assert value in SETTINGS.get(name, {"m:json", "m:text", *(f"j{k}:json" for k in range(5))}), finding
    return {finding.name: finding.sentence for finding in findings.find(made)}


def test_nothing_is_found_in_what_is_as_it_should_be() -> None:
    assert findings.find(report()) == []
    assert findings.markdown([]) == "No rule found anything.\n"


RNG = np.random.default_rng(0)
WRONG = RNG.permutation(N) < 60  # 30% of either class
FLIPPED = CATS ^ WRONG
OVER = CATS | (np.arange(N) % 4 == 1)  # half of the others are called cats
RANDOM = RNG.random(N)

CASES: list[tuple[str, Callable[[], label_quality.Report], Callable[[], label_quality.Report], str]] = [
    (
        "filter_drops_one_class",
        lambda: report(keep=~(CATS & EARLY)),
        lambda: report(keep=~EARLY),
        "The filter removed only cat: 40 of 40 labels.",
    ),
    (
        "filter_thins_class",
        lambda: report(keep=~CATS | (np.arange(N) < 40)),
        lambda: report(keep=~CATS | EARLY),
        "The filter keeps 20% of the labels cat, and 60% of all.",
    ),
    (
        "filter_finds_errors",
        lambda: report(said=FLIPPED, keep=~WRONG),
        lambda: report(said=FLIPPED, keep=~EARLY),
        "Noise goes from .30 to .00.",
    ),
    (
        "filter_only_shifts_classes",
        lambda: report(said=OVER, keep=~(OVER & EARLY)),
        lambda: report(said=OVER, keep=~(OVER & ~CATS)),
        "The filter finds a class, but not its wrong labels: 33% of the dropped labels are wrong; of as many random "
        "labels 25% would be, and of as many random labels of each class 33%.",
    ),
    (
        "filter_no_better_than_chance",
        lambda: report(said=FLIPPED, keep=~EARLY),
        lambda: report(said=FLIPPED, keep=~WRONG),
        "The filter does not find wrong labels",
    ),
    (
        "class_noisy",
        lambda: report(said=OVER & ~(CATS & EARLY)),
        lambda: report(said=CATS ^ (np.arange(N) < 40)),
        "45% of the training labels cat are wrong.",
    ),
    (
        "class_noise_grows",
        lambda: report(said=FLIPPED, keep=WRONG | EARLY),
        lambda: report(said=FLIPPED, keep=~WRONG | EARLY),
        "Among the labels",
    ),
    (
        "labels_over_call",
        lambda: report(said=OVER),
        lambda: report(said=FLIPPED),
        "The labels over-call cat: 75% of the labels, 50% of gold.",
    ),
    (
        "trained_on_too_many",
        lambda: report(keep=CATS | EARLY),
        lambda: report(said=OVER, predicted=OVER),  # nothing was dropped
        "The training labels over-call cat: 71% of the labels, 50% of gold.",
    ),
    (
        "predictions_over_call",
        lambda: report(predicted=OVER),
        lambda: report(predicted=FLIPPED),
        "The predictions over-call cat: 75% of the predictions, 50% of gold.",
    ),
    (
        "classes_shift",
        lambda: report(keep=CATS | EARLY),
        lambda: report(keep=CATS | (np.arange(N) < 170)),
        "(total variation .21)",
    ),
    (
        "confidence_blind",
        lambda: report(said=FLIPPED, confidence=np.where(np.arange(N) % 10 < 5, 0.7, 0.71)),
        lambda: report(said=FLIPPED, confidence=np.where(WRONG, 0.6, 0.8)),
        "in random order, .05 in the best order.",
    ),
    (
        "confidence_orders_errors",
        lambda: report(said=FLIPPED, confidence=np.where(WRONG, 0.6, 0.8)),
        lambda: report(said=FLIPPED, confidence=np.where(np.arange(N) % 10 < 5, 0.7, 0.71)),
        "AURC .09, .30 in random order, .05 in the best order.",
    ),
    (
        "labels_miscalibrated",
        lambda: report(said=FLIPPED, confidence=np.full(N, 0.9)),
        lambda: report(said=FLIPPED, confidence=np.full(N, 0.75)),
        ".90 on average, .70 of them are right (ECE .20)",
    ),
    (
        "predictions_miscalibrated",
        lambda: report(prob=0.8),
        lambda: report(prob=0.95),
        "predictions does not match their accuracy: .80 on average, 1.00 of them are right (ECE .20)",
    ),
    (
        "annotators_disagree",
        lambda: report(text=FLIPPED),
        lambda: report(text=CATS ^ (np.arange(N) < 20)),
        "Krippendorff's alpha .40 (below .67)",
    ),
    (
        "annotator_unlike_others",
        lambda: report(jury=[CATS ^ (np.arange(N) < 20), RANDOM > 0.5]),
        lambda: report(jury=[CATS ^ (np.arange(N) < 20), FLIPPED]),
        "j1 hardly agrees with the other annotators: kappa -.0",
    ),
    (
        "view_errs_more",
        lambda: report(text=FLIPPED),
        lambda: report(text=CATS ^ (np.arange(N) < 10)),
        "m makes more errors on view text (30% wrong) than on json (0%).",
    ),
    (
        "errs_together",
        lambda: report(said=FLIPPED),
        lambda: report(said=FLIPPED, text=CATS ^ np.roll(WRONG, 1)),
        "of the 60 items that at least one has wrong, both give 100% the same wrong label",
    ),
    (
        "votes_without_label",
        lambda: report(null=10),
        lambda: report(null=9),
        "m gives no label in 10 of 200 votes on view json.",
    ),
    (
        "one_class_predicted",
        lambda: report(predicted=np.ones(N, dtype=bool)),
        lambda: report(predicted=np.arange(N) > 0),
        "Only one class is predicted on the test items.",
    ),
    (
        "copies_across_split",
        lambda: with_copies(report(), 2),
        lambda: with_copies(report(), 0),
        "2 test items are copies of texts that are trained on",
    ),
]


@pytest.mark.parametrize(("name", "there", "absent", "said"), CASES, ids=[case[0] for case in CASES])
def test_a_rule_speaks_where_it_should_and_only_there(
    name: str,
    there: Callable[[], label_quality.Report],
    absent: Callable[[], label_quality.Report],
    said: str,
) -> None:
    sentences = found(there())
    assert name in sentences
    assert said in sentences[name]
    assert name not in found(absent())


def test_every_documented_rule_has_a_case_and_none_is_missing() -> None:
    assert findings.__doc__ is not None
    rows = re.findall(r"^\| ([a-z_, ]+) \|", findings.__doc__, re.MULTILINE)
    documented = {name for row in rows for name in row.split(", ")} - {"name"}
    assert documented == {case[0] for case in CASES}


def test_without_gold_only_what_needs_none_is_found() -> None:
    made = report(said=FLIPPED, text=OVER, keep=CATS | EARLY, confidence=RANDOM, gold=names(CATS).iloc[:0], null=30)
    assert set(found(made)) == {"annotators_disagree", "votes_without_label", "filter_drops_one_class"} & set(
        found(made)
    )
    assert {"annotators_disagree", "votes_without_label"} <= set(found(made))


def test_few_labels_say_nothing() -> None:
    few = names(CATS).iloc[:5]
    made = report(said=~CATS, predicted=~CATS, confidence=RANDOM, gold=few)
    assert not set(found(made)) & {"labels_over_call", "confidence_blind", "labels_miscalibrated", "errs_together"}


def test_the_folds_that_predict_one_class_are_named() -> None:
    quiet = report()
    folds = pd.concat([quiet.by_fold.assign(fold=k, classes_predicted=1 + (k % 2 == 0)) for k in range(4)])
    said = found(dataclasses.replace(quiet, by_fold=folds))["one_class_predicted"]
    assert said == "Only one class is predicted in fold 1, 3 (of 4, from 0)."


def test_markdown_has_a_line_a_finding() -> None:
    text = findings.markdown(findings.find(report(text=FLIPPED)))
    assert "- m makes more errors on view text (30% wrong) than on json (0%). (`view_errs_more`)\n" in text
    assert len(text.splitlines()) == len(findings.find(report(text=FLIPPED)))


def test_of_two_annotators_none_is_the_odd_one() -> None:
    assert "annotator_unlike_others" not in found(report(jury=[RANDOM > 0.5]))


def test_annotators_are_compared_without_gold_and_those_of_other_labels_do_not_count() -> None:
    jury = [CATS ^ (np.arange(N) < 20), RANDOM > 0.5]
    assert (
        found(report(jury=jury, gold=names(CATS).iloc[:0]))["annotator_unlike_others"]
        == (found(report(jury=jury))["annotator_unlike_others"])
    )
