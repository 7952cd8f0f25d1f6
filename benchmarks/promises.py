"""Whether the promises of the cascade and of the audit hold, by simulation: `python benchmarks/promises.py`.

Prints one line a case: how often the chosen threshold's true agreement is below its target (promised: at most 5%),
and one table a scenario: how often the audit's intervals hold the true value (promised: 95%), with their width beside
that of plain sampling. `told`: in which share of the draws anything could be said.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from silvertune.stats import agreement_bounds, audits
from silvertune.stats.proportions import wilson

Risk = Callable[[np.ndarray], np.ndarray]
TARGET = 0.9
RISKS: dict[str, Risk] = {
    "calibrated": lambda confidence: 1 - confidence,
    "overconfident": lambda confidence: np.minimum(1.5 * (1 - confidence) + 0.03, 1),
    "just below the bound everywhere": lambda confidence: np.full(len(confidence), 1 - TARGET + 1e-6),
    "falls off at 0.9": lambda confidence: np.where(confidence >= 0.9, 0.08, 0.35),
    "surest are worst": lambda confidence: np.where(confidence >= 0.97, 0.14, 0.08),
}
FRESH_RISKS: dict[str, Risk] = {  # written down later
    "wavers about the bound": lambda confidence: np.clip(0.1 + 0.06 * np.sin(40 * confidence), 0, 1),
    "a dip at 0.95": lambda confidence: np.where(np.abs(confidence - 0.95) < 0.02, 0.3, 0.06),
    "falls slowly": lambda confidence: np.clip(0.09 + 0.1 * (0.98 - confidence), 0.02, 1),
    "worse from 0.9 up": lambda confidence: np.where(confidence >= 0.9, 0.105, 0.05),
}
GROUPED = {"groups of 10, correlated": 0.25, "groups of 10, strongly": 0.6}


@dataclass(frozen=True)
class Case:
    """What a threshold is chosen on: items, the target, how items of a group go together, how confidences look."""

    risk: Risk
    n: int = 600
    target: float = TARGET
    within: float = 0.0
    sizes: tuple[int, ...] = (10,)
    shown: Callable[[np.ndarray], np.ndarray] = np.asarray


CASES = {
    **{name: Case(risk) for name, risk in RISKS.items()},
    **{name: Case(RISKS["overconfident"], 1500, within=within) for name, within in GROUPED.items()},
}
FRESH_CASES = {  # written down later
    **{name: Case(risk, 1000) for name, risk in FRESH_RISKS.items()},
    "wavers, 150 items": Case(FRESH_RISKS["wavers about the bound"], 150),
    "wavers, 10,000 items": Case(FRESH_RISKS["wavers about the bound"], 10_000),
    "target 0.95, just below everywhere": Case(lambda c: np.full(len(c), 0.0501), 3000, 0.95),
    "target 0.7": Case(lambda c: np.clip(0.31 - 0.1 * (c - 0.9), 0, 1), 400, 0.7),
    "ties: six confidences": Case(RISKS["overconfident"], shown=lambda c: np.round(c * 10) / 10),
    "all above 0.998": Case(RISKS["overconfident"], shown=lambda c: 0.998 + 0.004 * (c - 0.5)),
    "groups of 2 to 40": Case(RISKS["overconfident"], 1700, within=0.4, sizes=(2, 5, 20, 40)),
    "9 groups, little correlated": Case(lambda c: np.full(len(c), 0.0501), 315, 0.95, within=0.03, sizes=(35,)),
    "9 groups, correlated": Case(lambda c: np.full(len(c), 0.0501), 315, 0.95, within=0.2, sizes=(35,)),
    "25 groups, at the bound": Case(lambda c: np.full(len(c), 0.1001), 1000, 0.9, within=0.3, sizes=(40,)),
    "25 groups": Case(RISKS["falls off at 0.9"], 1000, 0.8, within=0.3, sizes=(40,)),
}


def broken(case: Case, repetitions: int) -> tuple[int, float]:
    """How many repetitions choose a threshold whose true agreement is below the target, and the mean share answered."""
    many = np.random.default_rng(1).beta(4, 1, 400_000) / 2 + 0.5
    errors, many_shown, breaks, shares = case.risk(many), case.shown(many), 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([2, repetition])
        confidence = rng.beta(4, 1, case.n) / 2 + 0.5
        luck = rng.random(case.n)
        group = None
        if case.within:  # some items of a group share their luck
            rounds = np.tile(case.sizes, case.n // sum(case.sizes) + 1)
            group = np.repeat(np.arange(len(rounds)), rounds)[: case.n]
            shared = rng.random(case.n) < np.sqrt(case.within)
            luck = np.where(shared, rng.random(len(rounds))[group], luck)
        # Whether a labeler's answer agrees is luck, too, where it does not always answer alike.
        agrees = luck >= case.risk(confidence)
        shown = case.shown(confidence)
        choice = agreement_bounds.choose(shown, agrees, target=case.target, level=0.95, group=group)
        if choice.threshold is not None:
            is_answered = many_shown >= choice.threshold
            breaks += (1 - errors[is_answered].mean()) < case.target
            shares.append(is_answered.mean())
        else:
            shares.append(0.0)
    return breaks, float(np.mean(shares))


Population = tuple[np.ndarray, np.ndarray, np.ndarray]
"""True classes (n,), the student's probabilities (n, K), the classes that it decides for (n,)."""


