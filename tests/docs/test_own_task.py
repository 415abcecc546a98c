"""Who follows the page on tasks of one's own gets what it says."""

import os
import shutil
import signal
import tomllib
from pathlib import Path

import pytest
import tomli_w

from docs.test_site import ROOT, blocks
from helpers.commands import here, msgd, start, wait_until
from helpers.outcomes import trained_runs
from msgd.lab.recipes.load import load

PAGE = ROOT / "docs" / "your-own-task.md"
FIRST, *MORE = [text for text in blocks(PAGE, "python") if text.startswith("# task.py")]
RECIPE, *OTHERS = blocks(PAGE, "toml")
FEW = ("--trust", "--jobs", 1, "--seeds", 2, "--steps", 60, "--set", "checkpoint_every=10")


def lines(text):
    return [line for line in text.splitlines() if line.strip()]


def test_the_task_and_the_recipe_have_30_lines():
    assert len(lines(FIRST)) + len(lines(RECIPE)) <= 30


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "task.py").write_text(FIRST)
    (tmp_path / "length.toml").write_text(RECIPE)
    return tmp_path


def test_the_steps_of_the_page(folder, capsys):
    recipe, out = folder / "length.toml", folder / "out"
    code, _, errors = here(capsys, "run", recipe, "--out", out)
    assert code == 2
    assert "add --trust" in errors
    assert not out.exists()

    process = start("run", recipe, "--out", out, *FEW)
    wait_until(lambda: any(out.glob("*/seed-0/checkpoint.safetensors")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(trained_runs(out)) < 6
    for each in (out, folder / "whole"):
        done = msgd("run", recipe, "--out", each, *FEW)
        assert (done.returncode, done.stderr) == (0, "")
    assert len(trained_runs(out)) == 6
    assert trained_runs(out) == trained_runs(folder / "whole")
    assert "6 of 6 runs are finished already" in here(capsys, "run", recipe, "--out", out, *FEW)[1]

    assert "test loss" in here(capsys, "compare", out)[1]
    code, said, _ = here(capsys, "measure", out, "--trust", "--jobs", 1, "--methods", "sgd", "--what", "noise-scale")
    assert code == 0
    assert "noise" in said

    assert (out / "code" / "task.py").read_text() == FIRST
    (folder / "task.py").write_text(FIRST + "# a comment\n")
    code, _, errors = here(capsys, "run", recipe, "--out", out, *FEW)
    assert code == 2
    assert "task.py has changed" in errors
    shutil.copy(out / "code" / "task.py", folder / "task.py")
    assert here(capsys, "run", recipe, "--out", out, *FEW)[0] == 0


def test_every_recipe_of_the_page_trains(folder, capsys):
    """The parts that the page adds, all in the first recipe; and the recipes that it shows whole."""
    (folder / "task.py").write_text("\n".join([FIRST, *MORE]))
    table, whole = tomllib.loads(RECIPE), []
    for text in OTHERS:
        added = tomllib.loads(text)
        if "title" in added:
            whole.append(text)
        else:
            assert set(added) == {"methods"}
            table["methods"] |= added["methods"]
    (folder / "all.toml").write_text(tomli_w.dumps(table))
    few = ("--trust", "--jobs", 1, "--seeds", 1, "--steps", 40)
    code, said, errors = here(capsys, "run", folder / "all.toml", "--out", folder / "all", *few)
    assert (code, errors) == (0, "")
    assert {"signs", "adamw", "sign-momentum"} <= {path.parent.name for path in (folder / "all").glob("*/seed-0")}
    assert "test large errors" in said
    (text,) = whole
    (folder / "wide.toml").write_text(text)
    assert load(str(folder / "wide.toml"), trust=True).own.task.network.__name__ == "Wide"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("return (outputs - targets) ** 2", "return ((outputs - targets) ** 2).mean()"),
        ("return (outputs - targets) ** 2", "return (outputs - targets) ** 2 / targets.std() + outputs.mean()"),
        ("return (outputs - targets) ** 2", "return (outputs - targets).detach() ** 2"),
        ("(x[:300], y[:300])", "(x[:300], y[:299])"),
        ("(x[:300], y[:300])", "(x[:300] / 0, y[:300])"),
        ("nn.ReLU(), nn.Linear(64, 1)", "nn.ReLU(), nn.Linear(63, 1)"),
    ],
    ids=["mean", "coupled", "no-gradient", "lengths", "infinite", "exception"],
)
def test_what_the_page_says_is_refused(folder, capsys, change, line):
    assert FIRST.count(change) == 1
    (folder / "task.py").write_text(FIRST.replace(change, line))
    code, _, errors = here(capsys, "run", folder / "length.toml", "--out", folder / "out", *FEW)
    assert code == 2
    assert len(errors.splitlines()) == 1
    assert not Path(folder / "out").exists()
