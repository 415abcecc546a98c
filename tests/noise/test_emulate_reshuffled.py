"""A shuffled loader with batches of B that is as noisy as one with batches of b: sums, second moments, SGD."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from helpers.partitions import covariance_of_reshuffled, enumerated_covariance
from msgd import WeightedBatchSampler
from msgd.lab.recipes.build import build_part
from msgd.noise import (
    Emulate,
    EmulateReshuffled,
    Gamma,
    MiniBatch,
    Rademacher,
    Reshuffled,
    StudentT,
    Subsampled,
    generator,
)
from msgd.noise import emulate_reshuffled as module
from msgd.theory import LeastSquares
from reference import dense

SIZES = [(12, 6, 2), (30, 10, 5), (37, 10, 2), (1000, 250, 10), (40, 2, 1), (8, 8, 1), (9, 1, 1)]


def small_epoch(law, n, seed=1, epoch=0):
    """The weights of all steps of a small epoch, shape (steps, n)."""
    steps = law.B // law.b * (n // law.B)
    return np.array([law.at_step(n, seed=seed, step=epoch * steps + t).dense(n) for t in range(steps)])


@pytest.mark.parametrize(("n", "B", "b"), SIZES)
def test_the_sums_are_certain(n, B, b):
    """Each batch sums to n, and each example to the number of steps (times n by the number of examples kept)."""
    law = EmulateReshuffled(B, b)
    dropped = []
    for epoch in range(3):
        w = small_epoch(law, n, epoch=epoch)
        kept = w.any(0)
        assert kept.sum() == n // B * B
        dropped.append(tuple(np.flatnonzero(~kept)))
        np.testing.assert_allclose(w.sum(1), n, rtol=1e-11)
        np.testing.assert_allclose(w.sum(0)[kept], n / B * (B // b), rtol=1e-11)
    assert n % B == 0 or len(set(dropped)) > 1  # other examples are left out in other small epochs


@pytest.mark.parametrize(("n", "B", "b"), SIZES)
def test_each_of_the_epochs_is_a_partition(n, B, b):
    w = small_epoch(EmulateReshuffled(B, b), n)
    assert ((w != 0).sum(1) == B).all()
    for epoch in w.reshape(B // b, n // B, n):
        assert ((epoch != 0).sum(0) == w.any(0)).all()


def test_the_negative_control_of_the_sums():
    """Weights of `Emulate` on the same batches sum to n over a batch, and to anything over the epochs."""
    law = EmulateReshuffled(10, 2)
    w = small_epoch(law, 30)
    independent = np.zeros_like(w)
    for t, batch in enumerate(w != 0):
        independent[t, batch] = 3 * Emulate(2).at_step(10, seed=1, step=t).value
    np.testing.assert_allclose(independent.sum(1), 30, rtol=1e-11)
    assert np.abs(independent.sum(0) - 15).max() > 3


def steps_of(n, B, b):
    def draw(rng):
        drawn = module._draw(EmulateReshuffled(B, b), n, rng)
        return np.array([drawn.step(t).dense(n) for t in range(B // b * (n // B))])

    return draw


@pytest.mark.parametrize(("n", "B", "b"), [(4, 2, 1), (4, 4, 1), (4, 4, 2), (3, 3, 1), (5, 2, 1)])
def test_all_second_moments_are_those_of_reshuffled(n, B, b):
    """The sampler itself is enumerated; equal to rounding, for all pairs of steps and examples."""
    found = enumerated_covariance(n, B, b, steps_of(n, B, b))
    expected = covariance_of_reshuffled(n, b, B // b * (n // B))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_the_enumeration_notices_a_law_without_the_sum_over_the_epochs():
    """Negative control: normals centred over each batch alone leave different epochs uncorrelated, not at −1."""
    n, B, b = 4, 2, 1

    def draw(rng):
        orders = [rng.permutation(n).reshape(-1, B) for _ in range(B // b)]
        z = rng.standard_normal(B // b * n)
        w = np.zeros((B // b * (n // B), n))
        for t, batch in enumerate(np.concatenate(orders)):
            values = z.reshape(-1, B)[t]
            w[t, batch] = n / B * (1 + np.sqrt(Emulate(b).moments(B).alpha) * (values - values.mean()))
        return w

    error = np.abs(enumerated_covariance(n, B, b, draw) - covariance_of_reshuffled(n, b, 4))
    assert error.max() > 0.9
    assert np.abs(np.diag(error)).max() < 1e-12  # a single step has the right variance


@pytest.mark.parametrize(("n", "B", "b"), [(4, 2, 1), (12, 4, 2), (12, 6, 1), (10, 3, 1)])
def test_the_variance_is_exact_for_every_partition(n, B, b):
    """Sum of the variances over the normals: n·k·M²·(k − 1), whatever the partition, connected or not."""
    k, M = B // b, n // B

    class Given:
        def __init__(self, seed, normals):
            rng = generator(seed, 0)
            self.permutation, self.choice, self.normals = rng.permutation, rng.choice, normals

        def standard_normal(self, shape):
            return self.normals.reshape(shape)

    for seed in range(20):
        centre = steps_of(n, B, b)(Given(seed, np.zeros(k * M * B)))
        total = sum(((steps_of(n, B, b)(Given(seed, unit)) - centre) ** 2).sum() for unit in np.eye(k * M * B))
        assert total == pytest.approx(M * B * k * (k - 1) * (n / B) ** 2, rel=1e-11)


@pytest.mark.parametrize(("n", "B", "b"), [(12, 6, 2), (24, 4, 1), (30, 10, 5)])
def test_the_projection_against_a_dense_one(n, B, b):
    k, M = B // b, n // B
    rng = generator(5, 0)
    orders = [rng.permutation(n) for _ in range(k)]
    z = rng.standard_normal((k, n))
    constraints = np.zeros((n + k * M, k, n))
    for e in range(k):
        for i in range(n):
            constraints[i, e, i] = 1
            constraints[n + e * M + list(orders[e]).index(i) // B, e, i] = 1
    A = constraints.reshape(len(constraints), -1)
    projection = np.eye(k * n) - np.linalg.pinv(A) @ A
    y = (np.sqrt((k - 1) * k * n / round(np.trace(projection))) * projection @ z.ravel()).reshape(k, n)
    w = np.zeros((k * M, n))
    for t in range(k * M):
        batch = orders[t // M][t % M * B : (t % M + 1) * B]
        w[t, batch] = n / B * (1 + y[t // M, batch])
    np.testing.assert_allclose(steps_of(n, B, b)(generator(5, 0)), w, rtol=0, atol=1e-11)


@pytest.mark.parametrize("scalar_law", [Gamma(0.4), Rademacher(), StudentT(5)], ids=repr)
def test_other_distributions_have_the_same_sums_and_variance(scalar_law):
    """400 small epochs at a false-alarm rate below 10⁻⁴ each, with an error below 1% for each of them."""
    law, n, squares = EmulateReshuffled(20, 4, scalar_law), 60, []
    for epoch in range(400):
        w = small_epoch(law, n, epoch=epoch)
        np.testing.assert_allclose(w.sum(1), n, rtol=1e-10)
        np.testing.assert_allclose(w.sum(0), 15, rtol=1e-10)
        squares.append((w**2).mean())
    error = np.std(squares, ddof=1) / 20
    assert error < 0.02 * 15
    assert abs(np.mean(squares) - 15) < 3.891 * error  # E w² = n/b


def test_skewed_numbers_match_the_products_of_three_weights():
    """E v(e)²·v(e') within an example: k − 2 for normal numbers, and 0 for Gamma(4·b/B), as for shuffled batches.

    400 small epochs of 200 examples, within 5 standard errors, which are below 0.4: each fails for the other's value.
    """
    k, B, n = 10, 100, 200

    def products(law):
        found = []
        for epoch in range(400):
            v = small_epoch(law, n, epoch=epoch).reshape(k, n // B, n).sum(1) * B / n
            found.append((((v**2).sum(0) * v.sum(0) - (v**3).sum(0)) / (k * (k - 1))).mean())
        error = np.std(found, ddof=1) / np.sqrt(len(found))
        assert error < 0.4 / 5
        return np.mean(found), error

    normal, error = products(EmulateReshuffled(100, 10))
    assert abs(normal - (k - 2)) < 5 * error + (k - 2) / B  # centring over a batch takes away a part of 1/B
    skewed, error = products(EmulateReshuffled(100, 10, Gamma(0.4)))
    assert abs(skewed) < 5 * error + (k - 2) / B


def test_a_draw_depends_on_seed_and_step_alone(monkeypatch):
    law = EmulateReshuffled(6, 2)
    forward = [law.draw(13, seed=1, step=t).dense() for t in range(30)]
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    module._kept.clear()
    for step in [*reversed(range(30)), *range(0, 30, 7)]:
        assert torch.equal(law.draw(13, seed=1, step=step).dense(), forward[step])
        assert len(module._kept) <= 2
    module._kept.clear()
    assert torch.equal(law.draw(13, seed=1, step=17).dense(), forward[17])
    assert not torch.equal(law.draw(13, seed=2, step=0).dense(), forward[0])
    assert not torch.equal(law.draw(13, seed=1, step=0, stream=4).dense(), forward[0])
    assert not torch.equal(law.draw(13, seed=1, step=6).dense(), forward[0])  # the next small epoch


def test_a_draw_cannot_be_changed_by_its_user():
    law = EmulateReshuffled(6, 2)
    drawn = law.at_step(12, seed=1, step=3)
    before = drawn.value.copy()
    drawn.value[:] = 0
    drawn.index[:] = 0
    assert np.array_equal(law.at_step(12, seed=1, step=3).value, before)


def test_the_memory_of_the_draws_is_bounded(monkeypatch):
    law = EmulateReshuffled(6, 2)
    module._kept.clear()
    monkeypatch.setattr(module, "KEPT_BYTES", 5 * 16 * 36)  # five small epochs of 36 weights
    for seed in range(20):
        law.at_step(12, seed=seed, step=0)
    assert len(module._kept) == 5
    assert {key[2] for key in module._kept} == set(range(15, 20))  # the last used ones


def test_with_equal_sizes_it_is_reshuffled():
    for step in range(8):
        ours, theirs = (law.draw(12, seed=1, step=step).dense() for law in (EmulateReshuffled(3, 3), Reshuffled(3)))
        assert torch.equal(ours, theirs)


def test_one_step_is_the_first_of_an_epoch():
    law = EmulateReshuffled(6, 2)
    drawn = dense(law.sample(13, generator(4, 7)), 13)
    assert np.array_equal(drawn, steps_of(13, 6, 2)(generator(4, 7))[0])
    for n in (12, 13):
        assert law.moments(n) == MiniBatch(2).moments(n)
        ours, theirs = law.moments(n), Subsampled(6, Emulate(2)).moments(n)
        assert (ours.alpha, ours.beta) == pytest.approx((theirs.alpha, theirs.beta), rel=1e-12)


def test_a_sampler_loads_the_batch_of_each_step_and_resumes():
    law, data = EmulateReshuffled(6, 2), TensorDataset(torch.arange(20))

    def pass_over(sampler):
        loader = DataLoader(data, batch_sampler=sampler)
        return [(index.tolist(), weights.value.tolist()) for weights, (index,) in sampler.weighted(loader)]

    whole = pass_over(WeightedBatchSampler(law, 20, seed=3, steps=20))
    for step, (index, weights) in enumerate(whole):
        drawn = law.draw(20, seed=3, step=step)
        assert (index, weights) == (drawn.index.tolist(), drawn.value.tolist())
        assert len(index) == 6
    first = WeightedBatchSampler(law, 20, seed=3, steps=20)
    for _, _ in zip(range(7), first.weighted(DataLoader(data, batch_sampler=first)), strict=False):
        pass
    second = WeightedBatchSampler(law, 20, seed=3, steps=20)
    state = first.state_dict()
    second.load_state_dict(state)
    assert pass_over(second) == whole[state["step"] :]


def excess_loss(law, problem, X, y, *, trajectories, lr=0.05, steps=20, burn_in=10, epochs=30):
    """Mean excess loss of each trajectory, over whole epochs of 20 steps."""
    n, found = len(X), np.zeros(trajectories)
    theta = np.tile(problem.solution, (trajectories, 1))
    for step in range((burn_in + epochs) * steps):
        if step >= burn_in * steps:
            away = theta - problem.solution
            found += 0.5 * np.einsum("td,de,te->t", away, problem.hessian, away) / (epochs * steps)
        w = np.array([law.at_step(n, seed=seed, step=step).dense(n) for seed in range(trajectories)])
        theta = theta - lr * ((w * (theta @ X.T - y)) @ X) / n
    return found


def test_sgd_settles_where_reshuffled_does():
    """Least squares, n = 200, d = 5, lr = 0.05; 60 trajectories of 30 epochs each.

    The means lie within 8% of each other. The standard error of their difference is asserted to be below 2%, so that
    a law with the same mean is refused with a probability below 10⁻⁴. The negative control is SGD with independent
    steps, whose exact loss is more than three times as large and is found within 8%, too.
    """
    rng = generator(11, 0)
    X, y = rng.standard_normal((200, 5)), rng.standard_normal(200)
    problem = LeastSquares(X, y)
    ours, theirs, independent = (
        excess_loss(law, problem, X, y, trajectories=60)
        for law in (EmulateReshuffled(100, 10), Reshuffled(10), MiniBatch(10))
    )
    error = np.hypot(ours.std(ddof=1), theirs.std(ddof=1)) / np.sqrt(60)
    assert error < 0.02 * theirs.mean()
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.08)
    exact = 0.5 * np.trace(problem.hessian @ problem.stationary_covariance(MiniBatch(10), lr=0.05))
    assert independent.mean() == pytest.approx(exact, rel=0.08)
    assert exact > 3 * theirs.mean()


def test_a_recipe_names_it():
    table = {"law": "emulate-reshuffled", "B": 6}
    assert build_part("law", table, b=2, where="methods.x") == EmulateReshuffled(6, 2)
    table |= {"scalar_law": {"law": "gamma", "shape": 0.4}}
    assert build_part("law", table, b=2, where="methods.x") == EmulateReshuffled(6, 2, Gamma(0.4))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: EmulateReshuffled(100, 30), ValueError, "B = 100 is no multiple of b = 30.*divisors of B"),
        (lambda: EmulateReshuffled(10, 20), ValueError, "no multiple"),
        (lambda: EmulateReshuffled(0, 1), ValueError, "B must be at least 1"),
        (lambda: EmulateReshuffled(10, 2.5), TypeError, "b must be a whole number"),
        (lambda: EmulateReshuffled(20, 2, 0.4), TypeError, "must be a ScalarLaw"),
        (
            lambda: EmulateReshuffled(20, 2, StudentT(1.5, scale="iqr")),
            ValueError,
            "variance inf: use a scalar law of variance 1",
        ),
        (lambda: EmulateReshuffled(20, 2).moments(12), ValueError, "B ≤ n, and draw over the whole data set"),
        (lambda: EmulateReshuffled(20, 2).draw(12, seed=0, step=0), ValueError, "B ≤ n"),
        (lambda: EmulateReshuffled(6, 2).draw(12, seed=-1, step=0), ValueError, "seed must lie in"),
        (lambda: Subsampled(12, EmulateReshuffled(6, 2)), TypeError, "independent steps"),
        (lambda: LeastSquares([[1.0]] * 8, [0.0] * 8).stable_lr(EmulateReshuffled(4, 2)), TypeError, "depend on each"),
    ],
)
def test_bad_input_names_the_remedy(make, error, message):
    with pytest.raises(error, match=message):
        make()
