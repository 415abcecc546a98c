"""What a command says, and its exit code, when something that is not the user's input fails."""

import errno
import subprocess
import sys

import pytest
import typer
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from msgd.cli.exit_codes import report_errors


@pytest.mark.parametrize("error", [BrokenProcessPool, TerminatedWorkerError])
def test_a_lost_worker_is_one_line_that_names_the_remedy(error, capsys):
    """A worker that lacks memory is killed, or fails to read its job: neither is a bug in msgd."""
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise error("a worker was lost")
    assert ended.value.exit_code == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "memory" in line
    assert "--jobs 1" in line


def test_a_pipe_that_breaks_elsewhere_is_one_line(capsys):
    """Standard output still has its reader: the error is of a connection, and is told."""
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "msgd: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        SystemError("error return without exception set"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_torch_that_finds_no_memory_is_one_line(error, capsys, monkeypatch):
    monkeypatch.setattr("msgd.cli.exit_codes._memory_limit", lambda: 2.0**31)
    with pytest.raises(typer.Exit) as ended, report_errors():
        raise error
    assert ended.value.exit_code == 2
    line = capsys.readouterr().err
    assert line.startswith("msgd: there is not enough memory to load torch (")
    assert line.endswith("raise the limit on memory (ulimit -v)\n")


@pytest.mark.parametrize("limit", [300_000, 500_000, 600_000])  # in kB; torch may abort the process with any of them
def test_a_limit_on_memory_that_is_too_low_for_torch(limit):
    done, listed = (
        subprocess.run(
            ["sh", "-c", f'ulimit -v {limit}; exec "$@"', "sh", sys.executable, "-m", "msgd", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        for arguments in (["compare", "nothing"], ["recipes"])
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"msgd: {limit / 1024:.0f} MiB of memory are too few to load torch: raise the limit on memory (ulimit -v)\n"
    )
    assert listed.returncode == 0  # needs no torch
