"""The command `msgd run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import report_errors
from msgd.cli.options import (
    AddressOption,
    BackendOption,
    ExecutionOptions,
    RecipeArgument,
    TrustOption,
    parse_names,
    parse_rates,
    parse_settings,
    wants_events,
)
from msgd.cli.terminal import conclude, make_console


def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/RECIPE")] = None,
    methods: Annotated[str | None, typer.Option(help="Only these methods, such as gd,sgd.", show_default="all")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Number N of seeds; the seeds are 0 … N−1.", show_default="the recipe's")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps of each run.", show_default="the recipe's")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of runs at a time.", show_default="number of cores")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tune: Annotated[
        str | None, typer.Option(metavar="lr=A,B,…", help="Pick each method's learning rate on held-out examples.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe: --set lr=0.2 --set methods.gd.lr=0.6"
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    trust: TrustOption = False,
    backend: BackendOption = "loky",
    address: AddressOption = None,
    log: Annotated[
        str | None, typer.Option(metavar="tensorboard", help="Also write the metrics as TensorBoard event files.")
    ] = None,
) -> None:
    """Run an experiment: train every method with every seed, then print the verdicts and write the report.

    Given again, the same command skips finished runs and continues interrupted ones.
    """
    with report_errors():
        from msgd.lab.kinds import RunOptions, experiment_of
        from msgd.lab.recipes.load import load

        changes = parse_settings(settings or [])
        changes |= {key: value for key, value in (("seeds", seeds), ("steps", steps)) if value is not None}
        if tune is not None:
            changes["tune.lr"] = parse_rates(tune)
        requested = RunOptions(backend, jobs, device, data_dir, wants_events(log))
        name = Path(recipe).stem
        chosen = load(recipe, changes, trust=trust).select(None if methods is None else parse_names(methods))
        folder = ExecutionOptions(backend, address, jobs).worker_path(out or Path("runs") / name)
        experiment = experiment_of(name, chosen, folder)
        options, console = experiment.plan(requested), make_console()
        console.print(chosen.title, style="bold")
        with ExecutionOptions(backend, address, options.jobs).workers(console) as workers:
            experiment.run(options, workers, console)
        conclude(folder, console)
