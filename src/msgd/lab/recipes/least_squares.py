"""The recipe of a least-squares experiment."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from msgd.lab.errors import UserError
from msgd.lab.recipes.bounds import SOME, BatchSize, Count, Line, Name, Positive
from msgd.lab.recipes.method import LawTable
from msgd.lab.recipes.schema import MethodsRecipe
from msgd.noise import Law

Amount = Annotated[float, Field(ge=0, le=10**6)]
Trials = Annotated[int, Field(ge=2, le=10**6)]

# Limits on a recipe. Within them a command needs about 1 GB of memory, and minutes for the exact curves.
NUMBERS = 5 * 10**7  #: largest number of recorded losses, over all methods, trajectories and steps
INPUTS = 10**7  #: largest number of entries of X
PRODUCTS = 10**12  #: largest number of multiplications for the exact curves of all methods
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class LeastSquaresRecipe(MethodsRecipe):
    """SGD on least squares, ``L(θ) = ½·mean((Xθ − y)²)``, from θ_0 = 0, with many trajectories of each law.

    The first input is 1. The other d − 1 inputs are normal, with variances from 1 down to ``1/condition``. The target
    is y = intercept + slopes·(unit vector)·x + noise·ε. At the start all residuals are about −intercept, so the
    gradients of all examples point in the same direction: ḡ is large compared with their differences, and β matters.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    experiment: Literal["least-squares"]
    title: Line
    n: Annotated[int, Field(ge=1, le=10**5)]
    d: Annotated[int, Field(ge=1, le=1000)]
    intercept: Annotated[float, Field(ge=-(10**6), le=10**6)]
    slopes: Amount
    condition: Annotated[float, Field(ge=1, le=10**12)] = 1.0
    noise: Amount
    data_seed: Seed = 0
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    b: BatchSize | None = None
    steps: Annotated[int, Field(ge=1, le=10**6)]
    eval_every: Count
    trajectories: Trials
    seed: Seed = 0
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01  #: probability of any, if all methods follow their curves
    reference: Name
    methods: Annotated[dict[Name, LawTable], Field(min_length=1, max_length=SOME)]

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.n * self.d > INPUTS:
            raise ValueError(f"n, d: X would have {self.n * self.d} entries; take at most {INPUTS}")
        losses = len(self.methods) * self.trajectories * (self.steps // self.eval_every + 2)
        if losses > NUMBERS:
            raise ValueError(
                f"eval_every: methods, trajectories and recorded steps make {losses} losses; record at most {NUMBERS}"
            )
        if (products := len(self.methods) * self.steps * self.n * self.d**2) > PRODUCTS:
            raise ValueError(f"steps: the exact curves would take {products:.0e} products; take at most {PRODUCTS:.0e}")
        return self

    @property
    def recorded(self) -> list[int]:
        """The steps after which losses are recorded: 0, every multiple of ``eval_every``, and the last one."""
        return [*range(0, self.steps, self.eval_every), self.steps]

    def check_laws(self, *, source: str) -> None:
        """Build the laws of the methods, and check that they allow n examples.

        Args:
            source: name of the recipe in messages.

        Raises:
            UserError: a law or a field is unknown, a law refuses a value or n examples, or the reference has no exact
                curve.
        """
        for name in self.methods:
            try:
                self.law(name).moments(self.n)
            except UserError as error:
                raise UserError(f"{source}: {error}") from error
            except (TypeError, ValueError, OverflowError) as error:
                raise UserError(f"{source}: methods.{name}: {error}") from error
        name = self.reference
        if name in self.methods and not has_curve(self.law(name), self.n):
            raise UserError(
                f"{source}: reference: {name} has no exact curve; take one of finite variance with independent steps"
            )


def has_curve(law: Law, n: int) -> bool:
    """Whether the theory gives the expected loss: the law has a finite variance, and its steps are not correlated."""
    return not law.correlated and math.isfinite(law.moments(n).alpha)
