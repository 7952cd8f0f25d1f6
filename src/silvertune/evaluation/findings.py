"""Findings: sentences about label quality, each by a rule whose threshold is a constant of this module.

No rule but the last two applies to fewer than `ENOUGH` labels, or where it needs gold and there is none.

| name | the rule applies where |
| --- | --- |
| filter_drops_one_class | `ONE_SIDED` of the dropped labels are of one class, and not that share of all labels |
| filter_thins_class | a class keeps less than `THINNED` of the fraction of labels that is kept overall |
| filter_finds_errors | the dropped labels contain more wrong ones than a random drop of as many *of each class* would with probability `CHANCE` (hypergeometric, labels taken as independent) |
| filter_only_shifts_classes | they contain more than a random drop of as many would, but not more than one of as many of each class |
| filter_no_better_than_chance | they contain no more than a random drop of as many would |
| class_noisy | of the training labels of a class, at least `NOISY` are wrong |
| class_noise_grows | of the labels of a class, `GREW` more are wrong after the filter (and fallback) than before |
| labels_over_call, trained_on_too_many, predictions_over_call | a class has `OVER_CALLED` times its share of gold, and `OVER_CALLED_BY` more: among the labels, the training labels (both of items with gold), the predictions |
| classes_shift | the class shares of the training labels and of the test's gold differ by `SHIFTED` (total variation) |
| confidence_blind, confidence_orders_errors | the AURC of the confidence is less than `BLIND`, or at least `ORDERS`, of the way from that of a random order to that of the best order |
| labels_miscalibrated, predictions_miscalibrated | the expected calibration error is at least `MISCALIBRATED` |
| annotators_disagree | Krippendorff's alpha of all the labeler's votes is below `RELIABLE` |
| annotator_unlike_others | of three or more annotators, one's kappa with the others is on average below `UNLIKE` of the highest such mean |
| view_errs_more | the votes on two views differ in noise by `VIEWS_DIFFER` |
| errs_together | of the items that at least one of two raters of the labeler has wrong, a share `TOGETHER` has the same wrong label from both |
| votes_without_label | an annotator gives no label in at least `NULL` of the votes on a view |
| one_class_predicted | every prediction of a fold is of one class, and its test items are not |
| copies_across_split | test items are copies of items that are trained on (the same words in every view) |
"""  # noqa: E501

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from silvertune.evaluation.label_quality import Report
from silvertune.stats.rater_agreement import rater_name
from silvertune.votes import WHOLE_ITEM

ENOUGH = 20
ONE_SIDED = 0.95
THINNED = 0.5
CHANCE = 0.05
NOISY = 0.33
GREW = 0.02
OVER_CALLED, OVER_CALLED_BY = 1.25, 0.05
SHIFTED = 0.1
BLIND, ORDERS = 0.1, 0.5
MISCALIBRATED = 0.1
RELIABLE = 0.667
"""Krippendorff 2004, "Reliability in content analysis": the lowest limit for even tentative conclusions."""
UNLIKE = 0.5
VIEWS_DIFFER = 0.1
TOGETHER = 0.5
NULL = 0.05
NO_FINDING = "No rule found anything."
MOST = 3
"""How many findings a rule about annotators gives at most: the worst ones."""


@dataclass(frozen=True)
class Finding:
    """A sentence about the labels of a run.

    Attributes:
        name: The name of its rule, a tag to search runs by.
        sentence: The sentence, with the figures.
        items: How `labels_browser.html` shows the items behind it: setting -> value, such as `show` -> a mark of
            `silvertune.evaluation.item_marks`. Empty where it is about no items in particular.
    """

    name: str
    sentence: str
    items: Mapping[str, str] = field(default_factory=dict)


def find(report: Report) -> list[Finding]:
    """Apply every rule.

    Args:
        report: The quality of a run's labels.

    Returns:
        The findings, in the order of the rules.
    """
    return [finding for rule in RULES for finding in rule(report)]


def markdown(findings: list[Finding]) -> str:
    """Write findings as a Markdown list.

    Args:
        findings: The findings.

    Returns:
        One line a finding, or a sentence that there is none.
    """
    return "".join(f"- {finding.sentence} (`{finding.name}`)\n" for finding in findings) or f"{NO_FINDING}\n"


