"""TensorBoard's event files hold what metrics.jsonl holds, however a run was stopped and whatever wrote it."""

import json
import math
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers.commands import call
from helpers.training import contents, go, make, same
from msgd.lab.experiment_folder.tensorboard import write_events


def read_events(folder):
    """Metric → [(step, value)], as TensorBoard reads them."""
    (file,) = (folder / "tensorboard").iterdir()
    read = EventAccumulator(str(file.parent)).Reload()
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]}


def assert_copy(folder):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = read_events(folder)
    names = [name for name in records[0] if name != "step"]
    assert set(found) == {name.replace(" ", "_") for name in names}
    found = {name: found[name.replace(" ", "_")] for name in names}
    for name in names:
        assert [step for step, _ in found[name]] == [record["step"] for record in records]
        expected = [math.nan if record[name] is None else record[name] for record in records]
        assert [value for _, value in found[name]] == pytest.approx(expected, rel=1e-6, nan_ok=True)  # float32


def test_every_step_once_after_interruptions_and_while_training(data, tmp_path):
    run = make(model="mlp", eval_every=5, checkpoint_every=10)
    go(run, data, tmp_path / "whole", events=True)
    assert_copy(tmp_path / "whole")
    folder = tmp_path / "parts"

    def evaluated():
        return len((folder / "metrics.jsonl").read_text().splitlines())

    def watched():
        assert_copy(folder)  # at every stop
        return evaluated() < 4

    go(run, data, folder, events=True, go_on=watched)  # to step 15, past the checkpoint of step 10
    (file,) = (folder / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])  # as a kill may leave it
    go(run, data, folder, go_on=lambda: evaluated() < 6)  # to step 25, without it
    go(run, data, folder, events=True)
    assert_copy(folder)
    assert len(read_events(folder)["test_loss"]) == 7
    assert same(contents(folder), contents(tmp_path / "whole"))


def test_finished_runs_and_a_loss_that_is_not_finite(tmp_path, fashion_mnist, recipe_file):
    out = tmp_path / "out"
    command = ["run", recipe_file, "--out", out, "--data-dir", fashion_mnist, "--jobs", 1, "--steps", 20]
    command += ["--methods", "sgd", "--set", "lr=1e9", "--set", "eval_every=1"]
    assert call(*command) == 0
    metrics = (out / "sgd" / "seed-0" / "metrics.jsonl").read_bytes()
    assert b"null" in metrics
    assert not (out / "sgd" / "seed-0" / "tensorboard").exists()
    for _ in range(2):
        assert call(*command, "--seeds", 3, "--log", "tensorboard") == 0
        for seed in range(3):
            assert_copy(out / "sgd" / f"seed-{seed}")
    assert (out / "sgd" / "seed-0" / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["small.toml", "--log", "wandb"], "--log: 'wandb' is not known; write --log tensorboard"),
        (["least-squares", "--log", "tensorboard"], "no metrics for TensorBoard: leave out --log"),
        (["small.toml", "--log", "tensorboard"], "tensorboard is not installed: pip install tensorboard"),
    ],
)
def test_refusals(arguments, message, tmp_path, recipe_file, fashion_mnist, monkeypatch, capsys):
    monkeypatch.chdir(recipe_file.parent)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    data_dir = [] if "least-squares" in arguments else ["--data-dir", fashion_mnist]
    assert call("run", *arguments, "--out", tmp_path / "out", *data_dir) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_every_score_is_written(tmp_path):
    record = {"step": 10, "test_loss": 1.0, "train_loss": None, "test_r2 loss": -0.5}
    write_events(tmp_path, [{"step": 0, "test_loss": 2.0, "train_loss": 3.0}, record])
    found = read_events(tmp_path)
    assert found.pop("train_loss") == [(0, 3.0), (10, pytest.approx(math.nan, nan_ok=True))]
    assert found == {"test_loss": [(0, 2.0), (10, 1.0)], "test_r2_loss": [(10, -0.5)]}
