"""The command `msgd measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import report_errors
from msgd.cli.options import AddressOption, BackendOption, ExecutionOptions, TrustOption, parse_names
from msgd.cli.terminal import make_console, print_sentences, print_table


def measure(
    target: Annotated[Path, typer.Argument(help="A folder written by msgd run, one of its runs, or a checkpoint.")],
    at: Annotated[
        str | None, typer.Option(help="Only these steps, such as 0,300.", show_default="all saved steps")
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(help="Some of covariance,noise-scale,tails,sharpness, separated by commas.", show_default="all"),
    ] = None,
    cost: Annotated[str, typer.Option(help="How thoroughly to measure each: cheap, medium or full.")] = "cheap",
    methods: Annotated[str | None, typer.Option(help="Only these methods, such as gd,sgd.", show_default="all")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds of each method to measure, from the first.")] = 1,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Number of runs at a time.", show_default="number of cores")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    trust: TrustOption = False,
    backend: BackendOption = "loky",
    address: AddressOption = None,
) -> None:
    """Measure the noise of finished runs: covariance, noise scale, tails, sharpness.

    By default, the first seed of each method is measured at every step whose parameters were saved. The command writes
    measurements.json and the report. Given again, it skips what is already measured.
    """
    with report_errors():
        from msgd.lab.data.device import find_device
        from msgd.lab.kinds import training_in
        from msgd.lab.measure.pipeline import measure_experiment
        from msgd.lab.measure.selection import locate_experiment, request_of
        from msgd.lab.report.html import write_page
        from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows

        execution, console = ExecutionOptions(backend, address, jobs), make_console()
        request = request_of(at, what, cost, None if methods is None else parse_names(methods), seeds)
        out, folder, step = locate_experiment(execution.worker_path(target))
        experiment = training_in(out, trust=trust)
        results = experiment.gather()
        target_device = find_device(device, local=backend == "loky")
        with execution.workers(console) as workers:
            measured = measure_experiment(
                results,
                out,
                folder,
                request if step is None else request.only(step),
                data_dir=data_dir,
                workers=workers,
                device=target_device,
                console=console,
            )
        for table in (noise_rows(measured), shape_rows(measured)):
            print_table(console, *table)
        print_sentences(console, noise_notes(measured))
        console.print(f"\nReport: {write_page(experiment.page(results), out)}")
