"""Scalar laws: moments against quadrature, quantiles against SciPy's distributions, and what is refused."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import integrate, stats

from msgd.noise import (
    SCALAR_LAWS,
    Fisher,
    Gamma,
    Injected,
    Laplace,
    Moments,
    Normal,
    Rademacher,
    SparseCov,
    SparseFisher,
    StudentT,
    TwoBatch,
    Uniform,
    generator,
    svag,
)

#: each law and its distribution in SciPy, written out on its own
TWINS = [
    (Normal(), stats.norm()),
    (Uniform(), stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))),
    (Laplace(), stats.laplace(0, 1 / math.sqrt(2))),
    (StudentT(5), stats.t(5, scale=math.sqrt(3 / 5))),
    (StudentT(3), stats.t(3, scale=math.sqrt(1 / 3))),
    (StudentT(2.5), stats.t(2.5, scale=math.sqrt(0.2))),
    (StudentT(1.2, scale="iqr"), stats.t(1.2, scale=stats.norm.ppf(0.75) / stats.t(1.2).ppf(0.75))),
    (StudentT(3, scale="iqr"), stats.t(3, scale=stats.norm.ppf(0.75) / stats.t(3).ppf(0.75))),
    (Gamma(2), stats.gamma(2, loc=-math.sqrt(2), scale=1 / math.sqrt(2))),
    (Gamma(0.5), stats.gamma(0.5, loc=-math.sqrt(0.5), scale=math.sqrt(2))),
]
twins = pytest.mark.parametrize(
    ("law", "twin"), TWINS, ids=lambda value: repr(value) if hasattr(value, "sample") else ""
)


def test_every_scalar_law_is_tested():
    assert {type(law) for law, _ in TWINS} | {Rademacher} == set(SCALAR_LAWS.values())


@twins
def test_moments(law, twin):
    assert twin.mean() == pytest.approx(0, abs=1e-12)
    assert law.variance == pytest.approx(twin.var(), rel=1e-12)
    if math.isfinite(law.kurtosis):
        fourth = integrate.quad(lambda x: x**4 * twin.pdf(x), *twin.support(), limit=500)[0]
        assert law.kurtosis == pytest.approx(fourth / twin.var() ** 2, rel=1e-4)


@twins
def test_quantiles(law, twin):
    """Deciles of 40,000 draws: each count is binomial; ten bounds at a false-alarm rate of 10⁻⁵ each.

    This decides where a variance test cannot (a t of df ≤ 4 has no fourth moment). Negative control: a scale that is
    6% off fails.
    """

    def worst(values):
        edges = twin.ppf(np.linspace(0.1, 0.9, 9))
        below = np.array([(values < edge).sum() for edge in edges])
        expected = np.linspace(0.1, 0.9, 9)
        return np.max(np.abs(below - 40_000 * expected) / np.sqrt(40_000 * expected * (1 - expected)))

    values = law.sample(40_000, generator(0, 0))
    bound = stats.norm.isf(0.5e-5)
    assert worst(values) < bound
    assert worst(values * 1.06) > bound


def test_rademacher():
    values = Rademacher().sample(40_000, generator(0, 0))
    assert set(values.tolist()) == {-1.0, 1.0}
    assert abs(values.sum()) < stats.norm.isf(0.5e-5) * math.sqrt(40_000)
    assert Rademacher().kurtosis == 1


@pytest.mark.parametrize("law", [*(law for law, _ in TWINS), Rademacher()], ids=repr)
@pytest.mark.parametrize("n", [2**15, 2**15 + 1, 2**17 - 3])
def test_many_weights_are_drawn_in_parts_of_one_sample(law, n):
    """What is drawn a block at a time is the one sample, to the bit; Fisher's draw is the general form's."""
    drawn = Injected(law, 20).draw(n, seed=3, step=7, stream=2)
    sample = Injected(law, 20).sample(n, generator(3, 7, 2))
    assert drawn.index is None
    assert drawn.n == n
    np.testing.assert_array_equal(drawn.value.numpy(), sample.value.astype(np.float32))
    if law == Normal():
        np.testing.assert_array_equal(Fisher(20).draw(n, seed=3, step=7, stream=2).value, drawn.value)


def test_many_weights_take_the_memory_of_float32():
    tracemalloc.start()
    Fisher(20).draw(10**6, seed=0, step=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 4e6 < peak < 5e6


def test_infinite_variance():
    law = StudentT(1.5, scale="iqr")
    assert law.variance == math.inf
    assert math.isnan(law.kurtosis)
    assert StudentT(3).kurtosis == math.inf
    moments = Injected(law, 20).moments(1000)
    assert moments == Moments(math.inf, 0.0)
    with pytest.raises(ValueError, match="no variance"):
        moments.effective_batch_size(1000)
    with pytest.raises(ValueError, match="no variance"):
        moments.mean_gradient_coefficient(1000)
    weights = Injected(law, 20, centred=True).sample(1000, generator(0, 0)).value
    assert weights.sum() == pytest.approx(1000, rel=1e-9)
    quartiles = np.percentile(Injected(law, 20).sample(200_000, generator(0, 0)).value, [25, 75])
    assert np.diff(quartiles)[0] == pytest.approx(2 * 0.67449 * 100, rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StudentT(1), "no mean"),
        (lambda: StudentT(0.5, scale="iqr"), "no mean"),
        (lambda: StudentT(2), 'scale="iqr"'),
        (lambda: StudentT("3"), "df must be a number"),
        (lambda: StudentT(3, scale="mad"), "scale must be"),
        (lambda: Gamma(0), "shape must be a positive number"),
        (lambda: Injected("normal", 20), "must be a ScalarLaw"),
        (lambda: Injected(Normal(), 0), "b must be at least 1"),
        (lambda: Injected(Normal(), 20, centred=1), "True or False"),
        (lambda: Injected(Normal(), 20, centred=True, support=1), "at least 2"),
        (lambda: SparseFisher(20, support=0), "support must be at least 1"),
        (lambda: SparseCov(20, support=1), "at least 2"),
        (lambda: SparseFisher(20, support=30).moments(20), "m ≤ n"),
        (lambda: SparseFisher(20, support=30).draw(20, seed=0, step=0), "m ≤ n"),
        (lambda: TwoBatch(20, -1), "gamma must be"),
        (lambda: TwoBatch(20, 1).moments(10), "need at least 20"),
        (lambda: TwoBatch(20, 1, disjoint=True).draw(30, seed=0, step=0), "need at least 40"),
        (lambda: svag(20, 0.5), "l must be at least 1"),
    ],
)
def test_bad_input_names_the_remedy(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
