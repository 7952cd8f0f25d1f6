"""Whether confidence ranks errors last (risk and coverage), and whether it equals accuracy (reliability)."""

import numpy as np
import pandas as pd


def risk_coverage(score: np.ndarray, wrong: np.ndarray) -> pd.DataFrame:
    """Compute the share of wrong labels among those with at least a score, for every score.

    Source: the empirical risk-coverage curve of Geifman & El-Yaniv 2017 ("Selective classification for deep neural
    networks", section 2).

    Args:
        score: (n,) any numbers, higher is surer.
        wrong: (n,) bool.

    Returns:
        One row a distinct score, highest first: `threshold`, `coverage` (the share of all with at least that score,
        above 0, at most 1) and `risk` (the share of these that is wrong, 0-1).
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
    """Compute the area under a risk-coverage curve; lower is better.

    It is (1/n) sum_i r(s_i), where r(t) is the share wrong among the items with score >= t: each of the n items is
    the threshold once, so ties share the risk of all of them. A random order has the overall share of wrong labels.

    Source: Geifman, Uziel & El-Yaniv 2019 ("Bias-reduced uncertainty estimation"), equation 1.

    Args:
        curve: The table of `risk_coverage`.

    Returns:
        The area, 0-1; NaN for an empty curve.
    """
    coverage, risk = curve["coverage"].to_numpy(), curve["risk"].to_numpy()
    return float((np.diff(coverage, prepend=0.0) * risk).sum()) if len(curve) else float("nan")


def best_aurc(n: int, errors: int) -> float:
    """Compute the `aurc` of the best possible order: (1/n) sum_k max(0, k - (n - errors)) / k.

    Args:
        n: How many items there are.
        errors: How many of them are wrong; the best order has them last.

    Returns:
        The area, 0-1; NaN for no items.
    """
    k = np.arange(n - errors + 1, n + 1)
    return float(((k - (n - errors)) / k).sum() / n) if n else float("nan")


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> pd.DataFrame:
    """Compute the reliability diagram: accuracy against mean confidence in bins of equal width.

    Source: Guo et al. 2017 ("On calibration of modern neural networks"), section 2.

    Args:
        confidence: (n,) 0-1.
        right: (n,) bool.
        bins: How many bins; 15 is usual.

    Returns:
        One row a bin that is not empty: `low` and `high` (its edges), `n`, `confidence` (mean) and `accuracy`, all but
        `n` from 0 to 1.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    n = np.bincount(bin_of, minlength=bins)
    filled = np.flatnonzero(n)
    return pd.DataFrame(
        {
            "low": filled / bins,
            "high": (filled + 1) / bins,
            "n": n[filled],
            "confidence": np.bincount(bin_of, weights=confidence, minlength=bins)[filled] / n[filled],
            "accuracy": np.bincount(bin_of, weights=right, minlength=bins)[filled] / n[filled],
        }
    )


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Compute the expected calibration error: the mean gap between confidence and accuracy over the bins.

    Source: Guo et al. 2017 ("On calibration of modern neural networks"), section 2.

    Args:
        confidence: (n,) 0-1.
        right: (n,) bool.
        bins: How many bins; 15 is usual.

    Returns:
        The error, 0-1, bins weighted by their items; NaN for no items.
    """
    diagram = reliability(confidence, right, bins)
    gap = (diagram["accuracy"] - diagram["confidence"]).abs()
    return float(np.average(gap, weights=diagram["n"])) if len(diagram) else float("nan")


def brier(confidence: np.ndarray, right: np.ndarray) -> float:
    """Compute the Brier score of the labels: the mean squared distance of the confidence to right (1) or wrong (0).

    Source: Brier 1950 ("Verification of forecasts expressed in terms of probability").

    Args:
        confidence: (n,) 0-1.
        right: (n,) bool.

    Returns:
        The score, 0-1; NaN for no items.
    """
    return float(((confidence - right) ** 2).mean()) if len(confidence) else float("nan")
