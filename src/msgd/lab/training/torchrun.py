"""A command under torchrun: rank 0 conducts it as if it were alone, the other processes help with the steps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist

from msgd.lab.errors import UserError
from msgd.lab.training.data_parallel import broadcast_task, own_device, rank, receive_task
from msgd.lab.training.prepare import prepare
from msgd.lab.training.step import advance

#: the others wait so long for rank 0 to load data, evaluate or report; where it dies instead, their connection closes
PATIENCE = timedelta(days=1)


def run_under_torchrun(command: Callable[[], None]) -> NoReturn:
    """Carry out a command in the processes that torchrun started, on CPUs by gloo, on CUDA devices by NCCL.

    What goes wrong goes wrong in rank 0, which alone reads and writes: it says so and ends, and so do the others when
    their connection to it closes.

    Every process ends here, without destroying the group: the threads of a gloo group now and then abort a process that
    ends in the ordinary way (torch 2.13: "terminate called without an active exception"), also after a success.

    Args:
        command: what rank 0 does.
    """
    leads = os.environ["RANK"] == "0"
    if not leads:
        for number in (signal.SIGINT, signal.SIGTERM):  # torchrun sends them to all; rank 0 decides
            signal.signal(number, signal.SIG_IGN)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        if leads:
            _lead(command)
        else:
            _help()
    except SystemExit as end:
        _leave(end.code if isinstance(end.code, int) else 1)
    _leave(0)  # all have been told that there are no more runs, and nobody waits for anybody


def _leave(code: int) -> NoReturn:
    """Write out what was printed, and end at once."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def _lead(command: Callable[[], None]) -> None:
    try:
        command()
    except SystemExit as end:  # as a command of typer always ends
        if end.code:
            raise
    with suppress(UserError):  # all is done; torchrun reports a process that was lost
        broadcast_task(None)


def _help() -> None:
    try:
        follow()
    except UserError:
        sys.exit(2)  # rank 0 has said why, or torchrun says that it was killed
    except Exception as error:
        if os.environ.get("MSGD_DEBUG"):
            raise
        name = f"rank {rank()}"
        sys.stderr.write(f"msgd: a fault of msgd in {name}: {error!r}; MSGD_DEBUG=1 shows where, please report it\n")
        sys.exit(1)


def follow() -> None:
    """Take this process's part in every step of the runs that rank 0 trains, until it has no more.

    Raises:
        UserError: rank 0 is gone.
    """
    while (task := receive_task()) is not None:
        trainer, train_set, _ = prepare(task.run, task.data, own_device(task.device))
        trainer.load(task.state)
        while (steps := receive_task()) is not None:
            advance(trainer, task.run, steps, train_set)
