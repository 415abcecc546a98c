"""Eigenvalues and trace of the Hessian, and the loss around the parameters, held to dense Hessians in float64."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset

from cases import linear, networks, partly_trained
from msgd import GradientMatrix
from msgd.diagnostics import hessian_eigenpairs, hessian_eigenvalues, hessian_trace, loss_change
from msgd.noise import generator
from reference import hessian

N = 14
NETWORKS = {network.name: network for network in networks(N)}
by_name = pytest.mark.parametrize("name", NETWORKS)
SURE = 1 - 1e-4  # level of an interval with one false alarm in 10,000


def matrix_of(net, **options):
    return GradientMatrix(net.model, net.loss, net.x, net.y, **options)


def mean_loss(net):
    return net.loss(net.model(net.x), net.y).mean()


@pytest.fixture(scope="module")
def dense():
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel of attention has no second derivative
        return {name: hessian(net.model, lambda net=net: mean_loss(net)).detach() for name, net in NETWORKS.items()}


def close(a, b, tolerance=1e-8):
    assert a.shape == b.shape
    return float((a - b).norm()) <= tolerance * float(b.norm())


def squared(out, y):
    return 0.5 * (out[:, 0] - y) ** 2


def quadratic(d, n=30, offset=0.0):
    """A linear model, whose Hessian XᵀX/n is the same everywhere."""
    torch.manual_seed(0)
    x = torch.randn(n, d).double() + offset
    return GradientMatrix(nn.Linear(d, 1, bias=False).double(), squared, x, torch.randn(n).double()), x.t() @ x / n


# Eigenvalues


@pytest.mark.parametrize(
    ("name", "k", "method"),
    [("mlp", 1, "dense"), *[(name, 4, "lanczos") for name in NETWORKS], ("conv", 4, "dense"), ("mlp", 1, "lanczos")],
)
def test_eigenpairs(name, k, method, dense):
    values, vectors = torch.linalg.eigh(dense[name])
    values, vectors = values.flip(0)[:k], vectors.flip(1)[:, :k]
    matrix = matrix_of(NETWORKS[name], chunk=6)
    found = hessian_eigenpairs(matrix, k, method=method)
    assert close(found[0], values)
    assert close(found[1] * (found[1] * vectors).sum(0).sign(), vectors, 1e-6)
    largest = found[1].gather(0, found[1].abs().argmax(0, keepdim=True))
    assert (largest > 0).all()
    assert not close(found[0] * 1.0001, values)


def test_all_eigenvalues_and_nearly_all(dense):
    values = torch.linalg.eigvalsh(dense["mlp"]).flip(0)
    d = len(values)
    matrix = matrix_of(NETWORKS["mlp"])
    assert values[-1] < -1e-3  # by value, not by size: some are negative
    for k in (d, d - 1):
        assert close(hessian_eigenvalues(matrix, k), values[:k])
    assert close(hessian_eigenvalues(matrix, d // 2, method="lanczos"), values[: d // 2])


def test_the_choice_of_a_method():
    """Lanczos from 81 parameters on, where k < 10; and the same every time, to the last bit."""
    small, large = quadratic(80)[0], matrix_of(NETWORKS["mlp"])
    for matrix, method in ((small, "dense"), (large, "lanczos")):
        expected = hessian_eigenpairs(matrix, 2, method=method)
        assert all(torch.equal(a, b) for a, b in zip(hessian_eigenpairs(matrix, 2), expected, strict=True))
        assert torch.equal(hessian_eigenvalues(matrix, 2), expected[0])
        other = {"dense": "lanczos", "lanczos": "dense"}[method]
        assert not torch.equal(hessian_eigenvalues(matrix, 2, method=other), expected[0])


def test_float32(dense):
    net = copy.deepcopy(NETWORKS["mlp"])
    matrix = GradientMatrix(net.model.float(), net.loss, net.x.float(), net.y)
    expected = torch.linalg.eigvalsh(dense["mlp"]).flip(0)[:3]
    for method in ("dense", "lanczos"):
        values, vectors = hessian_eigenpairs(matrix, 3, method=method)
        assert (values.dtype, vectors.dtype) == (torch.float64, torch.float32)
        assert close(values, expected, 1e-5)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
def test_a_hessian_that_is_zero(method):
    model, x, y = partly_trained(N)
    values, vectors = hessian_eigenpairs(GradientMatrix(model, linear, x, y), 3, method=method)
    assert not values.any()
    assert close(vectors.t() @ vectors, torch.eye(3, dtype=torch.float64))


def test_lanczos_that_does_not_converge_says_so(monkeypatch):
    from scipy.sparse.linalg import eigsh

    from msgd.gradients import eigenpairs

    monkeypatch.setattr(eigenpairs, "eigsh", lambda *args, **options: eigsh(*args, **options, maxiter=1))
    with pytest.raises(RuntimeError, match=r"Lanczos found \d of 4 eigenvalues: use a smaller k"):
        hessian_eigenvalues(matrix_of(NETWORKS["conv"]), 4, method="lanczos")


# The trace


@by_name
def test_the_trace_against_the_dense_formula(name, dense):
    """The same signs, with the dense Hessian: a sketch of 4, 6 draws outside."""
    H = dense[name]
    signs = [generator(3, step).integers(0, 2, size=len(H)) * 2.0 - 1.0 for step in range(10)]
    Q = np.linalg.qr(H.numpy() @ np.stack(signs[:4], 1))[0]
    P = np.eye(len(H)) - Q @ Q.T
    samples = [np.trace(Q.T @ H.numpy() @ Q) + z @ P @ H.numpy() @ P @ z for z in signs[4:]]
    found = hessian_trace(matrix_of(NETWORKS[name], chunk=6), draws=14, seed=3)
    assert found.value == pytest.approx(np.mean(samples), rel=1e-8)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(2.5705818 * np.std(samples, ddof=1) / math.sqrt(6), rel=1e-6)
    sure = hessian_trace(matrix_of(NETWORKS[name]), draws=60, level=SURE)
    assert sure.low <= float(H.trace()) <= sure.high
    assert not sure.low <= 2 * float(H.trace()) <= sure.high


def test_the_trace_is_exact_with_enough_draws(dense):
    d = len(dense["mlp"])
    found = hessian_trace(matrix_of(NETWORKS["mlp"]), draws=3 * d + 2)
    assert found.value == pytest.approx(float(dense["mlp"].trace()), rel=1e-8)
    assert found.high - found.low < 1e-8 * found.value


@pytest.mark.parametrize("draws", [4, 11])
def test_the_trace_is_unbiased_and_its_interval_covers(draws):
    """Over 100 seeds, without a sketch and with one: the mean within 3.9 standard errors, and covered by intervals of
    80% as often as a binomial number, but for once in 10,000 times each. 6% more is outside the first."""
    matrix, H = quadratic(24)
    exact = float(H.trace())
    found = [hessian_trace(matrix, draws=draws, seed=seed, level=0.8) for seed in range(100)]
    values = np.array([each.value for each in found])
    margin = 3.9 * values.std() / math.sqrt(100)
    assert abs(values.mean() - exact) < margin < 0.06 * exact
    covered = sum(each.low <= exact <= each.high for each in found)
    assert binom.ppf(5e-5, 100, 0.8) <= covered <= binom.isf(5e-5, 100, 0.8)


def test_the_sketch_is_worth_its_products():
    """One large eigenvalue, of inputs of mean 1: the interval is at most a third of that of as many plain draws."""
    matrix, H = quadratic(60, offset=1.0)
    found = hessian_trace(matrix, draws=32)
    plain = [z @ H.numpy() @ z for z in np.random.default_rng(0).choice([-1.0, 1.0], size=(32, 60))]
    assert found.low < float(H.trace()) < found.high
    assert found.high - found.low < 2 * 2 * np.std(plain) / math.sqrt(32) / 3


# The loss around the parameters


@by_name
def test_the_loss_change_against_a_copy_of_the_model(name):
    net = NETWORKS[name]
    size, samples = 0.3, []
    θ = nn.utils.parameters_to_vector(net.model.parameters()).detach()
    for step in range(3):
        δ = size * torch.from_numpy(generator(5, step).standard_normal(len(θ)))
        losses = []
        for shift in (δ, -δ, 0 * δ):
            moved = copy.deepcopy(net)
            nn.utils.vector_to_parameters(θ + shift, moved.model.parameters())
            losses.append(float(mean_loss(moved).detach()))
        samples.append((losses[0] + losses[1]) / 2 - losses[2])
    found = loss_change(matrix_of(net, chunk=6), size, draws=3, seed=5)
    assert found.value == pytest.approx(np.mean(samples), rel=1e-10)
    assert (found.high - found.low) / 2 == pytest.approx(4.3026527 * np.std(samples, ddof=1) / math.sqrt(3), rel=1e-6)


@by_name
def test_for_a_small_size_it_is_half_the_trace(name, dense):
    """For δ of these seeds δᵀHδ/2, to second order; and size²·Tr(H)/2 within the interval. Without the half it is not.

    Small is what flips no ReLU and no maximum: 1e-6 for thousands of them, near the rounding of the loss.
    """
    size, draws, H = (1e-3 if name == "mlp" else 1e-6), 150, dense[name].numpy()
    normals = [generator(0, step).standard_normal(len(H)) for step in range(draws)]
    found = loss_change(matrix_of(NETWORKS[name]), size, draws=draws, level=SURE)
    assert found.value == pytest.approx(size**2 / 2 * np.mean([z @ H @ z for z in normals]), rel=0.01)
    expected = size**2 * float(np.trace(H)) / 2
    assert found.low <= expected <= found.high
    assert not found.low <= 2 * expected <= found.high


def test_of_a_quadratic_it_is_half_the_trace_at_any_size_and_the_interval_covers():
    """Of 200 intervals of 80%, as many cover as a binomial number, but for once in 10,000 times."""
    matrix, H = quadratic(24)
    exact = 1.7**2 * float(H.trace()) / 2
    found = [loss_change(matrix, 1.7, draws=12, seed=seed, level=0.8) for seed in range(200)]
    covered = sum(each.low <= exact <= each.high for each in found)
    wrong = sum(each.low <= 1.25 * exact <= each.high for each in found)
    least, most = binom.ppf(5e-5, 200, 0.8), binom.isf(5e-5, 200, 0.8)
    assert wrong < least <= covered <= most


def test_odd_terms_cancel():
    """A loss that is linear in the parameters does not change, though ḡ·δ is large."""
    model, x, y = partly_trained(N)
    matrix = GradientMatrix(model, linear, x, y)
    assert float(matrix.mean().norm()) > 0.1
    found = loss_change(matrix, 10.0, draws=20)
    assert max(abs(found.low), abs(found.high)) < 1e-13


def test_the_mean_loss_at_shifted_parameters():
    net = NETWORKS["mlp"]
    matrix = matrix_of(net, chunk=5)
    assert matrix.mean_loss() == pytest.approx(float(mean_loss(net).detach()), rel=1e-14)
    shift = torch.zeros(matrix.shape[0], dtype=torch.float64)
    shift[-1] = 0.5  # the last bias
    moved = copy.deepcopy(net)
    with torch.no_grad():
        moved.model[-1].bias[-1] += 0.5
    assert matrix.mean_loss(shift) == pytest.approx(float(mean_loss(moved).detach()), rel=1e-14)
    assert matrix.mean_loss(shift) != matrix.mean_loss()


def test_the_model_is_left_alone_also_by_errors():
    net = copy.deepcopy(NETWORKS["mlp"])
    calls, fail_at = [], 10**9

    def loss(out, y):
        calls.append(1)
        if len(calls) > fail_at:
            raise RuntimeError("on purpose")
        return net.loss(out, y)

    matrix = GradientMatrix(net.model, loss, net.x, net.y, chunk=5)
    before = {
        name: (value, value.clone(), value._version) for name, value in net.model.state_dict(keep_vars=True).items()
    }
    for measure in (
        lambda: loss_change(matrix, 0.5, draws=4),
        lambda: hessian_trace(matrix, draws=8),
        lambda: hessian_eigenvalues(matrix, 2, method="lanczos"),
    ):
        measure()
        fail_at = len(calls) + 7
        with pytest.raises(RuntimeError, match="on purpose"):
            measure()
        fail_at = 10**9
        for name, value in net.model.state_dict(keep_vars=True).items():
            same, kept, version = before[name]
            assert value is same
            assert torch.equal(value, kept)
            assert value._version == version  # nothing was written, and put back
            assert value.grad is None


# Data that change


class Turning:
    """Batches that are in another order from the pass `after` on."""

    def __init__(self, batches, after):
        self.batches, self.left = batches, after

    def __iter__(self):
        self.left -= 1
        return iter(self.batches if self.left >= 0 else self.batches[::-1])


MEASURES = {
    "eigenvalues": lambda matrix: hessian_eigenvalues(matrix, 2, method="lanczos"),
    "trace": lambda matrix: hessian_trace(matrix, draws=5),
    "loss change": lambda matrix: loss_change(matrix, 0.1, draws=2),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_loader_gives_what_the_tensors_give_and_has_to_be_steady(name):
    net, measure = NETWORKS["mlp"], MEASURES[name]
    expected = measure(matrix_of(net))
    loader = DataLoader(TensorDataset(net.x, net.y), batch_size=5)
    found = measure(GradientMatrix(net.model, net.loss, loader))
    assert np.allclose(*(each if isinstance(each, torch.Tensor) else each.value for each in (found, expected)))
    changing = GradientMatrix(net.model, net.loss, Turning(list(loader), after=3))
    with pytest.raises(ValueError, match=r"not those of the first pass.*shuffle=False"):
        measure(changing)
    order = torch.Generator().manual_seed(0)
    shuffled = DataLoader(TensorDataset(net.x, net.y), batch_size=5, shuffle=True, generator=order)
    with pytest.raises(ValueError, match=r"not those of the first pass.*shuffle=False"):
        measure(GradientMatrix(net.model, net.loss, shuffled))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@by_name
def test_cuda_with_the_data_on_the_cpu(name):
    net = NETWORKS[name]
    there = GradientMatrix(copy.deepcopy(net.model).cuda(), net.loss, net.x, net.y)
    for measure in MEASURES.values():
        found, expected = measure(there), measure(matrix_of(net))
        assert np.allclose(*(e if isinstance(e, torch.Tensor) else e.value for e in (found, expected)), rtol=1e-6)
    assert hessian_eigenpairs(there, 2)[1].is_cuda


# Refusals


def bad(value):
    x = torch.ones(4, 30).double()
    x[0, 0] = value
    return GradientMatrix(nn.Linear(30, 1).double(), squared, x, torch.ones(4).double())


SMALL = GradientMatrix(nn.Linear(2, 1), squared, torch.ones(4, 2), torch.ones(4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: hessian_eigenvalues(nn.Linear(2, 1), 3),
            TypeError,
            r"not a Linear: write GradientMatrix\(model, loss_f",
        ),
        (lambda: hessian_trace(nn.Linear(2, 1), draws=9), TypeError, r"write GradientMatrix\(model, loss_fn"),
        (lambda: loss_change(nn.Linear(2, 1), 0.1, draws=9), TypeError, r"write GradientMatrix\(model, loss_fn"),
        (lambda: hessian_eigenvalues(SMALL, 4), ValueError, "3 parameters have no 4 eigenpairs"),
        (lambda: hessian_eigenvalues(SMALL, 0), ValueError, "k must be at least 1"),
        (lambda: hessian_eigenvalues(SMALL, 1.0), TypeError, "k must be a whole number"),
        (lambda: hessian_eigenvalues(SMALL, 1, method="gram"), ValueError, '"auto", "dense" or "lanczos"'),
        (lambda: hessian_eigenvalues(SMALL, 3, method="lanczos"), ValueError, 'use method="dense"'),
        (lambda: hessian_eigenvalues(bad(math.inf), 2, method="lanczos"), ValueError, "the Hessian is not finite"),
        (lambda: hessian_eigenvalues(bad(math.nan), 2, method="dense"), ValueError, "the Hessian is not finite"),
        (lambda: hessian_trace(bad(math.nan), draws=2), ValueError, "the Hessian is not finite"),
        (lambda: hessian_trace(SMALL, draws=1), ValueError, "at least 2 samples, not 1"),
        (lambda: hessian_trace(SMALL, draws=2.5), TypeError, "draws must be a whole number"),
        (lambda: hessian_trace(SMALL, draws=9, level=1), ValueError, "level must lie between 0 and 1"),
        (lambda: loss_change(SMALL, 0, draws=2), ValueError, "size must be positive"),
        (lambda: loss_change(SMALL, "1", draws=2), TypeError, "size must be a number"),
        (lambda: loss_change(SMALL, 0.1, draws=1), ValueError, "at least 2 samples, not 1"),
        (lambda: loss_change(SMALL, 0.1, draws=2, level=0), ValueError, "level must lie between 0 and 1"),
        (lambda: loss_change(SMALL, 1e30, draws=2), ValueError, "the loss is not finite within size = 1e[+]30"),
        (lambda: SMALL.mean_loss(torch.ones(3, 2)), ValueError, "one vector of shape"),
        (lambda: SMALL.mean_loss(torch.ones(4)), ValueError, r"shift must have shape \(d,\)"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
