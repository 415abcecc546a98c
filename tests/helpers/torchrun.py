"""Start the processes that share one training, under torchrun or without it."""

import os
import socket
import subprocess
import sys

from helpers.commands import finished, server


def torchrun(*arguments, size, env=None, timeout=500):
    """Run a script, or a module after "-m", under torchrun; return what `subprocess.run` would."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=(os.environ if env is None else env) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start_ranks(*arguments, size):
    """Start ``msgd``, or a script, in forked processes as torchrun does; nobody ends the others when one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    common |= {"TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": 1}
    return [
        server().start(
            *arguments,
            env=os.environ
            | {name: str(value) for name, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()},
        )
        for rank in range(size)
    ]


def ends_of(ranks, timeout=300):
    """Wait for the end of all ranks; return the exit code, standard output and standard error of each."""
    try:
        done = [finished(process, timeout) for process in ranks]
    finally:
        for process in ranks:
            process.kill()
    return [(each.returncode, each.stdout, each.stderr) for each in done]


def run_ranks(*arguments, size):
    """Run a script in forked processes as torchrun does; fail where one of them does."""
    for code, _, errors in ends_of(start_ranks(*arguments, size=size)):
        assert code == 0, errors[-3000:]
