"""Start the command line in this process, in a forked one, or in a fresh interpreter."""

import atexit
import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from helpers.fork_server import ForkServer
from msgd.cli.app import app

STARTED = []  #: processes that `start` began, so that a test which fails leaves none behind
#: the environment in which the tests begin, before any of them changes it
ENVIRONMENT = dict(os.environ)


@cache
def server():
    """The fork server of this test process."""
    server = ForkServer(ENVIRONMENT)
    atexit.register(server.close)
    return server


def call(*arguments):
    """Run the command in this process; return its exit code."""
    with pytest.raises(SystemExit) as caught:
        app([str(argument) for argument in arguments])
    return caught.value.code


def here(capsys, *arguments):
    """Run the command in this process; return its exit code, standard output and standard error."""
    code = call(*arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def strict_environment():
    """The environment of a command whose warnings are errors, and whose output has no colours."""
    return os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "error"}


def finished(process, timeout):
    """Wait for a process, and kill it when it takes too long; return what `subprocess.run` would."""
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


def msgd(*arguments, env=None, timeout=300):
    """Run the command to its end in a forked process; return what `subprocess.run` would."""
    return finished(server().start("msgd", *arguments, env=env or strict_environment()), timeout)


def python(code, *arguments, env=None, timeout=300):
    """Run code in a forked process that has imported torch and msgd; return what `subprocess.run` would."""
    return finished(server().start("-c", code, *arguments, env=env), timeout)


def script(path, *arguments, env=None, ignore=(), timeout=300):
    """Run a script to its end in a forked process, with all warnings but a few as errors.

    ignore: how the messages of those few begin, as patterns.
    """
    return finished(server().start(path, *arguments, env=env or strict_environment(), ignore=ignore), timeout)


def fresh_msgd(*arguments, **options):
    """Run the command in a fresh interpreter, ``python -m msgd``."""
    command = [sys.executable, "-m", "msgd", *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 300, "check": False} | options
    return subprocess.run(command, env=strict_environment(), **options)


def start(*arguments):
    """Start the command in a forked process that leads a process group, as under a terminal."""
    process = server().start("msgd", *arguments, start_new_session=True)
    STARTED.append(process)
    return process


def fresh_start(*arguments):
    """Start the command in a fresh interpreter that leads a process group, as under a terminal."""
    command = [sys.executable, "-m", "msgd", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, **pipes, text=True, start_new_session=True)
    STARTED.append(process)
    return process


def wait_until(condition, seconds=300):
    """Wait until a condition holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.02)


def children_of(pid):
    """The process ids of the children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process ends just now
            parent = stat.read_text().rpartition(")")[2].split()[1]  # after the name, which may hold anything
            if int(parent) == pid:
                found.append(int(stat.parent.name))
    return found


def workers_of(pid):
    """The process ids of the joblib workers of a command."""
    found = []
    for child in children_of(pid):
        with suppress(OSError):
            if "loky.backend.popen" in Path(f"/proc/{child}/cmdline").read_text():
                found.append(child)
    return found
