"""The command `msgd export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msgd.cli.exit_codes import report_errors
from msgd.cli.options import FolderArgument
from msgd.cli.terminal import make_console


def export(
    folder: FolderArgument,
    to: Annotated[str, typer.Option(help="csv, parquet, latex, svg, pdf or png.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the files.", show_default="FOLDER/export")] = None,
    score: Annotated[
        str | None, typer.Option(help="Score of the LaTeX table and the figures.", show_default="the one that decides")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Width of the figures in mm.", show_default="85")] = None,
) -> None:
    """Write an experiment's results for other programs and for papers: tables, or figures.

    csv and parquet hold the runs, the curves and the verdicts of every score. latex is the table of verdicts. svg, pdf
    and png are figures at the width of a journal's column.
    """
    with report_errors():
        from msgd.lab.export.files import (
            check_request,
            export_folder,
            least_squares_files,
            training_files,
            write_files,
        )
        from msgd.lab.kinds import TrainingExperiment, experiment_in

        form = check_request(to, score, width)
        experiment = experiment_in(folder)
        results = experiment.gather()
        if isinstance(experiment, TrainingExperiment):
            files = training_files(results, form, score=score, width=width)
        else:
            files = least_squares_files(experiment.tables(results), results.recipe.title, form, score=score)
        content, console = list(files), make_console()  # a fault comes before the first file is written
        for path in write_files(content, export_folder(folder, out)):
            console.print(str(path))
