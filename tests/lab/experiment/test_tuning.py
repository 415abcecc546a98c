"""Tuning: on held-out training examples, never on the test set."""

import json

import numpy as np
import pytest

from helpers.commands import msgd
from helpers.small import SMALL
from msgd.lab.data.dataset import Data
from msgd.lab.errors import UserError
from msgd.lab.experiment.tuning import FIRST_SEED, hold_out, pick_rates, tuning_runs, with_tuned_rates
from msgd.lab.experiment_folder.checkpoint import Checkpoint, write_checkpoint
from msgd.lab.experiment_folder.identity import write_identity
from msgd.lab.experiment_folder.scores import ACCURACY, Score
from msgd.lab.experiment_folder.tuning import Tuning, read_tuning, write_tuning
from msgd.lab.recipes.load import parse_recipe

TUNED = SMALL + "[tune]\nlr = [0.2, 0.01]\nseeds = 2\nheld_out = 0.25\n"


def data(n=8):
    return Data(np.arange(n)[:, None], np.arange(n), np.full((3, 1), 99), np.full(3, 99), classes=10)


def test_the_last_training_examples_are_held_out_and_the_test_set_is_gone():
    split = hold_out(data(), 0.25)
    assert split.train_targets.tolist() == [0, 1, 2, 3, 4, 5]
    assert split.test_targets.tolist() == [6, 7]
    assert 99 not in split.test_inputs
    with pytest.raises(UserError, match="leaves one part empty"):
        hold_out(data(), 0.01)


def test_every_rate_is_tried_with_seeds_of_its_own(tmp_path):
    recipe = parse_recipe(TUNED + '[methods.follower]\nlaw = "mini-batch"\nlr_of = "sgd"\n', source="small")
    trials = tuning_runs(recipe, {0: hold_out(data(40), 0.25)}, tmp_path)
    assert len(trials) == 3 * 2 * 2  # the follower is not tuned
    assert {run.seed for run, _ in trials} == {FIRST_SEED, FIRST_SEED + 1}
    assert {run.n for run, _ in trials} == {30}
    assert trials[0][1] == tmp_path / "tuning" / "lr-0.01" / "gd" / "seed-1000"
    assert len({folder for _, folder in trials}) == len(trials)


