"""Do the claims hold? Simulated studies with and without a true difference, tested as `comparison.compare` tests.

    python benchmarks/significance.py [studies] [seed]

A study has groups of unequal size (about 30 items on average, 17% of them positive, some groups without any),
a reference and arms with several seeds. What an item is taken for depends on how hard it is (the same for all
arms), on how well the arm does in its group, on the seed, and on chance. Without a difference, arms are drawn
alike. Rejections at 5% of each test, of any arm after Holm, and how often 95% intervals miss; with a difference,
the power, and the power that theory states for a difference of that size over its spread between studies. Beside
them what percentiles of the group resamples (the usual interval) and McNemar's own test would claim. The last
line is one JSON object.
"""

import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, nct, t

from silvertune.stats import bootstrap, significance


@dataclass(frozen=True)
class Setting:
    """groups, seeds, arms (held against the reference). better: how much the first arm is, on the logit-like scale of
    the decision. seed_sd: how much seeds differ, on that scale. alone: every item is its own group."""

    groups: int = 35
    seeds: int = 5
    arms: int = 1
    better: float = 0.0
    seed_sd: float = 0.1
    alone: bool = False


SETTINGS = {
    "1 seed, all alike": Setting(seeds=1, seed_sd=0.0),
    "2 seeds": Setting(seeds=2),
    "5 seeds": Setting(),
    "5 seeds, all alike": Setting(seed_sd=0.0),
    "5 seeds, far apart": Setting(seed_sd=0.3),
    "5 seeds, 4 arms": Setting(arms=4),
    "12 groups": Setting(groups=12),
    "100 groups": Setting(groups=100),
    "400 single items": Setting(groups=400, seeds=1, seed_sd=0.0, alone=True),
}
LIMITS = {"1 seed of many": Setting(seeds=1, seed_sd=0.2)}
"""What one seed can't know: how others differ from it."""
POWER = {"better by 0.15": Setting(better=0.15), "better by 0.3": Setting(better=0.3)}
REPLICATES = 1000


@dataclass(frozen=True)
class Study:
    """group, positive: of each item. right: (arms + 1, seeds, items), the reference first."""

    group: np.ndarray
    positive: np.ndarray
    right: np.ndarray


def study(how: Setting, rng: np.random.Generator) -> Study:
    sizes = np.ones(how.groups, dtype=int) if how.alone else rng.negative_binomial(2, 2 / 31, how.groups) + 1
    group = np.repeat(np.arange(how.groups), sizes)
    share = np.full(how.groups, 0.3) if how.alone else rng.beta(1.2, 5.5, how.groups)
    positive = rng.random(len(group)) < share[group]
    if positive.sum() < 3:
        return study(how, rng)
    hard = 0.8 * rng.normal(size=len(group)) + 0.5 * rng.normal(size=how.groups)[group]
    right = np.empty((how.arms + 1, how.seeds, len(group)), dtype=bool)
    for arm in range(how.arms + 1):
        local = 0.3 * rng.normal(size=how.groups)
        for seed in range(how.seeds):
            level = np.where(positive, 1.5, 2.2) + hard + (how.better if arm == 1 else 0.0)
            level = level + (local + 0.3 * rng.normal(size=how.groups))[group] + how.seed_sd * rng.normal()
            right[arm, seed] = level + 0.6 * rng.normal(size=len(group)) > 0
    return Study(group, positive, right)


def measure(how: Setting, studies: int, replicates: int = REPLICATES, seed: int = 1) -> dict[str, float]:
    """What `studies` studies of one kind claim. Rates: `f1`, `mcnemar` (p < .05 of the first arm), `any_holm` (any arm
    by Holm), `percentile`, `plain_mcnemar` (first seed), `arm_misses` (95% interval of the reference's F1). Also
    `difference` and `spread` of the differences in F1, and the `stated` power."""
    rng = np.random.default_rng(seed)
    weights = bootstrap.resamples(how.groups, replicates)
    table = pd.DataFrame([_claims(study(how, rng), weights) for _ in range(studies)]).astype(float)
    truth = table["value"].mean()
    found = {name: float(table[name].mean()) for name in ("f1", "mcnemar", "any_holm", "percentile", "plain_mcnemar")}
    found["arm_misses"] = float(((table["low"] > truth) | (table["high"] < truth)).mean())
    found["difference"], found["spread"] = float(table["difference"].mean()), float(table["difference"].std())
    if how.better:
        found["stated"] = stated_power(found["difference"] / found["spread"], df=how.groups - 1)
    return found


