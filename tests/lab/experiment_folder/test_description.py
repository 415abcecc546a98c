"""The description of an experiment, in a folder that somebody else may have written."""

import pytest

from helpers.commands import python

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