def _filter_drops_one_class(report: Report) -> Iterator[Finding]:
    dropped, before = report.by_class["items_dropped"], report.by_class["n_before"]
    name, n = str(dropped.idxmax()), dropped.sum()
    if n >= ENOUGH and dropped[name] / n >= ONE_SIDED and before[name] / before.sum() < ONE_SIDED:
        only = "only" if dropped[name] == n else "nearly only"
        sentence = f"The filter removed {only} {name}: {dropped[name]} of {n} labels."
        yield Finding("filter_drops_one_class", sentence, {"show": "dropped", "label": name})


def _filter_thins_class(report: Report) -> Iterator[Finding]:
    kept, overall = report.by_class["kept_fraction"], report.metrics["labels/kept_fraction"]
    for name in report.by_class.index[report.by_class["n_before"] >= ENOUGH]:
        if kept[name] < THINNED * overall:
            sentence = f"The filter keeps {_percent(kept[name])} of the labels {name}, and {_percent(overall)} of all."
            yield Finding("filter_thins_class", sentence, {"show": "dropped", "label": str(name)})


def _filter_against_chance(report: Report) -> Iterator[Finding]:
    from scipy.stats import norm

    # The folds share most of their items: counts are means over them.
    counts = report.by_class[["known_before", "known_dropped"]] / len(report.by_fold)
    with_gold, dropped = counts["known_before"], counts["known_dropped"]
    if dropped.sum() < ENOUGH:
        return
    noise, dropped_wrong = report.metrics["labels/noise_before"], report.metrics["labels/dropped_precision"]
    noise_of_class = report.by_class["noise_before"].fillna(0.0)
    random_of_each_class = float((dropped * noise_of_class).sum() / dropped.sum())
    n_wrong = dropped_wrong * dropped.sum()

    def beats_random(noise: pd.Series, with_gold: pd.Series, dropped: pd.Series) -> bool:
        """More wrong labels than random drops (hypergeometric) have with probability CHANCE; normal approximation."""
        variance = dropped * noise * (1 - noise) * (with_gold - dropped) / (with_gold - 1).clip(lower=1)
        return bool(n_wrong - (dropped * noise).sum() > norm.isf(CHANCE) * np.sqrt(variance.sum()))

    figures = f"{_percent(dropped_wrong)} of the dropped labels are wrong; of as many random labels {_percent(noise)}"
    figures += f" would be, and of as many random labels of each class {_percent(random_of_each_class)}. Noise goes"
    figures += f" from {_share(noise)} to {_share(report.metrics['labels/noise_after'])}."
    of_right = {"show": "dropped_though_right"}
    if not beats_random(pd.Series([noise]), pd.Series([with_gold.sum()]), pd.Series([dropped.sum()])):
        yield Finding("filter_no_better_than_chance", f"The filter does not find wrong labels: {figures}", of_right)
    elif not beats_random(noise_of_class, with_gold, dropped):
        yield Finding(
            "filter_only_shifts_classes", f"The filter finds a class, but not its wrong labels: {figures}", of_right
        )
    else:
        yield Finding("filter_finds_errors", f"The filter finds wrong labels: {figures}", {"show": "dropped"})


def _class_noise(report: Report) -> Iterator[Finding]:
    for name, row in report.by_class[report.by_class["n_after"] >= ENOUGH].iterrows():
        of_class = {"show": "trained_on_wrong", "label": str(name)}
        if row["noise_after"] >= NOISY:
            sentence = f"{_percent(row['noise_after'])} of the training labels {name} are wrong."
            yield Finding("class_noisy", sentence, of_class)
        if row["noise_after"] - row["noise_before"] >= GREW:
            sentence = f"Among the labels {name}, noise grows from {_share(row['noise_before'])} before the filter to"
            sentence += f" {_share(row['noise_after'])} in the training set."
            yield Finding("class_noise_grows", sentence, of_class)


def _over_calls(report: Report) -> Iterator[Finding]:
    counts = report.by_class[["known_before", "known_after", "n_gold"]]
    n, shares = counts.sum(), (counts / counts.sum()).join(report.prevalence)
    before, after, gold = shares["known_before"], shares["known_after"], shares["n_gold"]
    if min(n["known_before"], n["n_gold"]) >= ENOUGH:
        for label in _over_called(before, gold):
            shares_in_words = f"{_percent(before[label])} of the labels, {_percent(gold[label])} of gold"
            yield Finding(
                "labels_over_call",
                f"The labels over-call {label}: {shares_in_words}.",
                {"show": "wrong", "label": label},
            )
    # Where nothing is dropped, the sentence above says the same.
    if min(n["known_after"], n["n_gold"]) >= ENOUGH and not after.equals(before):
        for label in _over_called(after, gold):
            shares_in_words = f"{_percent(after[label])} of the labels, {_percent(gold[label])} of gold"
            sentence = f"The training labels over-call {label}: {shares_in_words}."
            yield Finding("trained_on_too_many", sentence, {"show": "trained_on_wrong", "label": label})
    predicted, tested = shares["predicted"], shares["test gold"]
    if report.by_fold["n_test"].sum() >= ENOUGH:
        for label in _over_called(predicted, tested):
            shares_in_words = f"{_percent(predicted[label])} of the predictions, {_percent(tested[label])} of gold"
            sentence = f"The predictions over-call {label}: {shares_in_words}."
            yield Finding("predictions_over_call", sentence, {"show": "prediction_wrong", "predicted": label})


