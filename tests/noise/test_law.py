"""What every law must do: the common tests, and the errors."""

import json

import numpy as np
import pytest
import torch
from numpy.random import default_rng

import cases
from cases import EVERY_LAW
from helpers.commands import python
from msgd.noise import (
    LAWS,
    SCALAR_LAWS,
    Bernoulli,
    Cov,
    Emulate,
    Fisher,
    FullBatch,
    Law,
    MiniBatch,
    Poisson,
    Sample,
    Subsampled,
    Weights,
)
from reference import dense

every_law = pytest.mark.parametrize("law", EVERY_LAW, ids=repr)


def test_every_law_is_tested():
    assert {type(law) for law in EVERY_LAW} == set(LAWS.values())


@every_law
def test_a_draw_is_a_function_of_seed_step_and_stream(law):
    first = law.draw(12, seed=3, step=7).dense()
    assert torch.equal(first, law.draw(12, seed=3, step=7).dense())
    if not isinstance(law, FullBatch):
        others = [law.draw(12, seed=s, step=t, stream=k).dense() for s, t, k in [(4, 7, 0), (3, 8, 0), (3, 7, 5)]]
        others += [law.draw(12, seed=3, step=t).dense() for t in range(8, 12)]
        assert any(not torch.equal(first, other) for other in others)


@every_law
def test_form_of_a_draw(law):
    for step in range(20):
        weights = law.draw(12, seed=0, step=step)
        assert weights.value.dtype == torch.float32
        assert weights.n == 12
        assert weights.dense().shape == (12,)
        if weights.index is not None:
            assert weights.index.dtype == torch.int64
            assert weights.index.shape == weights.value.shape
            assert (weights.index.diff() > 0).all()
            assert bool((weights.value != 0).all())  # a weight of zero is left out
            assert torch.equal(weights.dense()[weights.index], weights.value)


@every_law
def test_sample_is_pure(law):
    a, b = default_rng(5), default_rng(5)
    np.random.seed(1)
    first = dense(law.sample(12, a), 12)
    np.random.seed(2)
    torch.manual_seed(2)
    assert np.array_equal(first, dense(law.sample(12, b), 12))
    assert a.bit_generator.state == b.bit_generator.state


@every_law
def test_the_text_of_a_law_is_the_law(law):
    names = {cls.__name__: cls for cls in (*LAWS.values(), *SCALAR_LAWS.values())} | {"cases": cases}
    assert eval(repr(law), names) == law
    assert hash(law) == hash(eval(repr(law), names))


def test_the_same_draw_in_another_process():
    law = Subsampled(8, Emulate(3))
    code = f"from msgd.noise import *; print([{law!r}.draw(12, seed=9, step=t).dense().tolist() for t in range(3)])"
    theirs = python(code)
    assert theirs.returncode == 0, theirs.stderr
    assert json.loads(theirs.stdout) == [law.draw(12, seed=9, step=t).dense().tolist() for t in range(3)]


def test_sums_that_are_certain():
    """Degenerate variances are equalities: Σw = n surely for the coupled laws, to float64 rounding."""
    rng = default_rng(0)
    for law in (MiniBatch(3), MiniBatch(3, replacement=True), Cov(3), Emulate(3), Subsampled(8, Cov(3)), Cov(0.3e9)):
        for _ in range(50):
            assert dense(law.sample(12, rng), 12).sum() == pytest.approx(12, abs=1e-11)
    for law in (MiniBatch(12), Bernoulli(12), FullBatch(), Subsampled(12, FullBatch())):
        assert np.array_equal(dense(law.sample(12, rng), 12), np.ones(12))


