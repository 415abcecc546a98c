"""Checks that the tensors of a checkpoint fit a run, by name, shape and dtype, before any tensor is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import Checkpoint, read_checkpoint
from msgd.lab.experiment_folder.identity import check_identity
from msgd.lab.experiment_folder.metrics import Record, read_records
from msgd.lab.optimizers.state import BuiltOptimizer
from msgd.lab.plan.run import Run
from msgd.langevin import GLDConst, GLDDiag, GLDDynamic, GLDLeading

Shapes = dict[str, tuple[tuple[int, ...], torch.dtype]]  #: name → shape and dtype


def check_model(path: Path, run: Run, tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Check that a file holds the parameters of a run's network.

    Args:
        path: path of the file.
        run: the run that the file must belong to.
        tensors: the tensors in the file.
        model: the network.

    Returns:
        The network's tensors, under the names of its ``state_dict``.

    Raises:
        UserError: a tensor is missing, does not belong to the network, or has another shape or dtype.
    """
    state = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    _check(path, run, state, _shapes(model.state_dict()))
    return state


def check_state(
    path: Path, run: Run, tensors: Mapping[str, Tensor], model: nn.Module, optimizer: BuiltOptimizer | None = None
) -> None:
    """Check that a checkpoint holds the state of a run's training, which may have no momenta or noise yet.

    Args:
        path: path of the file.
        run: the run that the file must belong to.
        tensors: the tensors in the file.
        model: the network.
        optimizer: the optimizer, if it is one of torch or of the user's own.

    Raises:
        UserError: a tensor of the parameters, momenta or noise is missing, unknown, or has another shape or dtype.
    """
    check_model(path, run, tensors, model)
    parameters = dict(model.named_parameters())
    for part, shapes in (
        ("momentum.", _shapes(parameters)),
        ("noise.", _noise_shapes(run, list(parameters.values()))),
        ("ema.", _shapes(parameters) if run.ema else {}),
        ("optimizer.", _without("optimizer.", optimizer.shapes() if optimizer else {})),
    ):
        state = {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
        if part == "optimizer." and run.optimizer and run.optimizer.source:  # it may add state in a later step
            state = {name: value for name, value in state.items() if name in shapes}
        if state:
            _check(path, run, state, shapes)


def _without(prefix: str, shapes: Shapes) -> Shapes:
    return {name.removeprefix(prefix): value for name, value in shapes.items()}


def _noise_shapes(run: Run, parameters: list[nn.Parameter]) -> Shapes:
    """The state of the noise in parameter space, see the classes of `msgd.langevin`."""
    d, kind = sum(parameter.numel() for parameter in parameters), parameters[0].dtype
    trace: Shapes = {"trace": ((), torch.float64)}
    match run.noise:
        case GLDConst() | GLDDynamic():
            return trace
        case GLDDiag():
            return {"diagonal": ((d,), torch.float64)}
        case GLDLeading(k=k):
            return trace | {"eigenvalues": ((k,), torch.float64), "eigenvectors": ((k, d), kind)}
    return {}


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}


def _check(path: Path, run: Run, tensors: Mapping[str, Tensor], expected: Shapes) -> None:
    actual = _shapes(tensors)
    for name in [*expected, *actual]:
        mine, theirs = (
            "{} in {}".format(*table[name]) if name in table else "no such tensor" for table in (expected, actual)
        )
        if mine != theirs:
            raise UserError(
                f"{path} is not of this run's network {run.model} "
                f"(tensor {name}: expected {mine}, found {theirs}): delete it"
            )


def read_run_state(run: Run, folder: Path) -> tuple[Checkpoint | None, list[Record]]:
    """Check everything in a run's folder, and read how far the run is.

    Args:
        run: the run that the folder is for.
        folder: its folder.

    Returns:
        The checkpoint (None if there is none yet), and the evaluations up to it.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    check_identity(run, folder)
    checkpoint = read_checkpoint(folder)
    return checkpoint, read_records(run, folder, step=checkpoint.last_metrics_step) if checkpoint else []
