"""Files of somebody else: read within bounds, and never written where a link leads."""

import json
import os
import signal

import pytest

from helpers.commands import python
from msgd.lab.errors import LONGEST, UserError, one_line
from msgd.lab.experiment_folder.identity import note_processes
from msgd.lab.safe_io.bounded import parse_json, parse_toml, read_bytes
from msgd.lab.safe_io.lock import lock_folder
from msgd.lab.safe_io.tensors import check_tensor_file
from msgd.lab.safe_io.writing import check_inside, write_atomically


def test_what_a_file_says_cannot_steer_the_terminal():
    assert one_line("a\x1b[2J\nb\u202ec\ud800") == "a\\x1b[2J b\\u202ec\\ud800"
    long = str(UserError("start " + "x" * 10**6 + " end: delete it"))
    assert len(long) == LONGEST
    assert long.startswith("start x")
    assert long.endswith("end: delete it")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 10**5, "a line of more than 2000"),
        ("a = " + "[\n" * 10**4, "nested too deeply"),
        (".".join("a" * 17) + " = 1", "nested more than 16 deep"),
        ("[" + ".".join("a" * 17) + "]", "nested more than 16 deep"),
        (".".join("a" * 10**5) + " = 1", "a line of more than 2000"),  # tomllib would take minutes
        ("a = 0x1" + "0" * 16, "more than 64 bits"),
        ("a = " + "9" * 1990, "more than 64 bits"),
        ("#" * 999 + "\n" + "#\n" * 2**18, "more than 524288 characters"),
    ],
    ids=lambda text: text[:24],
)
def test_toml_is_bounded(text, message):
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


def test_toml_within_the_bounds():
    nested = ".".join("a" * 15) + " = 1"
    assert parse_toml(nested + f"\nb = {2**63 - 1}")["b"] == 2**63 - 1


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "1e999", "[" * 10**5, "1" * 5000, "", "{", "\xff"], ids=lambda text: text[:9]
)
def test_json_is_bounded(text):
    with pytest.raises(ValueError, match=r"not a JSON number|not finite|too deeply|Exceeds|Expecting|decode"):
        parse_json(text.encode("latin1"))


def test_only_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zero", "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            read_bytes(tmp_path / name, 10)
    (tmp_path / "file").write_bytes(bytes(10))
    assert read_bytes(tmp_path / "file", 10) == bytes(10)
    with pytest.raises(ValueError, match="more than 9 bytes"):
        read_bytes(tmp_path / "file", 9)


def test_a_file_of_tensors_that_claims_too_much(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)  # which takes no room on the disk, and would take all the memory
    with pytest.raises(ValueError, match="at most 4294967296 are read"):
        check_tensor_file(path)
    path.write_bytes((2**27).to_bytes(8, "little") + bytes(100))
    with pytest.raises(ValueError, match="a header of more than"):
        check_tensor_file(path)


def test_nothing_is_written_through_a_link(tmp_path):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.write_text("mine")
    out.mkdir()
    (out / "results.json").symlink_to(mine)
    (out / "results.json.part").symlink_to(mine)
    write_atomically(out / "results.json", b"{}")
    assert mine.read_text() == "mine"
    assert not (out / "results.json").is_symlink()
    assert (out / "results.json").read_text() == "{}"
    (out / ".lock").symlink_to(mine)
    with pytest.raises(UserError, match="is a link"), lock_folder(out):
        pass
    assert mine.read_text() == "mine"


def test_the_way_to_a_run_has_no_link(tmp_path):
    (tmp_path / "real" / "seed-0").mkdir(parents=True)
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "real")  # the folder itself is where its owner wants it
    check_inside(out / "sgd" / "seed-0", out)
    (out / "sgd").symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"sgd is a link, and msgd does not write outside .*: delete the link"):
        check_inside(out / "sgd" / "seed-0", out)


def test_a_record_of_the_processes_that_is_anything(tmp_path):
    for content in ('{"processes_per_run": ""}', '{"processes_per_run": []}', "[]", "[" * 10**5, '{"a": NaN}'):
        (tmp_path / "environment.json").write_text(content)
        note_processes(tmp_path, {"processes_per_run": 2})
    (tmp_path / "environment.json").write_text('{"processes_per_run": 1}')
    note_processes(tmp_path, {"processes_per_run": 2})
    assert json.loads((tmp_path / "environment.json").read_text()) == {"processes_per_run": "1, then 2"}


SAVE = """
import resource, sys, torch, safetensors.torch
from msgd.lab.safe_io.tensors import to_safetensors
tensors = {"a": torch.zeros(3_000_000)}
to_safetensors({"a": torch.zeros(1)}, {})
status = open("/proc/self/status").read()
used = int(status.partition("VmData:")[2].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + int(float(sys.argv[2]) * 12e6),) * 2)
save = to_safetensors if sys.argv[1] == "ours" else safetensors.torch.save
try:
    print("whole" if len(save(tensors, {})) > 12_000_000 else "short")
except MemoryError:
    print("MemoryError")
"""


@pytest.mark.parametrize("room", [0, 0.5, 1.2, 1.8, 2.5, 4])
def test_too_little_memory_for_a_checkpoint_is_an_error(room):
    """Of twelve million bytes; where safetensors aborts the process, or panics and waits for itself forever."""
    environment = os.environ | {"RUST_BACKTRACE": "1"}
    done = python(SAVE, "ours", room, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == ("whole" if room > 3 else "MemoryError")


def test_safetensors_itself_aborts():
    """The control: should this fail one day, `packed` is needed no more."""
    done = python(SAVE, "theirs", 0.5, timeout=60)
    assert done.returncode == -signal.SIGABRT
