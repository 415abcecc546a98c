"""The points that `msgd measure` measures at: runs after those of their steps whose parameters were kept."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from msgd.errors import UserError
from msgd.lab import runs
from msgd.lab.data import Data
from msgd.lab.fitting import check_model
from msgd.lab.measurements import COSTS, WHATS, Cost, What
from msgd.lab.models import initial_network
from msgd.lab.plan import Run
from msgd.lab.results import Results


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
    what: tuple[What, ...]
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
    named = list(WHATS) if what is None else [name.strip() for name in what.split(",")]
    for name in named:
        if name not in WHATS:
            raise UserError(f"--what: {name!r} is none of {', '.join(WHATS)}")
    things = tuple(thing for thing in WHATS if thing in named)
    return Request(steps, things, cost, None if methods is None else tuple(methods), seeds)


def locate(target: Path) -> tuple[Path, Path | None, int | None]:
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
        checkpoint = None if kept else runs.read_checkpoint(folder)
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
        wanted = [run for run in finished if runs.folder_of(run, out).resolve() == folder]
        if not wanted:
            raise UserError(f"{folder} is no finished run of this experiment: let msgd run end first")
    kept = {run: _kept(run, runs.folder_of(run, out)) for run in wanted}
    there = sorted({step for steps in kept.values() for step in steps})
    for step in request.at or ():
        if step not in there:
            raise UserError(f"--at: no parameters are kept of step {step}; there are {', '.join(map(str, there))}")
    return [
        Point(run, runs.folder_of(run, out), step)
        for run, steps in kept.items()
        for step in sorted(set(steps))
        if request.at is None or step in request.at
    ]


def _kept(run: Run, folder: Path) -> list[int]:
    """The steps whose parameters a finished run has kept; where it diverged the last are not finite."""
    checkpoint = runs.read_checkpoint(folder, tensors=False)
    return [0, *runs.snapshot_steps(folder), checkpoint.step if checkpoint else run.steps]


def network(point: Point, examples: Data, device: str) -> nn.Module:
    """Build a run's network with its parameters at a step.

    Args:
        point: the run and the step.
        examples: for the shapes of inputs and outputs.
        device: "cpu" or "cuda".

    Returns:
        The network; at step 0 as it is initialised.

    Raises:
        UserError: the file is damaged or of another run, or its tensors are not those of the network.
    """
    model = initial_network(point.run, examples)
    if point.step > 0:
        _fill(model, point)
    return model.to(device)


def _fill(model: nn.Module, point: Point) -> None:
    """Copy the tensors of a checkpoint into a network, once they are known to fit."""
    if point.step in runs.snapshot_steps(point.folder):
        tensors = runs.read_snapshot(point.run, point.folder, point.step)
        path = point.folder / "snapshots" / f"{point.step}.safetensors"
    else:
        checkpoint = runs.read_checkpoint(point.folder)
        tensors = checkpoint.tensors if checkpoint else {}
        path = point.folder / "checkpoint.safetensors"
    model.load_state_dict(check_model(path, point.run, tensors, model))


def check_loss(point: Point, loss: float) -> None:
    """Compare with what the run wrote down: a checkpoint of another recipe may fit, but has another loss.

    Args:
        point: the run and the step.
        loss: mean training loss of the parameters.

    Raises:
        UserError: the run had another one, or its metrics are damaged.
    """
    checkpoint = runs.read_checkpoint(point.folder, tensors=False)
    if point.step not in point.run.evaluations or (checkpoint and checkpoint.evaluated < point.step):
        return
    recorded = runs.read_records(point.run, point.folder, step=point.step)[-1]["train_loss"]
    same = not math.isfinite(loss) if recorded is None else abs(loss - recorded) <= 1e-3 * abs(recorded) + 1e-6
    if not same:
        raise UserError(
            f"{point.folder}: the parameters of step {point.step} have a training loss of {loss:.6g}, and the run "
            f"wrote down {json.dumps(recorded)}: they are of another run, or of another version; train it again"
        )
