"""reweight.watch: one logical batch for each optimizer step, or an error that says what to do."""

import pytest
import torch
from torch.nn import functional as F

from msgd import Reweighter
from msgd.noise import Cov, Fisher, FullBatch
from reweighting.brute_force import EXACT, SEED, batch, classified, classifier, far, gradient, weighted_sum, weights

LAW = Fisher(2)


class Loop:
    """A user's loop in which one reweighter is watched."""

    def __init__(self, law=LAW, *, optimizer=torch.optim.SGD, scaler=None, learn=False, wrap=None, **more):
        self.model = classifier()
        self.optimizer = optimizer(self.model.parameters(), lr=0.01)
        self.reweight = Reweighter(law, seed=SEED, **more)
        self.handle = self.reweight.watch(wrap(self.optimizer) if wrap else self.optimizer, scaler=scaler, learn=learn)

    def micro(self, n, **more):
        x, y = batch(n)
        F.cross_entropy(self.reweight.outputs(self.model(x), **more), y, reduction="sum").backward()

    def step(self, *sizes, **more):
        """One optimizer step after micro-batches of these sizes; returns its gradient."""
        for n in sizes:
            self.micro(n, **more)
        found = gradient(self.model)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return found


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_a_right_loop_is_silent(optimizer):
    loop = Loop(optimizer=optimizer)
    for n in (8, 8, 5):
        loop.step(n)
    loop = Loop(optimizer=optimizer, logical_batch=8)
    for sizes in ([8], [4, 4], [3, 3, 2]):
        loop.step(*sizes)
    loop.reweight.begin(5)
    loop.step(3, 2)
    losses = Loop()
    for _ in range(2):
        losses.reweight(losses.model(batch()[0]).square().sum(1)).backward()
        losses.optimizer.step()
    assert (loop.reweight.step, losses.reweight.step) == (4, 2)


def test_forgotten_accumulation():
    loop = Loop()
    with pytest.raises(ValueError, match=r"after 2 logical batches, 8 examples.* pass logical_batch=.*learn="):
        loop.step(4, 4)
    loop.step(4)  # the next step is looked at by itself


def test_a_step_in_the_middle():
    loop = Loop(logical_batch=8)
    with pytest.raises(ValueError, match=r"after 5 of 8 examples of a logical batch: before a shorter one call"):
        loop.step(5)


def test_a_batch_that_went_on_after_a_step_is_noticed_at_the_next():
    loop = Loop(logical_batch=8)
    loop.step(8)
    loop.micro(8)
    loop.micro(4)
    with pytest.raises(ValueError, match="after 4 of 8 examples"):
        loop.optimizer.step()
    loop.micro(4)  # ends that batch
    loop.optimizer.step()


def test_steps_without_weighted_examples():
    loop = Loop()
    x, y = batch()
    F.cross_entropy(loop.model(x), y).backward()
    with pytest.raises(ValueError, match="without weighted examples: call reweight"):
        loop.optimizer.step()
    loop.step(8)
    with torch.no_grad():
        loop.reweight.outputs(loop.model(x))
    with pytest.raises(ValueError, match="without weighted examples"):
        loop.optimizer.step()


def test_the_draws_of_given_steps_count_as_weighted():
    """SAM evaluates the same draw twice before the step; without any, the step would have no noise."""
    loop = Loop()
    for step in range(2):
        loop.step(8, 8, step=step)
    with pytest.raises(ValueError, match="without weighted examples"):
        loop.step()


def test_a_closure_computes_its_losses_within_the_step():
    model, (x, y) = classifier(), batch()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    reweight = Reweighter(LAW, seed=SEED)
    reweight.watch(optimizer)
    for step in range(2):

        def closure(step=step):
            optimizer.zero_grad()
            loss = F.cross_entropy(reweight.outputs(model(x), step=step), y)
            loss.backward()
            return loss

        optimizer.step(closure) if step else optimizer.step(closure=closure)
    assert reweight.step == 0


class Wrapper:
    """As Accelerate's and Lightning's optimizers: the real one is inside."""

    def __init__(self, optimizer):
        self.optimizer = optimizer


@pytest.mark.parametrize("wrap", [Wrapper, lambda optimizer: Wrapper(Wrapper(optimizer))])
def test_wrappers_are_looked_through(wrap):
    loop = Loop(wrap=wrap)
    loop.step(8)
    with pytest.raises(ValueError, match="2 logical batches"):
        loop.step(8, 8)


@pytest.mark.parametrize("wrong", [None, 3, Wrapper(None)])
def test_what_is_no_optimizer_is_refused(wrong):
    with pytest.raises(TypeError, match=r"watch needs an optimizer of torch\.optim"):
        Reweighter(LAW, seed=SEED).watch(wrong)


