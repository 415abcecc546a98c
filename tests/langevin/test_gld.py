"""Noise in parameter space, held to dense matrices of small networks in float64."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from scipy import linalg
from scipy.stats import chi2
from torch import nn

from cases import linear, networks, partly_trained, trained
from msgd.langevin import LANGEVIN, SGLD, GLDConst, GLDDiag, GLDDynamic, GLDLeading
from msgd.noise import Cov, generator
from reference import covariance, gradient_matrix

N, B, K = 12, 3, 4
NETWORKS = {network.name: network for network in networks(N)}
GLD = [GLDConst(B), GLDDynamic(B), GLDDiag(B), GLDLeading(B, k=K)]
EVERY = [*GLD, SGLD(0.01, lr=0.1)]

by_name = pytest.mark.parametrize("name", NETWORKS)
by_kind = pytest.mark.parametrize("noise", EVERY, ids=repr)


@pytest.fixture(scope="module")
def dense():
    """C, by the name of the network."""
    return {
        name: covariance(gradient_matrix(net.model, net.loss, net.x, net.y)).numpy() for name, net in NETWORKS.items()
    }


def measure(noise, net, **options):
    return noise.measure(net.model, net.loss, net.x, net.y, **options)


def expected_covariance(noise, C):
    """What the noise promises, from the dense C."""
    d = len(C)
    if isinstance(noise, SGLD):
        return 2 * noise.temperature / noise.lr * np.eye(d)
    if isinstance(noise, GLDDiag):
        return np.diag(np.diag(C)) / B
    if isinstance(noise, GLDLeading):
        values, vectors = np.linalg.eigh(C)
        values, vectors = values[-K:], vectors[:, -K:]
        return np.trace(C) / values.sum() * (vectors * values) @ vectors.T / B
    return np.trace(C) / d * np.eye(d) / B


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors]).numpy()


def close(a, b, tolerance=1e-10):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tolerance * np.abs(np.asarray(b)).max()


@by_name
def test_trace_and_diagonal(name, dense):
    net = NETWORKS[name]
    for noise in (GLDConst(B), GLDDynamic(B)):
        assert close(measure(noise, net)["trace"], np.trace(dense[name]))
    assert close(measure(GLDDiag(B), net)["diagonal"], np.diag(dense[name]))


@by_name
def test_leading_eigenpairs(name, dense):
    values, vectors = np.linalg.eigh(dense[name])
    values, vectors = values[: -K - 1 : -1], vectors[:, : -K - 1 : -1].T
    state = measure(GLDLeading(B, k=K), NETWORKS[name])
    assert close(state["trace"], np.trace(dense[name]))
    assert close(state["eigenvalues"], values)
    ours = state["eigenvectors"].numpy()
    signs = np.sign((ours * vectors).sum(1, keepdims=True))
    assert close(ours * signs, vectors)


def test_eigenpairs_beyond_the_rank_are_zero():
    """C of n gradients has rank n − 1; k = n is allowed, and all of C comes back."""
    net = NETWORKS["mlp"]
    state = measure(GLDLeading(B, k=N), net)
    assert (state["eigenvalues"] > 0).tolist() == [True] * (N - 1) + [False]
    assert not state["eigenvectors"][-1].any()
    vectors = state["eigenvectors"].numpy()
    C = covariance(gradient_matrix(net.model, net.loss, net.x, net.y)).numpy()
    assert close((vectors.T * state["eigenvalues"].numpy()) @ vectors, C)


@pytest.mark.parametrize("noise", GLD, ids=repr)
@pytest.mark.parametrize(("name", "chunk"), [("mlp", 1), ("mlp", 5), ("mlp", 100), ("conv", 5), ("attention", 7)])
def test_chunks_give_the_same_state(noise, name, chunk):
    net = NETWORKS[name]
    whole, split = measure(noise, net, chunk=N), measure(noise, net, chunk=chunk)
    assert whole.keys() == split.keys()
    for key, value in whole.items():
        assert close(split[key], value), key


@pytest.mark.parametrize("noise", GLD, ids=repr)
def test_nothing_cancels_where_the_mean_is_large(noise):
    """Gradients −1000 ± 0.01 in float32: mean‖g‖² − ‖ḡ‖² would have no correct digit."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    y = torch.tensor([[999.99], [1000.01]])
    exact = float(y.double().var(correction=0))
    assert abs(float(y.square().mean() - y.mean() ** 2) / exact - 1) > 0.5
    noise = GLDLeading(B, k=1) if isinstance(noise, GLDLeading) else noise
    state = noise.measure(model, lambda out, y: 0.5 * (out - y).squeeze(1) ** 2, torch.ones(2, 1), y)
    assert float(next(iter(state.values()))) == pytest.approx(exact, rel=1e-6)


