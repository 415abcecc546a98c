"""Results of a least-squares experiment: losses gathered, and judged against the exact curves."""

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

NORMAL95 = 1.959963984540054


@dataclass(frozen=True)
class MethodResult:
    """One method: its trajectories' mean loss, and the exact curve.

    Args:
        method: as in the recipe.
        law: as one writes it.
        alpha: α; None where the law has no variance.
        beta: β; None likewise.
        fourth_moment: whether the weights have one, so that the mean of losses has a standard error.
        stable_lr: the largest step size of mean-square stability; None where there is no exact curve.
        exact: expected loss at the recorded steps; None where the theory has none: no variance, or steps that are tied.
        mean: mean loss over trajectories at the recorded steps; None where it is not finite.
        error: its standard error; None where it is not finite.
        own: the mean against the method's own curve; None where it has none.
        reference: the mean against the reference's curve; None for the reference, or where that was not run. The band's
            standard error is the method's own, or, for a law without a variance, the reference's.
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
        """Mean loss after the last step, and half its 95% interval; None where they are not finite."""
        mean, error = self.mean[-1], self.error[-1]
        return None if mean is None or error is None else (mean, NORMAL95 * error)


@dataclass(frozen=True, eq=False)
class SimulationResults:
    """A least-squares experiment as it stands.

    Args:
        name: of the recipe.
        recipe: with the methods that were asked for.
        environment: of the command.
        critical: half-width of the bands in standard errors.
        judged: the finished methods.
        missing: methods that are not finished.
    """

    name: str
    recipe: LeastSquaresRecipe
    environment: dict[str, Any]
    critical: float
    judged: list[MethodResult]
    missing: list[str]

    def as_json(self) -> dict[str, Any]:
        """What ``results.json`` holds: the fields of this class, `Judged` and `CurveTest` under their names."""
        return {
            "recipe": self.name,
            "config": self.recipe.model_dump(exclude_none=True),
            "environment": self.environment,
            "steps": self.recipe.recorded,
            "critical": self.critical,
            "missing_methods": self.missing,
            "methods": [
                asdict(j) | {"verdict": j.own.verdict if j.own else None, "final": j.final} for j in self.judged
            ],
        }


def results_from_json(table: dict[str, Any]) -> SimulationResults:
    """Read results back from what ``results.json`` holds.

    Args:
        table: the JSON object.

    Returns:
        The results.

    Raises:
        UserError: it holds another kind of results.
    """
    judged = []
    for method in table["methods"]:
        fields = {key: value for key, value in method.items() if key not in ("verdict", "final")}
        for key in ("own", "reference"):
            fields[key] = CurveTest(**fields[key]) if fields[key] else None
        judged.append(MethodResult(**fields))
    recipe = recipe_from(table["config"], source="results.json")
    if not isinstance(recipe, LeastSquaresRecipe):
        raise UserError("results.json is not of simulated least squares")
    return SimulationResults(
        table["recipe"], recipe, table["environment"], table["critical"], judged, table["missing_methods"]
    )


def gather_simulations(out: Path, described: Description | None = None) -> SimulationResults:
    """Read an experiment's folder and judge its finished methods.

    Args:
        out: its folder.
        described: what the folder says of the experiment; None: it is read.

    Returns:
        The results.

    Raises:
        UserError: no method is finished, or a file is damaged.
    """
    described = described or read_description(out)
    recipe = described.recipe
    if not isinstance(recipe, LeastSquaresRecipe):
        raise UserError(f"{out} holds training runs, and no simulated least squares: give another folder")
    found: dict[str, tuple[Simulation, Array]] = {}
    missing = []
    for simulation in planned_simulations(recipe):
        losses = _losses(recipe, simulation, out)
        if losses is None:
            missing.append(simulation.method)
        else:
            found[simulation.method] = simulation, losses
    if not found:
        raise UserError(f"no method in {out} is finished yet: let msgd run end, or give its command again")
    width = critical_value(recipe.false_alarms, methods=len(recipe.methods), steps=len(recipe.recorded) - 1)
    return SimulationResults(described.name, recipe, described.environment, width, judge(recipe, found, width), missing)


def _losses(recipe: LeastSquaresRecipe, simulation: Simulation, out: Path) -> Array | None:
    check_identity(simulation, out / simulation.method)
    read = []
    for part in parts_of(recipe):
        one = read_losses(losses_path(out, simulation.method, part), (len(part), len(recipe.recorded)))
        if one is None:
            return None
        read.append(one)
    return np.concatenate(read)


def judge(recipe: LeastSquaresRecipe, found: dict[str, tuple[Simulation, Array]], width: float) -> list[MethodResult]:
    """Compare every method with its own curve and with the reference's.

    Args:
        recipe: the recipe.
        found: method → simulation, and losses of shape (trajectories, recorded).
        width: of the bands, from `critical`.

    Returns:
        The methods, judged.

    Raises:
        UserError: the exact loss of a method overflows.
    """
    problem, steps = LeastSquares(*make_data(recipe)), recipe.recorded
    curves = {method: exact_curve(problem, simulation, steps) for method, (simulation, _) in found.items()}
    with np.errstate(over="ignore", invalid="ignore"):
        means = {method: losses.mean(0) for method, (_, losses) in found.items()}
    errors = {method: standard_error(losses) for method, (_, losses) in found.items()}
    judged = []
    for method, (simulation, _) in found.items():
        law, exact, mean, error = simulation.law, curves[method], means[method], errors[method]
        moments = law.moments(recipe.n)
        finite = math.isfinite(moments.alpha)
        goal = curves.get(recipe.reference) if method != recipe.reference else None
        judged.append(
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
    return judged
