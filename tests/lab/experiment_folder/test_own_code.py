"""The copy of the user's files in a folder, and commands on a folder whose code has changed or may not run."""

import json
import shutil

import pytest

from helpers.commands import call, here
from helpers.own_task import TASK, write_task


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "mine"
    recipe = write_task(folder, task=TASK + "\nimport pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    assert call("run", recipe, "--out", folder / "out", "--trust", "--jobs", "1", "--seeds", "1") == 0
    return folder


@pytest.fixture
def mine(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "mine")
    path = folder / "out" / "experiment.json"  # which holds the place of the code
    path.write_text(path.read_text().replace(str(trained), str(folder)))
    return folder


def test_the_folder_holds_the_code_and_its_scores(mine):
    assert (mine / "out" / "code" / "task.py").read_bytes() == (mine / "task.py").read_bytes()
    results = json.loads((mine / "out" / "results.json").read_text())
    assert [score["name"] for score in results["scores"]][:2] == ["mae", "loss"]
    assert {verdict["method"] for verdict in results["verdicts"]} == {"signs", "own", "adamw"}


@pytest.mark.parametrize("command", ["report", "compare"])
def test_reports_run_no_code(mine, command, capsys):
    (mine / "ran").unlink()
    code, out, _ = here(capsys, command, mine / "out")
    assert code == 0
    assert "Signs(b=8)" in out
    law = "Injected(Rademacher(), b=8) + Counting + clip 1 + average 0.9"
    assert law in (mine / "out" / "report.html").read_text()
    assert not (mine / "ran").exists()
    assert not (mine / "out" / "code" / "ran").exists()


def test_measuring_needs_trust_and_takes_the_copy_where_the_code_has_changed(mine, capsys):
    options = ["measure", mine / "out", "--jobs", "1", "--methods", "sgd", "--at", "30", "--what", "noise-scale"]
    code, _, error = here(capsys, *options)
    assert code == 2
    assert error == f"msgd: {mine}/out/config.toml would run the code in {mine}/task.py: read it, then add --trust\n"
    (mine / "task.py").write_text(TASK)
    _, _, error = here(capsys, *options)
    assert f"would run the code in {mine}/out/code/task.py" in error
    assert here(capsys, *options, "--trust")[0] == 0
    measured = json.loads((mine / "out" / "measurements.json").read_text())["measurements"]
    assert [(m["method"], m["step"], m["what"]) for m in measured] == [("sgd", 30, "noise-scale")]
    assert measured[0]["found"]["trace"] > 0
    (mine / "out" / "code" / "task.py").write_text(TASK)
    code, _, error = here(capsys, *options, "--trust")
    assert code == 2
    assert "task.py: the code has changed since" in error


def test_a_changed_task_is_refused_on_resumption(mine, capsys):
    (mine / "task.py").write_text(TASK + "# changed\n")
    options = ["run", mine / "own.toml", "--out", mine / "out", "--trust", "--jobs", "1", "--seeds", "1"]
    code, _, error = here(capsys, *options)
    assert code == 2
    assert error.startswith(f"msgd: task.py has changed since {mine}/out/sgd/seed-0 was trained: restore it from")
    shutil.copy(mine / "out" / "code" / "task.py", mine / "task.py")
    code, out, _ = here(capsys, *options)
    assert code == 0
    assert "4 of 4 runs are finished already" in out
