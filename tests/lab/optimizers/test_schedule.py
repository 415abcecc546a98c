"""The factor of the learning rate in each step."""

import math

import pytest
import torch

from msgd.lab.errors import UserError
from msgd.lab.optimizers.schedule import Schedule, schedule_of


def factors(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(step, steps) for step in range(steps)]


def rates_of_torch(make, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_closed_forms():
    assert factors(Schedule(), 3) == [1.0, 1.0, 1.0]
    assert factors(Schedule(warmup=4), 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(Schedule("linear", final=0.2, warmup=2), 6) == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.6, 0.4])
    assert factors(Schedule("cosine", warmup=1), 5) == pytest.approx([1, 1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])
    assert factors(Schedule("cosine", final=0.5), 4)[2] == pytest.approx(0.75)
    assert factors(Schedule("drops", drops=(2, 3), drop=0.5), 5) == [1.0, 1.0, 0.5, 0.25, 0.25]
    assert factors(Schedule("drops", drops=(1, 3), drop=0.5, warmup=2), 4) == [0.5, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_and_linear_are_those_of_torch(final):
    steps = 20
    cosine = rates_of_torch(
        lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=0.4 * final), steps
    )
    assert [0.4 * factor for factor in factors(Schedule("cosine", final=final), steps)] == pytest.approx(cosine)
    linear = rates_of_torch(
        lambda optimizer: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, end_factor=final, total_iters=steps), steps
    )
    assert [0.4 * factor for factor in factors(Schedule("linear", final=final), steps)] == pytest.approx(linear)


def test_drops_are_those_of_torch():
    rates = rates_of_torch(lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7], gamma=0.2), 10)
    assert [0.4 * factor for factor in factors(Schedule("drops", drops=(3, 7), drop=0.2), 10)] == pytest.approx(rates)


def test_a_function_of_ones_own_gets_the_step_and_the_number_of_steps_after_the_warm_up():
    schedule = schedule_of({"kind": "task.py:f", "warmup": 2}, where="x", function=lambda step, steps: step / steps)
    assert factors(schedule, 5) == [0.5, 1.0, 0.4, 0.6, 0.8]
    assert repr(schedule) == "Schedule(kind='task.py:f', warmup=2, final=0.0, drops=(), drop=0.1)"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda *_: math.nan, r"schedule: task.py:f of \(3, 5\) is nan; return a finite number ≥ 0"),
        (lambda *_: math.inf, "is inf"),
        (lambda *_: -0.1, r"is -0\.1"),
        (lambda *_: None, r"schedule: task.py:f of \(3, 5\): float"),
        (lambda step: step, r"positional argument"),
    ],
)
def test_a_function_that_returns_no_factor_is_refused(function, message):
    with pytest.raises(UserError, match=message):
        schedule_of("task.py:f", where="x", function=function).factor(3, 5)


def test_a_warm_up_that_takes_the_whole_run_is_refused():
    assert Schedule(warmup=4).factor(4, 5) == 1
    with pytest.raises(UserError, match=r"a warm-up of 5 steps leaves none of 5 steps"):
        Schedule(warmup=5).factor(0, 5)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(warmup=4),
        Schedule("cosine", warmup=4, final=0.1),
        Schedule("linear", final=0.1),
        Schedule("drops", drops=(7, 10), drop=0.5),
    ],
    ids=str,
)
def test_a_stretched_schedule_has_the_same_shape(schedule):
    steps = 20
    long = schedule.stretched(3.0)
    for step in range(schedule.warmup, steps):
        assert long.factor(3 * step, 3 * steps) == pytest.approx(schedule.factor(step, steps))
    assert long.warmup == 3 * schedule.warmup
    assert schedule.stretched(1.0) == schedule


def test_rounding_of_a_stretched_schedule():
    assert Schedule("drops", warmup=3, drops=(5, 9)).stretched(0.5) == Schedule("drops", warmup=2, drops=(2, 4))


def test_tables_are_read():
    assert schedule_of("constant", where="x") == Schedule()
    assert schedule_of({"kind": "drops", "drops": [6, 9], "drop": 0.2}, where="x") == Schedule(
        "drops", drops=(6, 9), drop=0.2
    )
    assert schedule_of({"kind": "linear", "final": 0.1, "warmup": 5}, where="x") == Schedule(
        "linear", warmup=5, final=0.1
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cosin", "x: there is no schedule 'cosin'; there are constant, drops, cosine, linear"),
        ({}, "x: kind: write the name of a schedule"),
        ({"kind": 1}, "x: kind: write the name"),
        ({"kind": "cosine", "drops": [1]}, "x: cosine has no field 'drops'; it has warmup, final"),
        ({"kind": "cosine", "function": 1}, "no field 'function'"),
        ({"kind": "cosine", "warmup": -1}, "x: warmup: write a number of steps, not -1"),
        ({"kind": "cosine", "warmup": 1.5}, "x: warmup"),
        ({"kind": "cosine", "warmup": True}, "x: warmup"),
        ({"kind": "cosine", "final": 1.5}, "x: final: write a number from 0 to 1, not 1.5"),
        ({"kind": "cosine", "final": float("nan")}, "x: final"),
        ({"kind": "linear", "final": "0"}, "x: final"),
        ({"kind": "drops"}, "x: drops: write the steps at which"),
        ({"kind": "drops", "drops": []}, "x: drops: write the steps at which"),
        ({"kind": "drops", "drops": [3, 2]}, "x: drops: write steps ≥ 1 in rising order"),
        ({"kind": "drops", "drops": [2, 2]}, "x: drops: write steps ≥ 1 in rising order"),
        ({"kind": "drops", "drops": [0]}, "x: drops: write steps ≥ 1"),
        ({"kind": "drops", "drops": 3}, "x: drops: write steps ≥ 1"),
        ({"kind": "drops", "drops": [3], "drop": -0.5}, "x: drop: write a number from 0 to 1"),
    ],
)
def test_a_wrong_table_is_refused(value, message):
    with pytest.raises(UserError, match=message):
        schedule_of(value, where="x")


def test_a_reference_to_no_function_is_refused():
    with pytest.raises(UserError, match=r"x: task.py:f is not a function"):
        schedule_of("task.py:f", where="x", function=3)
    with pytest.raises(UserError, match=r"x: task.py:f has no field 'final'; it has warmup"):
        schedule_of({"kind": "task.py:f", "final": 0.1}, where="x", function=lambda *_: 1.0)
