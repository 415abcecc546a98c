"""Restores a run's network with saved parameters, and checks their loss."""

from __future__ import annotations

import json
import math

from torch import nn

from msgd.lab.data.dataset import Data
from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import read_checkpoint, read_snapshot, snapshot_steps
from msgd.lab.experiment_folder.metrics import read_records
from msgd.lab.experiment_folder.resume import check_model
from msgd.lab.measure.selection import Point
from msgd.lab.training.prepare import initial_network


def restore_network(point: Point, examples: Data, device: str) -> nn.Module:
    """Build a run's network with its parameters at a step.

    Args:
        point: the run and the step.
        examples: the data set, for the shapes of inputs and outputs.
        device: "cpu" or "cuda".

    Returns:
        The network; at step 0, with its initial parameters.

    Raises:
        UserError: the file is damaged or belongs to another run, or its tensors do not fit the network.
    """
    model = initial_network(point.run, examples)
    if point.step > 0:
        _fill(model, point)
    return model.to(device)


def _fill(model: nn.Module, point: Point) -> None:
    """Check the tensors of a checkpoint or snapshot, and copy them into a network."""
    if point.step in snapshot_steps(point.folder):
        tensors = read_snapshot(point.run, point.folder, point.step)
        path = point.folder / "snapshots" / f"{point.step}.safetensors"
    else:
        checkpoint = read_checkpoint(point.folder)
        tensors = checkpoint.tensors if checkpoint else {}
        path = point.folder / "checkpoint.safetensors"
    model.load_state_dict(check_model(path, point.run, tensors, model))


def check_loss(point: Point, loss: float) -> None:
    """Compare a loss with the run's metrics: a checkpoint of another recipe may fit, but it has another loss.

    Args:
        point: the run and the step.
        loss: the mean training loss of the restored parameters.

    Raises:
        UserError: the run recorded another loss, or its metrics are damaged.
    """
    checkpoint = read_checkpoint(point.folder, tensors=False)
    if point.step not in point.run.evaluations or (checkpoint and checkpoint.last_metrics_step < point.step):
        return
    recorded = read_records(point.run, point.folder, step=point.step)[-1]["train_loss"]
    same = not math.isfinite(loss) if recorded is None else abs(loss - recorded) <= 1e-3 * abs(recorded) + 1e-6
    if not same:
        raise UserError(
            f"{point.folder}: the parameters of step {point.step} have a training loss of {loss:.6g}, but the run "
            f"recorded {json.dumps(recorded)}: they are of another run or another version; train this run again"
        )
