"""Experiments from Python: the same runs as from the command line, continued by another program, and refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from helpers.commands import call
from helpers.own_task import write_task
from msgd import lab, noise
from msgd.lab.errors import UserError
from msgd.lab.recipes.load import load
from msgd.lab.tasks.code import load_module

FEW = {"lr": 0.05, "steps": 20, "seeds": 2, "jobs": 1, "quiet": True}


def checkpoints(folder):
    return {str(path.relative_to(folder)): load_file(path) for path in folder.glob("*/seed-*/checkpoint.safetensors")}


def test_a_built_in_task_is_that_of_the_command_line(tmp_path):
    """The folder continues from the command line, too: it holds a recipe without code."""
    methods = {"sgd": noise.MiniBatch(20), "other": {"law": noise.Subsampled(50, noise.Emulate(20)), "lr": 0.1}}
    result = lab.compare("mnist1d", methods, out=tmp_path / "a", n=100, **FEW)
    recipe = load(str(tmp_path / "a" / "config.toml"))
    assert recipe.law("other") == noise.Subsampled(50, noise.Emulate(20))
    assert recipe.own.is_nothing
    assert [row["lr"] for row in result.records()] == [0.05, 0.05, 0.1, 0.1]
    assert result.scores[0] == "accuracy"


def test_objects_train_as_their_file_does(tmp_path):
    path = write_task(tmp_path)
    task = load_module(tmp_path, "task.py")
    law, optimizer = task.Signs(8), {"kind": task.Counting, "decay": 0.25}
    methods = {
        "signs": law,
        "own": {
            "law": noise.Injected(noise.Rademacher(), 8),
            "optimizer": optimizer,
            "schedule": {"kind": task.falling, "warmup": 3},
            "clip": 1.0,
            "ema": 0.9,
        },
    }
    parts = {name: getattr(task, name) for name in ("data", "network", "loss", "scores")}
    mine = lab.Task(**parts, lower_is_better=["mae"])
    keys = {"lr": 0.05, "steps": 30, "eval_every": 10, "seeds": 2, "margin": 0.1, "jobs": 1, "quiet": True}
    lab.compare(mine, methods, out=tmp_path / "objects", **keys)
    assert call("run", path, "--trust", "--out", tmp_path / "file", "--methods", "signs,own,sgd", "--jobs", "1") == 0
    by_file = checkpoints(tmp_path / "file")
    for name, tensors in checkpoints(tmp_path / "objects").items():
        assert tensors.keys() == by_file[name].keys()
        assert all(torch.equal(tensors[key], by_file[name][key]) for key in tensors)


PROGRAM = """
import sys
import torch
from torch import nn
from msgd import lab, noise

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
    def forward(self, x):
        return self.layer(x) * SCALE

SCALE = {scale}

def data(seed):
    x = torch.linspace(-1, 1, 80).reshape(40, 2)
    return (x, x.sum(1, keepdim=True)), (x, x.sum(1, keepdim=True))

if __name__ == "__main__":
    task = lab.Task(data=data, network=Net, loss=lambda o, t: ((o - t) ** 2).mean(1))
    law = noise.MiniBatch(8)
    options = {{"lr": 0.05, "steps": {steps}, "seeds": 2, "jobs": 2}}
    result = lab.compare(task, {{"sgd": law, "cov": noise.Cov(8)}}, out=sys.argv[1], **options)
    print(result.frame().shape, result.scores)
"""


def test_a_program_continues_what_an_earlier_one_began(tmp_path):
    """Functions of ``__main__`` reach the workers, and their hashes are the same in the next process."""

    def program(name, **values):
        (tmp_path / name).write_text(PROGRAM.format(**({"scale": 1.0, "steps": 40} | values)))
        command = [sys.executable, str(tmp_path / name), str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = program("one.py")
    assert first.returncode == 0, first.stderr
    assert "(4, 9) ('loss',)" in first.stdout
    again = program("two.py")
    assert "4 of 4 runs are finished already" in again.stdout
    changed = program("three.py", scale=2.0)
    assert changed.returncode == 1
    assert "network has changed since" in changed.stderr


@pytest.mark.parametrize(
    ("task", "methods", "changes", "message"),
    [
        (3, {}, {}, "the task must be a lab.Task or the name of a data set, not int"),
        ("mnist", {"sgd": noise.MiniBatch(2)}, {}, "data: 'mnist' is not known"),
        ("mnist1d", {"sgd": "cov"}, {}, r"methods\['sgd'\] must be a law such as noise.Cov"),
        ("mnist1d", {"sgd": {"law": noise.Cov(20), "rl": 1}}, {}, "unknown key 'rl'"),
        ("mnist1d", {"sgd": noise.MiniBatch(20)}, {"reference": "gd"}, "reference: 'gd' is not a method"),
        ("mnist1d", {"sgd": noise.MiniBatch(20)}, {"momentun": 0.9}, "unknown key 'momentun'"),
        (
            lab.Task(data="mnist1d", network=lambda: 3),
            {"sgd": noise.MiniBatch(20)},
            {},
            "must return a torch.nn.Mod",
        ),
        (
            lab.Task(data="mnist1d", network="mlp", loss=lambda o, t: F.cross_entropy(o, t)),
            {"sgd": noise.MiniBatch(20)},
            {},
            r"loss: it has shape \(\) for 4 examples",
        ),
    ],
)
def test_refused_in_one_line(tmp_path, task, methods, changes, message):
    with pytest.raises(UserError, match=message):
        lab.compare(task, methods, out=tmp_path / "out", **(FEW | changes))
    assert not list((tmp_path / "out").glob("*/seed-0"))


def test_the_folder_of_a_program_does_not_run_from_the_command_line(tmp_path):
    task = lab.Task(data="mnist1d", network=lambda: nn.Linear(40, 10))
    lab.compare(task, {"sgd": noise.MiniBatch(20)}, out=tmp_path / "out", n=100, **FEW)
    with pytest.raises(UserError, match=r"was written by lab\.compare, with functions of a program"):
        load(str(tmp_path / "out" / "config.toml"), trust=True)
    assert lab.load(tmp_path / "out").folder == Path(tmp_path / "out")
