"""Laws that change over time, such as a batch size b proportional to the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.random import Generator
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from msgd._checks import positive, positive_integer, real_number
from msgd.noise.compose import Grouped, Subsampled
from msgd.noise.emulate import Emulate
from msgd.noise.injected import Cov, Fisher, Injected, SparseCov, SparseFisher
from msgd.noise.law import Law, Sample
from msgd.noise.moments import Moments
from msgd.noise.sampling import Bernoulli, Poisson
from msgd.noise.streams import NOISE

ANY_B = (Emulate, Fisher, Cov, SparseFisher, SparseCov, Injected, Bernoulli, Poisson)  #: laws whose b is a real number
FALL = 16  #: unless told otherwise, b falls to no less than 1/16 of itself


@dataclass(frozen=True)
class HeldRatio:
    """Function from a step to its law, such that ``η_t/b_t = lr/b``; `hold_ratio` constructs it.

    Args:
        lr_of_step: function from the step t to the learning rate η_t.
        law: the law of steps with learning rate ``lr``.
        lr: reference learning rate.
        lowest: smallest b.
    """

    lr_of_step: Callable[[int], float]
    law: Law
    lr: float
    lowest: float = 1.0

    def __repr__(self) -> str:
        # lowest=1 is written as it was before there was a floor, so that states of that time still load
        floor = "" if self.lowest == 1 else f", lowest={self.lowest:g}"
        return f"HeldRatio({self.law!r}, lr={self.lr:g}{floor})"

    def __call__(self, step: int) -> Law:
        """Return the law of a step."""
        rate = float(self.lr_of_step(step))
        if not 0 <= rate < math.inf:
            raise ValueError(f"the learning rate of step {step} is {rate}: it must be finite and at least 0")
        return _scale_b(self.law, rate / self.lr, self.lowest)

    def b_of_step(self, step: int) -> float:
        """Return the batch size b_t whose noise a step has, for logging.

        Args:
            step: the training step, from 0.

        Returns:
            ``b_t = max(lowest, b·η_t/lr)``.

        Raises:
            ValueError: the learning rate of that step is negative or not finite.
        """
        return _b_of(self(step))


def hold_ratio(
    law: Law, lr_of_step: Callable[[int], float] | Sequence[float], *, lr: float, lowest: float | None = None
) -> Scheduled:
    """Keep the temperature of the noise constant: ``b_t = b·η_t/lr``, so that η_t/b_t is the same at every step.

    To first order in η the noise of a step acts only through η/b: if the learning rate decays and b does not, the
    noise fades; with b_t proportional to the learning rate it does not. Where the rate is close to 0, at the start of a
    warm-up or the end of a decay, b_t would be so as well, and at b_t = 1 the weights of a batch of B = 1024 have the
    standard deviation √B = 32. So b_t never falls below ``lowest``, which is b/16 unless you set it: one tenfold drop
    of the rate is followed in full, and the standard deviation of the weights stays below √(B/b_t) ≤ 4·√(B/b). At rates
    below lr/16 the law no longer changes, and the temperature η_t/b_t falls with the rate.

    Args:
        law: the law of steps with learning rate ``lr``: a law whose b may be any real number, such as ``Emulate(b)``,
            or a law composed with such a law, such as ``Subsampled(B, Emulate(b))``.
        lr_of_step: η_t as a pure function of the step, or the learning rates of all steps, e.g. from `learning_rates`.
        lr: reference learning rate, at which the law is ``law`` itself, such as the peak of the schedule.
        lowest: the smallest b_t, at least 1 and at most b; None for ``max(1, b/16)``. With ``lowest=1`` the ratio is
            held as long as possible.

    Returns:
        The law of all steps; ``law_of_step(t)`` is the law of step t, ``law_of_step.b_of_step(t)`` its b.

    Raises:
        TypeError: ``law`` is not a law, or its b may not be any real number; or ``lr_of_step`` is a scheduler.
        ValueError: ``lr`` is not positive, or ``lowest`` is not between 1 and b; a draw also raises it if a learning
            rate is negative or the step lies beyond the given rates.

    Examples:
        >>> schedule = hold_ratio(Emulate(64), lambda step: 0.4 if step < 1000 else 0.1, lr=0.4)
        >>> [schedule.law_of_step(step) for step in (0, 1000)]
        [Emulate(b=64, kind='cov', population=None), Emulate(b=16, kind='cov', population=None)]
        >>> warm_up = [0.0, 0.01, 0.1, 0.2, 0.4]
        >>> [hold_ratio(Emulate(64), warm_up, lr=0.4).law_of_step.b_of_step(step) for step in range(5)]
        [4.0, 4.0, 16.0, 32.0, 64.0]

    References:
        Smith, Kindermans, Ying, Le 2018, arXiv 1711.00489, section 2: the noise scale η(N/B − 1) ≈ ηN/B.
    """
    if not isinstance(law, Law):
        raise TypeError(f"law must be a law such as noise.Emulate(b=64), not {law!r}")
    positive("lr", lr)
    _scale_b(law, 1.0, 1.0)  # raises now if b cannot follow the learning rate
    if isinstance(lr_of_step, LRScheduler):
        raise TypeError(
            "a scheduler knows only the current learning rate: pass the rates of all steps, "
            "noise.learning_rates(lambda optimizer: …, lr=…, steps=…)"
        )
    if not callable(lr_of_step):
        lr_of_step = _RateTable(tuple(float(rate) for rate in lr_of_step))
    return Scheduled(HeldRatio(lr_of_step, law, lr, _floor(_b_of(law), lowest)))


def _floor(b: float, lowest: float | None) -> float:
    """Check the smallest b, or choose it."""
    if lowest is None:
        return max(1.0, b / FALL)
    if not 1 <= real_number("lowest", lowest) <= b:
        raise ValueError(f"lowest must lie between 1 and the b of the law, which is {b:g}, not {lowest!r}")
    return float(lowest)


def _b_of(law: Any) -> float:
    """The b of the law, or of the law within it."""
    while not hasattr(law, "b"):
        law = law.inner
    return float(law.b)


def _scale_b(law: Law, ratio: float, lowest: float) -> Law:
    """Multiply the b of the law, or of the law within it, by ``ratio``, down to ``lowest``."""
    if isinstance(law, ANY_B):
        return replace(law, b=max(lowest, law.b * ratio))
    if isinstance(law, Subsampled | Grouped):
        return replace(law, inner=_scale_b(law.inner, ratio, lowest))
    raise TypeError(
        f"the b of {law!r} cannot follow the learning rate, since it may not be any real number: use Emulate, Fisher, "
        "Cov, Bernoulli or Poisson, or noise.Scheduled with a function of your own"
    )


def learning_rates(scheduler: Callable[[Optimizer], LRScheduler], *, lr: float, steps: int) -> list[float]:
    """Compute the learning rates that a PyTorch scheduler will produce, without training.

    Args:
        scheduler: function from an optimizer to its scheduler, which is stepped once per training step. A scheduler
            that follows a measured loss, such as ReduceLROnPlateau, has no rates that are known in advance.
        lr: the optimizer's learning rate.
        steps: number of training steps.

    Returns:
        One learning rate per step.

    Raises:
        TypeError: ``lr`` is not a number, or ``steps`` is not an integer.
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
        optimizer.step()  # changes nothing, but a scheduler warns if it is stepped before its optimizer
        follower.step()
    return rates


