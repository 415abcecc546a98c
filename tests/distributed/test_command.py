"""``msgd run`` in several processes: the results of one, one line for what is wrong, and resumption after kills."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from helpers.commands import call, wait_until
from helpers.outcomes import trained_runs
from helpers.small import SMALL
from helpers.torchrun import ends_of, start_ranks, torchrun
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.identity import note_processes
from msgd.lab.recipes.load import parse_recipe
from msgd.lab.training.data_parallel import check_data_parallel

RECIPE = SMALL.replace("steps = 60", "steps = 200\nsnapshots = [2]").replace("seeds = 2", "seeds = 1")
OTHER = {"sgd": "bernoulli", "bernoulli": "sgd"}
METHODS = ["--methods", "sgd,bernoulli"]  # not every draw of Bernoulli's is even, and some are empty


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "small.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def together(recipe, fashion_mnist):
    """The finished experiment of two processes."""
    out = recipe.parent / "together"
    command = ["-m", "msgd", "run", recipe, *METHODS, "--out", out, "--data-dir", fashion_mnist]
    done = torchrun(*command, size=2, env=os.environ | {"PYTHONWARNINGS": "error"})
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.fixture(scope="module")
def alone(recipe, fashion_mnist):
    """The finished experiment of one process."""
    out = recipe.parent / "alone"
    assert call("run", recipe, *METHODS, "--out", out, "--data-dir", fashion_mnist, "--jobs", 1) == 0
    return out


def test_the_results_are_those_of_one_process(together, alone):
    out, done = together
    assert "2 methods × 1 seed, 200 steps each" in done.stdout
    for once in ("Small", "The 2 processes share the examples of every step.", "[1/2] ", "Report: "):
        assert done.stdout.count(once) == 1
    mine, theirs = (json.loads((folder / "results.json").read_text()) for folder in (out, alone))
    assert mine["environment"]["processes_per_run"] == 2
    assert theirs["environment"]["processes_per_run"] == 1
    # 200 steps of float32 differ by more than rounding: a ReLU takes an input that is rounded to zero for either sign.
    for one, other in zip(mine["runs"], theirs["runs"], strict=True):
        assert one["final"] == pytest.approx(other["final"], rel=0.01)
    assert [v["verdict"] for v in mine["verdicts"]] == [v["verdict"] for v in theirs["verdicts"]]


@pytest.mark.parametrize("method", OTHER)
def test_two_steps_of_the_command_are_those_of_one_process(together, alone, method):
    """In float32, on any processor, in any order of summation; test_steps.py compares many steps in float64.

    A sum of N products is off by at most N·2⁻²⁴ of the sum of their sizes. For N = 784 pixels that is 5·10⁻⁵. Two steps
    move no parameter by more than 0.04, so that the processes differ by less than 2·10⁻⁶. Only a ReLU whose input is
    rounded to the other side of zero could make more of it. In these steps no input is closer to zero than 5·10⁻⁵,
    and float32 rounds inputs of about 0.1 to within 10⁻⁷.
    """
    name, other_name = (f"{each}/seed-0/snapshots/2.safetensors" for each in (method, OTHER[method]))
    mine, theirs, others = load_file(together[0] / name), load_file(alone / name), load_file(alone / other_name)
    for key, value in mine.items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=2e-6)
        assert (value - others[key]).abs().max() > 2e-4  # the control: steps by another draw are a hundred times as far


def begun(arguments, out):
    """The ranks of a command that has written its first checkpoint."""
    ranks = start_ranks("msgd", *arguments, "--out", out, size=2)
    wait_until(lambda: list(out.glob("*/seed-*/checkpoint.safetensors")))
    return ranks


def continues(arguments, out, whole):
    """The same command again, to the bitwise same end; only rank 0 speaks."""
    (code, said, errors), *others = ends_of(start_ranks("msgd", *arguments, "--out", out, size=2))
    assert (code, errors) == (0, "")
    assert "Report: " in said
    assert others == [(0, "", "")]
    assert trained_runs(out) == trained_runs(whole)


def test_kill_9_of_a_rank_and_continue(together, recipe, fashion_mnist, tmp_path):
    arguments = ["run", recipe, *METHODS, "--data-dir", fashion_mnist]
    ranks = begun(arguments, tmp_path)
    ranks[1].kill()
    (code, _, errors), _ = ends_of(ranks)
    assert code == 2
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("msgd: another process of torchrun is gone")
    assert "the same command continues where the runs were saved" in errors
    continues(arguments, tmp_path, together[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ctrl_c_or_the_end_of_rank_0_and_continue(together, recipe, fashion_mnist, tmp_path, number):
    arguments = ["run", recipe, *METHODS, "--data-dir", fashion_mnist]
    ranks = begun(arguments, tmp_path)
    for process in ranks[:1] if number == signal.SIGKILL else ranks:  # torchrun sends the others to all
        process.send_signal(number)
    (code, _, errors), other = ends_of(ranks)
    if number != signal.SIGKILL:
        expected, word = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}[number]
        assert (code, errors) == (expected, f"msgd: {word}; the same command continues where the runs were saved\n")
    assert other == (2, "", "")
    continues(arguments, tmp_path, together[0])


def test_a_run_that_diverges_ends_in_every_process(recipe, fashion_mnist, tmp_path):
    command = ["run", recipe, *METHODS, "--out", tmp_path, "--data-dir", fashion_mnist, "--steps", 60]
    (code, said, errors), other = ends_of(start_ranks("msgd", *command, "--set", "methods.sgd.lr=1e9", size=2))
    assert (code, errors, other) == (0, "", (0, "", ""))
    assert "1 of 1 diverged" in said
    assert "bernoulli, seed 0, lr 0.05: test accuracy" in said


def test_what_is_wrong_is_one_line_of_rank_0_and_ends_all(together, recipe, fashion_mnist):
    command = ["run", recipe, "--out", together[0], "--data-dir", fashion_mnist, "--set", "lr=0.2"]
    (code, _, errors), (other_code, said, other_errors) = ends_of(start_ranks("msgd", *command, size=2))
    assert (code, other_code) == (2, 2), errors + other_errors
    assert len(errors.splitlines()) == 1, errors
    assert "give --out another folder" in errors
    assert (said, other_errors) == ("", "")


def test_refusals(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    plain = parse_recipe(RECIPE, source="small")
    check_data_parallel(plain, None, "loky", "cpu")
    check_data_parallel(plain, 1, "loky", "cpu")
    with pytest.raises(UserError, match="--jobs 2: under torchrun every run already uses all processes"):
        check_data_parallel(plain, 2, "loky", "cpu")
    with pytest.raises(UserError, match="--backend dask: under torchrun every run already uses its processes"):
        check_data_parallel(plain, None, "dask", "cpu")
    with pytest.raises(UserError, match="2 processes and 1 CUDA devices"):
        check_data_parallel(plain, None, "loky", "cuda")
    normed = RECIPE.replace('"mlp"', '"resnet18"').replace('"fashion-mnist"', '"cifar10"')
    with pytest.raises(UserError, match=r"norm: .* resnet18's batches"):
        check_data_parallel(parse_recipe(normed, source="small"), None, "loky", "cpu")
    check_data_parallel(parse_recipe(normed, source="small", settings={"norm": "group"}), None, "loky", "cpu")


def test_another_number_of_processes_is_noted(tmp_path):
    path = tmp_path / "environment.json"
    note_processes(tmp_path, {"processes_per_run": 2})
    assert not path.exists()
    for before, now, expected in (("{}", 1, None), ("{}", 2, "1, then 2"), ('{"processes_per_run": 2}', 2, 2)):
        path.write_text(before)
        note_processes(tmp_path, {"processes_per_run": now})
        assert json.loads(path.read_text()).get("processes_per_run") == expected
    path.write_text('{"cpu": "x", "processes_per_run": "1, then 2"}')
    note_processes(tmp_path, {"processes_per_run": 2})
    note_processes(tmp_path, {})
    assert json.loads(path.read_text()) == {"cpu": "x", "processes_per_run": "1, then 2, then 1"}
