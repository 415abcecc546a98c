"""The strength of the noise over time: a batch size b that follows the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.random import Generator
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from msgd._checks import positive, positive_integer
from msgd.noise.compose import Grouped, Subsampled
from msgd.noise.emulate import Emulate
from msgd.noise.injected import Cov, Fisher, Injected, SparseCov, SparseFisher
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import Bernoulli, Poisson
from msgd.noise.streams import NOISE

ANY_B = (Emulate, Fisher, Cov, SparseFisher, SparseCov, Injected, Bernoulli, Poisson)  #: laws whose b is a real number


@dataclass(frozen=True)
class HeldRatio:
    """The law of each step, such that ``η_t/b_t = lr/b``; see `hold_ratio`, which makes it.

    Args:
        lr_of_step: η_t.
        law: that of steps with the rate ``lr``.
        lr: that rate.
    """

    lr_of_step: Callable[[int], float]
    law: Law
    lr: float

    def __repr__(self) -> str:
        return f"HeldRatio({self.law!r}, lr={self.lr:g})"

    def __call__(self, step: int) -> Law:
        """The law of a step."""
        rate = float(self.lr_of_step(step))
        if not 0 <= rate < math.inf:
            raise ValueError(f"the learning rate of step {step} is {rate}: it must be a number of 0 or more")
        return _scaled(self.law, rate / self.lr)

    def b_of_step(self, step: int) -> float:
        """Batch size whose noise a step has, to be logged.

        Args:
            step: of training, from 0.

        Returns:
            ``b_t = max(1, b·η_t/lr)``.

        Raises:
            ValueError: the rate of that step is negative or not finite.
        """
        law: Any = self(step)
        while not hasattr(law, "b"):
            law = law.inner
        return float(law.b)


def hold_ratio(law: Law, lr_of_step: Callable[[int], float] | Sequence[float], *, lr: float) -> Scheduled:
    """Noise whose temperature stays: ``b_t = b·η_t/lr``, so that η_t/b_t is the same at every step.

    To first order in η the noise of a step acts through η/b alone: where the learning rate decays and b does not, it
    fades; with b_t in proportion to the rate it does not. Where that would be below 1, at the end of a decay to 0 or
    the start of a warm-up, b_t is 1.

    Args:
        law: that of steps with the rate ``lr``: one whose b may be any number, such as ``Emulate(b)``, or a law over
            such a one, as ``Subsampled(B, Emulate(b))``.
        lr_of_step: η_t, a pure function of the step; or the rates of all steps, such as `learning_rates` gives.
        lr: the rate at which the law is what was given, such as the peak of the schedule.

    Returns:
        The law of all steps; ``law_of_step(t)`` is that of step t, ``law_of_step.b_of_step(t)`` its b.

    Raises:
        TypeError: ``law`` is none, or none whose b may be any number; or ``lr_of_step`` is a scheduler.
        ValueError: ``lr`` is not positive; also from a draw: a rate is negative, or the step lies beyond the rates.

    Examples:
        >>> schedule = hold_ratio(Emulate(64), lambda step: 0.4 if step < 1000 else 0.1, lr=0.4)
        >>> [schedule.law_of_step(step) for step in (0, 1000)]
        [Emulate(b=64, kind='cov', population=None), Emulate(b=16, kind='cov', population=None)]

    References:
        Smith, Kindermans, Ying, Le 2018, arXiv 1711.00489, section 2: the noise scale η(N/B − 1) ≈ ηN/B.
    """
    if not isinstance(law, Law):
        raise TypeError(f"law must be a law such as noise.Emulate(b=64), not {law!r}")
    positive("lr", lr)
    _scaled(law, 1.0)  # refuses a law without such a b now
    if isinstance(lr_of_step, LRScheduler):
        raise TypeError(
            "a scheduler knows only the rate of now: give noise.learning_rates(lambda optimizer: …, lr=…, steps=…), "
            "the rates of all steps"
        )
    if not callable(lr_of_step):
        lr_of_step = _Table(tuple(float(rate) for rate in lr_of_step))
    return Scheduled(HeldRatio(lr_of_step, law, lr))


def _scaled(law: Law, ratio: float) -> Law:
    """The law with another b, or over one with another b."""
    if isinstance(law, ANY_B):
        return replace(law, b=max(1.0, law.b * ratio))
    if isinstance(law, Subsampled | Grouped):
        return replace(law, inner=_scaled(law.inner, ratio))
    raise TypeError(
        f"{law!r} has no b that may be any number, which follows the learning rate: take Emulate, Fisher, Cov, "
        "Bernoulli or Poisson, or noise.Scheduled with a function of your own"
    )


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
    for _ in range(positive_integer("steps", steps)):
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


@dataclass(frozen=True)
class Scheduled(Law):
    """A law for each step: ``w_t ~ law_of_step(t)``, independent over steps where those laws are.

    Its moments change with the step; ``moments`` gives those of step 0, and ``law_of_step(t).moments(n)`` the others.

    Args:
        law_of_step: a pure function of the step.

    Raises:
        TypeError: ``law_of_step`` is no function, or does not return a law.

    Examples:
        >>> from msgd.noise import Fisher
        >>> law = Scheduled(lambda step: Fisher(20 if step < 1000 else 80))
        >>> [law.law_of_step(step).moments(1000).alpha for step in (0, 5000)]
        [50.0, 12.5]
    """

    law_of_step: Callable[[int], Law]

    def __post_init__(self) -> None:
        if not callable(self.law_of_step):
            raise TypeError(f"law_of_step must be a function from the step to a law, not {self.law_of_step!r}")
        self._at(0)

    def __repr__(self) -> str:
        function = self.law_of_step
        return f"Scheduled({getattr(function, '__module__', '')}.{getattr(function, '__qualname__', repr(function))})"

    @property
    def correlated(self) -> bool:
        """What a step draws depends on its number."""
        return True

    @property
    def coupled(self) -> bool:
        """As the law of step 0."""
        return self._at(0).coupled

    def moments(self, n: int) -> Moments:
        """α and β of step 0 (see `Law.moments`)."""
        return self._at(0).moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """A draw of step 0's law (see `Law.sample`)."""
        return self._at(0).sample(n, rng)

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """A draw of that step's law (see `Law.at_step`)."""
        return self._at(step).at_step(n, seed=seed, step=step, stream=stream)

    def _at(self, step: int) -> Law:
        law = self.law_of_step(step)
        if not isinstance(law, Law):
            raise TypeError(f"law_of_step({step}) must be a law such as Fisher(20), not {law!r}")
        return law