def _over_called(share: pd.Series, gold: pd.Series) -> list[str]:
    return [str(name) for name in share.index[(share >= OVER_CALLED * gold) & (share - gold >= OVER_CALLED_BY)]]


def _classes_shift(report: Report) -> Iterator[Finding]:
    shift, n = report.metrics["labels/shift_train_test"], report.by_fold[["n_train", "n_test"]].sum().min()
    if shift >= SHIFTED and n >= ENOUGH:
        trained, tested = report.prevalence["trained on"], report.prevalence["test gold"]
        name = str((trained - tested).abs().idxmax() if len(trained) > 2 else tested.idxmin())
        start = f"Training and test differ in their class shares (total variation {_share(shift)}): {name} is"
        yield Finding(
            "classes_shift",
            f"{start} {_percent(trained[name])} of the training labels and {_percent(tested[name])} of the test items.",
            {"show": "kept", "label": name},
        )


def _confidence_order(report: Report) -> Iterator[Finding]:
    of_all = report.rankings[(report.rankings["by"] == "confidence") & (report.rankings["of"] == "all")]
    for row in of_all.to_dict("records"):
        if not ENOUGH <= row["errors"] <= row["n"] - ENOUGH:
            continue
        share_of_best = (row["aurc_random"] - row["aurc"]) / (row["aurc_random"] - row["aurc_best"])
        figures = f"AURC {_share(row['aurc'])}, {_share(row['aurc_random'])} in random order,"
        figures += f" {_share(row['aurc_best'])} in the best order."
        if share_of_best < BLIND:
            sentence = f"The confidence does not rank the wrong labels last: {figures}"
            yield Finding("confidence_blind", sentence, {"show": "wrong_and_confident", "sort": "confident"})
        elif share_of_best >= ORDERS:
            sentence = f"The confidence ranks most of the wrong labels last: {figures}"
            yield Finding("confidence_orders_errors", sentence, {"show": "wrong", "sort": "doubtful"})


def _miscalibrated(report: Report) -> Iterator[Finding]:
    shows = {
        "labels": {"show": "wrong_and_confident", "sort": "confident"},
        "predictions": {"show": "prediction_wrong", "sort": "predicted"},
    }
    for of, items in shows.items():
        bins = report.reliability[report.reliability["of"] == of]
        if bins["n"].sum() < ENOUGH:
            continue
        confidence, accuracy = (float(np.average(bins[name], weights=bins["n"])) for name in ("confidence", "accuracy"))
        error = float(np.average((bins["confidence"] - bins["accuracy"]).abs(), weights=bins["n"]))
        if error >= MISCALIBRATED:
            start = f"The confidence of the {of} does not match their accuracy: {_share(confidence)} on average,"
            yield Finding(
                f"{of}_miscalibrated", f"{start} {_share(accuracy)} of them are right (ECE {_share(error)}).", items
            )


def _annotators_disagree(report: Report) -> Iterator[Finding]:
    votes = report.alphas[report.alphas["of"] == "the labeler"]
    for row in votes[(votes["n"] >= ENOUGH) & (votes["alpha"] < RELIABLE)].to_dict("records"):
        alpha = f"Krippendorff's alpha {_share(row['alpha'])} (below {_share(RELIABLE)})"
        sentence = f"The labeler's votes on an item rarely agree: {alpha}."
        yield Finding("annotators_disagree", sentence, {"show": "disagree"})


