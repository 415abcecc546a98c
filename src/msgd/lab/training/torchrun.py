"""Runs a command under torchrun: rank 0 carries it out, and the other processes take part in the training steps."""

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
from msgd.lab.plan.portable import received
from msgd.lab.training.data_parallel import broadcast_next, own_device, rank, receive_next
from msgd.lab.training.prepare import prepare
from msgd.lab.training.step import advance

#: time that the other processes wait for rank 0 to load data, evaluate or report; if rank 0 dies, their connection
#: closes at once
PATIENCE = timedelta(days=1)


def run_under_torchrun(command: Callable[[], None]) -> NoReturn:
    """Carry out a command in the processes that torchrun started, with gloo on CPUs and NCCL on CUDA devices.

    Only rank 0 reads and writes files, so faults of data or files occur there: rank 0 reports the fault and ends, and
    the other processes end when their connection to it closes.

    Every process ends here, without destroying the group: in torch 2.13 the threads of a gloo group sometimes abort a
    process that exits in the ordinary way ("terminate called without an active exception"), even after a success.

    Args:
        command: the command that rank 0 carries out.
    """
    leads = os.environ["RANK"] == "0"
    if not leads:
        for number in (signal.SIGINT, signal.SIGTERM):  # torchrun signals all processes, but rank 0 decides
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
        with suppress(OSError):  # the reader has closed the stream
            stream.flush()
    os._exit(code)


def _lead(command: Callable[[], None]) -> None:
    try:
        command()
    except SystemExit as end:  # a typer command always ends this way
        if end.code:
            raise
    with suppress(UserError):  # all work is done, and torchrun reports a lost process
        broadcast_next(None)


def _help() -> None:
    try:
        follow()
    except UserError:
        sys.exit(2)  # rank 0 has printed the reason, or torchrun reports that it was killed
    except Exception as error:
        if os.environ.get("MSGD_DEBUG"):
            raise
        name = f"rank {rank()}"
        sys.stderr.write(f"msgd: a bug in msgd, in {name}: {error!r}; MSGD_DEBUG=1 shows where, please report it\n")
        sys.exit(1)


def follow() -> None:
    """Take part in every step of the runs that rank 0 trains, until rank 0 has no more runs.

    Raises:
        UserError: rank 0 has ended.
    """
    while (started := receive_next()) is not None:
        run = received(started.run)
        with run.own.faults_in(run.model):
            trainer, train_set, _ = prepare(run, started.data, own_device(started.device))
        trainer.load(started.state)
        while (steps := receive_next()) is not None:
            advance(trainer, run, steps, train_set)
