"""The description of an experiment, in a folder that somebody else may have written."""

import json
import tomllib

import pytest
import tomli_w

from helpers.commands import python
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.description import describe_experiment, read_description
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.recipes.load import load

#: describes an experiment anew in a folder where config.toml is no file
CODE = """
import os, sys
from pathlib import Path
from msgd.lab.experiment_folder.description import describe_experiment
from msgd.lab.recipes.load import load
out = Path(sys.argv[1])
{}
describe_experiment(out, "mnist1d", load("mnist1d"), {{"n": 1}}, {{}}, keep_environment=True)
print((out / "config.toml").is_file() and not (out / "config.toml").is_symlink())
"""


@pytest.mark.parametrize(
    "harm", ["os.mkfifo(out / 'config.toml')", "(out / 'config.toml').symlink_to('/dev/zero')"], ids=["pipe", "device"]
)
def test_a_recipe_that_is_no_file_is_replaced(tmp_path, harm):
    done = python(CODE.format(harm), tmp_path, timeout=30)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


SCORES = (Score("bits per character", lower_is_better=True), Score("top5 accuracy"))


def described(out, **options):
    recipe = load("mnist1d")
    describe_experiment(out, "mnist1d", recipe, {"n": 1}, {"command": "first"}, keep_environment=False, **options)
    return recipe


def test_the_scores_are_read_as_they_were_written(tmp_path):
    described(tmp_path, scores=SCORES)
    assert read_description(tmp_path).scores == SCORES


def test_a_folder_that_names_no_scores_has_accuracy_and_loss(tmp_path):
    described(tmp_path)
    assert "scores" not in json.loads((tmp_path / "experiment.json").read_text())
    assert read_description(tmp_path).scores == (Score("accuracy"), Score("loss", lower_is_better=True))


@pytest.mark.parametrize(
    "scores",
    [
        [],
        {},
        None,
        "loss",
        ["loss"],
        [{"name": "loss"}],
        [{"name": "loss", "lower_is_better": 1}],
        [{"name": 3, "lower_is_better": True}],
        [{"name": "\x1b[2J", "lower_is_better": True}],
        [{"name": "x" * 41, "lower_is_better": True}],
        [{"name": "loss", "lower_is_better": True}] * 2,
        [{"name": f"s{i}", "lower_is_better": True} for i in range(41)],
    ],
    ids=["none", "table", "null", "text", "texts", "no way", "1", "a number", "control", "long", "twice", "many"],
)
def test_scores_that_are_none(tmp_path, scores):
    described(tmp_path, scores=SCORES)
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scores": scores}))
    with pytest.raises(UserError, match=r"experiment.json is damaged \(.*\): let msgd run write it again") as caught:
        read_description(tmp_path)
    assert "\x1b" not in str(caught.value)


def test_the_environment_stays_where_an_earlier_version_wrote_the_same_recipe(tmp_path):
    """It wrote no key that a later version has, such as margins."""
    recipe = described(tmp_path)
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    del config["margins"]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(config))
    again = ("mnist1d", recipe, {"n": 1}, {"command": "second"})
    describe_experiment(tmp_path, *again, keep_environment=True)
    assert read_description(tmp_path).environment == {"command": "first"}
    other = recipe.model_copy(update={"seeds": 3})
    describe_experiment(tmp_path, "mnist1d", other, {"n": 1}, {"command": "third"}, keep_environment=True)
    assert read_description(tmp_path).environment == {"command": "third"}
