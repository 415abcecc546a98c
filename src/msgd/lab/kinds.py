"""The two kinds of experiment, training and simulated least squares, behind one protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from msgd.lab.data.device import find_device
from msgd.lab.errors import UserError
from msgd.lab.execution.workers import Workers
from msgd.lab.experiment.pipeline import Pipeline
from msgd.lab.experiment_folder.description import Description, read_description
from msgd.lab.experiment_folder.own_code import with_code
from msgd.lab.experiment_folder.results import Results, gather_results
from msgd.lab.experiment_folder.tensorboard import check_installed
from msgd.lab.least_squares import report as least_squares_page
from msgd.lab.least_squares import verdict as least_squares_verdict
from msgd.lab.least_squares.pipeline import simulate_experiment
from msgd.lab.least_squares.results import SimulationResults, gather_simulations
from msgd.lab.measure.measurements_file import current_measurements, read_measurements
from msgd.lab.recipes.least_squares import LeastSquaresRecipe
from msgd.lab.recipes.load import AnyRecipe
from msgd.lab.recipes.schema import Recipe
from msgd.lab.report import page as training_page
from msgd.lab.report.html import Table
from msgd.lab.report.verdict import notes
from msgd.lab.training.data_parallel import check_data_parallel, process_count


@dataclass(frozen=True)
class RunOptions:
    """The options of a command, apart from the recipe.

    Args:
        backend: "loky" or "dask".
        jobs: number of jobs at a time; None: as many as the workers can run.
        device: "auto", "cpu" or "cuda".
        data_dir: folder with the data set's files; None: the default folders.
        events: also write TensorBoard's event files.
    """

    backend: str = "loky"
    jobs: int | None = None
    device: str = "auto"
    data_dir: Path | None = None
    events: bool = False


class Experiment(Protocol):
    """An experiment of either kind, in its folder. Its methods take the results that its own `gather` returns."""

    def plan(self, options: RunOptions) -> RunOptions:
        """Check the options before anything is written, and complete them.

        Args:
            options: the options of the command.

        Returns:
            The options, with the device and the number of jobs filled in.

        Raises:
            UserError: this kind of experiment does not support an option.
        """

    def run(self, options: RunOptions, workers: Workers, console: Console) -> None:
        """Run everything that is not finished.

        Args:
            options: the options that `plan` returned.
            workers: the workers that do the jobs.
            console: the console that shows the progress.

        Raises:
            UserError: there is a fault in the recipe, the data or the folder.
            KeyboardInterrupt: the user pressed Ctrl-C; everything that was saved stays.
        """

    def gather(self) -> Any:
        """Read the finished runs and compute the verdicts.

        Returns:
            The results.

        Raises:
            UserError: nothing is finished, or a file is damaged.
        """

    def tables(self, results: Any) -> list[Table]:
        """The tables that answer the experiment's question."""

    def sentences(self, results: Any) -> list[str]:
        """The verdicts in sentences, and their conditions."""

    def page(self, results: Any) -> str:
        """The report, a complete HTML page."""


@dataclass(frozen=True)
class TrainingExperiment:
    """Networks trained under the noise of each method.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods to run.
        out: the experiment's folder.
        description: the experiment's description, if it was already read from the folder.
    """

    name: str
    recipe: Recipe
    out: Path
    description: Description | None = None

    def plan(self, options: RunOptions) -> RunOptions:
        """See `Experiment.plan`."""
        device = find_device(options.device, local=options.backend == "loky")
        if options.events:
            check_installed()
        if process_count() > 1:  # each run takes all processes
            check_data_parallel(self.recipe, options.jobs, options.backend, device)
            options = replace(options, jobs=1)
        return replace(options, device=device)

    def run(self, options: RunOptions, workers: Workers, console: Console) -> None:
        """See `Experiment.run`."""
        Pipeline(
            self.name, self.recipe, self.out, options.data_dir, workers, options.device, console, options.events
        ).run()

    def gather(self) -> Results:
        """See `Experiment.gather`."""
        return gather_results(self.out, self.description)

    def tables(self, results: Results) -> list[Table]:
        """See `Experiment.tables`."""
        return training_page.tables(results)

    def sentences(self, results: Results) -> list[str]:
        """See `Experiment.sentences`."""
        return [*training_page.answer_sentences(results), *notes(results)]

    def page(self, results: Results) -> str:
        """See `Experiment.page`."""
        measured = read_measurements(self.out)
        current = current_measurements(measured, [done.run for done in results.finished_runs]) if measured else []
        return training_page.page(results, current)


