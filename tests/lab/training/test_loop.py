"""Training runs: stopped and resumed, evaluated, and ended where the loss is not finite."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.own_task import TASK, write_task
from helpers.training import contents, go, make, no_checkpoint, same
from msgd.lab.data.dataset import Data
from msgd.lab.data.device import on_device
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint
from msgd.lab.experiment_folder.metrics import read_records
from msgd.lab.experiment_folder.resume import read_run_state
from msgd.lab.plan.resolve import resolve
from msgd.lab.recipes.load import load
from msgd.lab.tasks.own_data import own_data
from msgd.lab.training.prepare import initial_network
from msgd.noise import Bernoulli, Cov, MiniBatch


class Killed(BaseException):
    """As a kill, of which training learns nothing."""


@pytest.mark.parametrize("law", [MiniBatch(8), Cov(8), Bernoulli(8)], ids=repr)
def test_stop_and_resume_is_bitwise_uninterrupted(law, data, tmp_path):
    run = make(law)
    go(run, data, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    assert whole[0] == 30
    assert [json.loads(line)["step"] for line in whole[2].splitlines()] == [0, 7, 14, 21, 28, 30]
    for stop in range(1, 6):  # stop after each evaluation or checkpoint in turn, then continue
        folder = tmp_path / f"stopped{stop}"
        answers = iter([True] * stop + [False])
        go(run, data, folder, go_on=lambda answers=answers: next(answers))
        go(run, data, folder)
        assert same(contents(folder), whole)


def test_batch_norm_resumes_bitwise_with_its_running_statistics(tmp_path):
    rng = np.random.default_rng(0)
    images, classes = rng.integers(256, size=(12, 3, 32, 32), dtype=np.uint8), rng.integers(10, size=12)
    small = Data(images, classes, images[:3], classes[:3], classes=10)
    changes = {"model": "resnet18", "norm": "batch", "ghost": 3, "n": 12, "momentum": 0.0}
    run = make(**changes, steps=2, eval_every=2, checkpoint_every=1)
    go(run, small, tmp_path / "whole")
    go(run, small, tmp_path / "stopped", go_on=no_checkpoint(tmp_path / "stopped"))  # stops at step 1
    stopped = contents(tmp_path / "stopped")
    assert stopped[0] == 1
    assert stopped[1]["model.1.running_mean"].abs().max() > 0
    assert stopped[1]["model.1.num_batches_tracked"] == 1
    go(run, small, tmp_path / "stopped")
    assert same(contents(tmp_path / "stopped"), contents(tmp_path / "whole"))


def test_metrics_after_the_checkpoint_are_made_again(data, tmp_path):
    """A kill between an evaluation and the checkpoint, or in the middle of a line."""
    run = make()
    go(run, data, tmp_path / "whole")
    folder = tmp_path / "killed"

    def killed():
        if len((folder / "metrics.jsonl").read_text().splitlines()) == 3:  # after step 14, with a checkpoint at 10
            raise Killed
        return True

    with pytest.raises(Killed):
        go(run, data, folder, go_on=killed)
    assert read_checkpoint(folder).step == 10
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 21, "test_acc')
    go(run, data, folder)
    assert same(contents(folder), contents(tmp_path / "whole"))


def test_the_speed_of_checkpointing_does_not_change_the_result(data, tmp_path):
    go(make(), data, tmp_path / "a")
    go(make(checkpoint_every=3), data, tmp_path / "b")
    assert same(contents(tmp_path / "a"), contents(tmp_path / "b"))


def test_methods_of_one_seed_start_alike(data, tmp_path):
    firsts = []
    for method, law in (("a", MiniBatch(8)), ("b", Cov(8))):
        go(make(law, method=method), data, tmp_path / method)
        firsts.append(json.loads((tmp_path / method / "metrics.jsonl").read_text().splitlines()[0]))
    assert firsts[0] == firsts[1]


def test_training_learns(data, tmp_path):
    run = make(model="mlp", steps=200, eval_every=200)
    go(run, data, tmp_path)
    records = read_records(run, tmp_path, step=200)
    assert records[-1]["train_accuracy"] == 1.0
    assert records[-1]["test_accuracy"] > 0.6
    assert records[0]["test_accuracy"] < 0.4


def test_a_finished_run_is_left_alone(data, tmp_path):
    run = make()
    go(run, data, tmp_path)
    before = contents(tmp_path)
    go(run, data, tmp_path)
    assert same(contents(tmp_path), before)


def test_another_run_in_the_folder_is_refused(data, tmp_path):
    go(make(), data, tmp_path)
    with pytest.raises(UserError, match=r"with lr = 0.05, and this one has 0.1: give --out another folder"):
        go(make(lr=0.1), data, tmp_path)
    with pytest.raises(UserError, match="was trained on other data of fashion-mnist"):
        go(make(data_digest="1"), data, tmp_path)


def first_bad_step(run, data):
    """The number of steps after which the loss of a step is not finite, by torch's own SGD."""
    model = initial_network(run, data)
    x, y = on_device(data.train_inputs, data.train_targets, torch.device("cpu"), run.pixels)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, weight_decay=run.weight_decay)
    for step in range(run.steps):
        w = run.law.draw(run.n, seed=run.seed, step=step, stream=run.stream).dense()
        loss = (w * F.cross_entropy(model(x), y, reduction="none")).sum() / run.n
        if not torch.isfinite(loss):
            return step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return None


