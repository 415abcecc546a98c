"""The file ``measurements.json``: what was measured of the noise of an experiment's runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.identity import fingerprint
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Count, Name
from msgd.lab.safe_io.bounded import plain_line
from msgd.lab.safe_io.bounded import read_bytes as read_file
from msgd.lab.safe_io.writing import write_atomically

FILE = "measurements.json"
Quantity = Literal["covariance", "noise-scale", "tails", "sharpness"]  #: what can be measured
Cost = Literal["cheap", "medium", "full"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
COSTS: tuple[Cost, ...] = get_args(Cost)
Finite = Annotated[float, Field(ge=-1e200, le=1e200)]  #: so that means and ratios are finite, too
Numbers = Annotated[list[Finite], Field(min_length=1)]
Notes = list[Annotated[str, AfterValidator(plain_line)]]
Natural = Annotated[int, Field(ge=0, le=10**9)]
BYTES = 2**26  #: of the file: some 10,000 measurements


class Table(BaseModel):
    """A table of the file: nothing may be missing, of another type, or unknown."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Interval(Table):
    """An estimate with its interval; an end at infinity is null, and both ends are the value where it is exact."""

    value: Finite
    low: Finite | None
    high: Finite | None
    level: Finite


class CovarianceResult(Table):
    """The covariance C of the per-example gradients, and the noise that the method makes of it."""

    kind: Literal["covariance"] = "covariance"
    eigenvalues: Numbers  #: the largest of C, in decreasing order
    trace: Finite  #: tr C
    mean_square: Finite  #: ‖ḡ‖²
    stable_rank: Finite | None  #: tr C over its largest eigenvalue
    noise_trace: Finite | None  #: the total variance of the noise of the method's gradient
    alignment: Interval | None = None  #: Tr(H·C)
    noise_alignment: Interval | None = None  #: Tr(H·Cov) for the noise of the method's law


class NoiseScaleResult(Table):
    """The gradient noise scale, in examples."""

    kind: Literal["noise-scale"] = "noise-scale"
    trace: Finite  #: tr C
    mean_square: Finite  #: ‖ḡ‖²
    noise_scale: Finite | None  #: tr C/‖ḡ‖²; null where ḡ is 0
    curved: Finite | None = None  #: Tr(H·C)/(ḡᵀHḡ), at full cost and where both are positive
    b_eff: Finite | None  #: the batch size whose noise the method's law has; null where it has none or no variance


class Direction(Table):
    """The noise of the method's law along one direction."""

    name: str
    excess_kurtosis: Interval  #: 0 for a normal
    hill: Interval | None  #: tail index; null where it cannot be had
    block_index: Interval | None  #: index of a stable law, if it is one: 2 for a normal
    p_normal: Finite  #: of the test of Anderson and Darling, adjusted for the number of directions
    quantiles: Numbers  #: at the normal's −3, −2.85 … 3, with median 0 and a normal's quartiles


class TailsResult(Table):
    """How far the noise is from a normal, along the leading eigenvector of C and random directions."""

    kind: Literal["tails"] = "tails"
    draws: Count
    directions: Annotated[list[Direction], Field(min_length=1)]


class SharpnessResult(Table):
    """The Hessian H of the mean training loss."""

    kind: Literal["sharpness"] = "sharpness"
    eigenvalues: Numbers  #: the largest of H, in decreasing order
    trace: Interval  #: Tr H
    size: Finite  #: standard deviation of the perturbation of each parameter
    loss_change: Interval  #: E L(θ + δ) − L(θ) under perturbations of that size


QuantityResult = Annotated[
    CovarianceResult | NoiseScaleResult | TailsResult | SharpnessResult, Field(discriminator="kind")
]


class Measurement(Table):
    """One thing measured of one run after one of its steps."""

    method: Name
    seed: Natural
    step: Natural
    what: Quantity
    cost: Cost
    run: str  #: `runs.fingerprint` of the run
    loss: Finite | None  #: mean training loss
    found: QuantityResult | None  #: null where nothing could be measured; a note says why
    notes: Notes
    gradients: Finite  #: the cost in gradient equivalents
    seconds: Finite


class Measurements(Table):
    """All of the file."""

    recipe: str
    n: Count
    d: Count
    environment: dict[str, Any]  #: of the last command that measured
    measurements: list[Measurement]


def read_measurements(out: Path) -> Measurements | None:
    """Read the file of an experiment.

    Args:
        out: its folder.

    Returns:
        What is in it; None where there is no such file.

    Raises:
        UserError: it is damaged.
    """
    path = out / FILE
    if not path.exists():
        return None
    try:
        return Measurements.model_validate_json(read_file(path, BYTES))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(
            f"{path} is damaged ({where}: {fault['msg']}): delete it, and msgd measure makes it anew"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete it, and msgd measure makes it anew") from error


def write_measurements(measured: Measurements, out: Path) -> None:
    """Replace the file of an experiment, in one step."""
    text = json.dumps(measured.model_dump(exclude_defaults=False), indent=1, allow_nan=False)
    write_atomically(out / FILE, (text + "\n").encode())


def of_finished_runs(measured: Measurements, finished: list[Run]) -> list[Measurement]:
    """The measurements that are still true: all but those of runs that have been trained again with other settings.

    Args:
        measured: all there are.
        finished: the experiment's runs.

    Returns:
        Those of the runs, as in `current`, and then those of runs that the recipe no longer has.
    """
    named = {(run.method, run.seed) for run in finished}
    return [
        *current_measurements(measured, finished),
        *(m for m in measured.measurements if (m.method, m.seed) not in named),
    ]


def current_measurements(measured: Measurements, finished: list[Run]) -> list[Measurement]:
    """The measurements that are of these runs, in the order of the runs; a run trained with other settings has none.

    Args:
        measured: all there are.
        finished: the experiment's runs.

    Returns:
        Those of the runs, by step within each.
    """
    order = {(run.method, run.seed, fingerprint(run)): place for place, run in enumerate(finished)}
    mine = [m for m in measured.measurements if (m.method, m.seed, m.run) in order]
    return sorted(mine, key=lambda m: (order[m.method, m.seed, m.run], m.step, QUANTITIES.index(m.what)))
