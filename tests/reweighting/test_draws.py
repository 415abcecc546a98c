"""Positions in the draws: which weights belong to the next examples, and what is refused without losing the place."""

import copy

import pytest
import torch
from torch import nn

from msgd.noise import Bernoulli, Cov, Fisher
from msgd.reweighting.draws import Draws, _look_at_parallel_modules
from msgd.reweighting.ranks import Ranks

LAW, SEED = Cov(2), 3


def draws(law=LAW, **more):
    return Draws(law, SEED, **more)


def dense(n, step, law=LAW):
    return law.draw(n, seed=SEED, step=step).dense()


def test_each_call_is_one_draw():
    stream = draws()
    for step, n in enumerate([5, 7, 1, 5]):
        found = stream._next([n])
        assert torch.equal(found.value, dense(n, step))
        assert (found.n, found.index) == (n, None)
    assert (stream.step, stream.offset) == (4, 0)


@pytest.mark.parametrize("sizes", [[8], [4, 4], [1, 7], [3, 3, 2], [1] * 8])
def test_micro_batches_share_a_draw(sizes):
    stream = draws(logical_batch=8)
    for step in range(2):
        parts = [stream._next([n]).value for n in sizes]
        assert torch.equal(torch.cat(parts), dense(8, step))
        assert (stream.step, stream.offset) == (step + 1, 0)
    assert not torch.equal(dense(8, 0), dense(8, 1))


def test_a_law_is_drawn_once_for_all_micro_batches():
    class Counted(Fisher):
        drawn = 0

        def draw(self, n, **more):
            Counted.drawn += 1
            return super().draw(n, **more)

    stream = draws(Counted(2), logical_batch=8)
    for n in (3, 3, 2, 8):
        stream._next([n])
    assert Counted.drawn == 2


def test_a_micro_batch_without_examples():
    """All its tokens belong to no example; the logical batch goes on."""
    stream = draws(logical_batch=8)
    parts = [stream._next([n]).value for n in (5, 0, 3)]
    assert torch.equal(torch.cat(parts), dense(8, 0))
    with pytest.raises(ValueError, match="no examples: the batch is empty"):
        draws()._next([0])


