"""The gradient of the weighted mean is G·w/n, for every law, every split, and networks of several kinds."""

import pytest
import torch

from cases import EVERY_LAW, networks
from msgd import Reweighter, weighted_mean
from msgd.noise import Bernoulli, Subsampled
from reference import flat_gradient, gradient_matrix

N = 12
NETWORKS = {network.name: network for network in networks(N)}


@pytest.fixture(scope="module")
def matrices():
    return {name: gradient_matrix(net.model, net.loss, net.x, net.y) for name, net in NETWORKS.items()}


def same(a, b):
    """Equal to 1e-12 of the norm; an empty draw must give zero exactly."""
    return float((a - b).norm()) <= 1e-12 * float(b.norm())


@pytest.mark.parametrize("law", EVERY_LAW, ids=repr)
@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_of_the_weighted_mean(law, name, matrices):
    net = NETWORKS[name]
    weights = law.draw(N, seed=4, step=2)
    index = torch.arange(N) if weights.index is None else weights.index
    net.model.zero_grad()
    weighted_mean(net.loss(net.model(net.x[index]), net.y[index]), weights).backward()
    expected = matrices[name] @ weights.dense().double() / N
    assert same(flat_gradient(net.model), expected)


@pytest.mark.parametrize("law", EVERY_LAW, ids=repr)
@pytest.mark.parametrize("split", [[12], [6, 6], [3, 3, 3, 3], [1, 7, 4], [1] * 12], ids=str)
def test_any_split_gives_the_same_gradient(law, split, matrices):
    net = NETWORKS["mlp"]
    reweight = Reweighter(law, seed=4, logical_batch=N)
    for step in range(3):
        net.model.zero_grad()
        for x, y in zip(net.x.split(split), net.y.split(split), strict=True):
            reweight(net.loss(net.model(x), y)).backward()
        expected = matrices["mlp"] @ law.draw(N, seed=4, step=step).dense().double() / N
        assert same(flat_gradient(net.model), expected)
    assert reweight.step == 3


def test_a_framework_that_divides():
    """Micro-losses divided by k by a framework give the same gradient with divided_by=k."""
    net = NETWORKS["mlp"]
    law = EVERY_LAW[4]
    gradients = []
    for k in (1, 2, 4):
        reweight = Reweighter(law, seed=4, logical_batch=N, divided_by=k)
        net.model.zero_grad()
        for x, y in zip(net.x.chunk(k), net.y.chunk(k), strict=True):
            (reweight(net.loss(net.model(x), y)) / k).backward()
        gradients.append(flat_gradient(net.model))
    assert same(gradients[1], gradients[0])
    assert same(gradients[2], gradients[0])


def test_an_empty_draw_is_a_zero_gradient():
    law = Bernoulli(1)
    step = next(t for t in range(100) if len(law.draw(N, seed=0, step=t).value) == 0)
    net = NETWORKS["mlp"]
    weights = law.draw(N, seed=0, step=step)
    net.model.zero_grad()
    weighted_mean(net.loss(net.model(net.x[weights.index]), net.y[weights.index]), weights).backward()
    assert float(flat_gradient(net.model).norm()) == 0


def test_parameters_without_gradient_stay():
    """A parameter that no loss depends on gets no noise: it lives in w, not in parameter space."""
    used, unused = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
    losses = used(torch.randn(8, 3)).squeeze(1) ** 2
    Reweighter(Subsampled(4, Bernoulli(2)), seed=0)(losses).backward()
    assert used.weight.grad is not None
    assert unused.weight.grad is None
