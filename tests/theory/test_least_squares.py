"""Least squares, exactly: against every outcome of the weights, Kronecker twins, closed forms and a simulation."""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

from msgd.noise import (
    Anticorrelated,
    BayesianBootstrap,
    Bernoulli,
    Cov,
    Fisher,
    FullBatch,
    Injected,
    MiniBatch,
    Moments,
    Poisson,
    Rademacher,
    Reshuffled,
    Scheduled,
    StudentT,
    Subsampled,
    TwoBatch,
    generator,
)
from msgd.theory import LeastSquares
from msgd.theory import stationary as pairs
from reference import outcomes

FINITE = [
    (FullBatch(), 3),
    (MiniBatch(2), 4),
    (MiniBatch(1), 5),
    (MiniBatch(2, replacement=True), 4),
    (Bernoulli(2), 4),
    (Bernoulli(1.5), 3),
    (Injected(Rademacher(), 2), 5),
    (Injected(Rademacher(), 3, centred=True), 4),
    (Subsampled(3, Bernoulli(2)), 4),
    (TwoBatch(2, 1), 4),  # β < −1 at larger γ: weights may be negative
]
NOISY = FINITE[1:]
MOMENTUM = [0.0, 0.7]


def data(n, rank=2, seed=0, d=2):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) if rank < d else rng.normal(size=(n, d))
    return X, rng.normal(size=n) + 1


def paths(X, y, laws, lr, start, momentum):
    """Probability and parameters of every path of SGD, for each step: one law of (p, w) pairs for each."""
    p, theta, velocity = np.ones(1), np.array([start]), np.zeros((1, len(start)))
    yield p, theta
    for law in laws:
        probability, w = np.array([q for q, _ in law]), np.array([w for _, w in law])
        residuals = theta @ X.T - y
        gradient = np.einsum("pi,oi,id->pod", residuals, w, X) / len(X)
        velocity = (momentum * velocity[:, None] + gradient).reshape(-1, len(start))
        theta = np.repeat(theta, len(w), axis=0) - lr * velocity
        p = np.outer(p, probability).ravel()
        yield p, theta


def check_against_every_path(claimed, laws, X, y, *, momentum=0.0, lr=0.3):
    """Mean, second moment and expected loss of three steps; the excess risk of an arbitrary test distribution."""
    start, truth, moment = np.array([1.0, -2.0]), np.array([0.3, 0.8]), np.array([[2.0, 0.5], [0.5, 1.0]])
    problem = LeastSquares(X, y)
    options = {"lr": lr, "steps": len(laws), "start": start, "momentum": momentum}
    moments = problem.moments_of_parameters(claimed, **options)
    loss = problem.expected_loss(claimed, **options)
    risk = problem.excess_risk(claimed, **options, truth=truth, test_moment=moment)
    for k, (p, theta) in enumerate(paths(X, y, laws, lr, start, momentum)):
        np.testing.assert_allclose(moments.mean[k], p @ theta, rtol=1e-10, atol=1e-10)
        second = np.einsum("p,pi,pj->ij", p, theta, theta)
        np.testing.assert_allclose(moments.second_moment[k], second, rtol=1e-10, atol=1e-10)
        losses = 0.5 * ((theta @ X.T - y) ** 2).mean(1)
        np.testing.assert_allclose(loss[k], p @ losses, rtol=1e-10, atol=1e-10)
        away = theta - truth
        np.testing.assert_allclose(risk[k], 0.5 * p @ np.einsum("pi,ij,pj->p", away, moment, away), rtol=1e-10)


@cache
def drawn(law, n):
    return outcomes(law, n)


def kronecker(X, y, law, lr, momentum=0.0):
    """T and c of vec P ← T·vec P + c, P the second moment of (e, v), summed over every outcome of the weights."""
    n, d = X.shape
    residuals = X @ np.linalg.lstsq(X, y)[0] - y
    T, c, eye = 0.0, 0.0, np.eye(d)
    for p, w in drawn(law, n):
        H, g = X.T @ (w[:, None] * X) / n, X.T @ (w * residuals) / n
        A = np.block([[eye - lr * H, -lr * momentum * eye], [H, momentum * eye]])
        b = np.concatenate([-lr * g, g])
        T, c = T + p * np.kron(A, A), c + p * np.kron(b, b)
    return T, c


