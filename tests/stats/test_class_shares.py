import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import made

from silvertune.stats import class_shares


def scores(centres: dict[str, np.ndarray], counts: dict[str, int], *, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """Scores whose log-odds lie around a centre a class, and the class whose score is the highest."""
    rng = np.random.default_rng(seed)
    odds = np.vstack([rng.normal(centres[name], 0.5, (counts[name], len(centres))) for name in centres])
    probs = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(probs, columns=list(centres), index=[f"i{k:04d}" for k in range(len(odds))])
    return frame, frame.idxmax(axis=1)


CENTRES = {"red": np.array([5.0, 0, 0]), "green": np.array([0, 5.0, 0]), "blue": np.array([0, 0, 5.0])}


def test_mixture_recovers_the_shares_of_well_separated_classes() -> None:
    frame, labels = scores(CENTRES, {"red": 500, "green": 300, "blue": 200})
    shares = class_shares.mixture(frame, labels)
    assert list(shares) == ["red", "green", "blue"]
    assert shares == pytest.approx({"red": 0.5, "green": 0.3, "blue": 0.2}, abs=0.01)


def test_mixture_corrects_a_labeler_that_calls_a_class_too_often() -> None:
    """The labeler's threshold is off: it calls 30% of the items soe, and only 10% look like it."""
    rng = np.random.default_rng(1)
    odds = np.concatenate([rng.normal(-4, 1, 900), rng.normal(4, 1, 100)])
    soe = 1 / (1 + np.exp(-odds))
    frame = pd.DataFrame({"other": 1 - soe, "soe": soe}, index=[f"i{k:04d}" for k in range(1000)])
    called = pd.Series("other", index=frame.index)
    called[frame["soe"].nlargest(300).index] = "soe"
    assert class_shares.mixture(frame, called)["soe"] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("method", ["saerens_em", "bbse"])
def test_an_item_that_could_not_be_read_has_no_part_in_the_shares(method: str) -> None:
    rng = np.random.default_rng(2)
    soe = 1 / (1 + np.exp(-rng.normal(np.repeat([-1.0, 1.0], [60, 20]), 1.0)))
    probs = pd.DataFrame({"other": 1 - soe, "soe": soe}, index=[f"i{k:02d}" for k in range(80)])
    labels = pd.Series(np.where(rng.random(80) < 0.8, probs.idxmax(axis=1), "soe"), index=probs.index)
    unread = probs.copy()
    unread.iloc[3] = np.nan
    without = class_shares.by_student(method, probs.drop(index="i03"), labels.drop("i03"))
    assert class_shares.by_student(method, unread, labels) == without
    assert class_shares.by_student(method, probs.drop(index="i03"), labels) == without


def test_mixture_is_deterministic_and_sums_to_one() -> None:
    frame, labels = scores(CENTRES, {"red": 50, "green": 30, "blue": 20})
    shares = class_shares.mixture(frame, labels)
    assert shares == class_shares.mixture(frame, labels)
    assert sum(shares.values()) == pytest.approx(1)


def test_mixture_finds_the_labels_by_item_and_not_by_place() -> None:
    frame, labels = scores(CENTRES, {"red": 50, "green": 30, "blue": 20})
    assert class_shares.mixture(frame, labels.iloc[::-1]) == class_shares.mixture(frame, labels)


def test_mixture_takes_scores_of_nought_and_one() -> None:
    frame = pd.DataFrame({"other": [1.0] * 6 + [0.0] * 2}, index=list("abcdefgh")).assign(soe=lambda f: 1 - f["other"])
    assert class_shares.mixture(frame, frame.idxmax(axis=1)) == pytest.approx({"other": 0.75, "soe": 0.25}, abs=0.01)


@pytest.mark.parametrize("count", [0, 1])
def test_mixture_names_the_class_that_it_can_not_start_from(count: int) -> None:
    frame, labels = scores(CENTRES, {"red": 20, "green": 20, "blue": count})
    with made.refused("fewer than 2 items", "'blue'", "give the shares"):
        class_shares.mixture(frame, labels)


def test_given_shares_come_in_the_order_of_the_classes_and_as_floats() -> None:
    shares = class_shares.checked_shares({"soe": 1 / 4, "other": 3 / 4}, ["other", "soe"], "shares")
    assert list(shares.items()) == [("other", 0.75), ("soe", 0.25)]


@pytest.mark.parametrize(
    "shares",
    [
        {"soe": 1.0},
        {"soe": 0.5, "other": 0.25, "neither": 0.25},
        {"soe": 0.5, "other": 0.6},
        {"soe": 1.0, "other": 0.0},
        {"soe": 1.5, "other": -0.5},
        {},
    ],
)
def test_given_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with made.refused("my.key=", "a share above 0 for each of other, soe that sum to 1"):
        class_shares.checked_shares(shares, ["other", "soe"], "my.key")


# -------------------------------------------------------------------------------- from a classifier's probabilities


def gaussian(share: float, n: int, *, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True classes (1 = soe) and one feature, unit normal around -apart/2 and apart/2."""
    rng = np.random.default_rng(seed)
    soe = rng.random(n) < share
    return soe, rng.normal(np.where(soe, apart / 2, -apart / 2), 1.0)


def bayes(feature: np.ndarray, *, apart: float, prior: float) -> pd.DataFrame:
    """The exact posterior where soe has share `prior`."""
    odds = apart * feature + np.log(prior / (1 - prior))
    soe = 1 / (1 + np.exp(-odds))
    return pd.DataFrame({"other": 1 - soe, "soe": soe})


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(0.1, 0.9), st.integers(0, 1000))
def test_saerens_em_finds_the_share_that_a_calibrated_classifier_was_not_tuned_on(
    share: float, prior: float, seed: int
) -> None:
    _, feature = gaussian(share, 20_000, apart=3.0, seed=seed)
    shares = class_shares.saerens_em(bayes(feature, apart=3.0, prior=prior), {"other": 1 - prior, "soe": prior})
    assert shares["soe"] == pytest.approx(share, abs=0.02)  # five standard errors
    assert sum(shares.values()) == pytest.approx(1)


def test_saerens_em_takes_several_classes() -> None:
    frame, _ = scores(CENTRES, {"red": 500, "green": 300, "blue": 200})
    shares = class_shares.saerens_em(frame, dict.fromkeys(CENTRES, 1 / 3))
    assert shares == pytest.approx({"red": 0.5, "green": 0.3, "blue": 0.2}, abs=0.01)


def test_saerens_em_refuses_shares_that_are_none_and_no_items() -> None:
    frame = pd.DataFrame({"other": [0.5], "soe": [0.5]})
    with made.refused("tuned_on="):
        class_shares.saerens_em(frame, {"soe": 1.0})
    with made.refused("no items"):
        class_shares.saerens_em(frame.iloc[:0], {"other": 0.5, "soe": 0.5})


def called(soe: np.ndarray, names: tuple[str, str] = ("other", "soe")) -> pd.Series:
    return pd.Series(np.where(soe, names[1], names[0]))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.95), st.floats(-0.5, 0.5), st.integers(0, 1000))
def test_bbse_corrects_a_biased_threshold(share: float, threshold: float, seed: int) -> None:
    known, seen = gaussian(0.5, 20_000, apart=3.0, seed=seed)
    _, target = gaussian(share, 20_000, apart=3.0, seed=seed + 1)
    shares = class_shares.bbse(called(known), called(seen > threshold), called(target > threshold), ["other", "soe"])
    assert shares["soe"] == pytest.approx(share, abs=0.03)


def test_bbse_takes_several_classes() -> None:
    rng = np.random.default_rng(0)
    classes = np.array(["red", "green", "blue"])
    rates = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]])  # true -> said

    def drawn(share: list[float], n: int) -> tuple[pd.Series, pd.Series]:
        true = rng.choice(3, size=n, p=share)
        return pd.Series(classes[true]), pd.Series([classes[rng.choice(3, p=rates[k])] for k in true])

    labels, said = drawn([1 / 3, 1 / 3, 1 / 3], 6000)
    _, target = drawn([0.6, 0.1, 0.3], 6000)
    shares = class_shares.bbse(labels, said, target, list(classes))
    assert shares == pytest.approx({"red": 0.6, "green": 0.1, "blue": 0.3}, abs=0.05)


def test_bbse_refuses_a_class_without_labels_and_a_classifier_that_is_blind() -> None:
    soe = np.array([True, False] * 10)
    with made.refused("'soe'"):
        class_shares.bbse(called(soe & False), called(soe), called(soe), ["other", "soe"])
    with made.refused("does not tell the classes apart"):
        class_shares.bbse(called(soe), called(soe | True), called(soe), ["other", "soe"])


@pytest.mark.parametrize("method", ["saerens_em", "bbse"])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_a_student_of_some_tells_the_shares_of_all(method: str, scale: float) -> None:
    """Half of the labelled items are soe, and a fifth of all; the student may be as over-confident as it likes."""
    rng = np.random.default_rng(0)
    soe = np.arange(20_000) % 5 == 0
    odds = scale * rng.normal(np.where(soe, 1.5, -1.5), np.sqrt(3.0))
    p = 1 / (1 + np.exp(-odds))
    probs = pd.DataFrame({"other": 1 - p, "soe": p}, index=[f"i{k:05d}" for k in range(len(soe))])
    chosen = np.concatenate([np.flatnonzero(soe)[:2000], np.flatnonzero(~soe)[:2000]])
    labels = pd.Series(np.where(soe, "soe", "other"), index=probs.index, dtype=object).iloc[chosen]
    assert class_shares.by_student(method, probs, labels)["soe"] == pytest.approx(0.2, abs=0.02)


def test_a_student_that_never_saw_a_class_tells_no_share() -> None:
    probs = pd.DataFrame({"other": [0.5, 0.5], "soe": [0.5, 0.5]}, index=["a", "b"])
    with made.refused("no item is labelled 'soe'"):
        class_shares.by_student("saerens_em", probs, pd.Series(["other"], index=["a"]))


def simulated(
    n: int, shares: list[float], *, scale: float = 1.0, bias: list[float] | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers, and probabilities of a model that would need `scale` and `bias` to be calibrated."""
    rng = np.random.default_rng(seed)
    k = len(shares)
    true = rng.choice(k, size=n, p=shares)
    features = rng.normal(size=(n, k)) + 2 * np.eye(k)[true]
    logs = 2 * features + np.log(shares)  # Gaussians of like spread: these are the log posteriors, up to a constant
    logs = (logs - np.array(bias if bias is not None else np.zeros(k))) / scale
    probs = np.exp(logs - logs.max(axis=1, keepdims=True))
    return true, probs / probs.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("scale", "bias"), [(1.0, [0.0, 0.0]), (0.4, [0.5, -0.5]), (2.0, [-0.6, 0.6])])
def test_calibration_finds_the_scale_and_the_bias_again(scale: float, bias: list[float]) -> None:
    true, probs = simulated(8000, [0.5, 0.5], scale=scale, bias=bias)
    found, by_class = class_shares.calibration(probs, true)
    assert found == pytest.approx(scale, rel=0.12)
    assert by_class[0] - by_class[1] == pytest.approx(bias[0] - bias[1], abs=0.15)
    better = class_shares.calibrated(probs, found, by_class)
    assert better.sum(axis=1) == pytest.approx(1)
    assert _log_loss(better, true) <= _log_loss(probs, true) + 1e-6


def _log_loss(probs: np.ndarray, true: np.ndarray) -> float:
    return float(-np.log(probs[np.arange(len(true)), true].clip(1e-6)).mean())


def test_classes_told_apart_without_error_have_a_finite_scale() -> None:
    probs = np.array([[0.99, 0.01]] * 5 + [[0.01, 0.99]] * 5)
    scale, bias = class_shares.calibration(probs, np.array([0] * 5 + [1] * 5))
    assert 1 < scale < 20
    assert np.abs(bias).max() < 10
