"""The command `msgd measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import clear_errors
from msgd.cli.options import AddressOption, BackendOption, ExecutionOptions, parse_names
from msgd.cli.terminal import make_console
from msgd.lab.errors import UserError


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
        _measure(target, at, what, cost, methods, seeds, ExecutionOptions(backend, address, jobs), device, data_dir)


def _measure(
    target: Path,
    at: str | None,
    what: str | None,
    cost: str,
    methods: str | None,
    seeds: int,
    who: ExecutionOptions,
    device: str,
    data_dir: Path | None,
) -> None:
    from msgd.cli.terminal import print_table
    from msgd.lab.experiment_folder.description import kind_in
    from msgd.lab.experiment_folder.results import gather_results
    from msgd.lab.measure.pipeline import measure_experiment as run_measurements
    from msgd.lab.measure.selection import locate_experiment, request_of
    from msgd.lab.report.noise_tables import noise_notes, noise_rows, shape_rows
    from msgd.lab.report.page import write_report

    request = request_of(at, what, cost, None if methods is None else parse_names(methods), seeds)
    out, folder, step = locate_experiment(who.place(target))
    if kind_in(out) == "least-squares":
        raise UserError(f"{out}: simulated least squares keep no checkpoints; what they are is known exactly (theory)")
    gathered, console = gather_results(out), make_console()
    place = who.device(device)
    with who.workers(console) as workers:
        measured = run_measurements(
            gathered,
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
    console.print()
    for sentence in noise_notes(measured):
        console.print(sentence)
    console.print(f"\nReport: {write_report(gathered, out)}")