def scaled(loop, scaler, *, overflow=False, wrapped=None):
    x, y = batch()
    loss = F.cross_entropy(loop.reweight.outputs(loop.model(x)), y)
    scaler.scale(loss * (float("inf") if overflow else 1)).backward()
    scaler.step(wrapped or loop.optimizer)
    scaler.update()
    loop.optimizer.zero_grad()


@pytest.mark.parametrize("wrap", [None, Wrapper, lambda optimizer: Wrapper(Wrapper(optimizer))])
def test_a_scaler_that_skips_steps(wrap):
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loop = Loop(scaler=scaler)
    if wrap:
        loop.handle = loop.reweight.watch(wrap(loop.optimizer), scaler=scaler)
    before = gradient(loop.model)
    for overflow in (False, True, True, False):
        scaled(loop, scaler, overflow=overflow)
    assert scaler.get_scale() == 2.0  # it skipped two
    assert loop.reweight.step == 4
    assert torch.equal(gradient(loop.model), before)
    x, y = batch()
    F.cross_entropy(loop.model(x), y).mul(float("inf")).backward()
    scaler.scale(torch.ones(()))
    with pytest.raises(ValueError, match="without weighted examples"):  # also in a step that is skipped
        scaler.step(loop.optimizer)


def test_a_skipped_step_without_the_scaler_is_named_as_a_cause():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loop = Loop()
    scaled(loop, scaler, overflow=True)
    with pytest.raises(ValueError, match="pass scaler= for a GradScaler"):
        scaled(loop, scaler)


def test_remove():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loop = Loop(scaler=scaler, learn=True)
    assert "step" in vars(scaler)
    loop.handle.remove()
    loop.handle.remove()
    assert "step" not in vars(scaler)
    assert len(loop.optimizer._optimizer_step_pre_hooks) == 0
    assert loop.reweight.learning is False
    with pytest.warns(UserWarning, match="learn=True"):  # the guesses are back
        loop.step(4, 4)
    watched = Loop()
    other = torch.optim.SGD(watched.model.parameters(), lr=0.1)
    watched.reweight.watch(other)  # instead of the first
    assert len(watched.optimizer._optimizer_step_pre_hooks) == 0
    watched.step(4)
    watched.micro(4)
    with pytest.raises(ValueError, match="2 logical batches"):
        other.step()


def truth(loop, n, step, size):
    """The gradient of examples 0 … n−1 of a logical batch of this size, of which the rest has not come."""
    x, y = batch(n)
    w = weights(loop.reweight.law, size, step)[:n]
    return weighted_sum(loop.model, lambda m, i: F.cross_entropy(m(x[i : i + 1]), y[i : i + 1]), w)


def plain(loop, n):
    return classified(loop.model, FullBatch(), *batch(n)) * n


def test_learning_the_size_from_the_first_step():
    """The first step has no noise; then come logical batches of its size."""
    loop = Loop(Cov(2), learn=True)
    want = plain(loop, 8)
    assert far(loop.step(8), want) < EXACT
    for step in (1, 2):
        want = truth(loop, 8, step, 8)
        assert far(loop.step(8), want) < EXACT
    assert loop.reweight.step == 3


def test_learning_with_accumulation_and_a_short_last_step():
    loop = Loop(Cov(2), learn=True)
    loop.step(3, 3)
    assert loop.reweight.logical_batch == 6
    with pytest.warns(UserWarning, match=r"a step of 4 examples where 6 were expected .*begin\(size\)"):
        loop.step(4)
    assert (loop.reweight.logical_batch, loop.reweight.step, loop.reweight.offset) == (6, 2, 0)
    want = truth(loop, 6, 2, 6)
    assert far(loop.step(6), want) < EXACT  # as before, and the warning came once
    loop.step(4)
    loop.step(4)
    assert loop.reweight.logical_batch == 4  # a change that lasts is followed
    loop.reweight.begin(3)
    want = truth(loop, 3, loop.reweight.step, 3)
    assert far(loop.step(3), want) < EXACT


def test_examples_beyond_the_learned_size_have_no_noise():
    loop = Loop(Cov(2), learn=True)
    loop.step(4)
    want = truth(loop, 4, 1, 4) + plain(loop, 3)
    with pytest.warns(UserWarning, match="a step of 7 examples where 4 were expected"):
        found = loop.step(4, 3)
    assert far(found, want) < EXACT
    assert (loop.reweight.logical_batch, loop.reweight.step) == (7, 2)