def test_an_empty_draw():
    law = Bernoulli(1)
    empty = [w for w in (law.draw(3, seed=0, step=t) for t in range(50)) if len(w.value) == 0]
    assert empty  # probability (2/3)³ each
    assert torch.equal(empty[0].dense(), torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MiniBatch(0), "b must be at least 1"),
        (lambda: MiniBatch(2.5), "whole number"),
        (lambda: MiniBatch(True), "b must be a whole number, not True"),
        (lambda: MiniBatch(2, replacement="yes"), "True or False"),
        (lambda: Fisher(0.5), "b must be at least 1"),
        (lambda: Fisher(float("inf")), "finite"),
        (lambda: Fisher(float("nan")), "must be a number"),
        (lambda: Fisher("20"), "must be a number"),
        (lambda: Cov(-1), "b must be at least 1"),
        (lambda: Poisson(None), "must be a number"),
        (lambda: MiniBatch(13).draw(12, seed=0, step=0), "b ≤ n, replacement=True"),
        (lambda: MiniBatch(13).moments(12), "b ≤ n"),
        (lambda: Bernoulli(12.5).draw(12, seed=0, step=0), r"Poisson\(b\)"),
        (lambda: Bernoulli(13).moments(12), "b ≤ n"),
        (lambda: Subsampled(13, FullBatch()).moments(12), "B ≤ n"),
        (lambda: Subsampled(13, FullBatch()).draw(12, seed=0, step=0), "B ≤ n"),
        (lambda: Subsampled(5, MiniBatch(6)).moments(12), "b ≤ n"),
        (lambda: Subsampled(5, 20), "must be a law"),
        (lambda: Emulate(2, kind="sgd"), "cov, fisher, bernoulli"),
        (lambda: Emulate(2, population=0), "population must be at least 1"),
        (lambda: Emulate(2, population=10).moments(12), "population of 10"),
        (lambda: Fisher(2).moments(0), "n must be at least 1"),
        (lambda: Fisher(2).draw(0, seed=0, step=0), "n must be at least 1"),
        (lambda: Fisher(2).draw(12, seed=-1, step=0), "seed must lie in"),
        (lambda: Fisher(2).draw(12, seed=0, step=1.5), "step must be an integer"),
        (lambda: Fisher(2).draw(12, seed=True, step=1), "seed must be an integer"),
        (lambda: Fisher(2).draw(12, seed=0, step=0, stream=2**64), "stream must lie in"),
    ],
)
def test_bad_input_names_the_remedy(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("drawn", "given"),
    [
        (lambda n: torch.ones(n), "a Tensor"),
        (lambda n: np.ones(n), "a ndarray"),
        (lambda n: Sample(None, torch.ones(n)), "a Sample of tensors"),
        (lambda n: Sample(torch.arange(n), np.ones(n)), "a Sample of tensors"),
        (lambda _: None, "a NoneType"),
    ],
)
def test_a_law_of_ones_own_that_returns_no_arrays_is_told_what_to_return(drawn, given):
    class Own(Law):
        def moments(self, n):
            return FullBatch().moments(n)

        def sample(self, n, _):
            return drawn(n)

    message = f"Own.sample must return a noise.Sample of NumPy arrays, not {given}: write Sample\\(None, w\\)"
    with pytest.raises(TypeError, match=message):
        Own().draw(5, seed=0, step=0)


def test_emulating_a_larger_batch_is_said():
    for n in (3, 12):
        with pytest.warns(UserWarning, match="adds no noise to a batch"):
            assert torch.equal(Emulate(12).draw(n, seed=0, step=0).dense(), torch.ones(n))
        assert Emulate(12).moments(n).alpha == 0


def test_whole_numbers_are_written_alike():
    assert repr(Fisher(20.0)) == repr(Fisher(20)) == repr(Fisher(np.int64(20))) == "Fisher(b=20)"


def test_weights_move():
    weights = Weights(torch.tensor([1]), torch.tensor([2.0]), 3)
    assert weights.to("cpu") is weights
    wide = weights.to("cpu", torch.float64)
    assert wide.value.dtype == torch.float64
    assert wide.index is weights.index
    assert weights.to("meta").value.device.type == "meta"


def test_sparse_draws_cost_what_they_choose():
    """256 of 10⁹: nothing of length n may be made (8 GB would be)."""
    for law in (
        MiniBatch(256),
        MiniBatch(256, replacement=True),
        Bernoulli(256),
        Poisson(256),
        Subsampled(256, Fisher(9)),
    ):
        weights = law.draw(10**9, seed=0, step=0)
        assert 100 < len(weights.value) < 500