@dataclass(frozen=True)
class LeastSquaresExperiment:
    """SGD on least squares, simulated under each law and compared with the exact curves.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods to run.
        out: the experiment's folder.
        description: the experiment's description, if it was already read from the folder.
    """

    name: str
    recipe: LeastSquaresRecipe
    out: Path
    description: Description | None = None

    def plan(self, options: RunOptions) -> RunOptions:
        """See `Experiment.plan`."""
        if options.data_dir is not None or options.device == "cuda":
            raise UserError(
                f"{self.name}: least squares are simulated on the CPU: leave out --data-dir and --device cuda"
            )
        if options.events:
            raise UserError(f"{self.name}: simulated least squares have no metrics for TensorBoard: leave out --log")
        find_device(options.device)
        return replace(options, device="cpu")

    def run(self, options: RunOptions, workers: Workers, console: Console) -> None:  # noqa: ARG002 - the protocol's
        """See `Experiment.run`."""
        simulate_experiment(self.name, self.recipe, self.out, workers=workers, console=console)

    def gather(self) -> SimulationResults:
        """See `Experiment.gather`."""
        return gather_simulations(self.out, self.description)

    def tables(self, results: SimulationResults) -> list[Table]:
        """See `Experiment.tables`."""
        return [(None, least_squares_verdict.columns(results), least_squares_verdict.rows(results))]

    def sentences(self, results: SimulationResults) -> list[str]:
        """See `Experiment.sentences`."""
        return [*least_squares_verdict.answers(results), *least_squares_verdict.notes(results)]

    def page(self, results: SimulationResults) -> str:
        """See `Experiment.page`."""
        return least_squares_page.page(results)


def experiment_of(name: str, recipe: AnyRecipe, out: Path, description: Description | None = None) -> Experiment:
    """The experiment that a recipe describes.

    Args:
        name: name of the recipe.
        recipe: the recipe, with the methods to run.
        out: the experiment's folder.
        description: the experiment's description, if it was already read from the folder.

    Returns:
        The experiment; the recipe decides its kind.
    """
    if isinstance(recipe, LeastSquaresRecipe):
        return LeastSquaresExperiment(name, recipe, out, description)
    return TrainingExperiment(name, recipe, out, description)


def experiment_in(out: Path) -> Experiment:
    """The experiment that a folder holds.

    Args:
        out: the folder.

    Returns:
        The experiment.

    Raises:
        UserError: the folder holds no experiment, or a file in it is damaged.
    """
    description = read_description(out)
    return experiment_of(description.name, description.recipe, out, description)


def training_in(out: Path, *, trust: bool = False) -> TrainingExperiment:
    """The training experiment that a folder holds, with the code that its recipe names.

    Args:
        out: the folder.
        trust: whether the user allows this code to run.

    Returns:
        The experiment.

    Raises:
        UserError: the folder holds no experiment or a damaged file (see `experiment_in`), or it holds simulated least
            squares, which keep no checkpoints. Or its code may not run, or has changed.
    """
    description = with_code(read_description(out), out, trust=trust)
    experiment = experiment_of(description.name, description.recipe, out, description)
    if not isinstance(experiment, TrainingExperiment):
        raise UserError(
            f"{out}: simulated least squares keep no checkpoints to measure: msgd.theory gives their noise exactly"
        )
    return experiment
