"""The test of normality: its statistic by its integral, its p-values under the null, its power."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from msgd import GradientMatrix
from msgd.diagnostics import gaussianity, noise_along, random_directions
from msgd.noise import Bernoulli, Fisher, Injected, StudentT


def columns(m, k, seed=0):
    return np.random.default_rng(seed).standard_normal((m, k))


def test_the_statistic_is_its_integral():
    """m·∫ (F_m − u)²/(u(1 − u)) du over the stretches on which F_m is constant."""
    x = np.random.default_rng(0).standard_t(4, size=15)
    u = np.sort(stats.norm.cdf((x - x.mean()) / x.std(ddof=1)))
    ends = [0.0, *u, 1.0]
    square = 15 * sum(
        quad(lambda v, share=i / 15: (share - v) ** 2 / (v * (1 - v)), ends[i], ends[i + 1])[0] for i in range(16)
    )
    assert gaussianity(x).statistic[0] == pytest.approx(square * (1 + 0.75 / 15 + 2.25 / 225), rel=1e-8)
    assert gaussianity(5 - 1e-3 * x).statistic[0] == pytest.approx(gaussianity(x).statistic[0], rel=1e-9)


def test_the_p_value_has_no_steps():
    """The four pieces of the formula meet: neighbouring statistics have neighbouring p-values, down to the last."""
    from msgd.diagnostics.gaussianity import _p_value

    a = np.arange(0.01, 12, 0.001)
    p = np.array([_p_value(each) for each in a])
    assert p[0] > 0.999
    assert float(-np.diff(p).min()) < 0.01
    assert float(np.diff(p).max()) < 0.004  # the one upward step, at 0.34
    assert 0 < p[-1] < 1e-20


@pytest.mark.parametrize("m", [20, 400])
def test_p_values_are_uniform_below_a_half(m):
    """By the band of Dvoretzky, Kiefer, Wolfowitz and Massart, one false alarm in 10,000, and the docstring's 0.01.

    A formula for known mean and variance, by which p-values are near 1, is far outside.
    """
    count = 8000
    p = np.sort(gaussianity(columns(m, count)).p)
    band = math.sqrt(math.log(2e4) / (2 * count)) + 0.01
    assert band < 0.04
    levels = np.linspace(0.001, 0.5, 500)
    assert np.abs(np.searchsorted(p, levels) / count - levels).max() < band
    for level in (0.05, 0.01):  # a tenth of itself besides the binomial band
        low, high = stats.binom.ppf(5e-5, count, 0.9 * level), stats.binom.isf(5e-5, count, 1.1 * level)
        assert low <= np.searchsorted(p, level) <= high
    assert np.abs(np.searchsorted(np.sqrt(p), levels) / count - levels).max() > band


def test_power():
    """Student's t with df = 3 and m = 300: all of 50 found at 1%, and of t with df = 10 about half at 5%."""
    rng = np.random.default_rng(0)
    assert max(gaussianity(rng.standard_t(3, size=(300, 50))).p) < 0.01
    found = sum(p < 0.05 for p in gaussianity(rng.standard_t(10, size=(300, 100))).p)
    assert 15 < found < 75


def test_the_joint_answer_of_columns_that_depend_on_each_other():
    """Of 400 families of ten normal columns with correlation ½, no more than 5% are rejected, but for once in 10,000
    times; the smallest p-value without adjustment is below 5% far more often. One column of ten that is not normal is
    found."""
    rng = np.random.default_rng(0)
    joint, smallest = [], []
    for _ in range(400):
        found = gaussianity(rng.standard_normal((100, 10)) + rng.standard_normal((100, 1)))
        joint.append(found.joint)
        smallest.append(min(found.p))
        assert found.joint == min(found.adjusted) == min(1.0, 10 * smallest[-1])
    most = stats.binom.isf(1e-4, 400, 0.05)
    assert sum(p <= 0.05 for p in joint) <= most < sum(p <= 0.05 for p in smallest)
    x = rng.standard_normal((500, 10))
    x[:, 4] = rng.standard_t(3, size=500)
    found = gaussianity(x)
    assert found.joint == found.adjusted[4] < 1e-4
    assert min(found.adjusted[:4] + found.adjusted[5:]) > 0.01


def test_the_noise_of_laws():
    """With few examples along a direction: normal for Fisher, found not to be for Student's t and Bernoulli."""
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((8, 3), (8, 1)))
    model = torch.nn.Linear(3, 1).double()
    G = GradientMatrix(model, lambda out, y: 0.5 * (out - y).squeeze(1) ** 2, x, y)
    u = random_directions(G, 3)
    joint = [gaussianity(noise_along(G, u, law, draws=500)).joint for law in (Fisher(2), Injected(StudentT(3), 2))]
    assert joint[0] > 0.01 > 1e-4 > joint[1]
    assert gaussianity(noise_along(G, u, Bernoulli(2), draws=500)).joint < 1e-4


def test_tensors_and_one_column():
    x = columns(50, 2).astype(np.float32)
    assert gaussianity(torch.from_numpy(x)) == gaussianity(x)
    assert gaussianity(x[:, 0]).p == gaussianity(x).p[:1]


def test_a_sample_far_out_is_no_infinity():
    found = gaussianity([*columns(5000, 1)[:, 0], 1e6])
    assert found.statistic[0] > 100
    assert 0 < found.joint < 1e-20


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (columns(7, 1), "7 samples are too few"),
        (np.ones(10), "all samples of a column are equal"),
        (np.zeros((10, 1)), "all samples of a column are equal"),
        (np.ones((10, 1, 1)), "have 3 dimensions"),
        (3.0, "have 0 dimensions"),
        (np.ones((10, 0)), "there are no columns"),
        ([*range(9), math.inf], "infinite or not a number"),
    ],
)
def test_bad_arguments_name_the_remedy(samples, message):
    with pytest.raises(ValueError, match=message):
        gaussianity(samples)
