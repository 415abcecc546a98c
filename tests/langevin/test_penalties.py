"""Penalties on gradient norms, held to dense Hessians and finite differences in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cases import linear, networks, partly_trained, trained
from msgd.langevin import FullBatchPenalty, MiniBatchPenalty
from msgd.noise import generator
from reference import gradient_matrix, penalised_gradient

N = 12
NETWORKS = {network.name: network for network in networks(N)}
BOTH = [MiniBatchPenalty(0.3, 5), FullBatchPenalty(0.3)]


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy()


def close(a, b, tolerance=1e-10):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tolerance * np.abs(np.asarray(b)).max()


def batches(b, *, seed, step):
    order = generator(seed, step).permutation(N).tolist()
    return [order[start : start + b] for start in range(0, N, b)]


@pytest.mark.parametrize(("name", "b"), [("mlp", 1), ("mlp", 5), ("mlp", 6), ("mlp", N), ("conv", 5)])
def test_mini_batch_penalty_against_dense_hessians(name, b):
    net = NETWORKS[name]
    ours = MiniBatchPenalty(0.3, b).gradient(net.model, net.loss, net.x, net.y, seed=2, step=5)
    twin = penalised_gradient(net.model, net.loss, net.x, net.y, batches(b, seed=2, step=5), 0.3)
    assert [part.shape for part in ours] == [parameter.shape for parameter in net.model.parameters()]
    assert close(flat(ours), twin.detach())


@pytest.mark.parametrize(("name", "chunk"), [("mlp", 5), ("mlp", 100), ("conv", 5)])
def test_full_batch_penalty_against_dense_hessians(name, chunk):
    net = NETWORKS[name]
    ours = FullBatchPenalty(0.3).gradient(net.model, net.loss, net.x, net.y, seed=2, step=5, chunk=chunk)
    twin = penalised_gradient(net.model, net.loss, net.x, net.y, [list(range(N))], 0.3)
    assert close(flat(ours), twin.detach())


@pytest.mark.parametrize("penalty", BOTH, ids=repr)
@pytest.mark.parametrize("name", NETWORKS)
def test_penalties_against_finite_differences(name, penalty):
    """Of the objective as it is written, along random directions."""
    net = NETWORKS[name]
    parts = batches(5, seed=2, step=5) if isinstance(penalty, MiniBatchPenalty) else [list(range(N))]
    parameters = list(net.model.parameters())
    start = nn.utils.parameters_to_vector(parameters).detach()

    def objective(at):
        nn.utils.vector_to_parameters(at, parameters)
        matrix = gradient_matrix(net.model, net.loss, net.x, net.y)
        norms = sum(len(part) / N * float(matrix[:, part].mean(1).square().sum()) for part in parts)
        return net.loss(net.model(net.x), net.y).mean().item() + 0.3 / 4 * norms

    gradient = flat(penalty.gradient(net.model, net.loss, net.x, net.y, seed=2, step=5))
    for u in generator(9, 0).standard_normal((2, len(start))):
        u /= np.linalg.norm(u)
        h = 1e-5 * torch.from_numpy(u)  # short enough to cross no kink of a ReLU
        difference = (objective(start + h) - objective(start - h)) / 2e-5
        assert difference == pytest.approx(float(gradient @ u), rel=1e-6)
    nn.utils.vector_to_parameters(start, parameters)


def test_partition_comes_from_seed_step_and_stream():
    net = NETWORKS["mlp"]

    def gradient(**names):
        return flat(MiniBatchPenalty(0.3, 5).gradient(net.model, net.loss, net.x, net.y, **names))

    same = gradient(seed=0, step=0)
    assert np.array_equal(gradient(seed=0, step=0, stream=0), same)
    for other in ({"seed": 1, "step": 0}, {"seed": 0, "step": 1}, {"seed": 0, "step": 0, "stream": 1}):
        assert not np.array_equal(gradient(**other), same)


@pytest.mark.parametrize("penalty", BOTH, ids=repr)
def test_parameters_without_curvature(penalty):
    """A gradient that does not depend on the parameters, or on any of one's own, is no error."""
    model, x, y = partly_trained()
    ours = penalty.gradient(model, linear, x, y, seed=0, step=0)
    plain = torch.autograd.grad(linear(model(x), y).mean(), trained(model), materialize_grads=True)
    assert close(flat(ours), flat(plain))


def test_batchnorm_sees_the_batches_of_the_penalty():
    torch.manual_seed(0)
    model, x, y = nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1)), torch.randn(6, 4), torch.randn(6, 1)
    MiniBatchPenalty(0.1, b=3).gradient(model, linear, x, y, seed=0, step=0)
    with pytest.raises(ValueError, match="normalises over the batch"):
        FullBatchPenalty(0.1).gradient(model, linear, x, y, seed=0, step=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MiniBatchPenalty(-1, b=2), ValueError, "strength must be positive"),
        (lambda: MiniBatchPenalty("1", b=2), TypeError, "strength must be a number, not '1'"),
        (lambda: MiniBatchPenalty(1, b=2.5), TypeError, "b must be a whole number, not 2.5"),
        (lambda: FullBatchPenalty(math.inf), ValueError, "strength must be positive and finite"),
        (lambda: gradient_of_four(MiniBatchPenalty(1, b=5)), ValueError, "a batch of b = 5 needs more than 4 examples"),
        (lambda: gradient_of_four(FullBatchPenalty(1), chunk=0), ValueError, "chunk must be at least 1"),
        (lambda: gradient_of_four(MiniBatchPenalty(1, b=2), step=-1), ValueError, "step must lie in"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def gradient_of_four(penalty, **options):
    return penalty.gradient(
        nn.Linear(2, 1), linear, torch.ones(4, 2), torch.ones(4, 1), **({"seed": 0, "step": 0} | options)
    )
