"""Products with the gradient matrix, held to the dense matrix of one backward pass for each example."""

import copy

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import lsqr, svds
from torch import nn
from torch.nn import functional as F

from cases import Network, linear, networks, partly_trained, trained
from msgd import GradientMatrix
from msgd.noise import MiniBatch
from reference import gradient_matrix, hessian

N = 20
TOLERANCE = 1e-10


def squared(out, y):
    return 0.5 * (out.squeeze(1) - y) ** 2


class Cube(torch.autograd.Function):
    """A custom function of the old kind: neither torch.func nor forward mode takes it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


class Old(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x):
        return Cube.apply(self.linear(x))


class Recurrent(nn.Module):
    """torch.func.vmap does not take an LSTM."""

    def __init__(self):
        super().__init__()
        self.cell, self.linear = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.linear(self.cell(x)[0][:, -1])


class Tied(nn.Module):
    """One matrix used twice, with an embedding and LayerNorm."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.linear = nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5, bias=False)
        self.linear.weight = self.embedding.weight

    def forward(self, x):
        return self.linear(self.norm(self.embedding(x)).mean(1))


class Sampled(nn.Module):
    """Sampling from a grid has no forward mode, but a double backward."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.full((2,), 0.1))

    def forward(self, x):
        grid = self.shift.expand(len(x), 2, 2, 2)
        return F.grid_sample(x, grid, align_corners=False).mean((1, 2, 3))[:, None]


class Bag(nn.Module):
    """A bag of embeddings has neither."""

    def __init__(self):
        super().__init__()
        self.bag, self.linear = nn.EmbeddingBag(5, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.linear(self.bag(x))


def more_networks():
    torch.manual_seed(1)
    y = torch.randn(N).double()
    head = [nn.Flatten(), nn.Linear(18, 1)]
    norm = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Dropout(0.5), nn.SiLU(), *head)
    fast = copy.deepcopy(networks(N)[2])
    fast.model.eval()  # where nothing is differentiated, the encoder would take its fast path
    image = torch.randn(N, 2, 5, 5).double()
    return [
        Network("eval-attention", fast.model, fast.loss, fast.x, fast.y),
        Network("eval-norms", norm.double().eval(), squared, image, y),
        Network("recurrent", Recurrent().double(), squared, torch.randn(N, 4, 3).double(), y),
        Network("old-function", Old().double(), squared, torch.randn(N, 3).double(), y),
        Network("sampled", Sampled().double(), squared, image[:, :1], y),
        Network("tied", Tied().double(), networks(N)[0].loss, torch.randint(5, (N, 3)), torch.randint(5, (N,))),
    ]


NETWORKS = {network.name: network for network in [*networks(N), *more_networks()]}
by_name = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(scope="module")
def dense():
    return {name: gradient_matrix(net.model, net.loss, net.x, net.y) for name, net in NETWORKS.items()}


def matrix_of(net, **options):
    return GradientMatrix(net.model, net.loss, net.x, net.y, **options)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(a, b, tolerance=TOLERANCE):
    assert a.shape == b.shape
    return float((a - b).norm()) <= tolerance * float(b.norm())


@pytest.mark.parametrize(("name", "chunk"), [*[(name, 7) for name in NETWORKS], ("mlp", 1), ("mlp", None)])
def test_products_both_ways(name, chunk, dense):
    G, expected = matrix_of(NETWORKS[name], chunk=chunk), dense[name]
    assert G.shape == expected.shape
    assert G.T.shape == expected.T.shape
    for w in (normal(N), normal(N, 1), normal(N, 3)):
        assert close(G @ w, expected @ w)
    for u in (normal(len(expected)), normal(len(expected), 1), normal(len(expected), 3)):
        assert close(G.T @ u, expected.T @ u)
    assert G.T.T is G


@pytest.mark.parametrize(("name", "chunk"), [*[(name, 7) for name in NETWORKS], ("mlp", 1), ("conv", None)])
def test_what_needs_each_gradient(name, chunk, dense):
    G, expected = matrix_of(NETWORKS[name], chunk=chunk), dense[name]
    centred = expected - expected.mean(1, keepdim=True)
    assert close(G.to_dense(), expected)
    assert close(G.mean(), expected.mean(1))
    assert close(G.column_norms(), expected.norm(dim=0))
    assert close(G.column_norms(centred=True), centred.norm(dim=0))
    assert close(G.gram(), expected.T @ expected)
    assert close(G.gram(centred=True), centred.T @ centred)


@pytest.mark.parametrize("name", ["mlp", "conv", "old-function"])
def test_products_with_the_hessian(name):
    net = NETWORKS[name]
    expected = hessian(net.model, lambda: net.loss(net.model(net.x), net.y).mean())
    G, v = matrix_of(net, chunk=7), normal(len(expected), 2)
    assert close(G.hessian_product(v), expected @ v)
    assert close(G.hessian_product(v[:, 0]), expected @ v[:, 0])


def test_the_hessian_of_attention_is_the_slope_of_the_mean():
    net = copy.deepcopy(NETWORKS["attention"])
    G = matrix_of(net)
    v, step, parameters = normal(G.shape[0]), 1e-5, nn.utils.parameters_to_vector(net.model.parameters())
    product, means = G.hessian_product(v), []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(parameters + sign * step * v, net.model.parameters())
        means.append(G.mean())
    assert close((means[0] - means[1]) / (2 * step), product, 1e-7)


@by_name
def test_adjoint(name):
    """⟨G·w, u⟩ = ⟨w, Gᵀ·u⟩ to rounding."""
    G = matrix_of(NETWORKS[name], chunk=11)
    for seed in range(3):
        w, u = normal(N, seed=seed), normal(G.shape[0], seed=seed + 100)
        forward, backward = G @ w, G.T @ u
        scale = max(float(forward.norm() * u.norm()), float(w.norm() * backward.norm()))
        assert abs(float(forward @ u - w @ backward)) <= 1e-14 * scale


def test_a_wrong_product_is_seen(dense):
    """The tolerance is not so wide that an example left out, or one of 2% more weight, would pass."""
    w = torch.ones(N, dtype=torch.float64)
    for index, factor in ((-1, 0.0), (3, 1.02)):
        wrong = w.clone()
        wrong[index] *= factor
        assert not close(matrix_of(NETWORKS["mlp"]) @ wrong, dense["mlp"] @ w)


def test_the_gradient_of_sgd_is_a_product(dense):
    w = MiniBatch(5).draw(N, seed=0, step=0)
    batch = dense["conv"][:, w.index].mean(1)
    assert close(matrix_of(NETWORKS["conv"]) @ w.dense().double() / N, batch)


@pytest.mark.parametrize("name", ["mlp", "attention"])
def test_float32(name, dense):
    net = NETWORKS[name]
    model, x = copy.deepcopy(net.model).float(), net.x.float() if net.x.is_floating_point() else net.x
    y = net.y.float() if net.y.is_floating_point() else net.y
    G = GradientMatrix(model, net.loss, x, y, chunk=8)
    w, u = normal(N).float(), normal(G.shape[0]).float()
    assert (G @ w).dtype == (G.T @ u).dtype == G.column_norms().dtype == torch.float32
    assert G.gram().dtype == torch.float64
    assert close((G @ w).double(), dense[name] @ w.double(), 1e-5)
    assert close((G.T @ u).double(), dense[name].T @ u.double(), 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["mlp", "conv", "attention"])
def test_cuda_with_the_data_on_the_cpu(name, dense):
    net = NETWORKS[name]
    G = GradientMatrix(copy.deepcopy(net.model).cuda(), net.loss, net.x, net.y, chunk=8)
    w, u = normal(N, 2), normal(G.shape[0], 2)
    assert close((G @ w.cuda()).cpu(), dense[name] @ w)
    assert close((G.T @ u.cuda()).cpu(), dense[name].T @ u)
    assert close(G.gram(), dense[name].T @ dense[name])
    assert close(G.column_norms().cpu(), dense[name].norm(dim=0))


def test_frozen_parameters_do_not_count_and_unused_ones_have_gradient_zero():
    model, x, y = partly_trained(N)
    G = GradientMatrix(model, linear, x, y, chunk=8)
    expected = gradient_matrix(model, linear, x, y)[4:]  # the reference counts the frozen ones
    assert G.shape == (sum(p.numel() for p in trained(model)), N)
    assert close(G.to_dense(), expected)
    assert close(G @ normal(N), expected @ normal(N))
    assert close(G.T @ normal(8), expected.T @ normal(8))


def test_a_gradient_that_depends_on_no_parameter_has_a_double_backward():
    """Of the parameters that no loss depends on nothing is differentiated twice."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.old, self.unused = Old(), nn.Linear(2, 2)

        def forward(self, x):
            return self.old(x)

    model = Both().double()
    G = GradientMatrix(model, squared, normal(6, 3), normal(6))
    u = normal(G.shape[0])
    assert close(G.T @ u, gradient_matrix(model, squared, normal(6, 3), normal(6)).T @ u)


