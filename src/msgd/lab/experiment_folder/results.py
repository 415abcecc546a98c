"""Results of an experiment: gathers the finished runs, compares the methods, and writes ``results.json``."""

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
from msgd.lab.experiment_folder.scores import Score, with_margins
from msgd.lab.experiment_folder.tuning import Tuning, read_tuning
from msgd.lab.plan.grid import planned_runs, references
from msgd.lab.plan.run import Run
from msgd.lab.recipes.bounds import EXAMPLES
from msgd.lab.recipes.schema import Recipe
from msgd.lab.safe_io.writing import write_atomically
from msgd.statistics.paired_tests import Comparison, compare


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run with all its evaluations.

    Args:
        run: the run.
        seconds: training time in seconds.
        records: its evaluations, up to the divergence if the run diverged.
        final: its endpoint, metric → value; None if the run diverged.
        diverged: the number of steps after which a loss was not finite; None: every loss was finite.
    """

    run: Run
    seconds: float
    records: list[Record]
    final: dict[str, float] | None
    diverged: int | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """The current results of an experiment: its finished runs and the comparisons of its methods.

    Args:
        name: name of the recipe.
        recipe: the recipe.
        environment: the command's environment.
        finished_runs: the finished runs.
        missing_runs: number of planned runs that are not finished.
        other_runs: number of finished runs in the folder that the recipe does not have.
        comparisons: each method compared with the reference, by the score that decides.
        scores: the scores with their margins; the first one decides.
        tuning: the result of tuning the learning rates; None without tuning.
    """

    name: str
    recipe: Recipe
    environment: dict[str, Any]
    finished_runs: list[FinishedRun]
    missing_runs: int
    other_runs: int
    comparisons: list[Comparison]
    scores: tuple[Score, ...]
    tuning: Tuning | None = None

    @property
    def score(self) -> Score:
        """The score that decides."""
        return self.scores[0]

    def endpoints(self, name: str | None = None) -> dict[str, dict[int, float]]:
        """A score on the test examples at the endpoint of each run.

        A method with a diverged run is left out, because a mean over its other runs would flatter it; so is a method
        with a run whose last evaluations lack the score.

        Args:
            name: name of the score; None: the one that decides.

        Returns:
            Method → seed → value.
        """
        return self._endpoints[self.score.name if name is None else name]

    def comparisons_of(self, name: str) -> list[Comparison]:
        """Each method compared with the reference by one score.

        Args:
            name: name of the score.

        Returns:
            The comparisons. Their p-values are adjusted by Holm over the methods that this score compares, not over the
            scores: each score answers a question of its own.
        """
        return self._comparisons[name]

    def diverged_runs(self) -> dict[str, list[FinishedRun]]:
        """The diverged runs of each method that has any: method → runs."""
        table = {m: [each for each in done if each.diverged is not None] for m, done in self.by_method().items()}
        return {method: done for method, done in table.items() if done}

    def by_method(self) -> dict[str, list[FinishedRun]]:
        """The finished runs of each method: method → runs."""
        return self._by_method

    @cached_property  # computed once: code that asks for it once per method would otherwise take quadratic time
    def _endpoints(self) -> dict[str, dict[str, dict[int, float]]]:
        return {
            score.name: {
                method: {each.run.seed: each.final[score.key] for each in done if each.final}
                for method, done in self.by_method().items()
                if all(each.final and score.key in each.final for each in done)
            }
            for score in self.scores
        }

    @cached_property
    def _comparisons(self) -> dict[str, list[Comparison]]:
        others = {score.name: compare_methods(self, score) for score in self.scores[1:]}
        return {self.score.name: self.comparisons} | others

    @cached_property
    def _by_method(self) -> dict[str, list[FinishedRun]]:
        table: dict[str, list[FinishedRun]] = {}
        for done in self.finished_runs:
            table.setdefault(done.run.method, []).append(done)
        return table

    def as_json(self) -> dict[str, Any]:
        """The contents of ``results.json``; accuracies are in [0, 1], other scores in their unit."""
        return {
            "recipe": self.name,
            "config": self.recipe.model_dump(exclude_none=True),
            "environment": self.environment,
            "n": self.finished_runs[0].run.n,
            "missing_runs": self.missing_runs,
            "runs": [
                {
                    "method": done.run.method,
                    "seed": done.run.seed,
                    "steps": done.run.steps,
                    "seconds": done.seconds,
                    "final": done.final,
                    "diverged": done.diverged,
                }
                for done in self.finished_runs
            ],
            **({"tuning": asdict(self.tuning)} if self.tuning else {}),
            "scores": [asdict(score) for score in self.scores],
            "verdicts": [asdict(comparison) for comparison in self.comparisons],
            "verdicts_by_score": {
                score.name: [asdict(comparison) for comparison in self.comparisons_of(score.name)]
                for score in self.scores[1:]
            },
        }


def gather_results(out: Path, description: Description | None = None) -> Results:
    """Read an experiment's folder and compare the methods of its finished runs.

    Args:
        out: the experiment's folder.
        description: the experiment's description; None: read it from the folder.

    Returns:
        The results, with the verdicts.

    Raises:
        UserError: the folder holds no experiment or no finished run, a file in it is damaged, or the recipe's margins
            do not fit its scores.
    """
    description = description or read_description(out)
    recipe = description.recipe
    if not isinstance(recipe, Recipe):
        raise UserError(f"{out} holds simulated least squares and no training runs: give another folder")
    match description.data:
        case {"n": int(n), "digests": [str(), *_] as digests} if 0 < n <= EXAMPLES:
            digests = list(map(str, digests))
        case _:
            raise UserError(
                f"{out / 'experiment.json'} is damaged (its facts about the data): let msgd run write it again"
            )
    scores = with_margins(description.scores, recipe.margin, recipe.margins)
    planned = planned_runs(recipe, n=n, digests=digests)
    finished = [done for run in planned if (done := _finished(run, run_folder(run, out))) is not None]
    if not finished:
        raise UserError(f"no run in {out} is finished yet: let msgd run end, or start its command again")
    folders = {run_folder(run, out) for run in planned}
    others = sum(path.parent not in folders for path in out.glob("*/seed-*/checkpoint.safetensors"))
    tuning = read_tuning(out) if recipe.tune else None
    missing = len(planned) - len(finished)
    results = Results(description.name, recipe, description.environment, finished, missing, others, [], scores, tuning)
    return replace(results, comparisons=compare_methods(results, results.score))


def compare_methods(results: Results, score: Score) -> list[Comparison]:
    """Compare each method with its reference by one score; see `msgd.statistics.compare`."""
    reference = references(results.recipe) if results.recipe.grid else results.recipe.reference
    return compare(results.endpoints(score.name), reference, score.margin)


def _finished(run: Run, folder: Path) -> FinishedRun | None:
    checkpoint = read_checkpoint(folder, tensors=False)
    if checkpoint is None or not checkpoint.ends(run):
        return None
    check_identity(run, folder)
    records = read_records(run, folder, step=checkpoint.last_metrics_step)
    diverged = checkpoint.diverged
    if diverged is None:  # an earlier version went on training after a loss that is not finite
        diverged = next((r["step"] for r in records if None in (r["train_loss"], r["test_loss"])), None)
    final = endpoint_of(records) if diverged is None else None
    return FinishedRun(run, checkpoint.seconds, records, final, diverged)


class Writable(Protocol):
    """Results of any kind of experiment."""

    def as_json(self) -> dict[str, Any]:
        """The contents of ``results.json``."""


def write_results(results: Writable, out: Path) -> Path:
    """Write ``results.json``.

    Args:
        results: the results.
        out: the experiment's folder.

    Returns:
        The path of the file.
    """
    path = out / "results.json"
    write_atomically(path, (json.dumps(results.as_json(), indent=2, allow_nan=False) + "\n").encode())
    return path
