"""Readers as the commands call them, on recipes: what is done with one before anything is trained."""

import tomllib
from pathlib import Path

import tomli_w

from msgd.lab import results, runs
from msgd.lab.config import select_methods, validated_recipe
from msgd.lab.least_squares import conduct, simulate
from msgd.lab.least_squares import recipe as least_squares
from msgd.lab.reading import kind_of, read_table
from msgd.theory import LeastSquares


def planned(text, changes=None):
    """What `msgd run` does with a recipe before it trains, and a draw of every law."""
    table = read_table(text, source="it", settings=changes)
    if kind_of(table, source="it") == "least-squares":
        return _simulated(least_squares.select(least_squares.parse(table, source="it"), None))
    recipe = select_methods(validated_recipe(table, source="it"), None)
    found = results.planned_runs(recipe, n=min(recipe.n or 1000, 1000), digests=["0"])
    one_of_each = {run.method: run for run in found}
    for run in list(one_of_each.values())[:20]:
        assert len(run.evaluations) <= 10**5 + 2
        run.law.draw(run.n, seed=0, step=1, stream=run.stream)
        tomllib.loads(tomli_w.dumps(run.identity()))
        assert runs.folder_of(run, Path("out")).parts[0] == "out"
        assert ".." not in runs.folder_of(run, Path("out")).parts
    tomli_w.dumps(recipe.model_dump(exclude_none=True))
    return recipe


def _simulated(recipe):
    """The start of a least-squares experiment, where the recipe is of a size that a test can have."""
    simulations = simulate.planned(recipe)
    assert len(conduct.parts(recipe)) <= 10**6
    if recipe.n * recipe.d**2 * recipe.steps <= 10**6:
        problem = LeastSquares(*simulate.data(recipe))
        for simulation in simulations[:3]:
            conduct.exact_curve(problem, simulation, recipe.recorded)
            simulate.losses(simulation, recipe.recorded, range(2))
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
