"""The command `msgd run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from msgd.cli.exit_codes import clear_errors
from msgd.lab.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

from msgd.cli.options import (
    AddressOption,
    BackendOption,
    ExecutionOptions,
    RecipeArgument,
    parse_names,
    parse_rates,
    parse_settings,
    wants_events,
)
from msgd.cli.terminal import make_console


def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/RECIPE")] = None,
    methods: Annotated[str | None, typer.Option(help="Only these methods, as a,b.", show_default="all")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 … N−1.", show_default="the recipe's")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each run.", show_default="the recipe's")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="the cores")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tune: Annotated[
        str | None, typer.Option(metavar="lr=A,B,…", help="Pick each method's learning rate on held-out examples.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe: --set lr=0.2 --set methods.gd.lr=0.6"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    backend: BackendOption = "loky",
    address: AddressOption = None,
    log: Annotated[
        str | None, typer.Option(metavar="tensorboard", help="Write the metrics as TensorBoard's event files, too.")
    ] = None,
) -> None:
    """Run an experiment: every method and seed, then the verdicts and the report.

    Finished runs are skipped and interrupted ones continued when the same command is given again.
    """
    with clear_errors():
        changes = parse_settings(settings or [])
        changes |= {key: value for key, value in (("seeds", seeds), ("steps", steps)) if value is not None}
        if tune is not None:
            changes["tune.lr"] = parse_rates(tune)
        names = None if methods is None else parse_names(methods)
        _run(
            recipe,
            out,
            names,
            changes,
            ExecutionOptions(backend, address, jobs),
            device,
            data_dir,
            events=wants_events(log),
        )


def _run(
    name: str,
    out: Path | None,
    methods: list[str] | None,
    changes: dict[str, Any],
    who: ExecutionOptions,
    device: str,
    data_dir: Path | None,
    *,
    events: bool,
) -> None:
    from msgd.cli.terminal import conclude
    from msgd.lab.recipes.source import kind_of, read_table, recipe_names, recipe_text

    source = f"recipe {name}" if name in recipe_names() else name
    table = read_table(recipe_text(name), source=source, settings=changes)
    name = Path(name).stem
    out, console = who.place(out or Path("runs") / name), make_console()
    if kind_of(table, source=source) == "least-squares":
        if data_dir is not None or device == "cuda":
            raise UserError(f"{source}: least squares are simulated on the CPU: leave out --data-dir and --device cuda")
        if events:
            raise UserError(f"{source}: simulated least squares have no metrics for TensorBoard: leave out --log")
        who.device(device)
        _simulate(name, table, source, methods, out, who, console)
    else:
        _train(name, table, source, methods, out, who, who.device(device), data_dir, console, events)
    conclude(out, console)


def _train(
    name: str,
    table: dict[str, Any],
    source: str,
    methods: list[str] | None,
    out: Path,
    who: ExecutionOptions,
    device: str,
    data_dir: Path | None,
    console: Console,
    events: bool,
) -> None:
    from msgd.lab.recipes.parse import select_methods, validate_recipe

    recipe = select_methods(validate_recipe(table, source=source), methods)

    if events:
        from msgd.lab.experiment_folder.tensorboard import check_installed

        check_installed()

    from msgd.lab.experiment.pipeline import Experiment
    from msgd.lab.training.data_parallel import check_data_parallel, process_count

    console.print(recipe.title, style="bold")
    if process_count() > 1:
        check_data_parallel(recipe, who.jobs, who.backend, device)
        who = who._replace(jobs=1)
        console.print(f"Each step is shared out over {process_count()} processes.")
    with who.workers(console) as workers:
        Experiment(name, recipe, out, data_dir, workers, device, console, events).conduct()


def _simulate(
    name: str,
    table: dict[str, Any],
    source: str,
    methods: list[str] | None,
    out: Path,
    who: ExecutionOptions,
    console: Console,
) -> None:
    from msgd.lab.least_squares.pipeline import simulate_experiment
    from msgd.lab.least_squares.recipe import parse_least_squares, select_simulations

    recipe = select_simulations(parse_least_squares(table, source=source), methods)
    console.print(recipe.title, style="bold")
    with who.workers(console) as workers:
        simulate_experiment(name, recipe, out, workers=workers, console=console)
