"""What some work needs in a process of its own: its result, and the peak of its memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def peak_mib() -> float:
    """The largest resident set of this process so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def ask(script: str, *arguments: object, python: str = sys.executable) -> Any:
    """Run a script of this folder on one thread.

    Args:
        script: its file name.
        arguments: what it is given.
        python: the interpreter.

    Returns:
        The JSON that it prints.

    Raises:
        RuntimeError: it fails; with the end of what it says.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    # As the lab has it for its workers: glibc gives the memory of a step back and takes it again at the next one.
    environment |= {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
    command = [python, str(Path(__file__).parent / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)