def test_a_given_step_and_offset():
    stream = draws(logical_batch=8)
    stream._next([3])
    assert torch.equal(stream._next([8], step=6).value, dense(8, 6))
    assert torch.equal(stream._next([3], step=6, offset=5).value, dense(8, 6)[5:])
    assert torch.equal(stream._next([5]).value, dense(8, 0)[3:])  # its own place is kept
    for arguments, message in (
        (([3], 6), "3 of 8 losses with step=6: pass offset="),
        (([3], None, 2), "offset goes with step"),
        (([3], 6, 6), "run past the logical batch of 8"),
        (([3], 6, -1), "run past the logical batch of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            stream._next(*arguments)
    assert (stream.step, stream.offset) == (1, 0)


def test_counts_since_the_last_optimizer_step():
    stream = draws(logical_batch=8)
    for n in (4, 4, 3):
        stream._next([n])
    assert (stream.examples_since_step, stream.batches_since_step, stream.given_since_step) == (11, 1, None)
    stream._next([8], step=0)
    assert (stream.examples_since_step, stream.given_since_step) == (11, 0)


def test_the_state_says_how_much_of_a_logical_batch_came():
    stream, other = draws(logical_batch=8), draws(logical_batch=8)
    for n in (8, 5):
        stream._next([n])
    other.load_state_dict(stream.state_dict())
    assert other.examples_since_step == 5
    assert torch.equal(other._next([3]).value, dense(8, 1)[5:])


def test_learning_gives_no_weights_to_what_does_not_fit():
    stream = draws()
    stream.learning = True
    assert torch.equal(stream._next([4]).value, torch.ones(4))  # no size is known
    stream.begin(4, step=1)
    assert torch.equal(stream._next([4]).value, dense(4, 1))
    assert torch.equal(stream._next([2]).value, torch.ones(2))  # more than a logical batch
    stream.batches_since_step = 0
    assert torch.equal(stream._next([3]).value, dense(4, 2)[:3])
    assert torch.equal(stream._next([2]).value, torch.ones(2))  # across its end
    assert torch.equal(stream._next([1]).value, dense(4, 2)[3:])


def test_a_copy_is_watched_by_nobody():
    stream = draws()
    stream.learning = True
    stream._next([4])
    other = copy.deepcopy(stream)
    assert (stream.learning, other.learning) == (True, False)
    assert torch.equal(other._next([4]).value, dense(4, 0))


@pytest.mark.parametrize("law", [Bernoulli(2), Fisher(2)])
def test_flush_of_laws_whose_weights_are_independent(law):
    stream = draws(law, logical_batch=8)
    assert torch.equal(stream._next([4]).value, dense(8, 0, law)[:4])
    assert stream.flush() == 2.0
    assert (stream.step, stream.offset) == (1, 0)


def test_several_ranks_of_one_batch():
    """Positions as with DistributedSampler, and each rank's weights at them."""
    for layout, positions in (("strided", [[0, 2, 4], [1, 3]]), ("blocked", [[0, 1, 2], [3, 4]])):
        for rank in range(2):
            stream = draws()
            stream._ranks = Ranks(rank, 2, layout)
            found = stream._next([3, 2])
            assert found.index.tolist() == positions[rank]
            assert torch.equal(found.value, dense(5, 0)[positions[rank]])


def test_equal_ranks_exchange_nothing():
    class Silent(Ranks):
        def all_gather(self, numbers):
            raise AssertionError(numbers)

    stream = draws(equal=True)
    stream._ranks = Silent(1, 2)
    assert stream._counts(3) == [3, 3]
    assert stream._counts_and_total(3, torch.tensor(4.0), 9.0) == ([3, 3], 9.0)
    other = draws()
    other._ranks = Silent(1, 2)
    with pytest.raises(AssertionError):
        other._counts(3)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ([[3.0, 2.0, 9.0], [3.0, 2.0, 8.0]], r"total differs between the ranks \(9.0, 8.0\): pass the sum of c_i over"),
        (
            [[3.0, 2.0, 9.0], [3.0, 1.0, 4.0]],
            "only some ranks passed sample_weight or total: pass it on all ranks or on none",
        ),
    ],
)
def test_totals_of_several_ranks(theirs, message):
    class Told(Ranks):
        def all_gather(self, numbers):
            assert numbers == theirs[0]
            return theirs

    stream = draws()
    stream._ranks = Told(0, 2)
    with pytest.raises(ValueError, match=message):
        stream._counts_and_total(3, torch.tensor(4.0), 9.0)


def test_sample_weights_of_several_ranks_may_be_0_on_some_but_not_on_all():
    class Told(Ranks):
        def all_gather(self, numbers):
            return [numbers, [3.0, 1.0, theirs]]

    stream, losses, zeros = draws(), torch.ones(3), torch.zeros(3)
    stream._ranks = Told(0, 2)
    stream._sum_sample_weight(zeros, losses, None)
    theirs = 4.0
    assert stream._counts_and_total(3, zeros.sum(), None) == ([3, 3], 4.0)
    theirs = 0.0
    with pytest.raises(ValueError, match="sample_weight is 0 for all examples of all ranks: leave out this batch"):
        stream._counts_and_total(3, zeros.sum(), None)


@pytest.mark.parametrize(("device", "looks"), [("cpu", 3), ("meta", 1)])
def test_sample_weights_on_a_device_are_looked_at_once(device, looks, monkeypatch):
    """Each look makes the host wait for the device."""
    seen, stream, c = [], draws(), torch.ones(3, device=device)
    monkeypatch.setattr("msgd.reweighting.draws.check_weights_add_up", lambda *given: seen.append(given))
    for _ in range(3):
        stream._sum_sample_weight(c, c, 3.0)
    assert len(seen) == looks


def test_a_module_that_averages_over_ranks_is_looked_for():
    with pytest.warns(UserWarning, match="if each process trains a model of its own, pass group=None"):
        _look_at_parallel_modules()

    class DeepSpeedEngine(nn.Module):
        pass

    engine = DeepSpeedEngine()
    _look_at_parallel_modules()
    assert engine.training


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Draws(3, 0), TypeError, "must be a law"),
        (lambda: Draws(LAW, -1), ValueError, "seed"),
        (lambda: Draws(LAW, 0, 1.5), TypeError, "logical_batch"),
        (lambda: Draws(LAW, 0, layout="rows"), ValueError, "layout must be"),
        (lambda: Draws(Bernoulli(5), 0, 4), ValueError, "b ≤ n"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