def _annotator_unlike_others(report: Report) -> Iterator[Finding]:
    raters = report.by_view[["annotator", "view"]].to_dict("records") if len(report.by_view) else []
    annotator_of = {rater_name(row["annotator"], row["view"], WHOLE_ITEM): row["annotator"] for row in raters}
    pairs = report.agreement[report.agreement["n"] >= ENOUGH].dropna(subset="kappa")
    pairs = pairs.assign(one=pairs["a"].map(annotator_of), other=pairs["b"].map(annotator_of)).dropna(
        subset=["one", "other"]
    )
    pairs = pairs[pairs["one"] != pairs["other"]]
    kappa = pd.concat([pairs.set_index(end)["kappa"] for end in ("one", "other")]).groupby(level=0, sort=False).mean()
    if len(kappa) < 3:
        return
    best = kappa.idxmax()
    for name, mean in kappa[kappa < UNLIKE * kappa[best]].nsmallest(MOST).items():
        figures = f"kappa {_share(mean)} on average, {best} {_share(kappa[best])}"
        yield Finding(
            "annotator_unlike_others",
            f"{name} hardly agrees with the other annotators: {figures}. aggregation=dawid_skene weighs annotators by "
            "their agreement.",
            {"annotator": str(name), "vote": "differs"},
        )


def _view_errs_more(report: Report) -> Iterator[Finding]:
    if report.by_view.empty:
        return
    voted = report.by_view[report.by_view["n"] - report.by_view["without_label"] >= ENOUGH]
    for annotator, views in voted.dropna(subset="noise").groupby("annotator", sort=False):
        ranked = views.sort_values("noise")
        best, worst = ranked.iloc[0], ranked.iloc[-1]
        if worst["noise"] - best["noise"] >= VIEWS_DIFFER:
            start = f"{annotator} makes more errors on view {worst['view']} ({_percent(worst['noise'])} wrong)"
            yield Finding(
                "view_errs_more",
                f"{start} than on {best['view']} ({_percent(best['noise'])}).",
                {"annotator": str(annotator), "view": str(worst["view"]), "vote": "wrong"},
            )


def _errs_together(report: Report) -> Iterator[Finding]:
    pairs = report.agreement[report.agreement["either_wrong"] >= ENOUGH]
    for row in pairs[pairs["same_error"] >= TOGETHER].nlargest(MOST, "same_error").to_dict("records"):
        start = f"{row['a']} and {row['b']} make the same errors: of the {row['either_wrong']:.0f} items that at least"
        yield Finding(
            "errs_together",
            f"{start} one has wrong, both give {_percent(row['same_error'])} the same wrong label.",
            {"rater": row["a"], "other_rater": row["b"]},
        )


def _votes_without_label(report: Report) -> Iterator[Finding]:
    if report.by_view.empty:
        return
    voted = report.by_view.assign(null=report.by_view["without_label"] / report.by_view["n"])
    voted = voted[(voted["null"] >= NULL) & (voted["n"] >= ENOUGH)]
    for row in voted.nlargest(MOST, "null").to_dict("records"):
        share = f"{row['without_label']} of {row['n']} votes on view {row['view']}"
        items = {"annotator": str(row["annotator"]), "view": str(row["view"]), "vote": "none"}
        yield Finding("votes_without_label", f"{row['annotator']} gives no label in {share}.", items)


def _one_class_predicted(report: Report) -> Iterator[Finding]:
    one = report.by_fold[(report.by_fold["classes_predicted"] == 1) & (report.by_fold["classes_in_test"] > 1)]
    if len(one):
        folds = ", ".join(map(str, one["fold"]))
        where = (
            f"in fold {folds} (of {len(report.by_fold)}, from 0)" if len(report.by_fold) > 1 else "on the test items"
        )
        items = {"fold": str(one["fold"].iloc[0])} if len(report.by_fold) > 1 else {"show": "prediction_wrong"}
        yield Finding("one_class_predicted", f"Only one class is predicted {where}.", items)


def _copies_across_split(report: Report) -> Iterator[Finding]:
    if (copies := report.metrics.get("labels/copied_test_items", 0)) > 0:
        items = "item is a copy" if copies == 1 else "items are copies"
        said = f"{copies:.0f} test {items} of texts that are trained on, so the metrics may be too high."
        advice = "dataset.keep_copies_together=true keeps copies in one group."
        yield Finding("copies_across_split", f"{said} {advice}", {"show": "copies"})


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _share(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)


RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _filter_drops_one_class,
    _filter_thins_class,
    _filter_against_chance,
    _class_noise,
    _over_calls,
    _classes_shift,
    _confidence_order,
    _miscalibrated,
    _annotators_disagree,
    _annotator_unlike_others,
    _view_errs_more,
    _errs_together,
    _votes_without_label,
    _one_class_predicted,
    _copies_across_split,
)