@pytest.mark.parametrize("stop", range(1, 6))
def test_learning_goes_on_after_a_stop(stop):
    """Between two steps, also behind a short one, a run that was stopped continues bitwise."""
    sizes = [(4, 4), (4, 4), (3,), (4, 4), (3,), (4, 4)]
    straight = Loop(Cov(2), learn=True)
    with warned(True):
        for each in sizes:
            straight.step(*each)
    first = Loop(Cov(2), learn=True)
    with warned(stop > 2):
        for each in sizes[:stop]:
            first.step(*each)
    second = Loop(Cov(2), learn=True)
    second.model.load_state_dict(first.model.state_dict())
    second.reweight.load_state_dict(first.reweight.state_dict())
    with warned(stop < 5):
        for each in sizes[stop:]:
            second.step(*each)
    for p, q in zip(straight.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert straight.reweight.state_dict() == second.reweight.state_dict()


def warned(short):
    return pytest.warns(UserWarning, match="a step of 3") if short else torch.enable_grad()


def test_learning_goes_on_after_a_stop_in_the_middle_of_a_logical_batch():
    first = Loop(Cov(2), learn=True)
    first.step(8)
    first.micro(5)
    second = Loop(Cov(2), learn=True)
    second.reweight.load_state_dict(first.reweight.state_dict())
    second.step(3)  # eight together, as it was told
    assert (second.reweight.logical_batch, second.reweight.step) == (8, 2)
    strict = Loop(Cov(2), logical_batch=8)
    strict.micro(5)
    other = Loop(Cov(2), logical_batch=8)
    other.reweight.load_state_dict(strict.reweight.state_dict())
    other.step(3)


def test_learning_goes_on_through_skipped_steps():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    loop = Loop(Cov(2), scaler=scaler, learn=True)
    for overflow in (True, False, True):
        scaled(loop, scaler, overflow=overflow)
    assert (loop.reweight.logical_batch, loop.reweight.step, loop.reweight.offset) == (8, 3, 0)
    want = truth(loop, 8, 3, 8)
    assert far(loop.step(8), want) < EXACT


def test_learning_starts_from_a_known_size():
    loop = Loop(Cov(2), learn=True, logical_batch=8)
    want = truth(loop, 8, 0, 8)
    assert far(loop.step(8), want) < EXACT


def test_a_step_without_examples_teaches_nothing():
    loop = Loop(Cov(2), learn=True)
    loop.step(8)
    loop.step()
    want = truth(loop, 8, 1, 8)
    assert far(loop.step(8), want) < EXACT


def test_a_reweighter_that_is_replaced_takes_its_watch_along():
    """As in a notebook whose cell runs twice."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        reweight = Reweighter(Cov(2), seed=0)
        reweight.watch(optimizer)
        reweight.outputs(model(torch.ones(4, 3))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(optimizer._optimizer_step_pre_hooks) == 1


def closing(model, optimizer, reweight, steps):
    """LBFGS over some optimizer steps, each with the draw of ``steps`` (None: no step is given)."""
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    for step in steps:

        def closure(step=step):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(reweight.outputs(model(x), step=step), y)
            loss.backward()
            return loss

        optimizer.step(closure)


def test_draws_within_a_closure_and_over_epochs():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    reweight = Reweighter(Cov(2), seed=0)
    reweight.watch(optimizer)
    closing(model, optimizer, reweight, range(4))
    with pytest.raises(ValueError, match=r"draw of step 0, which an earlier optimizer step had.* all epochs"):
        closing(model, optimizer, reweight, [0, 1])  # the next epoch, counted from 0 again
    careless = Reweighter(Cov(2), seed=0)
    careless.watch(torch.optim.LBFGS(model.parameters(), max_iter=3))
    with pytest.raises(ValueError, match=r"draws in the closure of one optimizer step.*pass step="):
        closing(model, careless._watch._optimizer, careless, [None, None])


class SAM(torch.optim.Optimizer):
    """As it is found in many scripts: two passes, and the step of the optimizer within."""

    def __init__(self, parameters, base):
        super().__init__(parameters, {})
        self.base_optimizer = base

    def second_step(self):
        self.base_optimizer.step()


def test_the_two_passes_of_sam_with_different_draws():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    sam = SAM(model.parameters(), torch.optim.SGD(model.parameters(), lr=0.1))
    for step, error in ((0, None), (None, "both passes of SAM the same step=")):
        reweight = Reweighter(Cov(2), seed=0)
        reweight.watch(sam)
        for _ in range(2):
            sam.zero_grad()
            reweight.outputs(model(torch.ones(4, 3)), step=step).square().mean().backward()
        if error is None:
            sam.second_step()
        else:
            with pytest.raises(ValueError, match=error):
                sam.second_step()
