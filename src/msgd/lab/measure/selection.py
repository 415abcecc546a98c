"""Selects the points that `msgd measure` measures: finished runs at the steps whose parameters were saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint, snapshot_steps
from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.experiment_folder.results import Results
from msgd.lab.measure.measurements_file import COSTS, QUANTITIES, Cost, Quantity
from msgd.lab.plan.run import Run


@dataclass(frozen=True)
class Point:
    """A run after one of its steps."""

    run: Run
    folder: Path
    step: int


@dataclass(frozen=True)
class Request:
    """A request to measure.

    Args:
        at: the steps; None: all steps with saved parameters.
        what: the quantities to measure.
        cost: the cost level.
        methods: names of the methods; None: all methods.
        seeds: the number of seeds; the first ones are measured.
    """

    at: tuple[int, ...] | None
    what: tuple[Quantity, ...]
    cost: Cost
    methods: tuple[str, ...] | None
    seeds: int

    def only(self, step: int) -> Request:
        """The same request for one step only."""
        if self.at is not None and self.at != (step,):
            raise UserError(f"--at: the given file is the checkpoint of step {step}; leave --at out")
        return replace(self, at=(step,))


def request_of(at: str | None, what: str | None, cost: str, methods: list[str] | None, seeds: int) -> Request:
    """Build a request from the options of the command.

    Args:
        at: the steps, separated by commas; None: all steps with saved parameters.
        what: the quantities, separated by commas; None: all quantities.
        cost: the cost level.
        methods: names of the methods; None: all methods.
        seeds: the number of seeds; the first ones are measured.

    Returns:
        The request.

    Raises:
        UserError: an option has an invalid value.
    """
    try:
        steps = None if at is None else tuple(sorted({int(step) for step in at.split(",")}))
    except ValueError:
        raise UserError(f"--at {at}: write steps separated by commas, such as --at 0,300") from None
    if cost not in COSTS:
        raise UserError(f"--cost: {cost!r} is unknown; use one of {', '.join(COSTS)}")
    named = list(QUANTITIES) if what is None else [name.strip() for name in what.split(",")]
    for name in named:
        if name not in QUANTITIES:
            raise UserError(f"--what: {name!r} is unknown; use some of {', '.join(QUANTITIES)}")
    things = tuple(thing for thing in QUANTITIES if thing in named)
    return Request(steps, things, cost, None if methods is None else tuple(methods), seeds)


def locate_experiment(target: Path) -> tuple[Path, Path | None, int | None]:
    """Find the experiment that a folder or a checkpoint belongs to.

    Args:
        target: an experiment's folder, a run's folder, or a checkpoint or snapshot in a run's folder.

    Returns:
        The experiment's folder; the run's folder, None if the target is an experiment's folder; the step, None if the
        target is a folder.

    Raises:
        UserError: the target is none of these.
    """
    if (target / "experiment.json").exists():
        return target, None, None
    step, folder = None, target
    if target.is_file():
        is_snapshot = target.parent.name == "snapshots"
        folder = target.parent.parent if is_snapshot else target.parent
        if target.suffix != ".safetensors":
            raise UserError(
                f"{target} is no checkpoint: give a folder that msgd run wrote, or a .safetensors file in it"
            )
        checkpoint = None if is_snapshot else read_checkpoint(folder)
        if is_snapshot and not (target.stem.isascii() and target.stem.isdigit()):
            raise UserError(
                f"{target} is no snapshot of a run: give a file that is named by its step, such as 300.safetensors"
            )
        step = int(target.stem) if is_snapshot else checkpoint.step if checkpoint else None
    out = folder.resolve().parent.parent
    if (out / "experiment.json").exists() and (folder / "config.toml").exists():
        return out, folder.resolve(), step
    raise UserError(f"{target} holds no experiment: give the folder that msgd run wrote, such as runs/mnist1d")


def find_points(results: Results, out: Path, folder: Path | None, request: Request) -> list[Point]:
    """List the points to measure.

    Args:
        results: the results of the experiment.
        out: the experiment's folder.
        folder: the folder of the only run to measure; None: measure all runs.
        request: the methods, seeds and steps.

    Returns:
        The points, ordered by method, then seed, then step.

    Raises:
        UserError: a method has no finished run, a step has no saved parameters, or the run is not finished.
    """
    finished = [done.run for done in results.finished_runs]
    known = dict.fromkeys(run.method for run in finished)
    for name in request.methods or ():
        if name not in known:
            raise UserError(f"--methods: no run of {name!r} is finished; use some of {', '.join(known)}")
    if folder is None:
        chosen = [run for run in finished if request.methods is None or run.method in request.methods]
        first = sorted({run.seed for run in chosen})[: request.seeds]
        selected = [run for run in chosen if run.seed in first]
    else:
        selected = [run for run in finished if run_folder(run, out).resolve() == folder]
        if not selected:
            raise UserError(f"{folder} is no finished run of this experiment: let msgd run end first")
    steps_of = {run: _saved_steps(run, run_folder(run, out)) for run in selected}
    available = sorted({step for steps in steps_of.values() for step in steps})
    for step in request.at or ():
        if step not in available:
            raise UserError(
                f"--at: the parameters of step {step} were not saved; choose from {', '.join(map(str, available))}"
            )
    return [
        Point(run, run_folder(run, out), step)
        for run, steps in steps_of.items()
        for step in sorted(set(steps))
        if request.at is None or step in request.at
    ]


def _saved_steps(run: Run, folder: Path) -> list[int]:
    """The steps with saved parameters of a finished run; if it diverged, the last parameters are not finite."""
    checkpoint = read_checkpoint(folder, tensors=False)
    return [0, *snapshot_steps(folder), checkpoint.step if checkpoint else run.steps]
