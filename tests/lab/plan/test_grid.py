"""Phase diagrams: every method at every learning rate and batch size."""

import pytest

from helpers.small import SMALL
from msgd import noise
from msgd.lab.errors import UserError
from msgd.lab.plan.grid import cells, grid_runs, references
from msgd.lab.recipes.load import parse_recipe

GRID = SMALL.replace('reference = "sgd"', 'reference = "gd"') + '[methods.big]\nlaw = "subsampled"\nB = 20\n'
GRID += 'inner = {law = "emulate"}\n[grid]\nlr = [0.1, 0.25]\nb = [4, 8]\n'


def test_a_grid_spells_out_its_cells():
    recipe = parse_recipe(GRID, source="grid")
    names = list(cells(recipe))
    assert names[:4] == ["gd+lr0p1", "gd+lr0p25", "sgd+lr0p1+b4", "sgd+lr0p1+b8"]
    assert len(names) == 2 + 3 * 4
    runs = {run.method: run for run in grid_runs(recipe, n=40, digests=["d"])}
    assert set(runs) == set(names)
    assert (runs["gd+lr0p25"].lr, runs["gd+lr0p25"].law) == (0.25, noise.FullBatch())
    assert (runs["sgd+lr0p1+b4"].lr, runs["sgd+lr0p1+b4"].law) == (0.1, noise.MiniBatch(4))
    assert runs["big+lr0p25+b4"].law == noise.Subsampled(20, noise.Emulate(4))
    against = references(recipe)
    assert against["sgd+lr0p1+b4"] == against["big+lr0p1+b8"] == "gd+lr0p1"
    assert not [name for name in against if name.startswith("gd")]
    by_b = references(recipe.model_copy(update={"reference": "sgd"}))
    assert by_b["big+lr0p1+b8"] == "sgd+lr0p1+b8"
    assert "gd+lr0p1" not in by_b  # gradient descent has no batch size to compare at


def test_a_grid_sets_the_rates():
    with pytest.raises(UserError, match=r"methods.sgd.lr_of: a \[grid\] sets the learning rates; leave lr_of out"):
        parse_recipe(GRID, source="grid", settings={"methods.sgd.lr_of": "gd"})
    with pytest.raises(UserError, match=r"unknown key 'grid.momentum'; allowed are lr, b"):
        parse_recipe(GRID, source="grid", settings={"grid.momentum": [0.9]})


def test_a_grid_cannot_be_tuned_nor_matched():
    with pytest.raises(UserError, match=r"tune: a \[grid\] runs every learning rate"):
        parse_recipe(GRID + "[tune]\nlr = [1.0]\n", source="grid")
    with pytest.raises(UserError, match=r"match: the cells of a \[grid\]"):
        parse_recipe(GRID, source="grid", settings={"match": "examples"})
