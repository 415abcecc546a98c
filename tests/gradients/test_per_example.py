"""⟨G·w, u⟩ = ⟨w, Gᵀ·u⟩ on data, weights and directions that Hypothesis chooses: the two passes are of one matrix."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cases import networks
from msgd import GradientMatrix

N = 6
NETWORKS = {network.name: copy.deepcopy(network) for network in networks(N)}
D = {name: sum(p.numel() for p in net.model.parameters()) for name, net in NETWORKS.items()}
#: rounding of the products, as a share of Σ_i |w_i|·‖g_i‖·‖u‖, which no cancellation makes small
ROUNDING = 1e-14

thousandths = st.integers(-(10**6), 10**6)
seeds = st.integers(0, 2**32 - 1)


def blocks(length):
    """Columns, one or several, of chosen numbers: zeros, signs, outliers."""
    shapes = st.tuples(st.just(length), st.integers(1, 2))
    return arrays(np.int64, shapes, elements=thousandths, fill=thousandths).map(lambda block: block / 1000)


def chosen(name):
    """w, u, a seed for parameters and inputs, and the number of examples in a chunk."""
    return st.tuples(blocks(N), blocks(D[name]), seeds, st.integers(1, N))


def check(name, case):
    w, u, seed, chunk = case
    net = NETWORKS[name]
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64))
    x = torch.randn(net.x.shape, generator=random, dtype=torch.float64) if net.x.is_floating_point() else net.x
    G = GradientMatrix(net.model, net.loss, x, net.y, chunk=chunk)
    w, u = torch.from_numpy(w), torch.from_numpy(u)
    gap = (G @ w).t() @ u - w.t() @ (G.T @ u)
    scale = (w.abs().t() @ G.column_norms())[:, None] * u.norm(dim=0)
    assert bool((gap.abs() <= ROUNDING * scale).all()), f"{float(gap.abs().max()):.3g} against {float(scale.max()):.3g}"


def run(name):
    """The property, on the same 20 cases every time; none is made smaller, which takes minutes for long vectors."""

    @settings(max_examples=20, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(chosen(name))
    def holds(case):
        check(name, case)

    holds()


@pytest.mark.parametrize("name", NETWORKS)
def test_adjoint(name):
    run(name)


HEAVIER = torch.ones(N, 1, dtype=torch.float64)
HEAVIER[0] += 1e-6
WRONG = {
    "one example weighs a millionth more": lambda product: product * HEAVIER,
    "two examples in each other's place": lambda product: product[[1, 0, *range(2, N)]],
    "rounded to float32": lambda product: product.float().double(),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_adjoint_is_found(fault, monkeypatch):
    right = GradientMatrix._adjoint
    monkeypatch.setattr(GradientMatrix, "_adjoint", lambda self, u: WRONG[fault](right(self, u)))
    with pytest.raises(AssertionError):
        run("mlp")


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_in_another_order_are_found(name, monkeypatch):
    right = GradientMatrix._adjoint
    monkeypatch.setattr(GradientMatrix, "_adjoint", lambda self, u: right(self, u.roll(1, 0)))
    with pytest.raises(AssertionError):
        run(name)
