"""Fill the tables of results/README.md from the results.json files beside it, and draw the figures: `make docs`.

`python docs/results.py runs/mnist1d` first copies the results of a folder that `msgd run` wrote.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import tomli_w

from msgd.lab.experiment_folder.results import FinishedRun, Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.experiment_folder.tuning import Tuning
from msgd.lab.least_squares import verdict
from msgd.lab.least_squares.results import results_from_json
from msgd.lab.plan.grid import planned_runs
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.recipes.schema import Recipe
from msgd.lab.report.phase_diagram import phase_rows, phases
from msgd.lab.report.verdict import answers, columns, rows
from msgd.lab.text import LEFT
from msgd.statistics.paired_tests import Comparison

HERE = Path(__file__).parent / "results"
RENAMED = {"trivial": "negligible"}  #: verdicts of older results
PLACE = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def take_over(folder: Path) -> Path:
    """Copy a folder's results.json, without the paths of folders."""
    table = json.loads((folder / "results.json").read_text())
    table["environment"]["command"] = re.sub(r" --(out|data-dir) \S+", "", table["environment"]["command"])
    path = HERE / f"{folder.name}.json"
    path.write_text(json.dumps(table, indent=2) + "\n")
    return path


def load(path: Path) -> Results:
    """Read results back, without the curves, which the file does not hold."""
    table = json.loads(path.read_text())
    recipe = parse_recipe(tomli_w.dumps(table["config"]), source=path.name)
    assert isinstance(recipe, Recipe)
    runs = {(run.method, run.seed): run for run in planned_runs(recipe, n=table.get("n", recipe.n or 1), digests=[""])}
    finished = [
        FinishedRun(runs[r["method"], r["seed"]], r["seconds"], [], r["final"], r.get("diverged"))
        for r in table["runs"]
    ]
    comparisons = [
        Comparison(**verdict | {"verdict": RENAMED.get(verdict["verdict"], verdict["verdict"])})
        for verdict in table["verdicts"]
    ]
    tuned = {"scores" if key == "accuracy" else key: value for key, value in table.get("tuning", {}).items()}
    tuning = Tuning(**tuned) if tuned else None
    # Results from before there were other scores name none, and are shown with their accuracy alone.
    scores = tuple(Score(**score) for score in table.get("scores", [{"name": "accuracy", "margin": recipe.margin}]))
    about = (table["recipe"], recipe, table["environment"])
    return Results(*about, finished, table["missing_runs"], 0, comparisons, scores, tuning)


def markdown(heads: list[str], body: list[list[str]]) -> str:
    """Write a table, with the columns of text aligned to the left."""
    lines = [heads, [":--" if head in LEFT else "--:" for head in heads], *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def section(path: Path) -> str:
    """Command, figures, tables and answers of one result."""
    table = json.loads(path.read_text())
    return _simulated(path, table) if table["config"].get("experiment") == "least-squares" else _trained(path)


def draw(path: Path) -> None:
    """Draw the figures of one result beside it."""
    import figures  # beside this file; the tests load this file alone, and need no figures

    table = json.loads(path.read_text())
    path.with_suffix(".svg").write_text(figures.figure(table), encoding="utf-8")
    if "tuning" in table:
        path.with_name(f"{path.stem}-rates.svg").write_text(figures.tuning(table), encoding="utf-8")


def _image(name: str, words: str) -> str:
    return f"![{words}]({name}.svg)\n\n"


def _listed(sentences: list[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def _simulated(path: Path, table: dict[str, Any]) -> str:
    results = results_from_json(table)
    text = f"\n    {results.environment['command']}\n\n[{path.name}]({path.name}), seed {results.recipe.seed}.\n\n"
    text += _image(
        path.stem, f"Mean loss of each law relative to the exact curve of {results.recipe.reference}, by step"
    )
    text += markdown(verdict.columns(results), verdict.rows(results))
    return text + "\n" + _listed([*verdict.answers(results), *verdict.notes(results)]) + "\n"


def _trained(path: Path) -> str:
    results = load(path)
    minutes = sum(done.seconds for done in results.finished_runs) / 60
    text = f"\n    {results.environment['command']}\n\n[{path.name}]({path.name}): "
    seeds = len({done.run.seed for done in results.finished_runs})
    text += f"{len(results.finished_runs)} runs, {seeds} seeds, {minutes:.0f} minutes of training on one core each.\n\n"
    if results.tuning:
        held_out = f"{results.tuning.held_out} held-out examples, {results.tuning.seeds} seeds"
        text += _image(f"{path.stem}-rates", "Accuracy on held-out examples by learning rate")
        text += f"Mean accuracy on {held_out}; the rate that was picked in *italics*:\n\n"
        text += markdown(*results.tuning.table(results.score, "*{}*")) + "\n"
    if results.recipe.grid:
        text += _image(path.stem, "Gain over gradient descent by learning rate and batch size")
        return (
            text
            + "\n".join(f"{p.method}:\n\n" + markdown(*phase_rows(p, results.score)) for p in phases(results))
            + "\n"
        )
    text += _image(path.stem, f"Differences from {results.recipe.reference} with their intervals")
    text += markdown(list(columns(results)), [list(row) for row in rows(results)])
    return text + "\n" + _listed(answers(results)) + "\n"


def main() -> None:
    """Copy the results of the folders that are named, fill the tables, and draw the figures."""
    for name in sys.argv[1:]:
        take_over(Path(name))
    page = HERE / "README.md"
    page.write_text(PLACE.sub(lambda found: found[1] + section(HERE / f"{found[2]}.json") + found[3], page.read_text()))
    for path in sorted(HERE.glob("*.json")):
        draw(path)


if __name__ == "__main__":
    main()
