"""Folders of finished experiments, written by the product's own writers without training anything."""

import math
from unittest import mock

import numpy as np
import torch

from msgd.lab.experiment_folder.checkpoint import Checkpoint, write_checkpoint, write_snapshot
from msgd.lab.experiment_folder.description import describe_experiment
from msgd.lab.experiment_folder.identity import fingerprint, run_folder, write_identity
from msgd.lab.experiment_folder.metrics import keep_records
from msgd.lab.measure.measurements_file import Measurements
from msgd.lab.networks.build import build_network
from msgd.lab.plan.grid import planned_runs
from msgd.lab.recipes.load import parse_recipe

METRICS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")

ENVIRONMENT = {"msgd": "0", "command": "msgd run made.toml", "cores": 2}

RECIPE = """
title = "Made"
data = "mnist1d"
n = 1000
model = "mlp"
lr = 0.1
b = 20
steps = 30
eval_every = 10
snapshots = [10]
seeds = 2
margin = 0.05
reference = "sgd"
[methods.sgd]
law = "mini-batch"
[methods.cov]
law = "cov"
"""


def finished(out, text=RECIPE, *, environment=None, hidden=None):
    """An experiment whose runs are all finished, with seeded accuracies; its runs.

    ``hidden``: units of the made-up network; None: the real one.
    """
    recipe = parse_recipe(text, source="made")
    planned = planned_runs(recipe, n=1000, digests=["0" * 8])
    about = environment or ENVIRONMENT
    out.mkdir(parents=True, exist_ok=True)
    with mock.patch("os.fsync"):  # it is the disk's patience, and nothing here is to outlive a power cut
        described = {"n": 1000, "digests": ["0" * 8]}
        describe_experiment(out, "made", recipe, described, about, keep_environment=False)
        for number, run in enumerate(planned):
            folder = run_folder(run, out)
            folder.mkdir(parents=True)
            write_identity(run, folder, about)
            keep_records(folder, records(run, np.random.default_rng(number)))
            tensors = network(run, hidden)
            for step in run.snapshots:
                write_snapshot(run, folder, step, tensors)
            write_checkpoint(folder, Checkpoint(run.steps, 1.5, tensors))
    return planned


def records(run, rng):
    """Evaluations like those of a run: the loss falls, the accuracy rises to about 0.5."""
    found = []
    for step in run.evaluations:
        done = 1 - math.exp(-3 * step / run.steps)
        accuracy, loss = 0.1 + 0.4 * done + 0.02 * rng.standard_normal(), 2.3 - done + 0.02 * rng.standard_normal()
        values = (accuracy - 0.01, loss + 0.1, accuracy, loss)
        found.append({"step": step, **dict(zip(METRICS, values, strict=True))})
    return found


def network(run, hidden):
    if hidden is None:
        model = build_network(run.model, input_shape=(40,), classes=10, seed=run.seed)
    else:
        model = torch.nn.Linear(hidden, 1)
    return {f"model.{name}": value for name, value in model.state_dict().items()}


def measured(planned):
    """A measurement of each kind and run, at two steps."""
    interval = {"value": 1.0, "low": 0.5, "high": None, "level": 0.95}
    direction = {"name": "leading", "excess_kurtosis": interval, "hill": interval, "block_index": None}
    direction |= {"p_normal": 0.2, "quantiles": [-3.0, 0.0, 3.0]}
    found = [
        {"kind": "covariance", "eigenvalues": [2.0, 1.0], "trace": 4.0, "mean_square": 1.0, "stable_rank": 2.0}
        | {"noise_trace": 0.2, "alignment": interval, "noise_alignment": interval},
        {"kind": "noise-scale", "trace": 4.0, "mean_square": 1.0, "noise_scale": 4.0, "curved": None, "b_eff": 20.0},
        {"kind": "tails", "draws": 100, "directions": [direction, direction]},
        {"kind": "sharpness", "eigenvalues": [9.0], "trace": interval, "size": 0.1, "loss_change": interval},
    ]
    common = {"cost": "cheap", "loss": 1.0, "notes": ["a note"], "gradients": 10.0, "seconds": 0.1}
    entries = [
        {"method": run.method, "seed": run.seed, "step": step, "what": each["kind"], "found": each}
        | {"run": fingerprint(run)}
        | common
        for run in planned
        for step in (0, 30)
        for each in found
    ]
    table = {"recipe": "made", "n": 1000, "d": 3, "environment": {}, "measurements": entries}
    return Measurements.model_validate(table).model_dump()
