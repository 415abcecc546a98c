"""The plan of an experiment: a recipe spelled out as runs."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Sequence
from typing import Any

from msgd.errors import UserError
from msgd.lab.config import EVALUATIONS, STEPS, Method, Recipe, law_of, noise_of, penalty_of
from msgd.lab.data import Pixels
from msgd.langevin import SGLD, ParameterNoise, Penalty
from msgd.noise import Law

COUNTING_DRAWS = 200


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a method, a seed, and all that decides its result.

    Fields with a default are keys that recipes got later; where one has it, the run's identity is silent about it.
    """

    method: str
    seed: int
    law: Law
    data: str
    data_digest: str
    n: int
    model: str
    lr: float
    momentum: float
    weight_decay: float
    steps: int
    eval_every: int
    lr_drops: tuple[int, ...] = ()
    lr_drop: float = 0.1
    pixels: Pixels = "unit"
    augment: int | None = None
    micro_batch: int | None = None
    vary: tuple[str, ...] = ("init", "noise")
    norm: str | None = None
    ghost: int | None = None
    noise: ParameterNoise | None = None
    penalty: Penalty | None = None
    checkpoint_every: int = dataclasses.field(default=500, compare=False)
    snapshots: tuple[int, ...] = dataclasses.field(default=(), compare=False)

    @property
    def stream(self) -> int:
        """The method's own noise stream: independent of the other methods' at the same seed."""
        return 2**32 + zlib.crc32(self.method.encode())

    @property
    def crops(self) -> int:
        """The method's own stream of crops and flips."""
        return self.stream + 2**32

    @property
    def init_seed(self) -> int:
        """Seed of the initial parameters."""
        return self.seed if "init" in self.vary else 0

    @property
    def noise_seed(self) -> int:
        """Seed of the noise."""
        return self.seed if "noise" in self.vary else 0

    @property
    def data_seed(self) -> int:
        """Seed of the data, where they are generated."""
        return self.seed if "data" in self.vary else 0

    @property
    def evaluations(self) -> list[int]:
        """The steps after which the run is evaluated: the start, every ``eval_every``, and the end."""
        return [*range(0, self.steps, self.eval_every), self.steps]

    def lr_at(self, step: int) -> float:
        """The learning rate of a step."""
        return self.lr * self.lr_drop ** sum(step >= drop for drop in self.lr_drops)

    def identity(self) -> dict[str, Any]:
        """All that decides the result, as a TOML table; two runs that agree here are the same run."""
        table = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.compare and (field.default is dataclasses.MISSING or value != field.default):
                if isinstance(value, tuple):
                    value = list(value)
                table[field.name] = value if isinstance(value, list | int | float | str) else repr(value)
        return table


def resolve(recipe: Recipe, *, n: int, digests: Sequence[str], first_seed: int = 0) -> list[Run]:
    """Spell out every run of a recipe.

    Args:
        recipe: the recipe.
        n: number of training examples.
        digests: `Data.digest` of the data of each seed; one where all seeds share their data.
        first_seed: the seeds are the ``recipe.seeds`` from here on.

    Returns:
        The runs, seeds within methods.

    Raises:
        UserError: a law that cannot be had with n examples.
    """
    first = {name: _first_run(recipe, name, n=n) for name in recipe.methods}
    if recipe.match != "steps":
        if recipe.reference not in first:
            raise UserError(f"match: the reference {recipe.reference!r} says how many examples; run it as well")
        cost = {"epochs": examples_per_step, "examples": computed_per_step}[recipe.match]
        budget = recipe.steps * cost(first[recipe.reference])
        first = {
            name: run
            if recipe.methods[name].steps
            else dataclasses.replace(run, steps=max(1, round(budget / cost(run))))
            for name, run in first.items()
        }
    runs = []
    for name, run in first.items():
        # A longer run is evaluated and kept as often, and drops its rate at the same fractions.
        stretch = run.steps / recipe.steps
        spaced = dataclasses.replace(
            run,
            eval_every=recipe.methods[name].eval_every or max(1, round(recipe.eval_every * stretch)),
            lr_drops=tuple(round(drop * stretch) for drop in recipe.lr_drops),
            snapshots=tuple(sorted({max(1, round(step * stretch)) for step in recipe.snapshots})),
        )
        _check_pauses(spaced)
        runs += [
            dataclasses.replace(spaced, seed=seed, data_digest=digests[(seed - first_seed) % len(digests)])
            for seed in range(first_seed, first_seed + recipe.seeds)
        ]
    return runs


