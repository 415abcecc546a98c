"""Estimators of tails, on draws whose answer is known.

Where coverage is tested, the number of 200 intervals (of 80%, where nothing else is said) that cover the truth lies
within the band that a binomial number leaves once in 10,000 times.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from msgd.diagnostics import block_index, excess_kurtosis, hill, hill_curve

RUNS = 200


def pareto(α):
    return lambda rng, m: (rng.pareto(α, m) + 1) * rng.choice([-2.0, 2.0], m)


def student(df):
    return lambda rng, m: rng.standard_t(df, m)


def stable(α):
    return lambda rng, m: stats.levy_stable.rvs(α, 0, scale=3, size=m, random_state=rng)


def normal(rng, m):
    return 1e-6 * rng.standard_normal(m)


def laplace(rng, m):
    return rng.laplace(size=m)


def intervals(estimator, draw, m, **options):
    return [estimator(draw(np.random.default_rng(seed), m), **options) for seed in range(RUNS)]


def covering(found, truth):
    return sum(each.low <= truth <= each.high for each in found)


def in_band(count, level=0.8):
    return stats.binom.ppf(5e-5, RUNS, level) <= count <= stats.binom.isf(5e-5, RUNS, level)


# Kurtosis


@pytest.mark.parametrize("draw", [normal, laplace, student(10), lambda rng, m: 1e3 + rng.random(m)])
def test_kurtosis_against_loops(draw):
    x = draw(np.random.default_rng(0), 60)
    ours = excess_kurtosis(x, level=0.9)
    without = [np.log(stats.kurtosis(np.delete(x, i), fisher=False)) for i in range(60)]
    error = math.sqrt(59 / 60 * sum((each - np.mean(without)) ** 2 for each in without))
    expected = stats.kurtosis(x, bias=False)
    factor = math.exp(stats.t.ppf(0.95, 59) * error)
    assert ours.value == pytest.approx(expected, rel=1e-8)
    assert (ours.low, ours.high) == pytest.approx(((expected + 3) / factor - 3, (expected + 3) * factor - 3), rel=1e-7)
    assert ours.level == 0.9


@pytest.mark.parametrize(("draw", "truth"), [(normal, 0.0), (lambda rng, m: rng.random(m), -1.2)])
def test_intervals_of_kurtosis_cover(draw, truth):
    found = intervals(excess_kurtosis, draw, 2000, level=0.8)
    assert in_band(covering(found, truth))
    assert not in_band(covering(found, truth + 0.15))


def test_kurtosis_of_heavy_tails_has_intervals_that_are_too_short():
    """As the docstring says: about 80% of those of 95%, for m = 1,000."""
    for draw, truth in ((laplace, 3.0), (student(10), 1.0)):
        share = covering(intervals(excess_kurtosis, draw, 1000), truth) / RUNS
        assert 0.7 < share < 0.9
    assert covering(intervals(excess_kurtosis, student(4.5), 1000), 12.0) / RUNS < 0.5


def test_kurtosis_is_unbiased_for_normal_samples():
    """m = 10: the mean of 5,000 within 3.9 standard errors of 0. That of m_4/m_2² − 3 is −6/11."""
    rng = np.random.default_rng(0)
    found = np.array([excess_kurtosis(rng.standard_normal(10)).value for _ in range(5000)])
    margin = stats.norm.isf(5e-5) * found.std() / math.sqrt(5000)
    assert abs(found.mean()) < margin < 6 / 11


# Hill


def test_hill_against_its_definition():
    x = student(3)(np.random.default_rng(0), 400)
    largest = sorted(abs(each) for each in x)[::-1]
    curve = hill_curve(x, most=60)
    for k in (1, 2, 20, 60):
        expected = k / sum(math.log(largest[i] / largest[k]) for i in range(k))
        assert hill(x, k=k).value == pytest.approx(expected, rel=1e-12)
        assert float(curve[k - 1]) == pytest.approx(expected, rel=1e-12)
    assert hill(x).value == hill(x, k=20).value
    assert len(hill_curve(x)) == 40
    assert hill(1e-9 * x, k=20).value == pytest.approx(hill(x, k=20).value, rel=1e-12)


@pytest.mark.parametrize("k", [1, 5, 200])
def test_intervals_of_hill_are_exact_for_pareto(k):
    found = intervals(hill, pareto(1.7), 400, k=k, level=0.8)
    assert in_band(covering(found, 1.7))
    if k == 200:
        assert not in_band(covering(found, 1.7 * 1.15))
        z = stats.norm.isf(0.1) / math.sqrt(k)  # and nearly the asymptotic ones
        assert all((e.low, e.high) == pytest.approx((e.value * (1 - z), e.value * (1 + z)), rel=0.01) for e in found)


@pytest.mark.parametrize(("draw", "truth"), [(stable(1.2), 1.2), (student(1.5), 1.5), (student(2), 2), (student(3), 3)])
def test_intervals_of_hill_cover(draw, truth):
    found = intervals(hill, draw, 10_000, level=0.8)
    assert in_band(covering(found, truth))
    assert not in_band(covering(found, 1.25 * truth))


def test_too_large_a_k_is_biased():
    assert not in_band(covering(intervals(hill, student(3), 10_000, k=1000, level=0.8), 3))


def test_normal_samples_have_no_index():
    """Theirs grows with m/k; none is mistaken for that of a law without a variance."""
    rng = np.random.default_rng(0)
    small, large = (hill(rng.standard_normal(m), k=100) for m in (1000, 100_000))
    assert 2 < small.low < small.high < large.low


# Sums of blocks


def test_block_index_against_its_definition():
    x = stable(1.5)(np.random.default_rng(0), 105)
    whole = x[:100]
    sums = [sum(whole[i : i + 10]) for i in range(0, 100, 10)]
    inverse = (np.mean(np.log(np.abs(sums))) - np.mean(np.log(np.abs(whole)))) / math.log(10)
    assert block_index(x).value == block_index(x, size=10).value == pytest.approx(1 / inverse, rel=1e-12)


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("α", [0.8, 1.5, 1.9, 2.0])
def test_intervals_of_the_block_index_cover(α, size):
    found = intervals(block_index, normal if α == 2 else stable(α), 5000, size=size, level=0.8)
    assert in_band(covering(found, α))
    assert not in_band(covering(found, 1.12 * α))


def test_its_reciprocal_is_unbiased():
    """Mean over 2,000 series of 64 Cauchy samples, within 3.9 standard errors of 1."""
    rng = np.random.default_rng(0)
    found = np.array([1 / block_index(rng.standard_cauchy(64)).value for _ in range(2000)])
    assert abs(found.mean() - 1) < stats.norm.isf(5e-5) * found.std() / math.sqrt(2000) < 0.05


@pytest.mark.parametrize(("spread", "size"), [(0.5, 20), (1.0, 316)])
def test_the_objection_to_the_block_index(spread, size):
    """Normal numbers of several scales, thrown together, have every moment, and yet an index below 2.

    Scales e^(τz): ½·log E s² − E log s = τ², so that 1/α̂ is about 1/2 + τ²/log K₁. In 10⁵ samples the interval of
    99.99% excludes 2, and the formula lies within 2%.
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100_000) * np.exp(spread * rng.standard_normal(100_000))
    found = block_index(x, size=size, level=1 - 1e-4)
    assert found.high < 2
    assert found.value == pytest.approx(1 / (0.5 + spread**2 / math.log(size)), rel=0.02)
    assert block_index(rng.standard_normal(100_000), size=size, level=1 - 1e-4).high > 2


