"""Stochastic gradient Langevin dynamics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.random import Generator
from torch import Tensor

from msgd._checks import positive
from msgd.gradients.per_example import Examples
from msgd.langevin.parameter_noise import ParameterNoise, State, standard_normal


@dataclass(frozen=True)
class SGLD(ParameterNoise):
    """SGLD: isotropic noise ``N(0, (2T/η)·I)`` on the mini-batch gradient g̃, so that ``θ ← θ − η·g̃ + √(2ηT)·ξ``.

    For small η and full batches, and without momentum, the stationary density of θ is ∝ exp(−L(θ)/T). If L is the mean
    negative log-likelihood of n examples, T = 1/n gives the posterior under a flat prior. Nothing is measured, so the
    state is empty.

    Args:
        temperature: T > 0, in units of the loss.
        lr: η > 0, the learning rate of the step.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is not positive or not finite.

    Examples:
        >>> import torch
        >>> noise = SGLD(temperature=0.005, lr=0.1)  # the noise has standard deviation √(2·0.005/0.1) = 0.32
        >>> (added,) = noise.sample({}, [torch.zeros(10_000)], seed=0, step=0)
        >>> round(float(added.std()), 2)
        0.32

    References:
        Welling, Teh 2011, "Bayesian learning via stochastic gradient Langevin dynamics", ICML (with a decreasing η).
    """

    temperature: float
    lr: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", positive("temperature", self.temperature))
        object.__setattr__(self, "lr", positive("lr", self.lr))

    def refresh_due(self, step: int) -> bool:
        """True at the first step only, so that a loop gets the empty state (see `ParameterNoise.refresh_due`)."""
        return step == 0

    def _measure(self, examples: Examples) -> State:  # noqa: ARG002
        return {}

    def _sample(self, state: State, d: int, rng: Generator) -> Tensor:  # noqa: ARG002
        return standard_normal(d, rng) * math.sqrt(2 * self.temperature / self.lr)
