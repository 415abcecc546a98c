"""The strength of the noise over time: a batch size b that follows the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from msgd.checks import positive, whole
from msgd.noise.compose import Emulate
from msgd.noise.correlated import Scheduled
from msgd.noise.law import Law


@dataclass(frozen=True)
class HeldRatio:
    """The law of each step, such that ``η_t/b_t = lr/b``; see `hold_ratio`, which makes it.

    Args:
        lr_of_step: η_t.
        b: batch size whose noise is wanted at the rate ``lr``.
        lr: that rate.
        law: from a batch size to a law.
    """

    lr_of_step: Callable[[int], float]
    b: float
    lr: float
    law: Callable[[float], Law]

    def __repr__(self) -> str:
        return f"HeldRatio(b={self.b:g}, lr={self.lr:g}, law={getattr(self.law, '__name__', self.law)})"

    def __call__(self, step: int) -> Law:
        """The law of a step, whose b is at least 1."""
        return self.law(self.b_of_step(step))

    def b_of_step(self, step: int) -> float:
        """Batch size whose noise a step has, to be logged.

        Args:
            step: of training, from 0.

        Returns:
            ``max(1, b·η_t/lr)``.

        Raises:
            ValueError: the rate of that step is negative or not finite.
        """
        rate = float(self.lr_of_step(step))
        if not 0 <= rate < math.inf:
            raise ValueError(f"the learning rate of step {step} is {rate}: it must be a number of 0 or more")
        return max(1.0, self.b * rate / self.lr)


def hold_ratio(
    lr_of_step: Callable[[int], float] | Sequence[float], *, b: float, lr: float, law: Callable[[float], Law] = Emulate
) -> Scheduled:
    """Noise whose temperature stays: ``b_t = b·η_t/lr``, so that η_t/b_t is the same at every step.

    To first order in η the noise of a step acts through η/b alone: where the learning rate decays and b does not, it
    fades; with b_t in proportion to the rate it does not. Where that would be below 1, at the end of a decay to 0 or
    the start of a warm-up, b_t is 1.

    Args:
        lr_of_step: η_t, a pure function of the step; or the rates of all steps, such as `learning_rates` gives.
        b: batch size whose noise is wanted at the rate ``lr``.
        lr: that rate, such as the peak of the schedule.
        law: from a batch size to a law.

    Returns:
        The law; the b of a step is ``law_of_step.b_of_step(step)``.

    Raises:
        TypeError: a number is none.
        ValueError: ``b`` or ``lr`` is not positive; from a draw, a rate is negative, or the step lies beyond the rates.

    Examples:
        >>> schedule = hold_ratio(lambda step: 0.4 if step < 1000 else 0.1, b=64, lr=0.4)
        >>> [schedule.law_of_step(step) for step in (0, 1000)]
        [Emulate(b=64, kind='cov', population=None), Emulate(b=16, kind='cov', population=None)]

    References:
        Smith, Kindermans, Ying, Le 2018, arXiv 1711.00489, section 2: the noise scale η(N/B − 1) ≈ ηN/B.
    """
    positive("b", b)
    positive("lr", lr)
    if not callable(lr_of_step):
        lr_of_step = _Table(tuple(float(rate) for rate in lr_of_step))
    return Scheduled(HeldRatio(lr_of_step, b, lr, law))


def learning_rates(scheduler: Callable[[Optimizer], LRScheduler], *, lr: float, steps: int) -> list[float]:
    """The rates that a scheduler of PyTorch will give, without a step of training.

    Args:
        scheduler: from an optimizer to its scheduler, which is stepped once for each step of training; one that
            follows a measured loss, as ReduceLROnPlateau, has no rates known before.
        lr: the optimizer's learning rate.
        steps: number of steps of training.

    Returns:
        One rate for each step.

    Raises:
        TypeError: a number is none.
        ValueError: ``lr`` is not positive, or ``steps`` < 1.

    Examples:
        >>> from torch.optim.lr_scheduler import StepLR
        >>> learning_rates(lambda optimizer: StepLR(optimizer, 2, gamma=0.5), lr=0.4, steps=5)
        [0.4, 0.4, 0.2, 0.2, 0.1]
    """
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=positive("lr", lr))
    follower, rates = scheduler(optimizer), []
    for _ in range(whole("steps", steps)):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()  # nothing has a gradient; a scheduler warns where it is stepped first
        follower.step()
    return rates


@dataclass(frozen=True)
class _Table:
    rates: tuple[float, ...]

    def __call__(self, step: int) -> float:
        if step >= len(self.rates):
            raise ValueError(f"step {step} lies beyond the {len(self.rates)} learning rates: give those of all steps")
        return self.rates[step]
