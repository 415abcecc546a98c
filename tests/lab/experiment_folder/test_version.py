"""Folders that version 0.1.0 wrote still report, measure and resume.

They were written at commit 66b16cd, before the modules moved: `version-0.1.0/training` by `msgd run recipe.toml` on the
small Fashion-MNIST files of `helpers.small`, the method cov stopped at its checkpoint of step 20 of 40;
`version-0.1.0/least-squares` by `msgd run least-squares.toml --methods sgd,cov`. cov-metrics.jsonl has the evaluations
of the same run without the stop.
"""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.small import write_fashion_mnist
from msgd.cli.app import app

OLD = Path(__file__).parent / "version-0.1.0"


def msgd(*arguments):
    answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(OLD, tmp_path / "old")


def close(new, old):
    """Equal, but for the rounding of statistics by another processor."""
    if isinstance(old, dict):
        assert new.keys() >= old.keys()  # a later version may add some
        for key in old:
            close(new[key], old[key])
    elif isinstance(old, list):
        assert len(new) == len(old)
        for one, other in zip(new, old, strict=True):
            close(one, other)
    elif isinstance(old, float):
        assert new == pytest.approx(old, rel=1e-9, abs=1e-9)
    else:
        assert new == old


@pytest.mark.parametrize("kind", ["training", "least-squares"])
def test_the_report_has_the_same_numbers(folder, kind):
    before = json.loads((folder / kind / "results.json").read_text())
    msgd("report", folder / kind)
    close(json.loads((folder / kind / "results.json").read_text()), before)


def test_measurements_are_read_and_not_made_again(folder):
    data = write_fashion_mnist(folder / "data")
    options = ["--data-dir", data, "--jobs", 1]
    assert "are measured already" in msgd("measure", folder / "training", "--what", "noise-scale", *options)


def test_a_stopped_run_goes_on_from_its_checkpoint(folder):
    """Another processor rounds float32 otherwise, and training amplifies that.

    Parameters perturbed by 1e-6 of their size at the checkpoint, ten times the rounding of float32, change these losses
    by at most 0.8% (largest of 6 perturbations): 10% holds on any processor, and the losses fall by half on the way."""
    data, metrics = write_fashion_mnist(folder / "data"), folder / "training" / "cov" / "seed-0" / "metrics.jsonl"
    until_the_stop = metrics.read_text()
    output = msgd(
        "run", folder / "recipe.toml", "--data-dir", data, "--out", folder / "training", "--jobs", 1
    )  # sgd is finished
    assert "1 of 2 runs are finished already" in output
    assert metrics.read_text().startswith(until_the_stop)
    new, old = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (metrics, OLD / "cov-metrics.jsonl")
    )
    assert [record["step"] for record in new] == [record["step"] for record in old] == [0, 10, 20, 30, 40]
    assert [r["train_loss"] for r in new] == pytest.approx([r["train_loss"] for r in old], rel=0.1)


def test_a_simulation_goes_on(folder):
    command = ["run", folder / "least-squares.toml", "--out", folder / "least-squares", "--jobs", 1]
    assert "2 methods finished already" in msgd(*command, "--methods", "sgd,cov,fisher")