def write_trials(trials, means, diverged, name="accuracy"):
    """Finished runs: method → mean of the score at rates 0.1, 0.2, …; (method, rate, seed) of those that diverged."""
    for run, folder in trials:
        folder.mkdir(parents=True)
        value = means[run.method][round(10 * run.lr) - 1] + (0.01 if run.seed == 1000 else -0.01)
        end = 5 if (run.method, run.lr, run.seed) in diverged else None
        lines = [
            {"step": step, f"test_{name}": value, "test_loss": 1.0, f"train_{name}": 0.0, "train_loss": 1.0}
            for step in run.evaluations
            if end is None or step <= end
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_identity(run, folder, {})
        write_checkpoint(folder, Checkpoint(10, 1.0, {}, end))


def test_the_best_mean_is_picked_and_the_smaller_of_equals(tmp_path):
    recipe = parse_recipe(TUNED, source="small", settings={"steps": 10, "eval_every": 5, "tune.lr": [0.1, 0.2, 0.3]})
    trials = tuning_runs(recipe, {0: hold_out(data(40), 0.25)}, tmp_path)
    means = {"gd": (0.1, 0.3, 0.2), "sgd": (0.5, 0.5, 0.4), "bernoulli": (0.1, 0.2, 0.6)}
    write_trials(trials, means, {("bernoulli", 0.3, 1001)})
    found = pick_rates(recipe, trials, held_out=10)
    assert found.chosen == {"gd": 0.2, "sgd": 0.1, "bernoulli": 0.2}
    assert found.scores["bernoulli"]["0.3"] is None  # one of its two runs diverged
    assert found.scores["gd"]["0.2"] == pytest.approx(0.3)
    assert found.at_edge() == ["sgd"]
    assert {name: method.lr for name, method in with_tuned_rates(recipe, found).methods.items()} == found.chosen
    write_tuning(found, tmp_path)
    assert read_tuning(tmp_path) == found
    (tmp_path / "tuning.json").write_text("{}")
    with pytest.raises(UserError, match="missing or damaged"):
        read_tuning(tmp_path)


@pytest.mark.parametrize(("lower", "chosen"), [(True, (0.1, 0.3, 0.3)), (False, (0.2, 0.1, 0.2))])
def test_the_direction_of_the_score(tmp_path, lower, chosen):
    """A score may be negative, and a rate at which a run diverged is worse than any value."""
    recipe = parse_recipe(TUNED, source="small", settings={"steps": 10, "eval_every": 5, "tune.lr": [0.1, 0.2, 0.3]})
    trials = tuning_runs(recipe, {0: hold_out(data(40), 0.25)}, tmp_path)
    means = {"gd": (-7.0, -3.0, -4.0), "sgd": (5.0, 5.0, 4.0), "bernoulli": (0.0, 30.0, 20.0)}
    write_trials(trials, means, {("bernoulli", 0.1, 1000)}, "log loss")
    found = pick_rates(recipe, trials, 10, Score("log loss", lower_is_better=lower))
    assert found.chosen == dict(zip(("gd", "sgd", "bernoulli"), chosen, strict=True))
    assert found.scores["bernoulli"] == {"0.1": None, "0.2": 30.0, "0.3": 20.0}
    assert found.scores["gd"]["0.1"] == pytest.approx(-7.0)
    write_tuning(found, tmp_path)
    assert read_tuning(tmp_path) == found


def test_where_every_rate_diverges_the_smallest_is_taken(tmp_path):
    recipe = parse_recipe(TUNED, source="small", settings={"steps": 10, "eval_every": 5, "tune.lr": [0.3, 0.1, 0.2]})
    trials = tuning_runs(recipe, {0: hold_out(data(40), 0.25)}, tmp_path)
    write_trials(trials, dict.fromkeys(recipe.methods, (0.1, 0.2, 0.3)), {("gd", lr, 1000) for lr in (0.1, 0.2, 0.3)})
    found = pick_rates(recipe, trials, 10)
    assert found.scores["gd"] == {"0.1": None, "0.2": None, "0.3": None}
    assert found.chosen == {"gd": 0.1, "sgd": 0.3, "bernoulli": 0.3}
    other = pick_rates(recipe, trials, 10, Score("mae"))  # no run has it
    assert set(other.chosen.values()) == {0.1}


def test_a_tuning_of_an_earlier_version(tmp_path):
    """It knew accuracies only, and wrote 0 where a run diverged."""
    old = {"held_out": 8, "seeds": 3, "accuracy": {"sgd": {"0.1": 0.4, "0.2": 0.0}}, "chosen": {"sgd": 0.1}}
    (tmp_path / "tuning.json").write_text(json.dumps(old))
    found = read_tuning(tmp_path)
    assert found == Tuning(8, 3, {"sgd": {"0.1": 0.4, "0.2": 0.0}}, {"sgd": 0.1})
    assert found.table(ACCURACY, "{} ←") == (["method", "lr 0.1", "lr 0.2"], [["sgd", "40.00 ←", "0.00"]])
    (tmp_path / "tuning.json").write_text(json.dumps(old | {"scores": old["accuracy"]}))
    with pytest.raises(UserError, match="accuracy: Extra inputs"):
        read_tuning(tmp_path)


def test_one_rate_has_no_edge():
    assert Tuning(1, 1, {"gd": {"0.1": 0.5}}, {"gd": 0.1}).at_edge() == []


def test_the_command_tunes_then_trains_and_continues(tmp_path, fashion_mnist):
    recipe = tmp_path / "small.toml"
    recipe.write_text(SMALL)
    out = tmp_path / "out"
    command = ["run", recipe, "--data-dir", fashion_mnist, "--out", out, "--steps", 20, "--jobs", 1]
    command += ["--tune", "lr=0.0001,0.05", "--set", "tune.seeds=1"]
    first = msgd(*command)
    assert first.returncode == 0, first.stderr
    assert "Tuning on held-out examples: 3 methods × 2 learning rates × 1 seed" in first.stdout
    assert "held-out accuracy" in first.stdout
    assert "mean over all 2 evaluations after the start, which are too few" in " ".join(first.stdout.split())
    assert "best on 8 examples held out of the training set" in " ".join(first.stdout.split())
    found = read_tuning(out)
    results = json.loads((out / "results.json").read_text())
    assert {m: method["lr"] for m, method in results["config"]["methods"].items()} == found.chosen
    assert results["tuning"]["chosen"] == found.chosen
    again = msgd(*command)
    assert again.returncode == 0
    assert "6 of 6 runs are finished already" in again.stdout
    assert "held-out accuracy" not in again.stdout
    page = (out / "report.html").read_text()
    assert "How the learning rates were picked" in page
    bad = msgd("run", recipe, "--tune", "momentum=3")
    assert (bad.returncode, bad.stderr.strip()) == (2, "msgd: --tune momentum=3: write it as --tune lr=0.1,0.2,0.4")
    assert list(tmp_path.iterdir()) == [recipe, out] or set(tmp_path.iterdir()) == {recipe, out}


def test_the_command_draws_a_phase_diagram(tmp_path, fashion_mnist):
    recipe = tmp_path / "phase.toml"
    recipe.write_text(
        SMALL.replace('reference = "sgd"', 'reference = "gd"') + "[grid]\nlr = [0.01, 0.05]\nb = [4, 8]\n"
    )
    out = tmp_path / "out"
    done = msgd("run", recipe, "--data-dir", fashion_mnist, "--out", out, "--steps", 10, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    assert "the gain over gd at the same learning rate" in done.stdout
    assert "equivalent" not in done.stdout
    results = json.loads((out / "results.json").read_text())
    gains = {v["method"]: v["reference"] for v in results["verdicts"]}
    assert gains["bernoulli+lr0p05+b4"] == "gd+lr0p05"
    assert len(gains) == 8
    assert "bernoulli: gain over gd" in (out / "report.html").read_text()
