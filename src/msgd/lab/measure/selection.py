"""The points that `msgd measure` measures at: runs after those of their steps whose parameters were kept."""

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
    """What is to be measured.

    Args:
        at: steps; None: all that are kept.
        what: things to measure.
        cost: how much of each.
        methods: names; None: all.
        seeds: the first so many.
    """

    at: tuple[int, ...] | None
    what: tuple[Quantity, ...]
    cost: Cost
    methods: tuple[str, ...] | None
    seeds: int

    def only(self, step: int) -> Request:
        """The same of one step."""
        if self.at is not None and self.at != (step,):
            raise UserError(f"--at: that is the checkpoint of step {step}; leave --at out")
        return replace(self, at=(step,))


def request_of(at: str | None, what: str | None, cost: str, methods: list[str] | None, seeds: int) -> Request:
    """Read a request from the options of the command.

    Args:
        at: steps, separated by commas; None: all that are kept.
        what: things, separated by commas; None: all.
        cost: how much of each.
        methods: names; None: all.
        seeds: the first so many.

    Returns:
        The request.

    Raises:
        UserError: an option is not possible.
    """
    try:
        steps = None if at is None else tuple(sorted({int(step) for step in at.split(",")}))
    except ValueError:
        raise UserError(f"--at {at}: write steps, as --at 0,300") from None
    if cost not in COSTS:
        raise UserError(f"--cost: {cost!r} is none of {', '.join(COSTS)}")
    named = list(QUANTITIES) if what is None else [name.strip() for name in what.split(",")]
    for name in named:
        if name not in QUANTITIES:
            raise UserError(f"--what: {name!r} is none of {', '.join(QUANTITIES)}")
    things = tuple(thing for thing in QUANTITIES if thing in named)
    return Request(steps, things, cost, None if methods is None else tuple(methods), seeds)


def locate_experiment(target: Path) -> tuple[Path, Path | None, int | None]:
    """Find the experiment that a folder or a checkpoint belongs to.

    Args:
        target: an experiment's folder, a run's, or a checkpoint or snapshot in that.

    Returns:
        The experiment's folder; the run's, if it is one; the step, if it is a snapshot or a checkpoint.

    Raises:
        UserError: it is none of these.
    """
    if (target / "experiment.json").exists():
        return target, None, None
    step, folder = None, target
    if target.is_file():
        kept = target.parent.name == "snapshots"
        folder = target.parent.parent if kept else target.parent
        if target.suffix != ".safetensors":
            raise UserError(f"{target} is no checkpoint: give a folder that msgd run wrote, or a .safetensors in it")
        checkpoint = None if kept else read_checkpoint(folder)
        if kept and not (target.stem.isascii() and target.stem.isdigit()):
            raise UserError(f"{target} is no snapshot of a run: its name is not a step")
        step = int(target.stem) if kept else checkpoint.step if checkpoint else None
    out = folder.resolve().parent.parent
    if (out / "experiment.json").exists() and (folder / "config.toml").exists():
        return out, folder.resolve(), step
    raise UserError(f"{target} holds no experiment: give the folder that msgd run wrote, such as runs/mnist1d")


def find_points(results: Results, out: Path, folder: Path | None, request: Request) -> list[Point]:
    """List what is to be measured.

    Args:
        results: the experiment's finished runs.
        out: its folder.
        folder: of the one run that is wanted; None: of all.
        request: which methods, seeds and steps.

    Returns:
        The points, steps within seeds within methods.

    Raises:
        UserError: a method, a step or the run is not there.
    """
    finished = [done.run for done in results.finished]
    known = dict.fromkeys(run.method for run in finished)
    for name in request.methods or ():
        if name not in known:
            raise UserError(f"--methods: no run of {name!r} is finished; take some of {', '.join(known)}")
    if folder is None:
        chosen = [run for run in finished if request.methods is None or run.method in request.methods]
        first = sorted({run.seed for run in chosen})[: request.seeds]
        wanted = [run for run in chosen if run.seed in first]
    else:
        wanted = [run for run in finished if run_folder(run, out).resolve() == folder]
        if not wanted:
            raise UserError(f"{folder} is no finished run of this experiment: let msgd run end first")
    kept = {run: _kept(run, run_folder(run, out)) for run in wanted}
    there = sorted({step for steps in kept.values() for step in steps})
    for step in request.at or ():
        if step not in there:
            raise UserError(f"--at: no parameters are kept of step {step}; there are {', '.join(map(str, there))}")
    return [
        Point(run, run_folder(run, out), step)
        for run, steps in kept.items()
        for step in sorted(set(steps))
        if request.at is None or step in request.at
    ]


def _kept(run: Run, folder: Path) -> list[int]:
    """The steps whose parameters a finished run has kept; where it diverged the last are not finite."""
    checkpoint = read_checkpoint(folder, tensors=False)
    return [0, *snapshot_steps(folder), checkpoint.step if checkpoint else run.steps]
