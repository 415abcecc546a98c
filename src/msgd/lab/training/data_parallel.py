"""Data-parallel training with torchrun: the processes share the examples of every step.

Each process computes the gradient of its part of a draw and moves along the sum over all processes, so that all
parameters stay equal. Rank 0 leads: it evaluates, writes files, and tells the other processes which run is next.
Without torchrun, this process works alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from msgd.lab.data.dataset import Data
from msgd.lab.errors import UserError
from msgd.lab.plan.portable import PortableRun
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe


@dataclass(frozen=True, eq=False)
class StartedRun:
    """A run that rank 0 starts to train, and the state from which all processes start.

    Args:
        run: the run, see `portable`.
        data: the data set.
        device: "cpu" or "cuda".
        first_step: number of steps that the run has already taken.
        state: the state of training, see `Trainer.state`.
    """

    run: Run | PortableRun
    data: Data
    device: str
    first_step: int
    state: dict[str, Tensor]


def process_count() -> int:
    """The number of torchrun's processes; 1 without torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


def own_part(number: int) -> slice:
    """This process's block of ``number`` examples; the blocks of two processes differ in length by at most one."""
    return slice(rank() * number // process_count(), (rank() + 1) * number // process_count())


def own_device(device: str) -> torch.device:
    """The device of this process, which also becomes its current CUDA device.

    Args:
        device: "cpu" or "cuda"; with several processes on a host, each takes its own CUDA device.

    Returns:
        The device.
    """
    if device != "cuda" or process_count() == 1:
        return torch.device(device)
    own = torch.device(device, int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


def sum_over_processes(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Add up the gradients of all processes, in one collective operation.

    Args:
        gradients: this process's gradient, a tensor for each parameter; it is overwritten.

    Returns:
        The sums, with the same bits in every process.

    Raises:
        UserError: another process has ended.
    """
    if process_count() == 1:
        return gradients
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _report_lost_process():
        dist.all_reduce(flat)
    sums = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [each.view(of.shape) for each, of in zip(sums, gradients, strict=True)])
    return gradients


def broadcast_next(order: StartedRun | range | None) -> None:
    """Tell the other processes, if there are any, what rank 0 trains next.

    Args:
        order: a `StartedRun` starts a run, and each range after it names the next steps of that run; None ends the run
            or, if none has started, the command.

    Raises:
        UserError: another process has ended.
    """
    if process_count() == 1:
        return
    if isinstance(order, StartedRun):
        order = replace(order, state={name: tensor.cpu() for name, tensor in order.state.items()})
    _broadcast(order)


def receive_next() -> Any:
    """Wait for the next order from rank 0, see `broadcast_next`."""
    return _broadcast(None)


def _broadcast(order: StartedRun | range | None) -> Any:
    box = [order]
    with _report_lost_process():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def _report_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # from gloo or NCCL: the other end of a connection is closed
        raise UserError(
            f"another process of torchrun is gone ({str(error).partition(chr(10))[0]}): "
            "the same command continues where the runs were saved"
        ) from error


def check_data_parallel(recipe: Recipe, jobs: int | None, backend: str, device: str) -> None:
    """Check, before anything is trained, that several processes can train the recipe.

    Args:
        recipe: the recipe to run.
        jobs: the option ``--jobs``; None if it was not given.
        backend: the option ``--backend``.
        device: "cpu" or "cuda".

    Raises:
        UserError: ``--jobs`` or ``--backend`` is combined with torchrun, although every run already uses all processes;
            the network has batch norm, whose batches would be split; there are fewer CUDA devices than processes.
    """
    if jobs is not None and jobs > 1:
        raise UserError(f"--jobs {jobs}: under torchrun every run already uses all processes; leave --jobs out")
    if backend != "loky":
        raise UserError(
            f"--backend {backend}: under torchrun every run already uses its processes; leave out one of the two"
        )
    if recipe.batch_norm:
        raise UserError(
            f"norm: each process of torchrun would normalise only its part of {recipe.model}'s batches; "
            'set norm = "group" or "none", or run without torchrun'
        )
    if device == "cuda" and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise UserError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes and {torch.cuda.device_count()} CUDA devices: "
            "give torchrun a --nproc-per-node of at most the number of devices, or use --device cpu"
        )


def check_batch_norm(network: nn.Module, recipe: Recipe) -> None:
    """Check that nothing splits the batches of a network of the user's own that has batch norm.

    Args:
        network: the network.
        recipe: the recipe, for its ``micro_batch``.

    Raises:
        UserError: the network has batch norm, and micro-batches or torchrun would split its batches.
    """
    splits = ["micro_batch"] if recipe.micro_batch else []
    splits += ["torchrun"] if process_count() > 1 else []
    if splits and has_batch_norm(network):
        raise UserError(
            f"network: {splits[0]} would split the batches that its batch norm normalises: leave {splits[0]} out, or "
            "use a norm that treats each example alone, such as GroupNorm or LayerNorm"
        )


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network has a layer that normalises over the examples of a batch."""
    return any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in network.modules())
