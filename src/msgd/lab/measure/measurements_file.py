"""The file ``measurements.json``: the measurements of the noise of an experiment's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.identity import fingerprint
from msgd.lab.plan.run import Run
from msgd.lab.recipes.bounds import Count, Name
from msgd.lab.safe_io.bounded import plain_line
from msgd.lab.safe_io.bounded import read_bytes as read_file
from msgd.lab.safe_io.writing import write_atomically

FILE = "measurements.json"
Quantity = Literal["covariance", "noise-scale", "tails", "sharpness"]  #: the quantities that can be measured
Cost = Literal["cheap", "medium", "full"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
COSTS: tuple[Cost, ...] = get_args(Cost)
Finite = Annotated[float, Field(ge=-1e200, le=1e200)]  #: bounded, so that means and ratios are finite as well
Numbers = Annotated[list[Finite], Field(min_length=1)]
Notes = list[Annotated[str, AfterValidator(plain_line)]]
Natural = Annotated[int, Field(ge=0, le=10**9)]
BYTES = 2**26  #: maximum size of the file, enough for about 10,000 measurements


class Table(BaseModel):
    """A table of the file: a missing or unknown key, or a value of another type, is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Interval(Table):
    """An estimate with its interval: an infinite end is null, and both ends of an exact value equal the value."""

    value: Finite
    low: Finite | None
    high: Finite | None
    level: Finite


class CovarianceResult(Table):
    """The covariance C of the per-example gradients, and the noise that the method's law gives."""

    kind: Literal["covariance"] = "covariance"
    eigenvalues: Numbers  #: the largest eigenvalues of C, in decreasing order
    trace: Finite  #: tr C
    mean_square: Finite  #: ‖ḡ‖²
    stable_rank: Finite | None  #: tr C divided by the largest eigenvalue of C
    noise_trace: Finite | None  #: the total variance of the noise in the method's gradient
    alignment: Interval | None = None  #: Tr(H·C)
    noise_alignment: Interval | None = None  #: Tr(H·Cov) for the noise of the method's law


class NoiseScaleResult(Table):
    """The gradient noise scale, in examples."""

    kind: Literal["noise-scale"] = "noise-scale"
    trace: Finite  #: tr C
    mean_square: Finite  #: ‖ḡ‖²
    noise_scale: Finite | None  #: tr C/‖ḡ‖²; null where ḡ is 0
    curved: Finite | None = None  #: Tr(H·C)/(ḡᵀHḡ), at full cost and if both are positive
    b_eff: Finite | None  #: the batch size whose SGD noise the law matches; null without noise or without variance


class Direction(Table):
    """The noise of the method's law along one direction."""

    name: str
    excess_kurtosis: Interval  #: 0 for a normal distribution
    hill: Interval | None  #: tail index; null where it cannot be estimated
    block_index: Interval | None  #: index of a stable law, if the noise follows one: 2 for a normal distribution
    p_normal: Finite  #: p-value of the Anderson–Darling test, adjusted for the number of directions
    quantiles: Numbers  #: at the normal scores −3, −2.85 … 3, scaled to median 0 and normal quartiles


class TailsResult(Table):
    """How far the noise is from normal, along the leading eigenvector of C and along random directions."""

    kind: Literal["tails"] = "tails"
    draws: Count
    directions: Annotated[list[Direction], Field(min_length=1)]


class SharpnessResult(Table):
    """The Hessian H of the mean training loss."""

    kind: Literal["sharpness"] = "sharpness"
    eigenvalues: Numbers  #: the largest eigenvalues of H, in decreasing order
    trace: Interval  #: Tr H
    size: Finite  #: standard deviation of the random perturbation of each parameter
    loss_change: Interval  #: E L(θ + δ) − L(θ) under perturbations of that size


QuantityResult = Annotated[
    CovarianceResult | NoiseScaleResult | TailsResult | SharpnessResult, Field(discriminator="kind")
]


class Measurement(Table):
    """One quantity, measured on one run after one of its steps."""

    method: Name
    seed: Natural
    step: Natural
    what: Quantity
    cost: Cost
    run: str  #: `fingerprint` of the run
    loss: Finite | None  #: mean training loss
    found: QuantityResult | None  #: null if nothing could be measured; a note says why
    notes: Notes
    gradients: Finite  #: the cost in gradient equivalents
    seconds: Finite


class Measurements(Table):
    """The whole file."""

    recipe: str
    n: Count
    d: Count
    environment: dict[str, Any]  #: environment of the last command that measured
    measurements: list[Measurement]


def read_measurements(out: Path) -> Measurements | None:
    """Read an experiment's measurements.

    Args:
        out: the experiment's folder.

    Returns:
        The contents of the file; None if there is no file.

    Raises:
        UserError: the file is damaged or cannot be read.
    """
    path = out / FILE
    if not path.exists():
        return None
    try:
        return Measurements.model_validate_json(read_file(path, BYTES))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(f"{path} is damaged ({where}: {fault['msg']}): delete it and run msgd measure again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and run msgd measure again") from error


def write_measurements(measured: Measurements, out: Path) -> None:
    """Replace an experiment's file of measurements atomically."""
    text = json.dumps(measured.model_dump(exclude_defaults=False), indent=1, allow_nan=False)
    write_atomically(out / FILE, (text + "\n").encode())


def valid_measurements(measured: Measurements, finished: list[Run]) -> list[Measurement]:
    """The measurements that are still valid: all but those of runs that were trained again with other settings.

    Args:
        measured: the contents of the file.
        finished: the experiment's finished runs.

    Returns:
        The measurements of these runs, see `current_measurements`, then those of runs that the recipe no longer has.
    """
    named = {(run.method, run.seed) for run in finished}
    return [
        *current_measurements(measured, finished),
        *(m for m in measured.measurements if (m.method, m.seed) not in named),
    ]


def current_measurements(measured: Measurements, finished: list[Run]) -> list[Measurement]:
    """The measurements of these runs with their present settings, in the order of the runs.

    Args:
        measured: the contents of the file.
        finished: the experiment's finished runs.

    Returns:
        The measurements of the runs, ordered by step within each run.
    """
    order = {(run.method, run.seed, fingerprint(run)): place for place, run in enumerate(finished)}
    mine = [m for m in measured.measurements if (m.method, m.seed, m.run) in order]
    return sorted(mine, key=lambda m: (order[m.method, m.seed, m.run], m.step, QUANTITIES.index(m.what)))
