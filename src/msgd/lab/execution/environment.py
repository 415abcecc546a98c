"""The environment of a run: versions of packages, the machine, and the commit of the code."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import msgd

PACKAGES = ("torch", "numpy", "scipy", "joblib", "mnist1d", "plotly", "pydantic", "safetensors")


def describe_environment(device: str) -> dict[str, Any]:
    """Describe the environment of this process.

    Args:
        device: "cpu" or "cuda".

    Returns:
        A table of strings and numbers, ready for JSON.
    """
    return {
        "msgd": msgd.__version__,
        "commit": _commit(),
        "command": shlex.join(["msgd", *sys.argv[1:]]),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "device": _device(device),
    }


@cache
def versions() -> dict[str, str | None]:
    """Versions that must agree between processes that share an experiment; an installed package has no commit."""
    return {"msgd": msgd.__version__, "commit": _commit(), **{name: version(name) for name in ("torch", "numpy")}}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _device(device: str) -> str:
    if device == "cuda" and torch.cuda.is_available():  # perhaps only the workers of a cluster have it
        return torch.cuda.get_device_name()
    return device


def _commit() -> str | None:
    """The commit of a source checkout, with a + if files have changed; None for an installed package."""
    folder = Path(__file__).parents[4]
    if not (folder / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
