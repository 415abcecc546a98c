"""Noise along directions, held to the vectors of which it is the projection."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from cases import networks
from msgd import GradientMatrix
from msgd.diagnostics import gradients_along, noise_along, random_directions
from msgd.noise import Anticorrelated, Cov, Fisher, FullBatch, Injected, MiniBatch, StudentT
from reference import gradient_matrix

N = 14
NETWORKS = {network.name: network for network in networks(N)}
LAWS = [
    MiniBatch(3),
    Fisher(3),
    Cov(3),
    Injected(StudentT(1.5, scale="iqr"), 3),
    Anticorrelated(Fisher(3)),
    FullBatch(),
]
NET = NETWORKS["mlp"]
G = GradientMatrix(NET.model, NET.loss, NET.x, NET.y, chunk=5)


@pytest.fixture(scope="module")
def dense():
    return {name: gradient_matrix(net.model, net.loss, net.x, net.y) for name, net in NETWORKS.items()}


def close(a, b, tolerance=1e-10):
    return a.shape == b.shape and float((a - b).norm()) <= tolerance * float(b.norm())


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("name", NETWORKS)
def test_noise_is_the_projection_of_the_vectors(name, law, dense):
    net, exact = NETWORKS[name], dense[name]
    matrix = GradientMatrix(net.model, net.loss, net.x, net.y, chunk=5)
    u = random_directions(matrix, 3, seed=1)
    weights = [torch.from_numpy(law.at_step(N, seed=7, step=step).dense(N)) for step in range(4)]
    expected = torch.stack([u.t() @ (exact @ w / N - exact.mean(1)) for w in weights])
    scale = float((u.t() @ exact).norm())
    found = noise_along(matrix, u, law, draws=4, seed=7)
    assert float((found - expected).norm()) <= 1e-12 * scale
    assert float((noise_along(matrix, u[:, 1], law, draws=4, seed=7) - found[:, 1]).norm()) <= 1e-12 * scale
    if law != FullBatch():
        assert not close(noise_along(matrix, u, law, draws=4, seed=8), found, 0.1)


def test_gradients_along(dense):
    centred = dense["mlp"] - dense["mlp"].mean(1, keepdim=True)
    u = random_directions(G, 3)
    assert close(gradients_along(G, u), centred.t() @ u)
    assert close(gradients_along(G, u[:, 0]), centred.t() @ u[:, 0])
    assert float(gradients_along(G, u).mean(0).abs().max()) < 1e-15


def test_directions_are_unit_uniform_and_not_the_noise():
    d = G.shape[0]
    u = random_directions(G, 1000)
    assert torch.allclose(u.norm(dim=0), torch.ones(1000, dtype=torch.float64), rtol=0, atol=1e-14)
    # d·mean(u uᵀ) is I; an entry off the diagonal has the standard deviation 1/√1000: 6 of them, one false alarm in 10⁵
    second = d * u @ u.t() / 1000
    assert float((second - torch.eye(d, dtype=torch.float64)).fill_diagonal_(0).abs().max()) < 6 / 1000**0.5
    assert torch.equal(u[:, :3].contiguous(), random_directions(G, 1000, seed=0)[:, :3].contiguous())
    assert not torch.equal(u[:, :3], random_directions(G, 1000, seed=1)[:, :3])
    normals = Fisher(1).at_step(d, seed=0, step=0).dense(d) - 1
    same_stream = normals / np.linalg.norm(normals)
    assert abs(float(random_directions(G, 1)[:, 0] @ torch.from_numpy(same_stream))) < 0.5


def test_float32():
    model = nn.Linear(2, 1)
    matrix = GradientMatrix(model, lambda out, y: (out[:, 0] - y) ** 2, torch.ones(4, 2), torch.arange(4.0))
    u = random_directions(matrix, 2)
    assert u.dtype == torch.float32
    assert noise_along(matrix, u, Fisher(2), draws=3).dtype == gradients_along(matrix, u).dtype == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_with_the_data_on_the_cpu():
    matrix = GradientMatrix(copy.deepcopy(NET.model).cuda(), NET.loss, NET.x, NET.y)
    u = random_directions(matrix, 2)
    assert u.is_cuda
    assert close(noise_along(matrix, u, Fisher(3), draws=4), noise_along(G, u.cpu(), Fisher(3), draws=4))
    assert close(gradients_along(matrix, u), gradients_along(G, u.cpu()))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random_directions(nn.Linear(2, 1), 1), TypeError, r"write GradientMatrix\(model, loss_fn"),
        (lambda: gradients_along(nn.Linear(2, 1), torch.ones(3)), TypeError, r"write GradientMatrix\(model, loss_fn"),
        (lambda: noise_along(nn.Linear(2, 1), torch.ones(3), Fisher(2), draws=2), TypeError, "write GradientMatrix"),
        (lambda: random_directions(G, 0), ValueError, "k must be at least 1"),
        (lambda: random_directions(G, 1.5), TypeError, "k must be a whole number"),
        (lambda: noise_along(G, random_directions(G, 1), Fisher(2), draws=0), ValueError, "draws must be at least 1"),
        (lambda: noise_along(G, random_directions(G, 1), MiniBatch(99), draws=2), ValueError, "99"),
        (lambda: noise_along(G, torch.ones(3).double(), Fisher(2), draws=2), ValueError, r"u must have shape \(d,\)"),
        (lambda: gradients_along(G, torch.ones(3)), TypeError, "u must be a tensor in torch.float64"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