def _check_pauses(run: Run) -> None:
    """Refuse what would take more memory for its records than for its training."""
    if run.steps > STEPS:
        raise UserError(f"methods.{run.method}: {run.steps} steps cost what the reference's do; take at most {STEPS}")
    for key in ("eval_every", "checkpoint_every"):
        every: int = getattr(run, key)
        if run.steps > every * EVALUATIONS:
            raise UserError(
                f"methods.{run.method}: {run.steps} steps with {key} = {every}: a run pauses at most {EVALUATIONS} "
                f"times; give it fewer steps, or a larger {key}"
            )


def _first_run(recipe: Recipe, name: str, *, n: int) -> Run:
    """A method's run as the recipe and the method have it: with seed 0, not yet matched to the others."""
    method, where = recipe.methods[name], f"methods.{name}"
    law, lr = law_of(method, b=recipe.b, where=where), _learning_rate(recipe, method)
    try:
        law.moments(n)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error
    return Run(
        method=name,
        seed=0,
        law=law,
        data=recipe.data,
        data_digest="",
        n=n,
        model=recipe.model,
        lr=lr,
        momentum=recipe.momentum if method.momentum is None else method.momentum,
        weight_decay=recipe.weight_decay if method.weight_decay is None else method.weight_decay,
        steps=method.steps or recipe.steps,
        eval_every=recipe.eval_every,
        lr_drop=recipe.lr_drop,
        pixels=recipe.pixels,
        augment=recipe.augment,
        micro_batch=recipe.micro_batch,
        vary=tuple(recipe.vary),
        norm=recipe.norm,
        ghost=recipe.ghost,
        noise=noise_of(method, b=recipe.b, lr=lr, where=where),
        penalty=penalty_of(method, b=recipe.b, where=where),
        checkpoint_every=recipe.checkpoint_every,
    )


def _learning_rate(recipe: Recipe, method: Method) -> float:
    if method.lr_of is not None:
        if method.lr_of not in recipe.methods:
            raise UserError(f"--methods: name {method.lr_of!r} as well, whose learning rate is taken")
        lr = method.lr_times * _learning_rate(recipe, recipe.methods[method.lr_of])
        if not 0 < lr < math.inf:
            raise UserError(f"lr_times: {method.lr_times:g} times the rate of {method.lr_of} is {lr:g}; take another")
        return lr
    return recipe.lr if method.lr is None else method.lr


def examples_per_step(run: Run) -> float:
    """Mean number of examples that a step visits: those whose weight is not zero.

    Args:
        run: the run.

    Returns:
        The number; for laws that draw it, a mean over 200 draws, which are always the same.
    """
    draws = (len(run.law.draw(run.n, seed=0, step=step).value) for step in range(COUNTING_DRAWS))
    first = next(draws)
    return float(run.n) if first == run.n else (first + sum(draws)) / COUNTING_DRAWS


def computed_per_step(run: Run) -> float:
    """Mean number of gradients of one example that a step computes.

    Args:
        run: the run.

    Returns:
        The examples that the step visits; for noise in parameter space and all n once for each measurement, for a
        penalty each of the n twice (its gradient, and its Hessian times a vector).
    """
    visited = examples_per_step(run)
    if run.penalty is not None:
        return 2 * visited
    if run.noise is None or isinstance(run.noise, SGLD):  # which measures nothing
        return visited
    refresh = getattr(run.noise, "refresh", run.steps)  # without one it measures at the start only
    return visited + run.n * -(-run.steps // refresh) / run.steps
