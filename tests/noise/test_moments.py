"""Exact moments: against the design's table, and against every outcome of the sampler itself."""

import math

import numpy as np
import pytest

from cases import ENUMERABLE, TABLE
from msgd.noise import Cov, Emulate, Fisher, MiniBatch, Moments, Subsampled
from reference import enumerated_moments


@pytest.mark.parametrize(("law", "n", "alpha", "beta"), TABLE, ids=repr)
def test_table(law, n, alpha, beta):
    moments = law.moments(n)
    assert moments.alpha == pytest.approx(alpha, rel=1e-12, abs=1e-15)
    assert moments.beta == pytest.approx(beta, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("law", "n"), ENUMERABLE, ids=repr)
def test_every_outcome(law, n):
    total, mean, covariance = enumerated_moments(law, n)
    moments = law.moments(n)
    assert total == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(mean, 1, rtol=0, atol=1e-12)
    expected = moments.alpha * np.eye(n) + moments.beta * np.ones((n, n))
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-12)


def test_enumeration_notices_a_wrong_law():
    """Negative control: without the factor n/b − 1 → n/b the same comparison fails."""
    _, _, covariance = enumerated_moments(MiniBatch(2), 5)
    wrong = Moments(5 / 2, -1 / 2)  # those of replacement=True
    assert np.abs(covariance - wrong.alpha * np.eye(5) - wrong.beta).max() > 0.1


@pytest.mark.parametrize(
    ("b", "B", "n"), [(20, 250, 1000), (1, 2, 3), (7, 8, 1000), (20, 1000, 1000), (2.5, 64, 50_000)]
)
@pytest.mark.parametrize("kind", ["cov", "fisher", "bernoulli"])
def test_emulate_has_the_noise_of_the_small_batch(b, B, n, kind):
    moments = Subsampled(B, Emulate(b, kind, population=n)).moments(n)
    alpha = n * (n - b) / (b * (n - 1))
    assert moments.alpha == pytest.approx(alpha, rel=1e-12)
    if kind == "cov":
        assert moments.beta == pytest.approx(-alpha / n, rel=1e-12)
        assert moments.mean_gradient_coefficient(n) == pytest.approx(0, abs=1e-12)


def test_fisher_on_a_large_batch_is_too_strong():
    n = 10**9  # where sampling with and without replacement are one
    moments = Subsampled(250, Fisher(20)).moments(n)
    assert moments.effective_batch_size(n) == pytest.approx(1 / (1 / 20 + 1 / 250), rel=1e-6)
    assert Subsampled(250, Emulate(20)).moments(n).effective_batch_size(n) == pytest.approx(20, rel=1e-6)


def test_effective_batch_size_and_the_mean_gradient():
    assert Fisher(20).moments(1000).effective_batch_size(1000) == 20
    assert MiniBatch(20).moments(1000).effective_batch_size(1000) == pytest.approx(20.39, abs=0.005)
    assert Moments(0, 0).effective_batch_size(7) == math.inf
    assert Moments(50, 0).mean_gradient_coefficient(1000) == 0.05
    assert Moments(50, -0.05).mean_gradient_coefficient(1000) == 0
    assert Moments(50, -0.05).variance == 49.95


def test_one_example():
    """At n = 1 nothing is left of a centred law, and w ≡ 1 has α = β = 0."""
    for law in (Cov(5), MiniBatch(1), MiniBatch(3, replacement=True), Subsampled(1, Cov(2)), Emulate(1)):
        assert law.moments(1) == Moments(0, 0)
    assert Fisher(4).moments(1) == Moments(0.25, 0)