def radius(T):
    return np.abs(np.linalg.eigvals(T)).max()


@pytest.mark.parametrize("momentum", MOMENTUM)
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize(("law", "n"), FINITE, ids=repr)
def test_every_path(law, n, rank, momentum):
    X, y = data(n, rank)
    check_against_every_path(law, [drawn(law, n)] * 3, X, y, momentum=momentum)


@pytest.mark.parametrize("momentum", MOMENTUM)
@pytest.mark.parametrize(("law", "n"), [pair for pair in NOISY if hasattr(pair[0], "b")], ids=repr)
def test_every_path_notices_wrong_moments(law, n, momentum):
    """Negative control: 2% more α, or β by 2% of 1/b, and the same comparison fails."""
    X, y = data(n)
    right = law.moments(n)
    check_against_every_path(right, [drawn(law, n)] * 3, X, y, momentum=momentum)
    for wrong in (Moments(right.alpha * 1.02, right.beta), Moments(right.alpha, right.beta + 0.02 / law.b)):
        with pytest.raises(AssertionError, match="Mismatched"):
            check_against_every_path(wrong, [drawn(law, n)] * 3, X, y, momentum=momentum)


def test_every_path_of_a_schedule():
    X, y = data(4)
    laws = [MiniBatch(2), Bernoulli(1), Scheduled(lambda step: MiniBatch(step or 1))]
    schedule = Scheduled(lambda step: laws[step])
    steps = [outcomes(law, 4) for law in (MiniBatch(2), Bernoulli(1), MiniBatch(2))]
    check_against_every_path(schedule, steps, X, y, momentum=0.5)
    with pytest.raises(AssertionError, match="Mismatched"):  # as step 0 throughout
        check_against_every_path(schedule.moments(4), steps, X, y, momentum=0.5)


@pytest.mark.parametrize("momentum", MOMENTUM)
def test_the_step_is_that_of_torch(momentum):
    X, y = data(5)
    theta = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = torch.optim.SGD([theta], lr=0.3, momentum=momentum)
    mean = LeastSquares(X, y).moments_of_parameters(Fisher(2), lr=0.3, steps=6, start=[1, -2], momentum=momentum).mean
    for k in range(7):
        np.testing.assert_allclose(mean[k], theta.detach().numpy(), rtol=1e-12)
        optimizer.zero_grad()
        (0.5 * (torch.tensor(X) @ theta - torch.tensor(y)) ** 2).mean().backward()
        optimizer.step()


def test_laws_of_equal_moments_are_one():
    X, y = data(30, d=3, rank=3)
    options = {"lr": 0.1, "steps": 40, "start": np.ones(3), "momentum": 0.5}
    same = [MiniBatch(4, replacement=True), Cov(4), BayesianBootstrap(4), Injected(Rademacher(), 4, centred=True)]
    curves = [LeastSquares(X, y).expected_loss(law, **options) for law in same]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-13)
    assert np.array_equal(
        *(LeastSquares(X, y).expected_loss(law, **options) for law in (Fisher(4), Poisson(4))),
    )
    fisher = LeastSquares(X, y).expected_loss(Fisher(4), **options)
    assert np.all(fisher[1:] > curves[0][1:])  # β = 0 instead of −1/b adds noise along the mean gradient


def test_outside_the_range_nothing_moves():
    X, y = data(5, rank=1)
    problem = LeastSquares(X, y)
    assert (problem.rank, problem.d) == (1, 2)
    across = np.linalg.svd(X)[2][1]
    moments = problem.moments_of_parameters(Bernoulli(2), lr=0.2, steps=50, start=[3.0, 1.0])
    np.testing.assert_allclose(moments.mean @ across, np.array([3.0, 1.0]) @ across, rtol=1e-12)
    assert np.abs(moments.covariance @ across).max() < 1e-12
    np.testing.assert_allclose(problem.solution, np.linalg.lstsq(X, y)[0], rtol=1e-12)
    stationary = problem.stationary_covariance(Bernoulli(2), lr=0.2)
    assert np.abs(stationary @ across).max() < 1e-12
    # one parameter along the range is the same problem
    along = np.linalg.svd(X)[2][0]
    line = LeastSquares((X @ along)[:, None], y)
    np.testing.assert_allclose(along @ stationary @ along, line.stationary_covariance(Bernoulli(2), lr=0.2)[0, 0])
    assert line.stable_lr(Bernoulli(2)) == pytest.approx(problem.stable_lr(Bernoulli(2)), rel=1e-12)


