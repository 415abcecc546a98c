"""What a command does where its output cannot hold every character, is closed, or loses its reader."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.commands import fresh_msgd, msgd, strict_environment
from msgd.cli.streams import prepare_streams, reader_is_gone

FOLDER = Path(__file__).parents[1] / "lab" / "experiment_folder" / "version-0.1.0" / "least-squares"
BROKEN = "caf\udce9"  # a name in Latin-1, as Python reads it where names are UTF-8


def test_what_a_stream_cannot_hold_is_replaced(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for encoding in ("latin-1", "utf-8")]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    prepare_streams()
    for stream in streams:
        stream.write("α ≤ 1 × é … 中 \udce9")
        stream.flush()
    assert streams[0].buffer.getvalue() == "alpha <= 1 × é ... ? ?".encode("latin-1")
    assert streams[1].buffer.getvalue() == "α ≤ 1 × é … 中 ?".encode()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["recipes"], "Noise of equal alpha and beta"),
        (["run", "--help"], "the seeds are 0 ... N-1"),
        (["show", "least-squares"], 'title = "Noise of equal alpha and beta'),
        (["compare", FOLDER], "with alpha = "),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_a_terminal_that_is_not_utf_8(arguments, expected, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = fresh_msgd(*arguments, encoding="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["run", "least-squares", "--out", BROKEN], ["show", f"{BROKEN}.toml"], ["compare", BROKEN]],
    ids=lambda arguments: arguments[0],
)
def test_a_name_that_is_not_utf_8_is_refused_in_one_line(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = msgd(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(r"msgd: caf\udce9")
    assert done.stderr.endswith("is not a name in UTF-8: rename the file, or give another name\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["recipes"], ["compare", str(FOLDER)]], ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_no_fault(arguments, closed):
    command = [sys.executable, "-m", "msgd", *arguments]
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        env=strict_environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (done.stdout == "") == closed.startswith(">&-")


@pytest.mark.parametrize(
    "arguments", [["recipes"], ["run", "--help"], ["compare", FOLDER]], ids=lambda arguments: " ".join(arguments[:1])
)
def test_a_reader_that_leaves_ends_the_command_without_a_word(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:  # noqa: PTH123 - no path
        done = fresh_msgd(*arguments, capture_output=False, stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_reader_that_listens_is_seen(monkeypatch):
    reader, writer = os.pipe()
    with open(writer, "w") as pipe:  # noqa: PTH123 - no path
        monkeypatch.setattr("sys.stdout", pipe)
        assert not reader_is_gone()
        os.close(reader)
        assert reader_is_gone()
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert not reader_is_gone()
