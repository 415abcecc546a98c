"""The command `msgd measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import clear_errors
from msgd.cli.options import AddressOption, BackendOption, ExecutionOptions, parse_names
from msgd.cli.terminal import make_console, print_sentences, print_table


def measure(
    target: Annotated[
        Path, typer.Argument(help="A folder that msgd run wrote, a run in it, or one of its checkpoints.")
    ],
    at: Annotated[str | None, typer.Option(help="Only these steps, as 0,300.", show_default="all kept")] = None,
    what: Annotated[
        str | None, typer.Option(help="Some of covariance,noise-scale,tails,sharpness.", show_default="all")
    ] = None,
    cost: Annotated[str, typer.Option(help="How much of each: cheap, medium or full.")] = "cheap",
    methods: Annotated[str | None, typer.Option(help="Only these methods, as a,b.", show_default="all")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="The first so many seeds of each method.")] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="the cores")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    backend: BackendOption = "loky",
    address: AddressOption = None,
) -> None:
    """Measure the noise of finished runs: covariance, noise scale, tails, sharpness.

    By default of the first seed of each method, at every step that is kept. Writes measurements.json and the report.
    What is measured already is skipped when the same command is given again.
    """
    with clear_errors():
        from msgd.lab.data.device import find_device
        from msgd.lab.kinds import training_in
        from msgd.lab.measure.pipeline import measure_experiment
        from msgd.lab.measure.selection import locate_experiment, request_of
        from msgd.lab.report.html import write_page
        from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows

        execution, console = ExecutionOptions(backend, address, jobs), make_console()
        request = request_of(at, what, cost, None if methods is None else parse_names(methods), seeds)
        out, folder, step = locate_experiment(execution.place(target))
        experiment = training_in(out)
        results = experiment.gather()
        place = find_device(device, local=backend == "loky")
        with execution.workers(console) as workers:
            measured = measure_experiment(
                results,
                out,
                folder,
                request if step is None else request.only(step),
                data_dir=data_dir,
                workers=workers,
                device=place,
                console=console,
            )
        for table in (noise_rows(measured), shape_rows(measured)):
            print_table(console, *table)
        print_sentences(console, noise_notes(measured))
        console.print(f"\nReport: {write_page(experiment.page(results), out)}")