def test_one_solution_for_all_examples_without_noise_at_it():
    """Interpolation: the noise vanishes at θ*, where SGD stays or contracts to."""
    X, _ = data(5)
    problem = LeastSquares(X, X @ [2.0, -1.0])
    assert problem.minimum < 1e-28
    lr = 0.5 * problem.stable_lr(MiniBatch(1))
    assert np.abs(problem.stationary_covariance(MiniBatch(1), lr=lr)).max() < 1e-28
    assert problem.expected_loss(MiniBatch(1), lr=lr, steps=600, start=[0.0, 0.0])[-1] < 1e-20


@pytest.mark.parametrize("momentum", MOMENTUM)
@pytest.mark.parametrize(("law", "n"), NOISY, ids=repr)
def test_stationary_covariance(law, n, momentum):
    X, y = data(n)
    problem = LeastSquares(X, y)
    lr = 0.6 * problem.stable_lr(law, momentum=momentum)
    stationary = problem.stationary_covariance(law, lr=lr, momentum=momentum)
    T, c = kronecker(X, y, law, lr, momentum)
    dense = np.linalg.solve(np.eye(len(T)) - T, c).reshape(4, 4)[:2, :2]
    np.testing.assert_allclose(stationary, dense, rtol=1e-8, atol=1e-11)
    late = problem.moments_of_parameters(law, lr=lr, steps=1000, start=[1.0, -2.0], momentum=momentum)
    np.testing.assert_allclose(late.covariance[-1], stationary, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(late.mean[-1], problem.solution, rtol=1e-8)


def test_a_lyapunov_equation_without_the_multiplicative_term_is_wrong():
    X, y = data(5)
    problem, law = LeastSquares(X, y), MiniBatch(1)
    lr = 0.5 * problem.stable_lr(law)
    moments, residuals = law.moments(5), X @ problem.solution - y
    A = np.eye(2) - lr * problem.hessian
    constant = lr**2 * moments.alpha / 25 * (X.T * residuals**2) @ X
    additive = solve_discrete_lyapunov(A, constant)
    exact = problem.stationary_covariance(law, lr=lr)
    np.testing.assert_allclose(A @ additive @ A + constant, additive, rtol=1e-12)  # SciPy solved what it was given
    assert np.trace(additive) < 0.8 * np.trace(exact)


@pytest.mark.parametrize("momentum", MOMENTUM)
@pytest.mark.parametrize("law", [MiniBatch(2), Bernoulli(3), Fisher(2), FullBatch()], ids=repr)
def test_one_parameter(law, momentum):
    X, y = data(6, d=1, rank=1)
    x, n, moments = X[:, 0], 6, law.moments(6)
    problem = LeastSquares(X, y)
    h, fourth = (x**2).mean(), moments.alpha / n * (x**4).mean()
    limit = 2 * (1 - momentum) * h / ((1 - momentum) / (1 + momentum) * h**2 + moments.beta * h**2 + fourth)
    assert problem.stable_lr(law, momentum=momentum) == pytest.approx(limit, rel=1e-12)
    lr = 0.7 * limit
    residuals = x * problem.solution - y
    source = moments.alpha / n * (x**2 * residuals**2).mean()
    gain = 2 * (1 - momentum) * h / lr - (1 - momentum) / (1 + momentum) * h**2
    expected = source / (gain - moments.beta * h**2 - fourth)
    stationary = problem.stationary_covariance(law, lr=lr, momentum=momentum)
    np.testing.assert_allclose(stationary, [[expected]], rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("momentum", [*MOMENTUM, 0.97])
@pytest.mark.parametrize(("law", "n"), FINITE, ids=repr)
def test_stable_lr(law, n, momentum):
    """The spectral radius of the second moments of (e, v) is 1 there, below 1 under it and above 1 over it."""
    X, y = data(n)
    limit = LeastSquares(X, y).stable_lr(law, momentum=momentum)
    # without noise and at the limit of the mean the matrix has a defective double eigenvalue: half the digits
    factors = [1, 0.999, 1.001, 0.05, 0.35, 0.65, 0.95]
    at, below, above, *further = (radius(kronecker(X, y, law, limit * factor, momentum)[0]) for factor in factors)
    assert at == pytest.approx(1, abs=1e-7)
    assert below < 1 - 1e-6
    assert above > 1 + 1e-6
    assert max(further) < 1  # no gap below
    mean = 2 * (1 + momentum) / np.linalg.eigvalsh(X.T @ X / n).max()
    assert limit <= mean * (1 + 1e-12)
    assert LeastSquares(X, y).stable_lr(FullBatch(), momentum=momentum) == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("momentum", MOMENTUM)
def test_the_recursion_settles_below_the_limit_and_grows_above(momentum):
    X, y = data(20, d=4, rank=4)
    problem, law = LeastSquares(X, y), Fisher(2)
    limit = problem.stable_lr(law, momentum=momentum)
    run = {"steps": 2500, "start": np.ones(4), "momentum": momentum}
    settled = problem.expected_loss(law, lr=0.97 * limit, **run)
    stationary = problem.stationary_covariance(law, lr=0.97 * limit, momentum=momentum)
    final = problem.minimum + 0.5 * np.trace(problem.hessian @ stationary)
    assert settled[-1] == pytest.approx(final, rel=1e-6)
    grows = problem.expected_loss(law, lr=1.03 * limit, **run)
    assert grows[-1] > 2 * grows[-500] > 4 * grows[-1000] > 0


def test_stable_lr_of_mini_batches_is_the_published_one():
    """Mulayoff and Michaeli: 2/λ_max(C†D), C = ½(H⊗I + I⊗H), D = (1−p)·H⊗H + p·mean(H_i⊗H_i), p = (n−b)/(b(n−1))."""
    X, y = data(9, d=3, rank=3)
    n, limits = 9, []
    H, eye = X.T @ X / n, np.eye(3)
    fourth = np.mean([np.kron(np.outer(x, x), np.outer(x, x)) for x in X], axis=0)
    C = 0.5 * (np.kron(H, eye) + np.kron(eye, H))
    for b in range(1, n + 1):
        p = (n - b) / (b * (n - 1))
        D = (1 - p) * np.kron(H, H) + p * fourth
        published = 2 / np.linalg.eigvals(np.linalg.pinv(C) @ D).real.max()
        limits.append(LeastSquares(X, y).stable_lr(MiniBatch(b)))
        assert limits[-1] == pytest.approx(published, rel=1e-10)
    assert limits == sorted(limits)


@pytest.mark.parametrize("law", [MiniBatch(1), Bernoulli(3), Fisher(2), FullBatch()], ids=repr)
def test_the_lower_bound_of_stable_lr(law):
    X, y = data(9, d=3, rank=3)
    moments = law.moments(9)
    largest, norms = np.linalg.eigvalsh(X.T @ X / 9).max(), (X**2).sum(1)
    bound = 2 / ((1 + moments.beta) * largest + moments.alpha / 9 * norms.max())
    assert bound <= LeastSquares(X, y).stable_lr(law) * (1 + 1e-12)


@pytest.mark.parametrize("momentum", MOMENTUM)
@pytest.mark.parametrize("rank", [2, 9, 12])
def test_the_iterative_methods_agree_with_the_dense_ones(monkeypatch, rank, momentum):
    X, y = data(25, d=12, rank=rank)
    problem, law = LeastSquares(X, y), MiniBatch(2)
    lr = 0.8 * problem.stable_lr(law, momentum=momentum)
    options = {"lr": lr, "momentum": momentum}
    limit, stationary = problem.stable_lr(law, momentum=momentum), problem.stationary_covariance(law, **options)
    monkeypatch.setattr(pairs, "DENSE", 0)
    monkeypatch.setattr(pairs.linalg, "eigh", None)
    assert problem.stable_lr(law, momentum=momentum) == pytest.approx(limit, rel=1e-10)
    np.testing.assert_allclose(problem.stationary_covariance(law, **options), stationary, rtol=1e-7, atol=1e-10)
    monkeypatch.setattr(pairs.iterative, "cg", lambda *_, **__: (np.zeros(1), 1))
    with pytest.raises(ValueError, match=r"no convergence at lr = .* use a smaller lr"):
        problem.stationary_covariance(law, **options)


def test_many_examples_are_taken_in_parts(monkeypatch):
    X, y = data(25, d=3, rank=3)
    whole = LeastSquares(X, y).stable_lr(Cov(2))
    monkeypatch.setattr(pairs, "_ROWS", 4)
    assert LeastSquares(X, y).stable_lr(Cov(2)) == pytest.approx(whole, rel=1e-12)


def fourth_moment_limit(X, b):
    """Step size at which E‖e‖⁴ stops being bounded under Fisher(b): Gauss–Hermite integration is exact, of degree 4."""
    n, d = X.shape
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    H = [
        (np.prod(weights[list(at)]), X.T @ ((1 + math.sqrt(n / b) * nodes[list(at)])[:, None] * X) / n)
        for at in product(range(3), repeat=n)
    ]

    def fourth(lr):
        total = 0.0
        for p, h in H:
            twice = np.kron(np.eye(d) - lr * h, np.eye(d) - lr * h)
            total = total + p * np.kron(twice, twice)
        return radius(total)

    low, high = 0.0, 2 / np.linalg.eigvalsh(X.T @ X / n).max()
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if fourth(middle) < 1 else (low, middle)
    return low


def test_simulation():
    """800,000 runs of Gaussian weights at half the limit of the fourth moments, by which squares have a variance.

    Loss, mean and covariance after 4 steps (6 numbers) lie within 4.5 standard errors: false alarms have the
    probability 4.1e-5 at most. Negative control: with 2% more variance of the weights, the variances are off by 12
    standard errors, which is noticed with a probability above 1 − 1e-13.
    """
    X, y = data(4)
    runs, steps, law, start = 800_000, 4, Fisher(8), np.array([1.0, -2.0])
    problem, lr = LeastSquares(X, y), 0.5 * fourth_moment_limit(X, law.b)
    assert 0.1 < lr < 0.5 * problem.stable_lr(law)
    many = Fisher(law.b * runs)  # over the examples of all runs: independent, with the same variance n/b
    assert many.moments(4 * runs) == law.moments(4)
    theta = np.tile(start, (runs, 1))
    for step in range(steps):
        w = many.sample(4 * runs, generator(seed=0, step=step)).value.reshape(runs, 4)
        theta -= lr * (w * (theta @ X.T - y)) @ X / 4

    def scores(claimed):
        options = {"lr": lr, "steps": steps, "start": start}
        moments = problem.moments_of_parameters(claimed, **options)
        away, covariance = theta - moments.mean[-1], moments.covariance[-1]
        losses = 0.5 * ((theta @ X.T - y) ** 2).mean(1) - problem.expected_loss(claimed, **options)[-1]
        products = [away[:, i] * away[:, j] - covariance[i, j] for i, j in ((0, 0), (0, 1), (1, 1))]
        seen = np.column_stack([losses, away, *products])
        return np.abs(seen.mean(0)) / (seen.std(0) / math.sqrt(runs))

    assert scores(law).max() < 4.5
    assert scores(Moments(law.moments(4).alpha * 1.02, 0.0))[[3, 5]].max() > 4.5


def test_growth_beyond_all_numbers():
    X, y = data(5)
    options = {"lr": 100.0, "steps": 300, "start": [1.0, 1.0]}
    problem = LeastSquares(X, y)
    loss = problem.expected_loss(MiniBatch(2), **options)
    assert np.isfinite(loss[:20]).all()
    assert np.isinf(loss[-20:]).all()
    assert not np.isnan(loss).any()
    assert not np.isfinite(problem.moments_of_parameters(MiniBatch(2), **options).covariance[-1]).any()
    risk = problem.excess_risk(MiniBatch(2), **options, truth=[0, 0], test_moment=np.eye(2))
    assert np.isinf(risk[-1])


@pytest.mark.parametrize(
    ("law", "error", "message"),
    [
        (Reshuffled(2), TypeError, r"Reshuffled\(b=2\) depend on each other.*use MiniBatch\(b\)"),
        (Anticorrelated(Fisher(2)), TypeError, "depend on each other"),
        (Scheduled(lambda step: Reshuffled(2) if step else Fisher(2)), TypeError, "depend on each other"),
        (Scheduled(lambda step: None if step else Fisher(2)), TypeError, "law must be a law such as"),
        (Injected(StudentT(1.5, scale="iqr"), 2), ValueError, "no variance.*use a law of finite variance"),
        (Injected(StudentT(1.5, scale="iqr"), 2, centred=True), ValueError, "no variance"),
        (Moments(1.0, -0.25), ValueError, r"no 5 weights have .*: use moments with α ≥ 0 and α \+ n·β ≥ 0"),
        (Moments(-1.0, 1.0), ValueError, "α ≥ 0"),
        (Moments(math.nan, 0.0), ValueError, "no variance"),
        (Moments(1.0, math.nan), ValueError, "no 5 weights"),
        ("sgd", TypeError, r"law must be a law such as Fisher\(20\) or its Moments, not 'sgd'"),
        (MiniBatch(6), ValueError, "cannot be drawn from n = 5"),
    ],
)
def test_refused_laws(law, error, message):
    problem = LeastSquares(*data(5))
    with pytest.raises(error, match=message):
        problem.expected_loss(law, lr=0.1, steps=2, start=[0, 0])
    if not isinstance(law, Scheduled):
        for call in (problem.stable_lr, lambda law: problem.stationary_covariance(law, lr=0.1)):
            with pytest.raises(error, match=message):
                call(law)


def test_a_schedule_has_no_stationary_state():
    problem = LeastSquares(*data(5))
    with pytest.raises(TypeError, match=r"changes with the step: pass the law of one step"):
        problem.stable_lr(Scheduled(lambda _: Fisher(2)))
    with pytest.raises(TypeError, match=r"changes with the step"):
        problem.stationary_covariance(Scheduled(lambda _: Fisher(2)), lr=0.1)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"lr": 0.0}, ValueError, "lr must be positive"),
        ({"lr": "fast"}, TypeError, "lr must be a number"),
        ({"steps": 0}, ValueError, "steps must be at least 1"),
        ({"start": [0.0]}, ValueError, "start must be 2 finite numbers"),
        ({"start": [0.0, math.nan]}, ValueError, "start must be 2 finite numbers"),
        ({"momentum": 1.0}, ValueError, "momentum must be at least 0 and below 1, not 1.0"),
        ({"momentum": True}, TypeError, "momentum must be a number"),
        ({"truth": [0.0]}, ValueError, "truth must be 2 finite numbers"),
        ({"test_moment": np.eye(3)}, ValueError, r"test_moment must be of shape \(d, d\) = \(2, 2\), not \(3, 3\)"),
    ],
)
def test_refused_arguments(changed, error, message):
    good = {"lr": 0.1, "steps": 2, "start": [0, 0], "truth": [0, 0], "test_moment": np.eye(2), "momentum": 0.0}
    problem = LeastSquares(*data(5))
    assert problem.excess_risk(Fisher(2), **good).shape == (3,)
    with pytest.raises(error, match=message):
        problem.excess_risk(Fisher(2), **{**good, **changed})


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], r"X must be of shape \(n, d\), not \(2,\)"),
        (np.zeros((0, 2)), [], "X must be of shape"),
        (np.ones((3, 2)), np.ones((3, 1)), r"y must be of shape \(n,\) = \(3,\), not \(3, 1\)"),
        ([[1.0], [math.nan]], [0.0, 0.0], "must be finite"),
        (np.zeros((3, 2)), np.ones(3), "X is zero"),
    ],
)
def test_refused_data(X, y, message):
    with pytest.raises(ValueError, match=message):
        LeastSquares(X, y)


def test_a_step_too_large_has_no_stationary_state():
    problem = LeastSquares(*data(5))
    limit = problem.stable_lr(MiniBatch(1))
    with pytest.raises(ValueError, match=f"no stationary state at lr = .* below stable_lr, which is {limit:.6g} here"):
        problem.stationary_covariance(MiniBatch(1), lr=limit)
    with pytest.raises(ValueError, match="lr must be positive"):
        problem.stationary_covariance(MiniBatch(1), lr=-1.0)
    assert np.isfinite(problem.stationary_covariance(MiniBatch(1), lr=0.999 * limit)).all()
