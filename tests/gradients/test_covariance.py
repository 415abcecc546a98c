"""C, F and the noise of laws as operators, held to dense matrices in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from scipy.stats import norm
from torch import nn

from cases import networks
from msgd import GradientMatrix
from msgd.diagnostics import Covariance, mean_square, subspace_cosines, trace_estimate
from msgd.noise import Bernoulli, Cov, Fisher, FullBatch, Injected, MiniBatch, StudentT
from reference import covariance, gradient_matrix, hessian

N, K = 14, 4
NETWORKS = {network.name: network for network in networks(N)}
KINDS = {
    "C": (Covariance, (1.0, 0.0)),
    "F": (Covariance.fisher, (1.0, 1.0)),
    # α/n and α/n + β, from the design's table
    "mini-batch": (lambda G: Covariance.of_law(G, MiniBatch(3)), (11 / (3 * 13), 0.0)),
    "cov": (lambda G: Covariance.of_law(G, Cov(3)), (1 / 3, 0.0)),
    "fisher-law": (lambda G: Covariance.of_law(G, Fisher(3)), (1 / 3, 1 / 3)),
    "bernoulli": (lambda G: Covariance.of_law(G, Bernoulli(3)), (1 / 3 - 1 / 14, 1 / 3 - 1 / 14)),
    "full": (lambda G: Covariance.of_law(G, FullBatch()), (0.0, 0.0)),
    "unequal": (lambda G: Covariance(G, scale=0.7, mean_scale=2.5), (0.7, 2.5)),
}
by_kind = pytest.mark.parametrize("kind", KINDS)
by_noisy_kind = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "full"])  # 0 has a test of its own


def matrix_of(net, **options):
    return GradientMatrix(net.model, net.loss, net.x, net.y, **options)


@pytest.fixture(scope="module")
def dense():
    """C and ḡ, by the name of the network."""
    matrices = {name: gradient_matrix(net.model, net.loss, net.x, net.y) for name, net in NETWORKS.items()}
    return {name: (covariance(matrix), matrix.mean(1)) for name, matrix in matrices.items()}


def of_kind(kind, name, dense, **options):
    """The operator, and the dense matrix that it stands for."""
    build, (scale, mean_scale) = KINDS[kind]
    C, mean = dense[name]
    return build(matrix_of(NETWORKS[name], **options)), scale * C + mean_scale * torch.outer(mean, mean)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def close(a, b, tolerance=1e-10):
    assert a.shape == b.shape
    return float((a - b).norm()) <= tolerance * float(b.norm())


@by_kind
@pytest.mark.parametrize("name", NETWORKS)
def test_products_and_trace(kind, name, dense):
    ours, expected = of_kind(kind, name, dense, chunk=7)
    assert ours.shape == expected.shape
    for u in (normal(len(expected)), normal(len(expected), 2)):
        assert close(ours @ u, expected @ u)
        assert close(ours.T @ u, expected @ u)
    assert ours.trace() == pytest.approx(float(expected.trace()), rel=1e-12)
    assert close(torch.from_numpy(ours.as_linear_operator() @ u.numpy()), expected @ u)


@by_noisy_kind
@pytest.mark.parametrize("method", ["gram", "lanczos"])
def test_eigenpairs(kind, method, dense):
    ours, expected = of_kind(kind, "conv", dense, chunk=7)
    values, vectors = torch.linalg.eigh(expected)
    values, vectors = values.flip(0)[:K], vectors.flip(1)[:, :K]
    found = ours.eigenpairs(K, method=method)
    assert close(found[0], values)
    assert close(ours.eigenvalues(K, method=method), values)
    few = ours.eigenpairs(K, method=method, vectors=1)
    assert torch.equal(few[0], found[0])
    assert close(few[1], found[1][:, :1])
    with pytest.raises(ValueError, match="use a larger k"):
        ours.eigenpairs(K, method=method, vectors=K + 1)
    assert close(found[1] * (found[1] * vectors).sum(0).sign(), vectors, 1e-8)
    assert ours.stable_rank(method=method) == pytest.approx(float(expected.trace() / values[0]), rel=1e-10)


def test_both_methods_agree_to_the_sign(dense):
    ours, _ = of_kind("F", "mlp", dense)
    one, other = (ours.eigenpairs(K, method=method)[1] for method in ("gram", "lanczos"))
    assert close(one, other, 1e-8)
    assert close(ours.eigenpairs(K)[1], one, 0)  # "auto" at this n


def test_eigenpairs_beyond_the_rank_are_zero(dense):
    """C of n gradients has rank n − 1."""
    ours, expected = of_kind("C", "mlp", dense)
    values, vectors = ours.eigenpairs(N)
    assert (values > 0).tolist() == [True] * (N - 1) + [False]
    assert not vectors[:, -1].any()
    assert close((vectors * values) @ vectors.t(), expected)
    values, vectors = of_kind("full", "mlp", dense)[0].eigenpairs(2)
    assert not values.any()
    assert not vectors.any()


def test_scipy_finds_the_same_eigenvalues(dense):
    ours, expected = of_kind("F", "mlp", dense)
    start = normal(len(expected)).numpy()
    values = eigsh(ours.as_linear_operator(), 2, v0=start, return_eigenvectors=False)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(expected)[-2:], rtol=1e-8)


def test_float32_and_a_large_mean():
    """Gradients −1000 ± 0.01: tr F − ‖ḡ‖² would have no correct digit."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    y = torch.tensor([[999.99], [1000.01], [1000.0]])
    C = Covariance(GradientMatrix(model, lambda out, y: 0.5 * (out - y).squeeze(1) ** 2, torch.ones(3, 1), y))
    exact = float(y.double().var(correction=0))
    assert C.trace() == pytest.approx(exact, rel=1e-5)
    assert float(C.eigenvalues(1)[0]) == pytest.approx(exact, rel=1e-5)


