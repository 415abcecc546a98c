"""What some work needs in a process of its own: its result, and the peak of its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def resident_mib() -> float:
    """The resident set of this process now, from which its peak is counted from now on."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """The largest resident set so far; not `ru_maxrss`, in which a child begins at its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


#: glibc gives what is freed back to the system at once, or else the peak depends on where blocks happened to lie
EXACT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
#: as the lab has it for its workers: memory is kept for the next step, which is faster
FAST = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**30)}


def ask(script: str, *arguments: object, python: str = sys.executable, malloc: dict[str, str] = FAST) -> Any:
    """Run a script of this folder on one thread.

    Args:
        script: its file name.
        arguments: what it is given.
        python: the interpreter.
        malloc: settings of glibc's.

    Returns:
        The JSON that it prints.

    Raises:
        RuntimeError: it fails; with the end of what it says.
    """
    environment = os.environ | malloc | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [python, str(Path(__file__).parent / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)
