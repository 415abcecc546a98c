"""A network with the parameters that a run kept."""

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
        examples: for the shapes of inputs and outputs.
        device: "cpu" or "cuda".

    Returns:
        The network; at step 0 as it is initialised.

    Raises:
        UserError: the file is damaged or of another run, or its tensors are not those of the network.
    """
    model = initial_network(point.run, examples)
    if point.step > 0:
        _fill(model, point)
    return model.to(device)


def _fill(model: nn.Module, point: Point) -> None:
    """Copy the tensors of a checkpoint into a network, once they are known to fit."""
    if point.step in snapshot_steps(point.folder):
        tensors = read_snapshot(point.run, point.folder, point.step)
        path = point.folder / "snapshots" / f"{point.step}.safetensors"
    else:
        checkpoint = read_checkpoint(point.folder)
        tensors = checkpoint.tensors if checkpoint else {}
        path = point.folder / "checkpoint.safetensors"
    model.load_state_dict(check_model(path, point.run, tensors, model))


def check_loss(point: Point, loss: float) -> None:
    """Compare with what the run wrote down: a checkpoint of another recipe may fit, but has another loss.

    Args:
        point: the run and the step.
        loss: mean training loss of the parameters.

    Raises:
        UserError: the run had another one, or its metrics are damaged.
    """
    checkpoint = read_checkpoint(point.folder, tensors=False)
    if point.step not in point.run.evaluations or (checkpoint and checkpoint.last_metrics_step < point.step):
        return
    recorded = read_records(point.run, point.folder, step=point.step)[-1]["train_loss"]
    same = not math.isfinite(loss) if recorded is None else abs(loss - recorded) <= 1e-3 * abs(recorded) + 1e-6
    if not same:
        raise UserError(
            f"{point.folder}: the parameters of step {point.step} have a training loss of {loss:.6g}, and the run "
            f"wrote down {json.dumps(recorded)}: they are of another run, or of another version; train it again"
        )
