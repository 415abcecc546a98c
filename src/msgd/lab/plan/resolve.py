"""Resolve a recipe into runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from msgd.lab.errors import UserError
from msgd.lab.plan.cost import computed_per_step, examples_per_step
from msgd.lab.plan.run import Run
from msgd.lab.recipes.bounds import EVALUATIONS, LARGEST_RATE, STEPS
from msgd.lab.recipes.method import Method
from msgd.lab.recipes.schema import Recipe
from msgd.lab.recipes.updates import optimizer_of, schedule_of


def resolve(recipe: Recipe, *, n: int, digests: Sequence[str], first_seed: int = 0) -> list[Run]:
    """List every run of a recipe.

    Args:
        recipe: the recipe.
        n: number of training examples.
        digests: `Data.digest` of the data of each seed; a single one if all seeds share their data.
        first_seed: the first of the ``recipe.seeds`` consecutive seeds.

    Returns:
        The runs, ordered by method, then by seed.

    Raises:
        UserError: a law does not allow n examples, the reference that ``match`` needs is missing, or a run takes too
            many steps or pauses too often.
    """
    first = {name: _first_run(recipe, name, n=n) for name in recipe.methods}
    if recipe.match != "steps":
        if recipe.reference not in first:
            raise UserError(
                f"match: the reference {recipe.reference!r} decides the number of examples; add it to --methods"
            )

        def cost(run: Run) -> float:
            return examples_per_step(run.law, run.n) if recipe.match == "epochs" else computed_per_step(run)

        budget = recipe.steps * cost(first[recipe.reference])
        first = {
            name: run
            if recipe.methods[name].steps
            else dataclasses.replace(run, steps=max(1, round(budget / cost(run))))
            for name, run in first.items()
        }
    runs = []
    for name, run in first.items():
        # A longer run has as many evaluations and snapshots, and drops its rate at the same fractions of training.
        stretch = run.steps / recipe.steps
        spaced = dataclasses.replace(
            run,
            eval_every=recipe.methods[name].eval_every or max(1, round(recipe.eval_every * stretch)),
            lr_drops=tuple(round(drop * stretch) for drop in recipe.lr_drops),
            schedule=run.schedule and run.schedule.stretched(stretch),
            snapshots=tuple(sorted({max(1, round(step * stretch)) for step in recipe.snapshots})),
        )
        _check_pauses(spaced)
        spaced.lr_at(0)  # raises what is wrong with the schedule
        runs += [
            dataclasses.replace(spaced, seed=seed, data_digest=digests[(seed - first_seed) % len(digests)])
            for seed in range(first_seed, first_seed + recipe.seeds)
        ]
    return runs


def _check_pauses(run: Run) -> None:
    """Check the numbers of steps, evaluations and checkpoints, which would otherwise take too much memory."""
    if run.steps > STEPS:
        raise UserError(
            f"methods.{run.method}: matching the reference takes {run.steps} steps; the limit is {STEPS}: lower steps"
        )
    for key in ("eval_every", "checkpoint_every"):
        every: int = getattr(run, key)
        if run.steps > every * EVALUATIONS:
            raise UserError(
                f"methods.{run.method}: {run.steps} steps with {key} = {every} pause more than {EVALUATIONS} times; "
                f"take fewer steps, or a larger {key}"
            )


def _first_run(recipe: Recipe, name: str, *, n: int) -> Run:
    """Build a method's run with seed 0, from the settings of the recipe and the method, before ``match`` applies."""
    method, where = recipe.methods[name], f"methods.{name}"
    law, lr = recipe.law(name), _learning_rate(recipe, method)
    try:
        law.moments(n)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: {error}") from error
    return Run(
        method=name,
        seed=0,
        law=law,
        data=recipe.data or f"{recipe.task}:data",
        data_digest="",
        n=n,
        model=recipe.model or f"{recipe.task}:network",
        lr=lr,
        momentum=recipe.setting(name, "momentum"),
        weight_decay=recipe.setting(name, "weight_decay"),
        steps=method.steps or recipe.steps,
        eval_every=recipe.eval_every,
        lr_drop=recipe.lr_drop,
        pixels=recipe.pixels,
        augment=recipe.augment,
        micro_batch=recipe.micro_batch,
        vary=tuple(recipe.vary),
        norm=recipe.norm,
        ghost=recipe.ghost,
        noise=recipe.noise(name, lr=lr),
        penalty=recipe.penalty(name),
        optimizer=optimizer_of(recipe, name),
        schedule=schedule_of(recipe, name),
        clip=recipe.setting(name, "clip"),
        label_smoothing=recipe.setting(name, "label_smoothing"),
        ema=recipe.setting(name, "ema"),
        sam=recipe.setting(name, "sam"),
        eval_train=recipe.eval_train,
        code=recipe.own.identity,
        own=recipe.own,
        checkpoint_every=recipe.checkpoint_every,
    )


def _learning_rate(recipe: Recipe, method: Method) -> float:
    if method.lr_of is not None:
        if method.lr_of not in recipe.methods:
            raise UserError(f"--methods: add {method.lr_of!r}, whose learning rate another method uses")
        lr = method.lr_times * _learning_rate(recipe, recipe.methods[method.lr_of])
        if not 0 < lr <= LARGEST_RATE:
            raise UserError(
                f"lr_times: {method.lr_times:g} times the rate of {method.lr_of} is {lr:g}; take another factor"
            )
        return lr
    return recipe.lr if method.lr is None else method.lr
