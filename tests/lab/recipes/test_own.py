"""Code in recipes: it runs only if it is trusted, and reports read what was recorded of it."""

import json
import math
from pathlib import Path

import pytest

from helpers.own_task import RECIPE, TASK, write_task
from helpers.small import LEAST_SQUARES
from msgd.lab.errors import UserError
from msgd.lab.plan.own_laws import describe_own
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import load, parse_recipe
from msgd.lab.recipes.own import recorded_own

MARKED = TASK + "\nimport pathlib\npathlib.Path(__file__).with_name('ran').touch()\n"


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        RECIPE.replace('task = "task.py"', 'data = "mnist1d"\nmodel = "mlp"'),
        'title = "x"\ndata = "task.py:data"\nmodel = "mlp"\n[methods.a]\nlaw = "cov"',
        'title = "x"\n[methods.a]\nlaw = "cov"\n[methods.a.optimizer]\nkind = "task.py:Counting"',
        'experiment = "least-squares"\n[methods.a]\nlaw = "subsampled"\ninner = { law = "task.py:Signs" }',
    ],
)
def test_nothing_runs_without_trust(tmp_path, recipe):
    path = write_task(tmp_path, task=MARKED, recipe=recipe)
    with pytest.raises(UserError, match=r"own\.toml would run the code in \S*task\.py: read it, then add --trust"):
        load(str(path))
    assert not (tmp_path / "ran").exists()


def test_with_trust_it_runs(tmp_path):
    load(str(write_task(tmp_path, task=MARKED)), trust=True)
    assert (tmp_path / "ran").exists()


def test_the_recipes_own_keys_go_before_the_task(tmp_path):
    text = RECIPE.replace('task = "task.py"', 'task = "task.py"\ndata = "mnist1d"\nmodel = "task.py:network"')
    recipe = load(str(write_task(tmp_path, recipe=text)), trust=True)
    task = recipe.own.task
    assert task.data is None
    assert task.network is recipe.own.find("task.py:network")
    assert task.loss is recipe.own.find("task.py:loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('law = "task.py:Signs"', 'law = "task.py:network"'),
            "methods.signs.law: a law of your own is a class",
        ),
        (('law = "task.py:Signs"', 'law = "task.py:Nothing"'), r"task\.py defines no Nothing"),
        (('law = "task.py:Signs"', 'law = "task.py:Signs"\nc = 1'), "unknown key 'c'; the law task.py:Signs allows b"),
        (('kind = "task.py:Counting"', 'kind = "task.py:Signs"'), "task.py:Signs is not a subclass of torch.optim"),
        (
            ('task = "task.py"', 'task = "task.py"\nlabel_smoothing = 0.1'),
            "label_smoothing: it belongs to",
        ),
        (('task = "task.py"', 'task = "task.py"\npixels = "standard"'), "pixels: data of your own keep their values"),
        (('task = "task.py"', 'task = "task.py"\nmomentum = 0.9'), "momentum: write it in the table of the optimizer"),
        (
            ('task = "task.py"', 'task = "task.py"\nlr_drops = [3]'),
            "lr_drops: methods.own.schedule sets the rate",
        ),
        (('task = "task.py"', ""), "data and model: name one, or a task of your own"),
    ],
)
def test_refused(tmp_path, change, message):
    assert change[0] in RECIPE
    with pytest.raises(UserError, match=message):
        load(str(write_task(tmp_path, recipe=RECIPE.replace(*change))), trust=True)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("data", "task.py defines no data: define it, or name one: data = …"),
        ("network", "task.py defines no network: define it, or name one: model = …"),
    ],
)
def test_a_part_that_neither_the_task_nor_the_recipe_has(tmp_path, part, message):
    with pytest.raises(UserError, match=message):
        load(str(write_task(tmp_path, task=TASK.replace(f"def {part}(", f"def no_{part}("))), trust=True)


def test_simulated_least_squares_take_no_code(tmp_path):
    recipe = LEAST_SQUARES + '[methods.own]\nlaw = "task.py:Signs"\n'
    with pytest.raises(UserError, match="simulated least squares take the laws of the package"):
        load(str(write_task(tmp_path, recipe=recipe)), trust=True)


def test_a_report_needs_no_code(tmp_path):
    """Runs planned from the record are those planned from the code, by their identities."""
    path = write_task(tmp_path)
    recipe = load(str(path), trust=True)
    planned = resolve(recipe, n=40, digests=["0"])
    record = json.loads(json.dumps(describe_own(recipe, n=40)))
    (tmp_path / "task.py").unlink()
    again = parse_recipe(RECIPE, source="x", own=recorded_own(record, path=Path("experiment.json")))
    assert [run.identity() for run in resolve(again, n=40, digests=["0"])] == [run.identity() for run in planned]
    law = next(run.law for run in resolve(again, n=40, digests=["0"]) if run.method == "signs")
    assert (law.moments(40).alpha, law.call, law.examples) == (5.0, "Signs(b=8)", 40.0)
    with pytest.raises(UserError, match=r"Signs\(b=8\) is code: add --trust"):
        law.draw(40, seed=0, step=0)


def test_what_is_recorded_of_a_law_without_variance(tmp_path):
    text = TASK.replace("Moments(n / self.b, 0.0)", "Moments(float('inf'), 0.0)")
    recipe = load(str(write_task(tmp_path, task=text)), trust=True)
    record = json.loads(json.dumps(describe_own(recipe, n=40)))
    (law,) = recorded_own(record, path=Path("x")).laws.values()
    assert math.isinf(law.alpha)


@pytest.mark.parametrize(
    "change",
    [
        {"folder": 3},
        {"laws": {"k": {"text": "x"}}},
        {"more": 1},
        {"identity": ["a\x1b[2J"]},
        {"laws": {"k": {"text": "x", "call": "x" * 2000, "alpha": 1, "beta": 0, "examples": 1, "is_correlated": True}}},
    ],
)
def test_a_hostile_record(change):
    record = {"folder": None, "modules": [], "identity": [], "laws": {}} | change
    with pytest.raises(UserError, match=r"^x is damaged .its record of the code"):
        recorded_own(record, path=Path("x"))
