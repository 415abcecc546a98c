"""Laws with infinitely many outcomes: their draws have the exact moments.

Two statistics of a draw have exact expectations: the sample variance of w over the examples (α), and (Σw − n)²
(nα + n²β = the variance of Σw). Each test has a fixed number N of draws and rejects beyond Z_ALARM standard errors: a
false-alarm rate of 10⁻⁴ a test. N was chosen, case by case, as ((Z_ALARM + Z_POWER)·r/0.02)² with r the relative
standard deviation of the statistic, so that an error of 2% is found with probability ≥ 99%. Each test asserts that
power, and that it does fail for the law whose α (or variance of Σw) is 2% off.
"""

import numpy as np
import pytest
from scipy.stats import chi2

from msgd.noise import (
    Anticorrelated,
    BayesianBootstrap,
    Cov,
    Emulate,
    EmulateReshuffled,
    Fisher,
    Gamma,
    Injected,
    Laplace,
    Poisson,
    SparseCov,
    SparseFisher,
    StudentT,
    Subsampled,
    Uniform,
    generator,
)
from reference import dense

Z_ALARM = 3.891  # two-sided 1e-4
Z_POWER = 2.326  # 99%
ERROR = 0.02


def standard_errors(statistic, expected):
    """How far the mean of the statistic lies from its expectation, and the power against an error of 2%."""
    error = statistic.std(ddof=1) / np.sqrt(len(statistic))
    assert ERROR * expected / error >= Z_ALARM + Z_POWER, "N is too small for the stated power"
    return (statistic.mean() - expected) / error


def check(statistic, expected):
    assert abs(standard_errors(statistic, expected)) < Z_ALARM
    for factor in (1 + ERROR, 1 - ERROR):
        # w' = 1 + √factor·(w − 1) multiplies both statistics by the factor: a law that is 2% off must be found.
        assert abs(standard_errors(factor * statistic, expected)) > Z_ALARM


def draws(law, n, number):
    rng = generator(seed=20, step=0)
    return (dense(law.sample(n, rng), n) for _ in range(number))


@pytest.mark.parametrize(
    ("law", "n", "number"),
    [
        (Fisher(5), 60, 3_500),
        (Fisher(200), 60, 3_500),
        (Cov(5), 60, 3_500),
        (Poisson(5), 60, 25_000),
        (Poisson(100), 60, 5_000),
        (Emulate(5), 60, 3_500),
        (Emulate(5, "fisher"), 60, 3_500),
        (Emulate(5, "fisher", population=90), 60, 3_500),
        (Subsampled(30, Cov(5)), 60, 8_000),
        (Subsampled(30, Fisher(5)), 60, 8_500),
        (Subsampled(30, Poisson(10)), 60, 19_000),
        (Subsampled(30, Emulate(5)), 60, 8_500),
        (Subsampled(30, Emulate(5, "fisher", population=60)), 60, 9_000),
        (SparseFisher(5, support=30), 60, 7_500),
        (SparseCov(5, support=30), 60, 7_500),
        (Injected(Uniform(), 5), 60, 1_600),
        (Injected(Laplace(), 5, centred=True), 60, 9_000),
        (Injected(Gamma(2), 5), 60, 9_000),
        (Injected(Gamma(2), 5, centred=True, support=30), 60, 19_000),
        (Injected(StudentT(9), 5), 60, 6_500),
        (Injected(StudentT(9, scale="iqr"), 5), 60, 6_500),
        (BayesianBootstrap(20), 60, 16_000),
        (Anticorrelated(Fisher(5)), 60, 4_000),
        (EmulateReshuffled(30, 5), 60, 9_000),
    ],
    ids=repr,
)
def test_alpha(law, n, number):
    variances = np.array([w.var(ddof=1) for w in draws(law, n, number)])
    check(variances, law.moments(n).alpha)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "n", "number"),
    [
        (Fisher(5), 6, 200_000),
        (Poisson(5), 6, 220_000),
        (Emulate(2, "fisher"), 6, 200_000),
        (Emulate(2, "fisher", population=9), 6, 200_000),
        (Subsampled(4, Fisher(2)), 6, 200_000),
        (Subsampled(4, Poisson(2)), 6, 250_000),
        (Subsampled(4, Emulate(2, "fisher", population=6)), 6, 200_000),
        (SparseFisher(2, support=3), 6, 220_000),
        (Injected(Laplace(), 2), 6, 280_000),
        (Injected(Gamma(2), 2), 6, 280_000),
        (Anticorrelated(Fisher(2)), 6, 260_000),
    ],
    ids=repr,
)
def test_variance_of_the_sum(law, n, number):
    moments = law.moments(n)
    squares = np.array([(w.sum() - n) ** 2 for w in draws(law, n, number)])
    check(squares, n * moments.alpha + n**2 * moments.beta)


@pytest.mark.parametrize("law", [Fisher(5), Cov(5), Poisson(5), Subsampled(30, Emulate(5))], ids=repr)
def test_unit_mean(law):
    """The mean over draws of each weight is 1: a χ² over the 60 weights at a false-alarm rate of 10⁻⁴."""
    number, n = 4_000, 60
    mean = np.mean(list(draws(law, n, number)), axis=0)
    moments = law.moments(n)
    # The components along and across 1 are uncorrelated, with variances α + nβ and α.
    across = number * ((mean - mean.mean()) ** 2).sum() / moments.alpha
    assert across < chi2.isf(1e-4, n - 1)
    spread = np.sqrt(max(moments.alpha / n + moments.beta, 0) / number)
    assert abs(mean.mean() - 1) <= Z_ALARM * spread + 1e-12
