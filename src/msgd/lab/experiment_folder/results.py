"""Results of an experiment: finished runs gathered, judged, and written as ``results.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.experiment_folder.description import Description, read_description
from msgd.lab.experiment_folder.identity import check_identity, run_folder
from msgd.lab.experiment_folder.metrics import Record, endpoint_of, read_records
from msgd.lab.experiment_folder.tuning import Tuning, read_tuning
from msgd.lab.plan.grid import planned_runs, references
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import EXAMPLES, Recipe
from msgd.lab.safe_io.writing import write_atomically
from msgd.statistics.paired_tests import Comparison, compare


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run that is done, with all its evaluations.

    Args:
        run: the run.
        seconds: of training.
        records: its evaluations; those of a run that diverged end there.
        final: its endpoint; None for a run that diverged, which has none.
        diverged: the number of steps after which a loss was not finite; None: after none.
    """

    run: Run
    seconds: float
    records: list[Record]
    final: dict[str, float] | None
    diverged: int | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """An experiment as it stands: its finished runs and what they say."""

    name: str
    recipe: Recipe
    environment: dict[str, Any]
    finished: list[FinishedRun]
    missing: int
    others: int
    comparisons: list[Comparison]
    tuning: Tuning | None = None

    def scores(self) -> dict[str, dict[int, float]]:
        """Test accuracy at the endpoint, of methods none of whose runs diverged: a mean over the others would flatter.

        Returns:
            Method → seed → value, in [0, 1].
        """
        return self._scores

    def diverged(self) -> dict[str, list[FinishedRun]]:
        """The runs that diverged: method → runs, of the methods that have any."""
        table = {m: [each for each in done if each.diverged is not None] for m, done in self.by_method().items()}
        return {method: done for method, done in table.items() if done}

    def by_method(self) -> dict[str, list[FinishedRun]]:
        """The finished runs of each method."""
        return self._by_method

    @cached_property  # both are asked for by every method: with many of them that would be quadratic
    def _scores(self) -> dict[str, dict[int, float]]:
        return {
            method: {each.run.seed: each.final["test_accuracy"] for each in done if each.final}
            for method, done in self.by_method().items()
            if all(each.final for each in done)
        }

    @cached_property
    def _by_method(self) -> dict[str, list[FinishedRun]]:
        table: dict[str, list[FinishedRun]] = {}
        for done in self.finished:
            table.setdefault(done.run.method, []).append(done)
        return table

    def as_json(self) -> dict[str, Any]:
        """What ``results.json`` holds; accuracies in [0, 1]."""
        return {
            "recipe": self.name,
            "config": self.recipe.model_dump(exclude_none=True),
            "environment": self.environment,
            "missing_runs": self.missing,
            "runs": [
                {
                    "method": done.run.method,
                    "seed": done.run.seed,
                    "steps": done.run.steps,
                    "seconds": done.seconds,
                    "final": done.final,
                    "diverged": done.diverged,
                }
                for done in self.finished
            ],
            **({"tuning": asdict(self.tuning)} if self.tuning else {}),
            "verdicts": [asdict(comparison) for comparison in self.comparisons],
        }


def gather_results(out: Path, described: Description | None = None) -> Results:
    """Read an experiment's folder and judge its finished runs.

    Args:
        out: its folder.
        described: what the folder says of the experiment; None: it is read.

    Returns:
        The results, with the verdicts.

    Raises:
        UserError: it is no such folder, holds no finished run, or a file in it is damaged.
    """
    described = described or read_description(out)
    recipe = described.recipe
    if not isinstance(recipe, Recipe):
        raise UserError(f"{out} holds simulated least squares, and no training runs: give another folder")
    match described.data:
        case {"n": int(n), "digests": [str(), *_] as digests} if 0 < n <= EXAMPLES:
            digests = list(map(str, digests))
        case _:
            raise UserError(f"{out / 'experiment.json'} is damaged (of the data): msgd run writes it anew")
    planned = planned_runs(recipe, n=n, digests=digests)
    finished = [done for run in planned if (done := _finished(run, run_folder(run, out))) is not None]
    if not finished:
        raise UserError(f"no run in {out} is finished yet: let msgd run end, or give its command again")
    shown = {run_folder(run, out) for run in planned}
    others = sum(path.parent not in shown for path in out.glob("*/seed-*/checkpoint.safetensors"))
    tuned = read_tuning(out) if recipe.tune else None
    results = Results(
        described.name, recipe, described.environment, finished, len(planned) - len(finished), others, [], tuned
    )
    reference = references(recipe) if recipe.grid else recipe.reference
    return replace(results, comparisons=compare(results.scores(), reference, recipe.margin))


def _finished(run: Run, folder: Path) -> FinishedRun | None:
    checkpoint = read_checkpoint(folder, tensors=False)
    if checkpoint is None or not checkpoint.ends(run):
        return None
    check_identity(run, folder)
    records = read_records(run, folder, step=checkpoint.evaluated)
    diverged = checkpoint.diverged
    if diverged is None:  # a version before this one went on with what is not finite
        diverged = next((r["step"] for r in records if None in (r["train_loss"], r["test_loss"])), None)
    final = endpoint_of(records) if diverged is None else None
    return FinishedRun(run, checkpoint.seconds, records, final, diverged)


class Writable(Protocol):
    """Results of any kind of experiment."""

    def as_json(self) -> dict[str, Any]:
        """What ``results.json`` holds."""


def write_results(results: Writable, out: Path) -> Path:
    """Write ``results.json``.

    Args:
        results: to write.
        out: the experiment's folder.

    Returns:
        The file.
    """
    path = out / "results.json"
    write_atomically(path, (json.dumps(results.as_json(), indent=2, allow_nan=False) + "\n").encode())
    return path
