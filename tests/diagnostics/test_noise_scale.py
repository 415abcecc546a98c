"""The noise scale, exactly and from two batch sizes."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from cases import networks
from msgd import GradientMatrix
from msgd.diagnostics import Covariance, NoiseScaleMeter, curved_noise_scale, simple_noise_scale
from reference import covariance, gradient_matrix, hessian

NETWORKS = {network.name: network for network in networks(12)}


def norms(G, batches):
    """Mean of ‖m_j‖² over the micro-batches, and ‖M‖²: from the columns of G, batch by batch."""
    means = [G[:, list(batch)].mean(1) for batch in batches]
    return float(sum(m @ m for m in means)) / len(means), float((sum(means) / len(means)).square().sum())


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_exact(name):
    net = NETWORKS[name]
    matrix = GradientMatrix(net.model, net.loss, net.x, net.y, chunk=5)
    G = gradient_matrix(net.model, net.loss, net.x, net.y)
    C, mean = covariance(G), G.mean(1)
    assert simple_noise_scale(matrix) == pytest.approx(float(C.trace() / (mean @ mean)), rel=1e-10)
    H = hessian(net.model, lambda: net.loss(net.model(net.x), net.y).mean())
    curvature, alignment = float(mean @ H @ mean), float((H * C).sum())
    assert curved_noise_scale(matrix) == pytest.approx(alignment / curvature, rel=1e-8)


def test_exact_without_a_mean():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    opposite = GradientMatrix(model, lambda out, y: out[:, 0] * y, torch.ones(2, 1), torch.tensor([1.0, -1.0]))
    assert simple_noise_scale(opposite) == math.inf
    with pytest.raises(ValueError, match="must be positive: use simple_noise_scale"):
        curved_noise_scale(opposite)
    nothing = GradientMatrix(model, lambda out, y: out[:, 0] * y, torch.ones(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="all gradients are 0"):
        simple_noise_scale(nothing)


@pytest.mark.parametrize(
    ("n", "b", "k", "population"), [(3, 1, 2, None), (3, 2, 2, None), (2, 1, 4, None), (6, 2, 2, 6), (5, 1, 3, 5)]
)
def test_unbiased(n, b, k, population):
    """The mean over all equally likely batches is tr C and ‖ḡ‖²: with replacement, or without from a population."""
    G = torch.randn(4, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws = product(range(n), repeat=b * k) if population is None else permutations(range(n), b * k)
    meter = NoiseScaleMeter(b=b, population=population)
    for draw in draws:
        micro, mean = norms(G, [draw[start : start + b] for start in range(0, b * k, b)])
        meter.add(micro, mean, micro_batches=k)
    found = meter.estimate()
    C, mean = covariance(G), G.mean(1)
    assert found.variance.value == pytest.approx(float(C.trace()), rel=1e-12)
    assert found.mean_square.value == pytest.approx(float(mean @ mean), rel=1e-12)
    assert found.value == pytest.approx(float(C.trace() / (mean @ mean)), rel=1e-12)
    assert found.steps == meter.steps


@pytest.mark.parametrize("divided", [True, False])
def test_in_a_training_loop(divided):
    """Accumulated gradients of a real model, which moves, against the columns of G at each step."""
    net = networks(12)[0]
    model, k, b = net.model, 3, 4
    parameters = [*model.parameters(), *nn.Linear(1, 1).parameters()]  # of the last no loss depends
    meter, expected = NoiseScaleMeter(b=b), NoiseScaleMeter(b=b)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(4):
        G = gradient_matrix(model, net.loss, net.x, net.y)
        optimizer.zero_grad()
        for x, y in zip(net.x.split(b), net.y.split(b), strict=True):
            (net.loss(model(x), y).mean() / (k if divided else 1)).backward()
            meter.after_backward(parameters)
        meter.end_step()
        optimizer.step()
        expected.add(*norms(G, torch.arange(12).split(b)), micro_batches=k)
    found, wanted = meter.estimate(), expected.estimate()
    scale = 1 if divided else k**2
    assert (found.value, found.low) == pytest.approx((wanted.value, wanted.low), rel=1e-9)
    assert found.variance.value == pytest.approx(scale * wanted.variance.value, rel=1e-10)
    assert found.mean_square.high == pytest.approx(scale * wanted.mean_square.high, rel=1e-10)


def simulated(rng, *, steps, mean, d=30, b=4, k=4):
    """Norms of batches of normal gradients with covariance I: tr C = d, ‖ḡ‖² = mean²·d."""
    micro = mean + rng.standard_normal((steps, k, d)) / math.sqrt(b)
    meter = NoiseScaleMeter(b=b)
    for each in micro:
        meter.add(float(np.square(each).sum(1).mean()), float(np.square(each.mean(0)).sum()), micro_batches=k)
    return meter


@pytest.mark.parametrize("mean", [0.5, 0.1, 0.02])
def test_intervals_cover(mean):
    """Of 200 intervals of 90%, the number that covers lies within 3.9 standard errors of 180; of 20% more, not."""
    runs, level = 200, 0.9
    rng = np.random.default_rng(3)
    found = [simulated(rng, steps=25, mean=mean).estimate(level=level) for _ in range(runs)]
    margin = norm.isf(5e-5) * math.sqrt(runs * level * (1 - level))
    truth = 1 / mean**2
    assert abs(sum(each.low <= truth <= each.high for each in found) - level * runs) <= margin
    assert all(each.low <= each.value <= each.high for each in found)
    unbounded = [each.mean_square.low <= 0 for each in found]
    assert [each.high == math.inf for each in found] == unbounded
    assert any(unbounded) == (mean < 0.5)
    if mean == 0.5:
        assert abs(sum(each.low <= 1.2 * truth <= each.high for each in found) - level * runs) > margin


def test_no_gradient_at_all():
    """Pure noise: the interval says so, and the lower end still excludes small batches."""
    found = simulated(np.random.default_rng(0), steps=100, mean=0.0).estimate()
    assert found.high == math.inf
    assert found.low > 10


def test_efficiency():
    meter = NoiseScaleMeter(b=1)
    for _ in range(2):
        meter.add(3.0, 2.0, micro_batches=2)  # S = 2, Q = 1
    found = meter.estimate()
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))
    assert found.efficiency(2) == pytest.approx(0.5)
    assert found.efficiency(6) == pytest.approx(0.75)


def test_a_meter_forgets():
    meter, layer = NoiseScaleMeter(b=1), nn.Linear(1, 1)
    layer(torch.ones(1, 1)).sum().backward()
    meter.after_backward(layer.parameters())
    with pytest.raises(ValueError, match=r"1 micro-batches in this step.*accumulate gradients"):
        meter.end_step()
    with pytest.raises(ValueError, match="0 micro-batches in this step"):
        meter.end_step()
    meter.after_backward(layer.parameters())
    meter.discard()
    meter.add(3.0, 2.0, micro_batches=2)
    assert meter.steps == 1
    meter.reset()
    assert meter.steps == 0


METER = NoiseScaleMeter(b=4, population=10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: NoiseScaleMeter(b=0), ValueError, "b must be at least 1"),
        (lambda: NoiseScaleMeter(b=1.5), TypeError, "b must be a whole number"),
        (lambda: METER.add(1.0, 1.0, micro_batches=1), ValueError, "use at least 2 micro-batches"),
        (lambda: METER.add(1.0, 1.0, micro_batches=3), ValueError, "3 micro-batches of 4 do not fit"),
        (lambda: METER.add(math.nan, 1.0, micro_batches=2), ValueError, r"not finite.*discard\(\)"),
        (lambda: METER.estimate(), ValueError, r"0 steps were measured.*call after_backward\(model.parameters\(\)\)"),
        (lambda: simple_noise_scale(nn.Linear(2, 1)), TypeError, r"write GradientMatrix\(model, loss_fn, inputs"),
        (lambda: curved_noise_scale(nn.Linear(2, 1)), TypeError, r"write GradientMatrix\(model, loss_fn, inputs"),
        (lambda: METER.estimate(level=95), ValueError, "level must lie between 0 and 1"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_scale_is_of_the_covariance():
    """tr C/‖ḡ‖² and not tr F/‖ḡ‖², which is larger by 1."""
    net = NETWORKS["mlp"]
    matrix = GradientMatrix(net.model, net.loss, net.x, net.y)
    C, F = Covariance(matrix), Covariance.fisher(matrix)
    assert F.trace() / (F.trace() - C.trace()) - 1 == pytest.approx(simple_noise_scale(matrix), rel=1e-10)