def test_mean_square(dense):
    assert mean_square(matrix_of(NETWORKS["conv"])) == pytest.approx(float(dense["conv"][1].square().sum()), rel=1e-12)


# Random weights


@pytest.mark.parametrize("law", [None, Cov(3), Fisher(3), MiniBatch(3), Bernoulli(4)], ids=repr)
def test_the_trace_from_random_weights(law, dense):
    """The interval has one false alarm in 10,000; a trace 20% larger lies outside it."""
    exact = float(dense["mlp"][0].trace())
    found = trace_estimate(matrix_of(NETWORKS["mlp"]), law=law, draws=300, seed=1, level=1 - 1e-4)
    assert found.low <= exact <= found.high
    assert not found.low <= 1.2 * exact <= found.high or law is not None


def test_the_trace_from_all_random_signs():
    """Unbiased, exactly: the mean over all 2ⁿ signs, for n = 6."""
    net = networks(6)[0]
    G = GradientMatrix(net.model, net.loss, net.x, net.y)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 6)
    centred = signs - signs.mean(1, keepdim=True)
    squares = (G @ (centred.t() / math.sqrt(6))).square().sum(0)
    assert float(squares.mean()) == pytest.approx(Covariance(G).trace(), rel=1e-12)


def test_the_interval_covers(dense):
    """Of 40 intervals of 80%, the number that covers lies within 3.9 standard errors of 32."""
    G, exact, level, runs = matrix_of(NETWORKS["mlp"]), float(dense["mlp"][0].trace()), 0.8, 40
    found = [trace_estimate(G, draws=20, seed=seed, level=level) for seed in range(runs)]
    covered = sum(each.low <= exact <= each.high for each in found)
    assert abs(covered - level * runs) <= norm.isf(5e-5) * math.sqrt(runs * level * (1 - level))


# The Hessian


