import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from silvertune.stats import two_gaussians


def two_clouds(seed: int, n: int, dimensions: int, gap: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = rng.normal(size=(n - n // 3, dimensions)) * 1.5 + gap
    return np.concatenate([rng.normal(size=(n // 3, dimensions)), upper]) + 7.0


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(60, 200),
    dimensions=st.integers(1, 3),
    gap=st.sampled_from([0.0, 1.5, 4.0]),
)
def test_samples_fitted_at_once_are_those_fitted_one_by_one(seed: int, n: int, dimensions: int, gap: float) -> None:
    values = two_clouds(seed, n, dimensions, gap)
    start = two_gaussians.fit(values)
    draws = np.random.default_rng(seed).integers(n, size=(4, n))
    at_once = two_gaussians.refit(values, draws, start)
    for k, draw in enumerate(draws):
        one = GaussianMixture(2, weights_init=start.weights, means_init=start.means, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both stop after 100 steps
            one.fit(values[draw])
        np.testing.assert_allclose(at_once.weights[k], one.weights_, atol=1e-6)
        # An empty Gaussian is nowhere: here it falls on the middle of the values, so that the two are not apart.
        has_items = one.weights_ > 1e-9
        np.testing.assert_allclose(at_once.means[k][has_items], one.means_[has_items], atol=1e-6)
        np.testing.assert_allclose(at_once.covariances[k][has_items], one.covariances_[has_items], atol=1e-6)
        assert has_items.all() or at_once.distance()[k] < 2


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_densities_and_distance_are_those_of_the_gaussians(dimensions: int) -> None:
    from scipy.stats import multivariate_normal

    values = two_clouds(1, 120, dimensions, 3.0)
    mixture = two_gaussians.fit(values)
    for k in range(2):
        wanted = multivariate_normal(mixture.means[k], mixture.covariances[k]).logpdf(values)
        np.testing.assert_allclose(mixture.log_densities(values)[k], wanted + np.log(mixture.weights[k]), atol=1e-8)
    difference = mixture.means[1] - mixture.means[0]
    wanted = np.sqrt(difference @ np.linalg.inv(mixture.covariances.mean(axis=0)) @ difference)
    assert mixture.distance() == pytest.approx(wanted)


def test_drawing_stops_at_the_first_samples_that_are_not_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    refit = two_gaussians.refit

    def counting(values: np.ndarray, draws: np.ndarray, start: two_gaussians.Mixture) -> two_gaussians.Mixture:
        drawn.append(len(draws))
        return refit(values, draws, start)

    monkeypatch.setattr(two_gaussians, "refit", counting)
    values = two_clouds(2, 90, 2, 6.0)
    mixture = two_gaussians.fit(values)
    assert two_gaussians.are_apart(values, mixture, 2.0, 70)
    assert sum(drawn) == 70
    drawn.clear()
    assert not two_gaussians.are_apart(values, mixture, float(mixture.distance()) - 1e-9, 70)
    assert sum(drawn) == two_gaussians.AT_ONCE