@dataclass(frozen=True)
class Scenario:
    """A kind of population, how many answers people give, and how many of them in a second round."""

    make: Callable[[np.random.Generator], Population]
    answers: int = 200
    second_round: int = 0
    classes: tuple[str, ...] = ("no", "yes")


def two(truth: np.ndarray, said: np.ndarray, threshold: float = 0.5) -> Population:
    """A population of two classes, from the student's probability of the second."""
    return truth.astype(int), np.stack([1 - said, said], axis=1), (said >= threshold).astype(int)


def normal_odds(share: float, sharpness: float, scale: float, n: int = 5000) -> Scenario:
    """Log-odds are normal; the student's are off by a factor."""

    def make(rng: np.random.Generator) -> Population:
        odds = rng.normal(np.log(share / (1 - share)) * np.sqrt(1 + sharpness), sharpness, n)
        return two(rng.random(n) < expit(odds), expit(scale * odds))

    return Scenario(make)


def beta_odds(a: float, b: float, scale: float = 1, shift: float = 0, n: int = 4000, **other: Any) -> Scenario:
    """The probability of the second class has a beta distribution; the student's log-odds are off."""

    def make(rng: np.random.Generator) -> Population:
        probability = np.clip(rng.beta(a, b, n), 1e-9, 1 - 1e-9)
        return two(rng.random(n) < probability, expit(scale * logit(probability) + shift))

    return Scenario(make, **other)