@dataclass(frozen=True)
class _RateTable:
    rates: tuple[float, ...]

    def __call__(self, step: int) -> float:
        if step >= len(self.rates):
            raise ValueError(f"step {step} lies beyond the {len(self.rates)} learning rates: pass one for every step")
        return self.rates[step]


@dataclass(frozen=True)
class Scheduled(Law):
    """A law that may differ from step to step: ``w_t ~ law_of_step(t)``.

    Steps are independent if the laws have independent steps. The moments change with the step: ``moments`` returns
    those of step 0, and ``law_of_step(t).moments(n)`` those of step t.

    Args:
        law_of_step: pure function from the step to its law.

    Raises:
        TypeError: ``law_of_step`` is not a function, or does not return a law.

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
        """True: the law depends on the step."""
        return True

    @property
    def coupled(self) -> bool:
        """Whether the law of step 0 couples the weights."""
        return self._at(0).coupled

    def moments(self, n: int) -> Moments:
        """Exact α and β of step 0 (see `Law.moments`)."""
        return self._at(0).moments(n)

    def sample(self, n: int, rng: Generator) -> Sample:
        """Draw from the law of step 0 (see `Law.sample`)."""
        return self._at(0).sample(n, rng)

    def at_step(self, n: int, *, seed: int, step: int, stream: int = NOISE) -> Sample:
        """Draw from the law of the step (see `Law.at_step`)."""
        return self._at(step).at_step(n, seed=seed, step=step, stream=stream)

    def _at(self, step: int) -> Law:
        law = self.law_of_step(step)
        if not isinstance(law, Law):
            raise TypeError(f"law_of_step({step}) must be a law such as Fisher(20), not {law!r}")
        return law
