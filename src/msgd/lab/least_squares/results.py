"""Results of a least-squares experiment: gathers the losses and compares them with the exact curves."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.description import Description, read_description
from msgd.lab.experiment_folder.identity import check_identity
from msgd.lab.least_squares.band import (
    CurveTest,
    compare_with_curve,
    critical_value,
    exact_curve,
    finite_or_none,
    standard_error,
)
from msgd.lab.least_squares.losses_file import losses_path, parts_of, read_losses
from msgd.lab.least_squares.simulate import Array, Simulation, make_data, planned_simulations
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.recipes.load import recipe_from
from msgd.lab.text import law_text
from msgd.noise import Injected
from msgd.theory import LeastSquares

NORMAL95 = 1.959963984540054  #: half-width of a normal 95% interval, in standard errors


@dataclass(frozen=True)
class MethodResult:
    """The result of one method: the mean loss of its trajectories, and its exact curve.

    Args:
        method: its name in the recipe.
        law: its law, written as in Python.
        alpha: α; None if the law has no variance.
        beta: β; None if the law has no variance.
        fourth_moment: whether the weights have a fourth moment, so that the mean loss has a standard error.
        stable_lr: the largest learning rate of mean-square stability; None if there is no exact curve.
        exact: expected loss at the recorded steps; None if the theory has no curve, because the law has no variance or
            ties steps together.
        mean: mean loss over trajectories at the recorded steps; None where it is not finite.
        error: the standard error of the mean; None where it is not finite.
        own: the comparison with the method's own curve; None if there is no curve.
        reference: the comparison with the reference's curve; None for the reference itself, or if the reference was not
            run. The band uses the method's own standard error or, for a law without variance, the reference's.
    """

    method: str
    law: str
    alpha: float | None
    beta: float | None
    fourth_moment: bool
    stable_lr: float | None
    exact: list[float] | None
    mean: list[float | None]
    error: list[float | None]
    own: CurveTest | None
    reference: CurveTest | None

    @property
    def final(self) -> tuple[float, float] | None:
        """Mean loss after the last step and half its 95% interval; None if they are not finite."""
        mean, error = self.mean[-1], self.error[-1]
        return None if mean is None or error is None else (mean, NORMAL95 * error)


@dataclass(frozen=True, eq=False)
class SimulationResults:
    """The current results of a least-squares experiment.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods that the command selected.
        environment: the command's environment.
        critical: half-width of the bands in standard errors.
        methods: the results of the finished methods.
        missing_methods: names of the methods that are not finished.
    """

    name: str
    recipe: LeastSquaresRecipe
    environment: dict[str, Any]
    critical: float
    methods: list[MethodResult]
    missing_methods: list[str]

    def as_json(self) -> dict[str, Any]:
        """The contents of ``results.json``, with the fields of `MethodResult` and `CurveTest` under their names."""
        return {
            "recipe": self.name,
            "config": self.recipe.model_dump(exclude_none=True),
            "environment": self.environment,
            "steps": self.recipe.recorded,
            "critical": self.critical,
            "missing_methods": self.missing_methods,
            "methods": [
                asdict(j) | {"verdict": j.own.verdict if j.own else None, "final": j.final} for j in self.methods
            ],
        }


def results_from_json(table: dict[str, Any]) -> SimulationResults:
    """Rebuild results from the contents of ``results.json``.

    Args:
        table: the JSON object.

    Returns:
        The results.

    Raises:
        UserError: the object holds another kind of results.
    """
    methods = []
    for method in table["methods"]:
        fields = {key: value for key, value in method.items() if key not in ("verdict", "final")}
        for key in ("own", "reference"):
            fields[key] = CurveTest(**fields[key]) if fields[key] else None
        methods.append(MethodResult(**fields))
    recipe = recipe_from(table["config"], source="results.json")
    if not isinstance(recipe, LeastSquaresRecipe):
        raise UserError("results.json holds no simulated least squares: give the file of such an experiment")
    return SimulationResults(
        table["recipe"], recipe, table["environment"], table["critical"], methods, table["missing_methods"]
    )


def gather_simulations(out: Path, description: Description | None = None) -> SimulationResults:
    """Read an experiment's folder and compare its finished methods with the exact curves.

    Args:
        out: the experiment's folder.
        description: the experiment's description; None: read it from the folder.

    Returns:
        The results.

    Raises:
        UserError: no method is finished, or a file is damaged.
    """
    description = description or read_description(out)
    recipe = description.recipe
    if not isinstance(recipe, LeastSquaresRecipe):
        raise UserError(f"{out} holds training runs and no simulated least squares: give another folder")
    finished: dict[str, tuple[Simulation, Array]] = {}
    missing = []
    for simulation in planned_simulations(recipe):
        losses = _losses(recipe, simulation, out)
        if losses is None:
            missing.append(simulation.method)
        else:
            finished[simulation.method] = simulation, losses
    if not finished:
        raise UserError(f"no method in {out} is finished yet: let msgd run end, or start its command again")
    width = critical_value(recipe.false_alarms, methods=len(recipe.methods), steps=len(recipe.recorded) - 1)
    return SimulationResults(
        description.name, recipe, description.environment, width, judge(recipe, finished, width), missing
    )


def _losses(recipe: LeastSquaresRecipe, simulation: Simulation, out: Path) -> Array | None:
    check_identity(simulation, out / simulation.method)
    parts = []
    for part in parts_of(recipe):
        one = read_losses(losses_path(out, simulation.method, part), (len(part), len(recipe.recorded)))
        if one is None:
            return None
        parts.append(one)
    return np.concatenate(parts)


def judge(
    recipe: LeastSquaresRecipe, finished: dict[str, tuple[Simulation, Array]], width: float
) -> list[MethodResult]:
    """Compare every method with its own curve and with the reference's.

    Args:
        recipe: the recipe.
        finished: method → its simulation, and its losses of shape (trajectories, recorded steps).
        width: half-width of the bands in standard errors, from `critical_value`.

    Returns:
        A result for each method.

    Raises:
        UserError: the exact loss of a method overflows.
    """
    problem, steps = LeastSquares(*make_data(recipe)), recipe.recorded
    curves = {method: exact_curve(problem, simulation, steps) for method, (simulation, _) in finished.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        means = {method: losses.mean(0) for method, (_, losses) in finished.items()}
    errors = {method: standard_error(losses) for method, (_, losses) in finished.items()}
    results = []
    for method, (simulation, _) in finished.items():
        law, exact, mean, error = simulation.law, curves[method], means[method], errors[method]
        moments = law.moments(recipe.n)
        finite = math.isfinite(moments.alpha)
        goal = curves.get(recipe.reference) if method != recipe.reference else None
        results.append(
            MethodResult(
                method,
                law_text(law),
                moments.alpha if finite else None,
                moments.beta if finite else None,
                not isinstance(law, Injected) or math.isfinite(law.scalar_law.kurtosis),
                None if exact is None else problem.stable_lr(law, momentum=recipe.momentum),
                None if exact is None else exact.tolist(),
                finite_or_none(mean),
                finite_or_none(error),
                None if exact is None else compare_with_curve(exact, mean, error, width, steps),
                None
                if goal is None
                else compare_with_curve(goal, mean, error if finite else errors[recipe.reference], width, steps),
            )
        )
    return results
