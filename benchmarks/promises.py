"""Whether the promises of the cascade and of the audit hold, by simulation: `python benchmarks/promises.py`.

Prints one line a scenario: how often the chosen threshold's true agreement is below its bound (promised: at most 5%),
and how often the audit's intervals hold the true value (promised: 95%) with their width beside plain sampling's.
"""

import argparse
from collections.abc import Callable

import numpy as np
import pandas as pd

from silvertune.stats import agreement_bounds, audits

Risk = Callable[[np.ndarray], np.ndarray]
TARGET = 0.9
RISKS: dict[str, Risk] = {
    "calibrated": lambda confidence: 1 - confidence,
    "overconfident": lambda confidence: np.minimum(1.5 * (1 - confidence) + 0.03, 1),
    "just below the bound everywhere": lambda confidence: np.full(len(confidence), 1 - TARGET + 1e-6),
    "falls off at 0.9": lambda confidence: np.where(confidence >= 0.9, 0.08, 0.35),
    "surest are worst": lambda confidence: np.where(confidence >= 0.97, 0.14, 0.08),
}
GROUPED = {"groups of 10, correlated": 0.25, "groups of 10, strongly": 0.6}


def broken(
    risk: Risk, repetitions: int, n: int = 600, target: float = TARGET, within: float = 0.0
) -> tuple[int, float]:
    """How many repetitions choose a threshold whose true agreement is below the target, and the mean share answered."""
    many = np.random.default_rng(1).beta(4, 1, 400_000) / 2 + 0.5
    errors, breaks, shares = risk(many), 0, []
    for repetition in range(repetitions):
        rng = np.random.default_rng([2, repetition])
        confidence = rng.beta(4, 1, n) / 2 + 0.5
        luck = rng.random(n)
        group = None
        if within:  # some items of a group share their luck
            group = np.arange(n) // 10
            shared = rng.random(n) < np.sqrt(within)
            luck = np.where(shared, rng.random(n // 10)[group], luck)
        agrees = luck >= risk(confidence)
        choice = agreement_bounds.choose(confidence, agrees, target=target, level=0.95, group=group)
        if choice.threshold is not None:
            is_answered = many >= choice.threshold
            breaks += (1 - errors[is_answered].mean()) < target
            shares.append(is_answered.mean())
        else:
            shares.append(0.0)
    return breaks, float(np.mean(shares))


AUDITED = {  # share of the positive class, sharpness of the student, how its log-odds are off
    "even classes": (0.5, 2.0, 1.0),
    "overconfident student": (0.3, 2.0, 2.5),
    "underconfident student": (0.3, 2.0, 0.4),
    "rare class": (0.08, 3.0, 1.0),
    "sharp student": (0.4, 5.0, 1.0),
}


def population(shares: tuple[float, float, float], n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """True classes (n,) and the student's probabilities (n, 2)."""
    share, sharpness, scale = shares
    odds = rng.normal(np.log(share / (1 - share)) * np.sqrt(1 + sharpness), sharpness, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    said = 1 / (1 + np.exp(-scale * odds))
    return truth, np.stack([1 - said, said], axis=1)


def covered(shares: tuple[float, float, float], repetitions: int, answers: int = 200, n: int = 5000) -> pd.DataFrame:
    """Coverage, mean width and mean plain width of each measure, over repeated draws."""
    rows = []
    for repetition in range(repetitions):
        rng = np.random.default_rng([3, repetition])
        truth, probs = population(shares, n, rng)
        predicted = probs.argmax(axis=1)
        strata = audits.stratify(predicted, probs, answers)
        numbers = audits.allocate(strata, probs.max(axis=1), answers)
        drawn = audits.draw(strata, numbers, repetition)
        result = audits.estimate(strata, predicted, probs, drawn, truth[drawn], ["no", "yes"])
        plainly = rng.permutation(n)[:answers]
        for row in result.table.itertuples():
            code = 0 if row[2] == "no" else 1
            numerator, denominator = _outcomes(str(row.measure), code, truth, predicted)
            true = numerator.sum() / denominator.sum()
            k, m = numerator[plainly].sum(), denominator[plainly].sum()
            # Plain sampling is from a finite population, too.
            low, high = audits.wilson(k / m, m / (1 - answers / n), np.inf, 0.95) if m else (0.0, 1.0)
            rows.append((f"{row.measure} {row[2]}".strip(), row.low <= true <= row.high, row.high - row.low,
                         low <= true <= high, high - low, row.estimate - true))  # fmt: skip
    table = pd.DataFrame(rows, columns=["measure", "covered", "width", "plain_covered", "plain_width", "error"])
    means = table.groupby("measure", sort=False).mean()
    return means.assign(narrower=means["plain_width"] / means["width"])


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
    options = parser.parse_args()
    for name, risk in RISKS.items():
        breaks, share = broken(risk, options.repetitions)
        print(f"cascade, {name}: {breaks}/{options.repetitions} broken, {share:.1%} answered by the student")
    for name, within in GROUPED.items():
        breaks, share = broken(RISKS["overconfident"], options.repetitions, n=1500, within=within)
        print(f"cascade, {name}: {breaks}/{options.repetitions} broken, {share:.1%} answered by the student")
    for name, shares in AUDITED.items():
        print(f"audit, {name}")
        print(covered(shares, options.audits).round(3).to_string())


if __name__ == "__main__":
    main()
