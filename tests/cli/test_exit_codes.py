"""What a command says, and its exit code, when something that is not the user's input fails."""

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
