"""A batch size that follows the learning rate."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, SequentialLR

from msgd import Reweighter
from msgd.noise import (
    Bernoulli,
    Emulate,
    Fisher,
    Injected,
    MiniBatch,
    Scheduled,
    StudentT,
    Subsampled,
    hold_ratio,
    learning_rates,
)


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)


def warm_then_cosine(optimizer):
    warm = LambdaLR(optimizer, lambda step: (step + 1) / 5)
    return SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, 20)], milestones=[5])


@pytest.mark.parametrize(
    "scheduler", [warm_then_cosine, lambda optimizer: OneCycleLR(optimizer, 0.3, total_steps=25)], ids=["warm", "one"]
)
def test_rates_are_those_that_training_sees(scheduler):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    follower, seen = scheduler(optimizer), []
    for _ in range(24):
        model(torch.ones(1, 2)).sum().backward()
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        follower.step()
    assert learning_rates(scheduler, lr=0.3, steps=24) == seen


def test_the_ratio_is_held():
    rates = learning_rates(warm_then_cosine, lr=0.3, steps=26)
    law = hold_ratio(Emulate(64), rates, lr=0.3, lowest=1)
    assert isinstance(law, Scheduled)
    for step, rate in enumerate(rates):
        b = law.law_of_step.b_of_step(step)
        assert b == max(1.0, 64 * rate / 0.3)
        if b > 1:
            assert rate / b == pytest.approx(0.3 / 64, rel=1e-12)
        theirs = Emulate(b).draw(256, seed=4, step=step).value
        assert torch.equal(law.draw(256, seed=4, step=step).value, theirs)
    assert min(law.law_of_step.b_of_step(step) for step in range(26)) == 1.0  # the end of the cosine


@pytest.mark.parametrize(
    ("law", "later"),
    [
        (Fisher(32), Fisher(4)),
        (Bernoulli(32), Bernoulli(4)),
        (Subsampled(64, Emulate(32)), Subsampled(64, Emulate(4))),
        (Injected(StudentT(5), 32, centred=True), Injected(StudentT(5), 4, centred=True)),
    ],
    ids=repr,
)
def test_other_laws(law, later):
    schedule = hold_ratio(law, lambda step: 0.5**step, lr=1)
    assert schedule.law_of_step(0) == law
    assert schedule.law_of_step(3) == later
    assert schedule.law_of_step.b_of_step(3) == 4
    assert repr(schedule) == f"Scheduled(msgd.noise.schedule.HeldRatio({law!r}, lr=1, lowest=2))"
    assert torch.equal(schedule.draw(64, seed=0, step=3).value, later.draw(64, seed=0, step=3).value)


@pytest.mark.parametrize(
    ("b", "lowest", "floor"), [(64, None, 4.0), (64, 1, 1.0), (64, 10.5, 10.5), (64, 64, 64.0), (8, None, 1.0)]
)
def test_b_never_falls_below_the_lowest(b, lowest, floor):
    rates = [0.0, 0.003, 0.1, 0.2, 0.1, 1e-9, 0.0]
    law = hold_ratio(Subsampled(128, Emulate(b)), rates, lr=0.2, lowest=lowest)
    found = [law.law_of_step.b_of_step(step) for step in range(len(rates))]
    assert found == [max(floor, b * rate / 0.2) for rate in rates]
    assert found[0] == found[-1] == floor
    drawn = law.draw(500, seed=4, step=0).value
    assert torch.equal(drawn, Subsampled(128, Emulate(floor)).draw(500, seed=4, step=0).value)


def test_the_weights_are_at_most_four_times_as_spread_by_default():
    B, law = 1024, Emulate(64)
    schedule = hold_ratio(law, lambda step: 0.4 * step / 100, lr=0.4)
    spread = [math.sqrt(schedule.law_of_step(step).moments(B).alpha) for step in range(101)]
    assert max(spread) == spread[0] < 4 * math.sqrt(B / law.b)
    assert spread[0] > 0.99 * 4 * math.sqrt(B / law.b)
    assert spread[-1] == math.sqrt(law.moments(B).alpha)
    once = hold_ratio(law, lambda step: 0.4 * step / 100, lr=0.4, lowest=1)  # negative control: no floor but 1
    assert math.sqrt(once.law_of_step(0).moments(B).alpha) == pytest.approx(32, rel=1e-3)


def test_states_tell_floors_apart():
    def state(**options):
        return Reweighter(hold_ratio(Emulate(64), [0.4] * 3, lr=0.4, **options), seed=0).state_dict()

    def load(found, **options):
        Reweighter(hold_ratio(Emulate(64), [0.4] * 3, lr=0.4, **options), seed=0).load_state_dict(found)

    load(state())
    with pytest.raises(ValueError, match="this state is of law Scheduled"):
        load(state(), lowest=1)
    before = state(lowest=1)  # the text of a law before there was a floor
    assert before["law"] == f"Scheduled(msgd.noise.schedule.HeldRatio({Emulate(64)!r}, lr=0.4))"
    load(before, lowest=1)


def test_resumed_training_has_the_noise_of_its_step():
    def draws(reweight, count):
        return [reweight.weights(64).value for _ in range(count)]

    law = hold_ratio(Emulate(16), [0.4] * 3 + [0.1] * 3, lr=0.4)
    first = Reweighter(law, seed=0)
    whole = draws(Reweighter(law, seed=0), 6)
    head = draws(first, 2)
    second = Reweighter(law, seed=0)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(head + draws(second, 4), whole, strict=True))
    with pytest.raises(ValueError, match="this state is of law Scheduled"):
        Reweighter(hold_ratio(Emulate(8), [0.4] * 6, lr=0.4), seed=0).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hold_ratio(8, [0.1], lr=0.1), TypeError, "law must be a law"),
        (lambda: hold_ratio(MiniBatch(8), [0.1], lr=0.1), TypeError, "cannot follow the learning rate"),
        (lambda: hold_ratio(Emulate(4), warm_then_cosine(optimizer()), lr=1), TypeError, "noise.learning_rates"),
        (lambda: hold_ratio(Emulate(4), [0.1], lr=-1), ValueError, "lr must be positive"),
        (lambda: hold_ratio(Emulate(4), [1], lr=1, lowest=5), ValueError, "between 1 and the b of the law, which is 4"),
        (lambda: hold_ratio(Emulate(4), [1], lr=1, lowest=0.5), ValueError, "lowest must lie between 1 and"),
        (lambda: hold_ratio(Emulate(4), [1], lr=1, lowest=math.nan), ValueError, "lowest must lie between 1 and"),
        (lambda: hold_ratio(Emulate(4), [1], lr=1, lowest="b"), TypeError, "lowest must be a number"),
        (lambda: hold_ratio(Emulate(4), [], lr=1), ValueError, "step 0 lies beyond the 0 learning"),
        (lambda: hold_ratio(Emulate(4), [1], lr=1).draw(8, seed=0, step=1), ValueError, "step 1 lies beyond the 1 le"),
        (lambda: hold_ratio(Emulate(4), [math.nan], lr=1), ValueError, "the learning rate of step 0 is nan"),
        (lambda: hold_ratio(Emulate(4), lambda _: -0.1, lr=1), ValueError, "the learning rate of step 0 is -0.1"),
        (lambda: learning_rates(warm_then_cosine, lr=0.1, steps=0), ValueError, "steps must be at least 1"),
    ],
)
def test_bad_input_names_the_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()
