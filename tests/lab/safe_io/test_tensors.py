"""Files of tensors: read within bounds, written with the memory that there is."""

import os
import signal

import pytest

from helpers.commands import python
from msgd.lab.safe_io.tensors import check_tensor_file


def test_a_file_of_tensors_that_claims_too_much(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    with path.open("wb") as file:
        file.truncate(2**40)  # which takes no room on the disk, and would take all the memory
    with pytest.raises(ValueError, match="at most 4294967296 are read"):
        check_tensor_file(path)
    path.write_bytes((2**27).to_bytes(8, "little") + bytes(100))
    with pytest.raises(ValueError, match="a header of more than"):
        check_tensor_file(path)


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