def test_a_variance_and_a_block_index_below_2():
    """Student's t with df = 3; Hill's estimator is not misled."""
    x = student(3)(np.random.default_rng(0), 100_000)
    assert 1.7 < block_index(x).value < block_index(x, level=1 - 1e-4).high < 2
    assert hill(x, level=1 - 1e-4).low > 2


def test_sums_no_larger_than_samples_have_no_upper_end():
    x = np.tile([1.0, -0.9], 50) + 1e-3 * np.random.default_rng(0).standard_normal(100)
    found = block_index(x)
    assert found.value == found.low == found.high == math.inf


# All


@pytest.mark.parametrize("estimator", [excess_kurtosis, hill, block_index])
def test_tensors_in_any_dtype(estimator):
    x = student(3)(np.random.default_rng(0), 400).astype(np.float32)
    before = x.copy()
    assert estimator(torch.from_numpy(x)) == estimator(x) == estimator(x.astype(np.float64)) == estimator(x.tolist())
    np.testing.assert_array_equal(x, before)


NORMAL = np.random.default_rng(0).standard_normal(50)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: excess_kurtosis(NORMAL[:7]), ValueError, "7 samples are too few: at least 8"),
        (lambda: excess_kurtosis(np.full(9, 0.1)), ValueError, "all samples are equal"),
        (lambda: excess_kurtosis(np.zeros(9)), ValueError, "all samples are equal"),
        (lambda: excess_kurtosis(NORMAL.reshape(5, 10)), ValueError, r"shape \(m,\), not \(5, 10\): give one column"),
        (lambda: excess_kurtosis(NORMAL, level=1), ValueError, "level must lie between 0 and 1"),
        (lambda: excess_kurtosis([*NORMAL, math.nan]), ValueError, "infinite or not a number"),
        (lambda: hill(NORMAL, k=50), ValueError, "50 samples have no 51 largest"),
        (lambda: hill(NORMAL, k=0), ValueError, "k must be at least 1"),
        (lambda: hill(NORMAL, k=2.5), TypeError, "k must be a whole number"),
        (lambda: hill(NORMAL, level=0), ValueError, "level must lie between 0 and 1"),
        (lambda: hill([1.0, -1.0, 1.0, 1.0]), ValueError, r"the 3 largest \|x\| are equal"),
        (lambda: hill([1.0, 2.0, 0.0, 0.0], k=2), ValueError, "only 2 of the samples are not 0"),
        (lambda: hill_curve(NORMAL, most=50), ValueError, "use a smaller k, or more samples"),
        (lambda: hill([1.0]), ValueError, "1 samples are too few"),
        (lambda: block_index(NORMAL, size=26), ValueError, "leave two blocks of 50 samples, not 26"),
        (lambda: block_index(NORMAL, size=1), ValueError, "size must be at least 2"),
        (lambda: block_index(NORMAL, level=2), ValueError, "level must lie between 0 and 1"),
        (lambda: block_index([1.0, -1.0, 2.0, 0.5]), ValueError, "exactly 0"),
        (lambda: block_index([1.0, 0.0, 2.0, 0.5]), ValueError, "exactly 0"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
