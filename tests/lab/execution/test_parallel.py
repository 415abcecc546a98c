"""Calls in processes of this machine: what a worker writes to standard error is shown only to who debugs msgd."""

import os

import joblib
import pytest

from msgd.lab.execution.parallel import run_in_parallel
from msgd.lab.execution.workers import Workers


@pytest.mark.parametrize("debug", [False, True])
def test_workers_write_nothing_to_standard_error(debug, tmp_path, capfd, monkeypatch):
    """A worker that runs out of memory writes half a traceback, which would hide the command's one line."""
    if debug:
        monkeypatch.setenv("MSGD_DEBUG", "1")
    else:
        monkeypatch.delenv("MSGD_DEBUG", raising=False)
    calls, results = [joblib.delayed(os.write)(2, b"Process LokyProcess-1:\n") for _ in range(2)], []
    run_in_parallel(calls, results.append, out=tmp_path, workers=Workers(2))
    assert results == [23, 23]
    assert ("LokyProcess" in capfd.readouterr().err) == debug