def three_classes(rng: np.random.Generator) -> Population:
    """Three classes of different sizes; the student is sharper than it is right."""
    probability = rng.dirichlet([1.0, 0.6, 0.3], 4000)
    truth = (rng.random((4000, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    probs = probability**1.8 + 1e-9
    probs /= probs.sum(axis=1, keepdims=True)
    return truth, probs, probs.argmax(axis=1)


def nearly_perfect(rng: np.random.Generator) -> Population:
    """One in a hundred is wrong, and the confidence does not tell which."""
    says_yes = rng.random(3000) < 0.2
    doubt = rng.beta(1, 9, 3000) / 2
    return two(says_yes ^ (rng.random(3000) < 0.01), np.where(says_yes, 1 - doubt, doubt))


def useless(rng: np.random.Generator) -> Population:
    """What the student says has nothing to do with the truth."""
    return two(rng.random(4000) < 0.35, rng.random(4000))


def documents(rng: np.random.Generator) -> Population:
    """Items of one document err together, and the student does not see it."""
    odds = rng.normal(-0.5, 1.5, 3600)
    return two(rng.random(3600) < expit(odds + np.repeat(rng.normal(0, 1.5, 300), 12)), expit(odds))


def low_threshold(rng: np.random.Generator) -> Population:
    """The decision is for the second class from a probability of 0.25 on."""
    probability = rng.beta(0.5, 1.5, 4000)
    return two(rng.random(4000) < probability, probability, 0.25)


def ties(rng: np.random.Generator) -> Population:
    """The student knows six probabilities alone."""
    probability = rng.beta(1, 2, 4000)
    return two(rng.random(4000) < probability, np.round(probability * 5) / 5)


def ten_classes(rng: np.random.Generator) -> Population:
    """Ten classes, some rare; a student that is sure too often."""
    probability = rng.dirichlet(0.6 / np.arange(1, 11) + 0.02, 5000)
    truth = (rng.random((5000, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(0, 9)
    probs = probability**1.4 + 1e-6
    probs /= probs.sum(axis=1, keepdims=True)
    return truth, probs, probs.argmax(axis=1)


def backwards(rng: np.random.Generator) -> Population:
    """The surer the student is, the more often it is wrong."""
    said = rng.beta(1, 1.5, 4000)
    is_wrong = rng.random(4000) < 0.05 + 0.5 * np.abs(said - 0.5)
    return two((said >= 0.5) ^ is_wrong, said)


AUDITED = {  # the estimator was developed on these
    "even classes": normal_odds(0.5, 2.0, 1.0),
    "overconfident student": normal_odds(0.3, 2.0, 2.5),
    "underconfident student": normal_odds(0.3, 2.0, 0.4),
    "rare class": normal_odds(0.08, 3.0, 1.0),
    "sharp student": normal_odds(0.4, 5.0, 1.0),
}
FRESH = {  # written down after it was finished; their first run showed that second rounds were biased, which was mended
    "calibrated": beta_odds(0.6, 0.9),
    "overconfident": beta_odds(1.2, 1.8, scale=3),
    "underconfident": beta_odds(0.4, 0.7, scale=0.3),
    "class of 1%": beta_odds(0.05, 4.95),
    "three classes": Scenario(three_classes, classes=("a", "b", "c")),
    "nearly perfect": Scenario(nearly_perfect),
    "useless": Scenario(useless),
    "50 answers": beta_odds(0.6, 1.4, answers=50),
    "1,000 answers, shifted": beta_odds(0.8, 1.2, shift=1, n=6000, answers=1000),
    "documents": Scenario(documents),
    "decision at 0.25": Scenario(low_threshold),
    "ties": Scenario(ties),
    "150 answers and 50 more": beta_odds(1.2, 1.8, scale=3, answers=150, second_round=50),
    "nearly perfect, 100 and 100 more": Scenario(nearly_perfect, answers=100, second_round=100),
    "three classes, 120 and 80 more": Scenario(three_classes, answers=120, second_round=80, classes=("a", "b", "c")),
    "underconfident, 50 and 150 more": beta_odds(0.7, 1.6, scale=0.4, answers=50, second_round=150),
}

LAST = {  # written down after the last change, and run once
    "ten classes": Scenario(ten_classes, classes=tuple("abcdefghij")),
    "class of 3%, 400 answers": beta_odds(0.09, 2.91, scale=1.5, answers=400),
    "says yes too often": beta_odds(0.8, 1.8, shift=2),
    "surest are worst, backwards": Scenario(backwards),
    "three classes, 60 and 140 more": Scenario(three_classes, answers=60, second_round=140, classes=("a", "b", "c")),
    "1% wrong, 400 answers": Scenario(nearly_perfect, answers=400),
}


def audited(scenario: Scenario, population: Population, seed: int) -> pd.DataFrame:
    """The audit's table for one draw, as `silvertune-audit` makes it."""
    truth, probs, predicted = population
    surety = probs[np.arange(len(truth)), predicted]
    strata = audits.stratify(predicted, np.repeat(surety[:, None], probs.shape[1], axis=1), scenario.answers)
    numbers = audits.allocate(strata, surety, scenario.answers)
    drawn = audits.draw(strata, numbers, seed)
    result = audits.estimate(strata, predicted, probs, drawn, truth[drawn], scenario.classes)
    if scenario.second_round:
        more = audits.next_answers(np.bincount(strata), numbers, result.variances, scenario.second_round)
        drawn = np.concatenate([drawn, audits.draw(strata, more, seed, numbers)])
        result = audits.estimate(strata, predicted, probs, drawn, truth[drawn], scenario.classes)
    return result.table


def covered(scenario: Scenario, repetitions: int) -> pd.DataFrame:
    """Coverage, mean width and mean plain width of each measure, over repeated draws of a population and a sample."""
    rows = []
    answers = scenario.answers + scenario.second_round
    for repetition in range(repetitions):
        rng = np.random.default_rng([3, repetition])
        population = scenario.make(rng)
        truth, _, predicted = population
        table = audited(scenario, population, repetition)
        plainly = rng.permutation(len(truth))[:answers]
        for row in table.itertuples():
            code = scenario.classes.index(str(row[2])) if row[2] else 0
            numerator, denominator = _outcomes(str(row.measure), code, truth, predicted)
            if np.isnan(row.estimate) or not denominator.sum():
                continue
            true = numerator.sum() / denominator.sum()
            k, m = numerator[plainly].sum(), denominator[plainly].sum()
            # Plain sampling is from a finite population, too.
            low, high = wilson(k / m, m / (1 - answers / len(truth)), 0.95) if m else (0.0, 1.0)
            low_holds, high_holds = row.low <= true + 1e-9, row.high >= true - 1e-9  # exact where all are answered
            rows.append((f"{row.measure} {row[2]}".strip(), low_holds, high_holds, row.high - row.low,
                         low <= true <= high, high - low, row.estimate - true))  # fmt: skip
    table = pd.DataFrame(rows, columns=["measure", "low", "high", "width", "plain_covered", "plain_width", "error"])
    table.insert(1, "covered", table["low"] & table["high"])
    means = table.groupby("measure", sort=False).mean()
    means = means.assign(too_high=1 - means.pop("low"), too_low=1 - means.pop("high"))
    return means.assign(
        narrower=means["plain_width"] / means["width"], told=table["measure"].value_counts() / repetitions
    )


def _outcomes(measure: str, code: int, truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    every = np.ones(len(truth))
    right, called = (truth == code).astype(float), (predicted == code).astype(float)
    return {
        "accuracy": ((truth == predicted).astype(float), every),
        "share": (right, every),
        "precision": (right * called, called),
        "recall": (right * called, right),
    }[measure]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200, help="of the cascade (default: 200)")
    parser.add_argument("--audits", type=int, default=500, help="of the audit (default: 500)")
    parser.add_argument("--only", default="", help="cases and scenarios with this in their name")
    options = parser.parse_args()
    for name, case in {**CASES, **FRESH_CASES}.items():
        if options.only in name:
            breaks, share = broken(case, options.repetitions)
            kind = "fresh" if name in FRESH_CASES else "cascade"
            print(f"{kind}, {name}: {breaks}/{options.repetitions} broken, {share:.1%} answered", flush=True)
    for name, scenario in {**AUDITED, **FRESH, **LAST}.items():
        if options.only in name:
            print(f"{'audit' if name in AUDITED else 'fresh' if name in FRESH else 'last'}, {name}")
            print(covered(scenario, options.audits).round(3).to_string(), flush=True)


if __name__ == "__main__":
    main()
