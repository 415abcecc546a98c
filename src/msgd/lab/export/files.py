"""The files of an export: which there are for a format, and where they may be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.results import Results
from msgd.lab.export.drawing import WIDTH, content, style
from msgd.lab.export.figures import figures
from msgd.lab.export.records import Rows, curve_rows, decided_by, run_rows, verdict_rows
from msgd.lab.export.table_files import csv_bytes, parquet_bytes
from msgd.lab.export.verdict_table import latex_tables, latex_verdicts
from msgd.lab.report.html import Table
from msgd.lab.safe_io.writing import check_inside, write_atomically

Format = Literal["csv", "parquet", "latex", "svg", "pdf", "png"]
FORMATS: tuple[Format, ...] = get_args(Format)
TABLES = {"csv": csv_bytes, "parquet": parquet_bytes}
FIGURES = ("svg", "pdf", "png")
NARROWEST, WIDEST = 60.0, 400.0  #: mm

Files = Iterator[tuple[str, bytes]]  #: name and content of each file


def check_request(form: str, score: str | None, width: float | None) -> Format:
    """Check the options of an export before anything is read.

    Args:
        form: the format.
        score: name of a score, for LaTeX and figures.
        width: in mm, for figures.

    Returns:
        The format.

    Raises:
        UserError: the format is not known, or an option does not fit it.
    """
    if form not in FORMATS:
        raise UserError(f"--to {form}: take one of {', '.join(FORMATS)}")
    if score is not None and form in TABLES:
        raise UserError(f"--score: the tables of {form} hold every score; leave --score out, or give --to latex")
    if width is not None and form not in FIGURES:
        raise UserError(f"--width: {form} has no width; leave --width out, or give --to {', '.join(FIGURES)}")
    if width is not None and not NARROWEST <= width <= WIDEST:
        raise UserError(f"--width {width:g}: write a number of millimetres from {NARROWEST:g} to {WIDEST:g}")
    return form


def training_files(results: Results, form: Format, *, score: str | None, width: float | None) -> Files:
    """The files of a training experiment.

    Args:
        results: its results.
        form: the format.
        score: the score that decides in LaTeX and figures; None for the experiment's own choice.
        width: of the figures in mm; None for `WIDTH`.

    Yields:
        The name and the content of each file.

    Raises:
        UserError: there is no such score, or a package is missing.
    """
    results = decided_by(results, score)
    if form in TABLES:
        tables: dict[str, Rows] = {
            "runs": run_rows(results),
            "curves": curve_rows(results),
            "verdicts": verdict_rows(results),
        }
        yield from ((f"{name}.{form}", TABLES[form](rows)) for name, rows in tables.items())
    elif form == "latex":
        yield "verdicts.tex", latex_verdicts(results).encode()
    else:
        with style():
            for name, figure in figures(results, WIDTH if width is None else width):
                yield f"{name}.{form}", content(figure, form)


def least_squares_files(tables: Sequence[Table], title: str, form: Format, *, score: str | None) -> Files:
    """The files of simulated least squares: the tables that the terminal shows.

    Args:
        tables: title, headings and rows of each.
        title: of the experiment.
        form: the format.
        score: name of a score, which such an experiment does not have.

    Yields:
        The name and the content of each file.

    Raises:
        UserError: the format or the score does not apply.
    """
    if score is not None:
        raise UserError("--score: simulated least squares have one loss and no scores; leave --score out")
    if form in FIGURES:
        raise UserError(
            f"--to {form}: these figures show trained networks; msgd report draws those of simulated least squares"
        )
    if form == "latex":
        yield "verdicts.tex", latex_tables(tables, title).encode()
    else:
        for number, (_, heads, body) in enumerate(tables, start=1):
            name = "verdicts" if number == 1 else f"verdicts-{number}"
            yield f"{name}.{form}", TABLES[form]([dict(zip(heads, row, strict=True)) for row in body])


def export_folder(experiment: Path, out: Path | None) -> Path:
    """Make the folder for the files.

    Args:
        experiment: the experiment's folder.
        out: the folder that the user names; None for ``export`` in the experiment's folder.

    Returns:
        The folder.

    Raises:
        UserError: it is a file, leads out of the experiment's folder, or holds an experiment.
    """
    folder = experiment / "export" if out is None else out
    if out is None:
        check_inside(folder, experiment)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: give another folder with --out")
    if (folder / "experiment.json").exists():
        raise UserError(f"{folder} holds an experiment: give a folder of its own with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} lies in a file, not in a folder: give another folder with --out") from None
    return folder


def write_files(files: Sequence[tuple[str, bytes]], folder: Path) -> Iterator[Path]:
    """Write files into a folder, each in one step.

    Args:
        files: name and content of each.
        folder: the folder.

    Yields:
        The path of each file, once it is written.
    """
    for name, data in files:
        path = folder / name
        write_atomically(path, data)
        yield path