def test_equal_gradients_have_no_noise():
    model = nn.Linear(2, 1)
    for noise in GLD:
        state = noise.measure(model, lambda out, y: (out - y).squeeze(1), torch.ones(N, 2), torch.zeros(N, 1))
        assert not flat(noise.sample(state, model.parameters(), seed=0, step=0)).any()


# Monte Carlo. With z the noise in the eigenbasis of the covariance Σ that it should have, divided by the square roots
# of the eigenvalues, Σ z² over N draws and r coordinates is χ² with N·r degrees of freedom; along a unit vector u of
# that basis Σ (u·z)² is χ² with N. Both two-sided, 10⁻⁴ a test. N·r ≥ 33,000 finds an error of 5% in the variance with
# probability 99%: (3.891 + 2.326)·√(2/(N·r)) ≤ 0.05.
ALARM = 1e-4
DRAWS = 33_000
DIRECTIONS = 10


def outside(statistic, freedom, tests=1):
    return not chi2.ppf(ALARM / 2 / tests, freedom) < statistic < chi2.isf(ALARM / 2 / tests, freedom)


@by_kind
def test_noise_has_its_covariance(noise, dense):
    net, sigma = NETWORKS["mlp"], expected_covariance(noise, dense["mlp"])
    state = {} if isinstance(noise, SGLD) else measure(noise, net)
    values, vectors = np.linalg.eigh(sigma)
    inside = values > 1e-12 * values.max()
    rank = int(inside.sum())
    assert rank == (K if isinstance(noise, GLDLeading) else len(sigma))
    number = -(-DRAWS // rank)
    drawn = np.array([flat(noise.sample(state, net.model.parameters(), seed=7, step=t)) for t in range(number)])
    if rank < len(sigma):
        assert np.abs(drawn @ vectors[:, ~inside]).max() <= 1e-7 * np.abs(drawn).max()
    z = drawn @ vectors[:, inside] / np.sqrt(values[inside])

    total = (z**2).sum()
    assert not outside(total, number * rank)
    for wrong in (1.05, 0.95):  # a variance that is 5% off must be found
        assert outside(wrong * total, number * rank)
    directions = generator(seed=8, step=0).standard_normal((rank, DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    for statistic in ((z @ directions) ** 2).sum(0):
        assert not outside(statistic, number, tests=DIRECTIONS)
    assert chi2.sf(number * (z.mean(0) ** 2).sum(), rank) > ALARM


@by_name
@pytest.mark.parametrize("noise", GLD, ids=repr)
def test_every_kind_has_the_trace_of_sgd(name, noise, dense):
    """Exactly: the coefficients of the noise are those of E‖noise‖² = tr(C)/b; b scales it."""
    assert np.trace(expected_covariance(noise, dense[name])) == pytest.approx(np.trace(dense[name]) / B, rel=1e-12)
    net = NETWORKS[name]
    state, parameters = measure(noise, net), list(net.model.parameters())
    normals = generator(3, 5, 2**63).standard_normal(K if isinstance(noise, GLDLeading) else len(dense[name]))
    if isinstance(noise, GLDLeading):
        scale = state["eigenvectors"].numpy().T * np.sqrt(state["eigenvalues"].numpy())
        scale *= np.sqrt(np.trace(dense[name]) / (state["eigenvalues"].numpy().sum() * B))
        by_hand = scale @ normals
        assert np.trace(scale @ scale.T) == pytest.approx(np.trace(dense[name]) / B, rel=1e-10)
    else:
        by_hand = np.sqrt(np.diag(expected_covariance(noise, dense[name]))) * normals
    assert close(flat(noise.sample(state, parameters, seed=3, step=5)), by_hand)


@by_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_noise_fits_the_parameters_and_comes_from_seed_step_and_stream(noise, dtype):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)).to(dtype)
    model[0].weight.data = model[0].weight.data.contiguous(memory_format=torch.channels_last)
    x, y = torch.randn(N, 1, 4, 4, dtype=dtype), torch.randint(3, (N,))
    state = noise.measure(model, NETWORKS["conv"].loss, x, y) if noise.refresh_due(0) else {}

    def sample(**names):
        drawn = noise.sample(state, model.parameters(), **({"seed": 1, "step": 2, "stream": 3} | names))
        for part, parameter in zip(drawn, model.parameters(), strict=True):
            assert (part.shape, part.dtype) == (parameter.shape, dtype)
        return flat(drawn)

    assert np.array_equal(sample(), sample())
    for other in ({"seed": 2}, {"step": 3}, {"stream": 4}):
        assert not np.isclose(sample(**other), sample()).any()


def test_noise_is_independent_of_a_law_on_the_same_stream():
    d = 1000
    (noise,) = SGLD(0.5, lr=1).sample({}, [torch.zeros(d)], seed=1, step=2, stream=3)
    weights = Cov(d).draw(d, seed=1, step=2, stream=3).dense()
    assert abs(float(torch.corrcoef(torch.stack([noise, weights]))[0, 1])) < 3.891 / math.sqrt(d)


def test_the_sign_of_an_eigenvector_is_not_left_to_the_solver(monkeypatch):
    """So that two machines, or two measurements at one place, give the same noise."""
    net = NETWORKS["mlp"]
    noise = GLDLeading(B, k=K)
    one = measure(noise, net)
    eigh = linalg.eigh

    def flipped(*args, **options):
        values, vectors = eigh(*args, **options)
        return values, vectors * [1, -1, -1, 1]

    monkeypatch.setattr(linalg, "eigh", flipped)
    assert torch.equal(measure(noise, net)["eigenvectors"], one["eigenvectors"])


@pytest.mark.parametrize("noise", GLD, ids=repr)
def test_a_state_from_a_checkpoint_gives_the_same_noise(noise):
    net = NETWORKS["conv"]
    state = measure(noise, net)
    loaded = load(save(state))
    one, other = (flat(noise.sample(s, net.model.parameters(), seed=0, step=3)) for s in (state, loaded))
    assert np.array_equal(one, other)


def test_refresh():
    for name, due in [("gld-dynamic", [0, 3, 6]), ("gld-diag", [0, 3, 6]), ("gld-leading", [0, 3, 6])]:
        noise = LANGEVIN[name](B, refresh=3)
        assert [step for step in range(8) if noise.refresh_due(step)] == due
    assert [step for step in range(8) if GLDConst(B).refresh_due(step)] == [0]
    assert [step for step in range(8) if SGLD(0.1, 0.1).refresh_due(step)] == [0]  # so that a loop has a state


def test_sgld_is_the_step_of_langevin_dynamics():
    """θ − η(g + noise) moves by √(2ηT)·ξ beyond the gradient."""
    noise = SGLD(temperature=0.02, lr=0.1)
    (added,) = noise.sample({}, [torch.zeros(5, dtype=torch.float64)], seed=1, step=2)
    xi = generator(1, 2, 2**63).standard_normal(5)
    assert close(-0.1 * added, -math.sqrt(2 * 0.1 * 0.02) * xi)


def test_parameters_that_no_loss_depends_on_or_that_are_frozen():
    """The unused ones have variance 0 in C, the frozen ones do not count."""
    model, x, y = partly_trained()
    for noise in GLD:
        state = noise.measure(model, linear, x, y)
        assert len(noise.sample(state, trained(model), seed=0, step=0)) == 4
    noise = GLDDiag(B)
    state = noise.measure(model, linear, x, y)
    assert state["diagonal"][-4:].tolist() == [0] * 4
    assert not flat(noise.sample(state, trained(model), seed=0, step=0))[-4:].any()
    with pytest.raises(ValueError, match="has 8 parameters, not 12: pass those with requires_grad"):
        noise.sample(state, model.parameters(), seed=0, step=0)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(4), r"1 \(BatchNorm1d\) normalises over the batch.*model.eval\(\).*GroupNorm"),
        (nn.BatchNorm1d(4, track_running_stats=False).eval(), "normalises over the batch"),
        (nn.Dropout(0.1), r"1 \(Dropout\) drops at random.*model.eval\(\) or dropout 0"),
        (nn.MultiheadAttention(4, 2, dropout=0.1), r"1 \(MultiheadAttention\) drops at random"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_coupled_or_random_examples_are_refused(layer, message):
    model = nn.Sequential(nn.Linear(4, 4), layer)
    with pytest.raises(ValueError, match=message):
        GLDDiag(2).measure(model, lambda out, y: (out - y).mean(1), torch.ones(3, 4), torch.ones(3, 4))


def test_batchnorm_and_dropout_in_eval_mode_are_fine():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    x, y = torch.randn(6, 4), torch.randn(6, 4)

    def loss(out, y):
        return (out - y).square().mean(1)

    trace = float(GLDConst(2).measure(model, loss, x, y)["trace"])
    assert trace == pytest.approx(float(covariance(gradient_matrix(model, loss, x, y)).trace()), rel=1e-5)


MODEL, X, Y = nn.Linear(2, 1), torch.ones(4, 2), torch.ones(4, 1)


def squares(out, y):
    return (out - y).squeeze(1) ** 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: GLDConst(0), ValueError, "b must be at least 1"),
        (lambda: GLDDiag("20"), TypeError, "b must be a number"),
        (lambda: GLDDynamic(20, refresh=0), ValueError, "refresh must be at least 1, not 0"),
        (lambda: GLDDiag(20, refresh=1.5), TypeError, "refresh must be a whole number, not 1.5"),
        (lambda: GLDLeading(20, k=True), TypeError, "k must be a whole number, not True"),
        (lambda: SGLD(0, lr=0.1), ValueError, "temperature must be positive and finite, not 0"),
        (lambda: SGLD(0.1, lr=math.nan), ValueError, "lr must be positive"),
        (lambda: SGLD(None, lr=0.1), TypeError, "temperature must be a number, not None"),
        (lambda: GLDLeading(2, k=5).measure(MODEL, squares, X, Y), ValueError, "use k ≤ 4"),
        (lambda: GLDConst(2).measure(MODEL, squares, X, Y, chunk=0), ValueError, "chunk must be at least 1"),
        (lambda: GLDConst(2).measure(MODEL, squares, X, Y[:3]), ValueError, "4 inputs for 3 targets"),
        (lambda: GLDConst(2).measure(MODEL, nn.MSELoss(), X, Y), ValueError, 'reduction="none"'),
        (lambda: GLDConst(2).measure(MODEL, lambda out, y: (out - y) ** 2, X, Y), ValueError, r"squeeze\(1\)"),
        (lambda: GLDConst(2).measure(nn.ReLU(), squares, X, Y), ValueError, "no parameters to train"),
        (lambda: GLDConst(2).sample({}, [X], seed=0, step=0), ValueError, "no 'trace': call GLDConst.measure"),
        (lambda: GLDConst(2).sample({"trace": Y}, [], seed=0, step=0), ValueError, "no parameters"),
        (lambda: SGLD(1, 1).sample({}, [X], seed=-1, step=0), ValueError, "seed must lie in"),
        (lambda: SGLD(1, 1).sample({}, [X], seed=0, step=0, stream=-1), ValueError, "stream must lie in"),
    ],
)
def test_bad_arguments_name_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