def test_nothing_is_kept_of_the_parameters_and_the_model_is_left_alone():
    net = copy.deepcopy(NETWORKS["eval-norms"])
    G = matrix_of(net)
    first = G @ torch.ones(N, dtype=torch.float64)
    net.model.zero_grad()
    before = copy.deepcopy(net.model.state_dict())
    for _ in range(2):
        with torch.no_grad():  # also inside it
            G.column_norms(), G.gram(), G.to_dense(), G.T @ first, G @ normal(N), G.mean()
    assert all(p.grad is None and p.requires_grad for p in net.model.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.model.state_dict().items())
    with torch.no_grad():
        next(net.model.parameters()).mul_(1.5)
    assert close(G.to_dense(), gradient_matrix(net.model, net.loss, net.x, net.y))
    assert not close(G @ torch.ones(N, dtype=torch.float64), first)
    assert torch.backends.mha.get_fastpath_enabled()


def test_nothing_cancels_where_the_mean_is_large():
    """Gradients −1000 ± 0.01 in float32: GᵀG less the means would have no correct digit."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    y = torch.tensor([999.99, 1000.01])
    exact = y.double() - y.double().mean()
    G = GradientMatrix(model, squared, torch.ones(2, 1), y)
    assert close(G.gram(centred=True), torch.outer(exact, exact), 1e-6)
    assert close(G.column_norms(centred=True).double(), exact.abs(), 1e-6)


# SciPy


def test_scipy_takes_it_for_a_matrix(dense):
    expected = dense["conv"].numpy()
    G = matrix_of(NETWORKS["conv"], chunk=16)
    operator = G.as_linear_operator()
    assert (operator.shape, operator.dtype) == (expected.shape, np.float64)
    w, U = normal(N, 2).numpy(), normal(len(expected), 2).numpy()
    np.testing.assert_allclose(operator @ w, expected @ w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(operator.T @ U, expected.T @ U, rtol=0, atol=1e-11)
    np.testing.assert_allclose(G.T.as_linear_operator() @ U[:, 0], expected.T @ U[:, 0], rtol=0, atol=1e-11)
    singular = svds(operator, k=3, return_singular_vectors=False, rng=np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(singular)[::-1], np.linalg.svd(expected, compute_uv=False)[:3], rtol=1e-8)
    target = expected @ w[:, 0]
    np.testing.assert_allclose(operator @ lsqr(operator, target, atol=0, btol=1e-12)[0], target, rtol=0, atol=1e-9)


# Refusals


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(4), r"1 \(BatchNorm1d\) normalises over the batch.*model.eval\(\).*GroupNorm"),
        (nn.Dropout(0.1), r"1 \(Dropout\) drops at random.*model.eval\(\) or dropout 0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_coupled_or_random_examples_are_refused_at_every_product(layer, message):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(ValueError, match=message):
        GradientMatrix(model, linear, torch.ones(3, 4), torch.ones(3, 4))
    G = GradientMatrix(model.eval(), lambda out, y: (out - y).mean(1), torch.ones(3, 4), torch.ones(3, 4))
    model.train()
    for product in (lambda: G @ torch.ones(3), lambda: G.T @ torch.ones(G.shape[0]), G.gram, G.mean, G.column_norms):
        with pytest.raises(ValueError, match=message):
            product()


def test_a_draw_is_no_vector():
    G = GradientMatrix(nn.Linear(2, 1), squared, torch.ones(3, 2), torch.ones(3))
    draw = MiniBatch(2).draw(3, seed=0, step=0)
    with pytest.raises(TypeError, match=r"w is a draw, .*: write G @ draw.dense\(\)"):
        G @ draw
    assert (G @ draw.dense()).shape == (3,)


def test_random_numbers_in_a_function_are_found_where_each_gradient_is_needed():
    G = GradientMatrix(nn.Linear(2, 1), lambda out, y: squared(F.dropout(out), y), torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match=r"draws random numbers.*functional dropout"):
        G.gram()


def test_an_operation_without_forward_mode_and_double_backward_is_named():
    G = GradientMatrix(Bag(), squared, torch.arange(6).view(3, 2) % 5, torch.ones(3))
    for _ in range(2):
        with pytest.raises(NotImplementedError, match=r"forward AD with _embedding_bag.*'_embedding_bag_backward'"):
            G.T @ torch.ones(G.shape[0])
    assert (G @ torch.ones(3)).shape == (19,)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap has no rule for it, and says so
def test_sparse_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Flatten(), nn.Linear(12, 1)).double()
    x, y = torch.randint(5, (N, 3)), normal(N)
    G = GradientMatrix(model, squared, x, y, chunk=8)
    twin = copy.deepcopy(model)
    twin[0].sparse = False
    expected = gradient_matrix(twin, squared, x, y)
    assert close(G @ normal(N), expected @ normal(N))
    assert close(G.T @ normal(len(expected)), expected.T @ normal(len(expected)))
    assert close(G.to_dense(), expected)


def test_a_fault_of_the_model_is_shown_as_it_is():
    G = GradientMatrix(nn.Linear(3, 1), squared, torch.ones(4, 2), torch.ones(4))
    for product in (lambda: G @ torch.ones(4), lambda: G.T @ torch.ones(4), G.gram):
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
            product()


MODEL, X, Y = nn.Linear(2, 1), torch.ones(4, 2), torch.ones(4)
G = GradientMatrix(MODEL, squared, X, Y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: G @ torch.ones(3), ValueError, r"w must have shape \(n,\) or \(n, k\) with n = 4, not \(3,\)"),
        (lambda: G @ torch.ones(4, 0), ValueError, "w must have shape"),
        (lambda: G @ torch.ones(4, 1, 1), ValueError, "w must have shape"),
        (lambda: G.T @ torch.ones(4), ValueError, r"u must have shape \(d,\) or \(d, k\) with d = 3, not \(4,\)"),
        (lambda: G @ torch.ones(4).double(), TypeError, "w must be a tensor in torch.float32.*not torch.float64"),
        (lambda: G.T @ np.ones(3), TypeError, "u must be a tensor in torch.float32.*not ndarray"),
        (lambda: GradientMatrix(MODEL, squared, X, Y, chunk=0), ValueError, "chunk must be at least 1, not 0"),
        (lambda: GradientMatrix(MODEL, squared, [(X, Y)], chunk=0), ValueError, "chunk must be at least 1, not 0"),
        (lambda: GradientMatrix(MODEL, squared, X, Y, chunk=1.5), TypeError, "chunk must be a whole number"),
        (lambda: GradientMatrix(MODEL, squared, X, Y[:3]), ValueError, "4 inputs for 3 targets"),
        (lambda: GradientMatrix(MODEL, squared, X), TypeError, "inputs is a tensor: pass targets"),
        (lambda: GradientMatrix(MODEL, squared, [1.0], Y), TypeError, "inputs and targets must be tensors"),
        (lambda: GradientMatrix(nn.ReLU(), squared, X, Y), ValueError, "no parameters to train"),
        (lambda: GradientMatrix(nn.Linear(2, 1).half(), squared, X, Y), ValueError, "torch.float16.*model.float"),
        (
            lambda: GradientMatrix(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1).double()), squared, X, Y),
            ValueError,
            "torch.float32 on cpu and in torch.float64 on cpu: flat vectors need one dtype",
        ),
        (lambda: GradientMatrix(MODEL, nn.MSELoss(), X, Y[:, None]).mean(), ValueError, 'reduction="none"'),
        (lambda: GradientMatrix(MODEL, nn.MSELoss(), X, Y[:, None]).gram(), ValueError, 'reduction="none"'),
        (lambda: GradientMatrix(MODEL, lambda o, y: o - y, X, Y[:, None]).mean(), ValueError, r"squeeze\(1\)"),
        (lambda: GradientMatrix(MODEL, lambda o, y: o[:2, 0] * y[:2], X, Y).mean(), ValueError, "2 losses for 4"),
    ],
)  # fmt: skip
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