@pytest.mark.parametrize("kind", ["C", "F", "unequal"])
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_alignment_with_the_hessian(kind, name, dense):
    net = NETWORKS[name]
    H = hessian(net.model, lambda: net.loss(net.model(net.x), net.y).mean())
    ours, expected = of_kind(kind, name, dense, chunk=7)
    exact = ours.hessian_alignment()
    assert exact.value == exact.low == exact.high == pytest.approx(float((H * expected).sum()), rel=1e-10)


def test_estimated_alignment_with_the_hessian(dense):
    ours, _ = of_kind("F", "mlp", dense)
    exact = ours.hessian_alignment().value
    found = ours.hessian_alignment(draws=200, seed=1, level=1 - 1e-4)
    assert found.low <= exact <= found.high
    assert found.high - found.low < exact


# Subspaces


def test_cosines_of_subspaces():
    basis, _ = torch.linalg.qr(normal(10, 6))
    angles = torch.tensor([0.2, 0.9], dtype=torch.float64)
    turned = basis[:, :2] * angles.cos() + basis[:, 2:4] * angles.sin()
    assert close(subspace_cosines(basis[:, :2], turned), angles.cos(), 1e-12)
    assert close(subspace_cosines(basis[:, :2] @ normal(2, 2), 3 * turned @ normal(2, 2).t()), angles.cos(), 1e-12)
    assert close(subspace_cosines(basis[:, :3], basis[:, 2:6]).add(1), torch.tensor([2.0, 1.0, 1.0]).double(), 1e-12)


C = Covariance(GradientMatrix(nn.Linear(2, 1), lambda out, y: (out[:, 0] - y) ** 2, torch.ones(4, 2), torch.ones(4)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Covariance(nn.Linear(2, 1)), TypeError, r"not a Linear: write GradientMatrix\(model, loss_fn, inputs"),
        (lambda: Covariance.of_law(nn.Linear(2, 1), FullBatch()), TypeError, "write GradientMatrix"),
        (lambda: mean_square(nn.Linear(2, 1)), TypeError, "write GradientMatrix"),
        (lambda: trace_estimate(nn.Linear(2, 1), draws=2), TypeError, "write GradientMatrix"),
        (lambda: Covariance(C.matrix, scale=-1), ValueError, "scale must be at least 0"),
        (lambda: Covariance(C.matrix, mean_scale=math.nan), ValueError, "mean_scale must be at least 0 and finite"),
        (lambda: Covariance.of_law(C.matrix, Injected(StudentT(1.5, scale="iqr"), 2)), ValueError, "no variance"),
        (lambda: C.eigenvalues(4), ValueError, "3 parameters and 4 examples have no 4 eigenpairs"),
        (lambda: C.eigenvalues(0), ValueError, "k must be at least 1"),
        (lambda: C.eigenvalues(1, method="dense"), ValueError, 'method must be "auto", "gram" or "lanczos"'),
        (lambda: C.stable_rank(), ValueError, "the covariance is 0"),
        (lambda: C.hessian_alignment(draws=1), ValueError, "draws must be at least 2"),
        (lambda: trace_estimate(C.matrix, draws=1), ValueError, "draws must be at least 2"),
        (lambda: trace_estimate(C.matrix, draws=2, level=1), ValueError, "level must lie between 0 and 1"),
        (lambda: trace_estimate(C.matrix, draws=2, law=FullBatch()), ValueError, "has no noise at n = 4"),
        (lambda: C @ torch.ones(4), ValueError, r"u must have shape \(d,\)"),
        (lambda: subspace_cosines(torch.ones(3), torch.ones(3, 1)), ValueError, r"of \(d, k\)"),
        (lambda: subspace_cosines(torch.ones(3, 2), torch.ones(3, 1)), ValueError, "linearly dependent"),
        (lambda: subspace_cosines(torch.zeros(3, 1), torch.ones(3, 1)), ValueError, "linearly dependent"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
