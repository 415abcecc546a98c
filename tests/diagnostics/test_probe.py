"""The probe of a training loop: what it finds, and that it leaves the training alone."""

import math
import random
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cases import networks
from msgd import GradientMatrix
from msgd.diagnostics import Covariance, Probe, ProbeRecord, mean_square, simple_noise_scale
from msgd.lab.measure.cost import CostCountingMatrix
from reference import covariance, gradient_matrix

NETWORKS = {network.name: network for network in networks(12)}


def losses(out, y):
    return F.cross_entropy(out, y, reduction="none")


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_against_the_dense_matrix_and_the_instruments(name):
    net = NETWORKS[name]
    probe = Probe(net.model, net.loss, net.x, net.y, every=2)
    assert [probe(step) is not None for step in range(5)] == [True, False, True, False, True]
    assert [record.step for record in probe.records] == [0, 2, 4]
    G = gradient_matrix(net.model, net.loss, net.x, net.y)
    C, mean = covariance(G), G.mean(1)
    found = probe.records[1]
    assert found.trace == pytest.approx(float(C.trace()), rel=1e-10)
    assert found.mean_square == pytest.approx(float(mean @ mean), rel=1e-10)
    assert found.eigenvalue == pytest.approx(float(torch.linalg.eigvalsh(C)[-1]), rel=1e-9)
    assert found.loss == pytest.approx(net.loss(net.model(net.x), net.y).mean().item(), rel=1e-12)
    matrix = GradientMatrix(net.model, net.loss, net.x, net.y)
    assert found.noise_scale == simple_noise_scale(matrix)
    assert (found.trace, found.mean_square) == (Covariance(matrix).trace(), mean_square(matrix))


@pytest.mark.parametrize(("m", "n"), [(2, 5), (3, 5), (4, 6), (5, 5)])
def test_a_sample_speaks_of_its_population(m, n):
    """The mean over all subsets is tr C and ‖ḡ‖² of the population; without `population` it is not."""
    model = nn.Linear(3, 1, bias=False).double()
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    subsets = [list(subset) for subset in combinations(range(n), m)]
    exact = Probe(model, lambda out, _: out[:, 0], x, x, every=1)(0)

    def mean(**options):
        found = [Probe(model, lambda out, _: out[:, 0], x[s], x[s], every=1, **options)(0) for s in subsets]
        return np.mean([record.trace for record in found]), np.mean([record.mean_square for record in found])

    trace, square = mean(population=n)
    assert trace == pytest.approx(exact.trace, rel=1e-10)
    assert square == pytest.approx(exact.mean_square, rel=1e-10)
    if m < n:
        plain_trace, plain_square = mean()
        assert plain_trace < 0.95 * exact.trace
        assert plain_square > 1.05 * exact.mean_square


class Network(nn.Module):
    """With dropout and BatchNorm, which measuring must leave as they are."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))

    def forward(self, x):
        return self.layers(x)


def trained(probing):
    """Ten steps of training with dropout, BatchNorm, momentum and accumulated gradients; all the state after each."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    x, y = torch.randn(64, 6), torch.randint(3, (64,))
    model = Network()
    model.layers[1].eval()  # a mode of its own, which must be put back
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    probe = Probe(model, losses, x[:20], y[:20], every=2, population=64)
    states = []
    for step in range(10):
        batch = torch.from_numpy(np.random.permutation(64)[:16])
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        if probing:
            probe(step)
        states.append([p.grad.clone() for p in model.parameters()])
        states.append([value.clone() for value in model.state_dict().values()])
        states.append([torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64))])
        states.append([torch.tensor([module.training for module in model.modules()])])
        states.append([torch.tensor(random.getstate()[1])])
        optimizer.step()
        if step % 3 == 2:
            optimizer.zero_grad()
    return states, probe


def test_training_is_bitwise_the_same():
    with_probe, probe = trained(True)
    without, unused = trained(False)
    assert len(probe.records) == 5
    assert unused.records == []
    for mine, theirs in zip(with_probe, without, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert [record.trace > 0 for record in probe.records] == [True] * 5


def test_the_stated_cost():
    net = NETWORKS["mlp"]
    matrix = CostCountingMatrix(net.model, net.loss, net.x, net.y)
    _ = matrix.mean_loss(), Covariance(matrix).trace(), mean_square(matrix), Covariance(matrix).eigenvalues(1)
    assert 5 < matrix.gradients < 6


def test_what_cannot_be_measured():
    model = nn.Linear(2, 3)
    x, y = torch.randn(4, 2), torch.randint(3, (4,))
    for options, error, message in (
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"every": 1.5}, TypeError, "every must be a whole number"),
        ({"every": 1, "population": 3}, ValueError, "4 examples of 3"),
    ):
        with pytest.raises(error, match=message):
            Probe(model, losses, x, y, **options)
    with pytest.raises(ValueError, match="at least 2"):
        Probe(model, losses, x[:1], y[:1], every=1)
    fresh = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False), model)
    with pytest.raises(ValueError, match="normalises over the batch"):
        Probe(fresh, losses, x, y, every=1)
    assert fresh.training


def test_divergence_and_a_zero_gradient_do_not_end_the_training():
    model = nn.Linear(2, 3)
    x, y = torch.randn(4, 2), torch.randint(3, (4,))
    probe = Probe(model, losses, x, y, every=1)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    found = probe(0)
    assert all(math.isnan(value) for value in (found.loss, found.trace, found.noise_scale, found.eigenvalue))
    flat = Probe(nn.Linear(1, 1), lambda out, y: out[:, 0] * y, torch.ones(2, 1), torch.tensor([1.0, -1.0]), every=1)
    assert flat(0).noise_scale == math.inf
    assert isinstance(flat.records[0], ProbeRecord)