def _claims(made: Study, weights: np.ndarray) -> dict[str, float]:
    groups = weights.shape[1]

    def summed(hits: np.ndarray) -> np.ndarray:
        return np.bincount(made.group, weights=hits, minlength=groups)

    def counts(right: np.ndarray) -> bootstrap.Counts:
        tp, fn, fp = right & made.positive, ~right & made.positive, ~right & ~made.positive
        every = np.ones(len(right))
        return bootstrap.Counts(np.arange(groups), summed(tp)[:, None], summed(fp)[:, None], summed(fn)[:, None],
                                summed(right), summed(every))  # fmt: skip

    own = [[counts(right) for right in seeds] for seeds in made.right]
    points = np.array([[bootstrap.micro(one)["f1"] for one in seeds] for seeds in own])
    resampled = np.array([[bootstrap.micro(one, weights)["f1"] for one in seeds] for seeds in own])
    estimates = [
        significance.estimate(points[k] - points[0], list(resampled[k] - resampled[0]), groups)
        for k in range(1, len(own))
    ]
    sizes = pd.DataFrame({"items": summed(np.ones(len(made.group))), "positives": summed(made.positive)})
    worth = significance.groups_behind("test/f1", sizes)
    low, high = significance.estimate(points[0], list(resampled[0]), groups, worth).share_interval()
    differences = np.array([a.right - b.right for a, b in zip(own[1], own[0], strict=True)])
    usual = np.quantile((resampled[1] - resampled[0]).mean(axis=0), [0.025, 0.975])
    b, c = ((made.right[1, 0] & ~made.right[0, 0]).sum(), (made.right[0, 0] & ~made.right[1, 0]).sum())
    return {
        "f1": estimates[0].p_value() < 0.05,
        "mcnemar": significance.mcnemar(differences) < 0.05,
        "any_holm": bool((significance.holm([one.p_value() for one in estimates]) < 0.05).any()),
        "percentile": not usual[0] <= 0 <= usual[1],
        "plain_mcnemar": b + c > 0 and binomtest(b, b + c).pvalue < 0.05,
        "difference": estimates[0].value,
        "value": float(points[0].mean()),
        "low": low,
        "high": high,
    }


def stated_power(effect: float, df: float) -> float:
    """Of a two-sided t test at 5%, for a difference of `effect` times its standard error."""
    limit = t.isf(0.025, df)
    return float(nct.sf(limit, df, effect) + nct.cdf(-limit, df, effect))


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started, result = time.perf_counter(), {}
    for name, how in {**SETTINGS, **LIMITS, **POWER}.items():
        result[name] = measure(how, studies, seed=seed)
        print(f"{name:20s}", "  ".join(f"{key} {value:.3f}" for key, value in result[name].items()), flush=True)
    nulls = [result[name] for name in SETTINGS]
    print(f"{studies} studies each, {time.perf_counter() - started:.0f} s")
    print(
        json.dumps(
            {
                "studies": studies,
                "seed": seed,
                "worst_f1_rejection": max(found["f1"] for found in nulls),
                "worst_mcnemar_rejection": max(found["mcnemar"] for found in nulls),
                "holm_any_of_4": result["5 seeds, 4 arms"]["any_holm"],
                "worst_percentile_rejection": max(found["percentile"] for found in nulls),
                "power": {name: [result[name]["f1"], result[name]["stated"]] for name in POWER},
                "rejections": {name: [found["f1"], found["mcnemar"]] for name, found in result.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
