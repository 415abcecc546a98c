"""The results of an experiment in Python: tables, curves, figures and verdicts."""

from __future__ import annotations

import html
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich.console import Console

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.results import Results, write_results
from msgd.lab.export.records import curve_rows, run_rows
from msgd.lab.kinds import TrainingExperiment, experiment_in
from msgd.lab.report.figures import curves, differences, endpoints
from msgd.lab.report.html import write_page
from msgd.lab.report.text_table import text_table
from msgd.statistics.paired_tests import Comparison


def load(folder: str | Path) -> Result:
    """Read the results of an experiment that `compare` or `msgd run` trained.

    Args:
        folder: the experiment's folder.

    Returns:
        The results of the runs that are finished.

    Raises:
        UserError: the folder holds no experiment or no finished run, or a file in it is damaged.
    """
    experiment = experiment_in(Path(folder))
    if not isinstance(experiment, TrainingExperiment):
        raise UserError(f"{folder} holds simulated least squares: read its results.json")
    return Result(experiment, experiment.gather())


class Result:
    """The finished runs of an experiment, and the verdicts on its methods.

    Printed, it is the table of verdicts; in a notebook as well.

    Args:
        experiment: the experiment.
        results: what its folder holds.
    """

    def __init__(self, experiment: TrainingExperiment, results: Results) -> None:
        self._experiment, self._results = experiment, results

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return self._experiment.out

    @property
    def scores(self) -> tuple[str, ...]:
        """The names of the scores; the first one decides."""
        return tuple(score.name for score in self._results.scores)

    @property
    def verdicts(self) -> list[Comparison]:
        """Each method compared with the reference, by the deciding score."""
        return self._results.comparisons

    def verdicts_of(self, score: str) -> list[Comparison]:
        """Each method compared with the reference, by a score.

        Args:
            score: name of the score.

        Returns:
            The comparisons.

        Raises:
            UserError: there is no such score.
        """
        self._check_score(score)
        return self._results.comparisons_of(score)

    @property
    def sentences(self) -> list[str]:
        """The verdicts in sentences, and their conditions."""
        return self._experiment.sentences(self._results)

    def records(self) -> list[dict[str, Any]]:
        """A row for each finished run: its method, seed and settings, its cost, and each metric at its endpoint."""
        return run_rows(self._results)

    def frame(self) -> Any:
        """The rows of `records` as a data frame of pandas or, without pandas, of polars."""
        return _data_frame(self.records())

    def curves(self) -> Any:
        """A data frame with a row for each evaluation of each finished run: method, seed, step, and the metrics."""
        return _data_frame(curve_rows(self._results))

    def figure(self, name: str | None = None) -> go.Figure:
        """Draw a figure.

        Args:
            name: a score, such as "accuracy", for its curves on the test examples, or "train_loss" for those on the
                training examples; "endpoints" for where each run ended, "differences" for the differences from the
                reference, by the deciding score; None for the curves of the deciding score.

        Returns:
            A figure of Plotly.

        Raises:
            UserError: there is no such score or figure.
        """
        name = self.scores[0] if name is None else name
        if name in ("endpoints", "differences"):
            return {"endpoints": endpoints, "differences": differences}[name](self._results)
        split, _, rest = name.partition("_")
        split, name = (split, rest) if split in ("test", "train") else ("test", name)
        self._check_score(name)
        return curves(self._results, next(s for s in self._results.scores if s.name == name), split)

    def write(self) -> Path:
        """Write ``results.json`` and ``report.html`` into the folder.

        Returns:
            The path of the report.
        """
        write_results(self._results, self.folder)
        return write_page(self._experiment.page(self._results), self.folder)

    def __repr__(self) -> str:
        text = StringIO()
        console = Console(file=text, width=140, highlight=False, markup=False)
        for title, heads, body in self._experiment.tables(self._results):
            console.print(text_table(heads, body, title=title))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        parts = []
        for title, heads, body in self._experiment.tables(self._results):
            rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
            head = "".join(f"<th>{html.escape(each)}</th>" for each in heads)
            caption = f"<caption>{html.escape(title)}</caption>" if title else ""
            lines = "".join(f"<tr>{row}</tr>" for row in rows)
            parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>")
        sentences = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        return "".join(parts) + sentences

    def _check_score(self, name: str) -> None:
        if name not in self.scores:
            raise UserError(f"there is no score {name!r}; take one of {', '.join(self.scores)}")


def _data_frame(rows: list[dict[str, Any]]) -> Any:
    for package in ("pandas", "polars"):
        if find_spec(package):
            return import_module(package).DataFrame(rows)
    raise UserError("a data frame needs pandas or polars: pip install pandas")
