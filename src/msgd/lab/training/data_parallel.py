"""The processes of torchrun that share out the examples of every step; without torchrun, this one alone.

Each computes the gradient of its part of a draw, and moves along the sum of them all, so that their parameters stay the
same. Rank 0 conducts, evaluates and writes; it tells the others which run is next.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from msgd.lab.data.dataset import Data
from msgd.lab.errors import UserError
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe


@dataclass(frozen=True, eq=False)
class Task:
    """A run that rank 0 trains from step ``done`` on, and the state (see `Trainer.state`) that all start from."""

    run: Run
    data: Data
    device: str
    done: int
    state: dict[str, Tensor]


def process_count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if process_count() > 1 else 0


def own_part(number: int) -> slice:
    """This process's part of so many examples: a block, as long as the other processes' or one longer."""
    return slice(rank() * number // process_count(), (rank() + 1) * number // process_count())


def own_device(device: str) -> torch.device:
    """The device of this process.

    Args:
        device: "cpu" or "cuda"; of several CUDA devices each process on a host takes its own.

    Returns:
        The device, the current one from now on.
    """
    if device != "cuda" or process_count() == 1:
        return torch.device(device)
    own = torch.device(device, int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(own)
    return own


def sum_over_processes(gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Add up the gradients of all processes, in one collective operation.

    Args:
        gradients: this process's, a tensor for each parameter; they are overwritten.

    Returns:
        Their sums, the same bits in every process.

    Raises:
        UserError: another process is gone.
    """
    if process_count() == 1:
        return gradients
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with _names_lost_process():
        dist.all_reduce(flat)
    sums = torch.split(flat, [gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [each.view(of.shape) for each, of in zip(sums, gradients, strict=True)])
    return gradients


def broadcast_task(what: Task | range | None) -> None:
    """Tell the other processes, if there are any, what rank 0 trains next.

    Args:
        what: a run; then the steps of it that come next, time and again; None: no more steps of it, or no more runs.

    Raises:
        UserError: another process is gone.
    """
    if process_count() == 1:
        return
    if isinstance(what, Task):
        what = replace(what, state={name: tensor.cpu() for name, tensor in what.state.items()})
    _broadcast(what)


def receive_task() -> Any:
    """Wait for what rank 0 tells (see `tell`)."""
    return _broadcast(None)


def _broadcast(what: Task | range | None) -> Any:
    box = [what]
    with _names_lost_process():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


@contextmanager
def _names_lost_process() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's: the other end of a connection is closed
        raise UserError(
            f"another process of torchrun is gone ({str(error).partition(chr(10))[0]}): "
            "the same command continues where the runs were saved"
        ) from error


def check_data_parallel(recipe: Recipe, jobs: int | None, backend: str, device: str) -> None:
    """Refuse what several processes cannot do, before anything is trained.

    Args:
        recipe: that is to be run.
        jobs: runs at a time that were asked for; None: none were.
        backend: who was asked to do the runs.
        device: "cpu" or "cuda".

    Raises:
        UserError: each run takes all processes, and there are to be several at a time, or others are to train it; batch
            norm, whose groups would be torn apart; fewer CUDA devices than processes.
    """
    if jobs is not None and jobs > 1:
        raise UserError(f"--jobs {jobs}: under torchrun all processes share one run after another; leave --jobs out")
    if backend != "loky":
        raise UserError(f"--backend {backend}: under torchrun its processes do the work; leave one of the two out")
    if recipe.batch_norm:
        raise UserError(
            f"norm: the processes of torchrun would normalise {recipe.model}'s batches each in its part; "
            'set norm = "group" or "none", or run it without torchrun'
        )
    if device == "cuda" and int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
        raise UserError(
            f"{os.environ['LOCAL_WORLD_SIZE']} processes and {torch.cuda.device_count()} CUDA devices: "
            "give torchrun a --nproc-per-node of at most that, or use --device cpu"
        )
