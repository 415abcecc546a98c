"""Readers as the commands call them, on recipes: what is done with one before anything is trained."""

import tomllib
from pathlib import Path

import tomli_w

from msgd.lab.experiment_folder.identity import run_folder
from msgd.lab.least_squares.band import exact_curve
from msgd.lab.least_squares.losses_file import parts_of
from msgd.lab.least_squares.simulate import make_data, planned_simulations, simulate_losses
from msgd.lab.plan.grid import planned_runs
from msgd.lab.recipes.load import recipe_from
from msgd.lab.recipes.source import kind_of, read_table
from msgd.theory import LeastSquares


def planned(text, changes=None):
    """What `msgd run` does with a recipe before it trains, and a draw of every law."""
    table = read_table(text, source="it", settings=changes)
    if kind_of(table, source="it") == "least-squares":
        return _simulated(recipe_from(table, source="it").select(None))
    recipe = recipe_from(table, source="it").select(None)
    found = planned_runs(recipe, n=min(recipe.n or 1000, 1000), digests=["0"])
    one_of_each = {run.method: run for run in found}
    for run in list(one_of_each.values())[:20]:
        assert len(run.evaluations) <= 10**5 + 2
        run.law.draw(run.n, seed=0, step=1, stream=run.stream)
        tomllib.loads(tomli_w.dumps(run.identity()))
        assert run_folder(run, Path("out")).parts[0] == "out"
        assert ".." not in run_folder(run, Path("out")).parts
    tomli_w.dumps(recipe.model_dump(exclude_none=True))
    return recipe


def _simulated(recipe):
    """The start of a least-squares experiment, where the recipe is of a size that a test can have."""
    simulations = planned_simulations(recipe)
    assert len(parts_of(recipe)) <= 10**6
    if recipe.n * recipe.d**2 * recipe.steps <= 10**6:
        problem = LeastSquares(*make_data(recipe))
        for simulation in simulations[:3]:
            exact_curve(problem, simulation, recipe.recorded)
            simulate_losses(simulation, recipe.recorded, range(2))
    return recipe


def toml_of(table):
    """TOML of a table, where TOML can say it: it has no null, and no text that is no Unicode."""
    try:
        return tomli_w.dumps(_without_none(table)).encode().decode()
    except (UnicodeEncodeError, ValueError):  # of a number of more digits than Python writes
        return "title = "


def _without_none(value):
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_none(inner) for inner in value]
    return "null" if value is None else value