@pytest.mark.parametrize("every", [30, 1, 7])
@pytest.mark.parametrize(("lr", "decay"), [(1e9, 0.0), (60, 0.1)])  # at once, and after some steps
@pytest.mark.parametrize("model", ["conv-small", "mlp"])
def test_a_loss_that_is_not_finite_ends_the_run(data, tmp_path, model, lr, decay, every):
    run = make(Cov(8), model=model, lr=lr, momentum=0.0, weight_decay=decay, eval_every=every)
    go(run, data, tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    bad = first_bad_step(run, data)
    assert bad is not None
    assert checkpoint.diverged == bad
    assert checkpoint.ends(run)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    records = read_run_state(run, tmp_path)[1]
    assert [record["step"] for record in records] == [step for step in run.evaluations if step <= bad]
    assert all(record["train_loss"] is not None for record in records[:-1])
    before = contents(tmp_path)
    go(run, data, tmp_path)  # it is not begun again
    assert same(before, contents(tmp_path))


def test_it_diverges_after_the_same_step_however_it_was_stopped(data, tmp_path):
    run = make(Cov(8), lr=60, momentum=0.0, weight_decay=0.1)
    go(run, data, tmp_path / "whole")
    whole = read_checkpoint(tmp_path / "whole")
    for stop in range(1, 4):
        folder = tmp_path / f"stopped{stop}"
        answers = iter([True] * stop + [False])
        go(run, data, folder, go_on=lambda answers=answers: next(answers))
        go(run, data, folder)
        assert read_checkpoint(folder).diverged == whole.diverged
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def own_runs(folder):
    recipe = load(str(write_task(folder)), trust=True)
    task = own_data(recipe.own.task.data, n=None, data_dir=None, seed=0)
    return {run.method: run for run in resolve(recipe, n=task.n, digests=[task.digest()]) if run.seed == 0}, task


@pytest.mark.parametrize("method", ["sgd", "signs", "own", "adamw"])
def test_own_networks_optimizers_and_schedules_resume_bitwise(method, tmp_path):
    """The network has dropout, whose numbers come from the seed and the step."""
    runs, task = own_runs(tmp_path)
    go(runs[method], task, tmp_path / "whole")
    go(runs[method], task, tmp_path / "stopped", go_on=no_checkpoint(tmp_path / "stopped"))
    assert contents(tmp_path / "stopped")[0] == 10
    torch.manual_seed(123)  # the state of torch's generator is no part of a run
    go(runs[method], task, tmp_path / "stopped")
    assert same(contents(tmp_path / "stopped"), contents(tmp_path / "whole"))
    again, _ = own_runs(tmp_path)
    go(again[method], task, tmp_path / "repeated")
    assert same(contents(tmp_path / "repeated"), contents(tmp_path / "whole"))


def test_own_scores_and_those_of_the_average(tmp_path):
    runs, task = own_runs(tmp_path)
    go(runs["own"], task, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    scores = ("mae", "loss")
    assert set(record) == {
        "step",
        *(f"{part}{name}" for part in ("test_", "train_", "test_averaged ") for name in scores),
    }
    tensors = read_checkpoint(tmp_path / "run").tensors
    for prefix, start in (("model.", "test_"), ("ema.", "test_averaged ")):
        network = runs["own"].own.task.network().eval()
        network.load_state_dict(
            {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        )
        error = network(torch.tensor(task.test_inputs)) - torch.tensor(task.test_targets)
        assert record[f"{start}mae"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
        assert record[f"{start}loss"] == pytest.approx(error.square().mean().item(), rel=1e-5)


def test_a_fault_in_own_code_while_training_is_one_line(tmp_path):
    text = TASK.replace("    return 1 - step / steps", "    return [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1][step]")
    recipe = load(str(write_task(tmp_path, task=text)), trust=True)
    task = own_data(recipe.own.task.data, n=None, data_dir=None, seed=0)
    run = next(run for run in resolve(recipe, n=task.n, digests=[task.digest()]) if run.method == "own")
    with pytest.raises(UserError, match=r"task\.py:falling of \(12, 30\): list index out of range"):
        go(run, task, tmp_path / "run")
    broken = TASK.replace("return nn.Sequential(nn.Linear(3, 8)", "return nn.Sequential(nn.Linear(4, 8)")
    recipe = load(str(write_task(tmp_path, task=broken)), trust=True)
    run = resolve(recipe, n=task.n, digests=[task.digest()])[0]
    with pytest.raises(UserError, match=r"RuntimeError: mat1 and mat2 shapes cannot be multiplied .*; MSGD_DEBUG=1"):
        go(run, task, tmp_path / "other")
