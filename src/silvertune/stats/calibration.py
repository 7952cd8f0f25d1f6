"""Does a confidence order the errors (risk and coverage), and is it as high as it should be (reliability)?"""

import numpy as np
import pandas as pd


def risk_coverage(score: np.ndarray, wrong: np.ndarray) -> pd.DataFrame:
    """What share would be wrong if only those with at least a given score were kept.

    score: any numbers, higher is surer. wrong: bool, as long.
    Returns one row a distinct score, highest first: `threshold`, `coverage` (share of all with at least that
    score, 0-1] and `risk` (share of those that is wrong), the empirical risk-coverage curve of Geifman &
    El-Yaniv 2017 ("Selective classification for deep neural networks", section 2).
    """
    order = np.argsort(-score, kind="stable")
    ranked, errors = score[order], np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.array([], dtype=int)
    return pd.DataFrame(
        {
            "threshold": ranked[last],
            "coverage": (last + 1) / max(len(ranked), 1),
            "risk": errors[last] / (last + 1),
        }
    )


def aurc(curve: pd.DataFrame) -> float:
    """Area under a `risk_coverage` curve, 0-1, lower is better.

    (1/n) sum_i r(s_i), where r(t) is the share wrong among the items with score >= t (Geifman, Uziel &
    El-Yaniv 2019, "Bias-reduced uncertainty estimation", equation 1): each of the n items is once the
    threshold, so ties share the risk of all of them. An order that knows nothing gives the share wrong.
    """
    coverage, risk = curve["coverage"].to_numpy(), curve["risk"].to_numpy()
    return float((np.diff(coverage, prepend=0.0) * risk).sum()) if len(curve) else float("nan")


def best_aurc(n: int, errors: int) -> float:
    """The `aurc` of an order of `n` items that puts all `errors` last: (1/n) sum_k max(0, k - (n - errors)) / k."""
    k = np.arange(n - errors + 1, n + 1)
    return float(((k - (n - errors)) / k).sum() / n) if n else float("nan")


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """The reliability diagram: accuracy against mean confidence in equal-width bins (Guo et al. 2017, section 2).

    confidence: 0-1. right: bool, as long. Empty bins are left out.
    Returns `low, high` (the bin's edges), `n`, `confidence` (mean) and `accuracy`, all but n from 0 to 1.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(bin_of, minlength=bins)
    full = np.flatnonzero(n)
    return pd.DataFrame(
        {
            "low": full / bins,
            "high": (full + 1) / bins,
            "n": n[full],
            "confidence": np.bincount(bin_of, weights=confidence, minlength=bins)[full] / n[full],
            "accuracy": np.bincount(bin_of, weights=right, minlength=bins)[full] / n[full],
        }
    )


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability`, weighted by their items; NaN of none."""
    found = reliability(confidence, right, bins)
    gap = (found["accuracy"] - found["confidence"]).abs()
    return float(np.average(gap, weights=found["n"])) if len(found) else float("nan")


def brier(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean squared distance of the confidence to being right (1) or wrong (0): Brier 1950, of the label given; 0-1."""
    return float(((confidence - right) ** 2).mean()) if len(confidence) else float("nan")
