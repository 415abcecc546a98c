"""Whether the tensors of a checkpoint are those of a run: their names, shapes and types, before any of them is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.checkpoint import Checkpoint, read_checkpoint
from msgd.lab.experiment_folder.identity import check_identity
from msgd.lab.experiment_folder.metrics import Record, read_records
from msgd.lab.plan.run import Run
from msgd.langevin import GLDConst, GLDDiag, GLDDynamic, GLDLeading

Forms = dict[str, tuple[tuple[int, ...], torch.dtype]]  #: shape and type, by name


def check_model(path: Path, run: Run, tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Make sure that a file holds the parameters of a run's network.

    Args:
        path: of the file.
        run: whose it must be.
        tensors: what it holds.
        model: the network.

    Returns:
        The network's tensors, as its ``state_dict`` has them.

    Raises:
        UserError: a tensor is missing, is not of the network, or has another shape or type.
    """
    given = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    _check(path, run, given, _forms(model.state_dict()))
    return given


def check_state(path: Path, run: Run, tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Make sure that a checkpoint holds the state of a run's training, which may have no momenta or noise yet.

    Args:
        path: of the file.
        run: whose it must be.
        tensors: what it holds.
        model: the network.

    Raises:
        UserError: as `check_model`, of momenta and noise too.
    """
    check_model(path, run, tensors, model)
    parameters = dict(model.named_parameters())
    for part, forms in (("momentum.", _forms(parameters)), ("noise.", _noise(run, list(parameters.values())))):
        given = {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
        if given:
            _check(path, run, given, forms)


def _noise(run: Run, parameters: list[nn.Parameter]) -> Forms:
    """What the noise in parameter space keeps, see the classes of `msgd.langevin`."""
    d, kind = sum(parameter.numel() for parameter in parameters), parameters[0].dtype
    trace: Forms = {"trace": ((), torch.float64)}
    match run.noise:
        case GLDConst() | GLDDynamic():
            return trace
        case GLDDiag():
            return {"diagonal": ((d,), torch.float64)}
        case GLDLeading(k=k):
            return trace | {"eigenvalues": ((k,), torch.float64), "eigenvectors": ((k, d), kind)}
    return {}


def _forms(tensors: Mapping[str, Tensor]) -> Forms:
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}


def _check(path: Path, run: Run, given: Mapping[str, Tensor], expected: Forms) -> None:
    found = _forms(given)
    for name in [*expected, *found]:
        mine, theirs = (
            "{} in {}".format(*table[name]) if name in table else "no such tensor" for table in (expected, found)
        )
        if mine != theirs:
            raise UserError(
                f"{path} is not of this run's network {run.model}: {name} is {theirs}, and should be {mine}"
            )


def read_run_state(run: Run, folder: Path) -> tuple[Checkpoint | None, list[Record]]:
    """Check all that a run's folder holds, and read where the run stands.

    Args:
        run: the run that is to be in it.
        folder: its folder.

    Returns:
        The checkpoint, None where there is none yet, and the evaluations up to it.

    Raises:
        UserError: the folder holds another run or is damaged.
    """
    check_identity(run, folder)
    checkpoint = read_checkpoint(folder)
    return checkpoint, read_records(run, folder, step=checkpoint.evaluated) if checkpoint else []
