"""The peak of memory of a few training steps, with weights or without, and on top of what is there: prints JSON.

python benchmarks/memory.py SETTING reweighter|plain|outputs|attach|mean
"""

from __future__ import annotations

import json
import sys

import torch
from alone import peak_mib, resident_mib
from gate import gated
from settings import loop, make

from msgd import Reweighter
from msgd.noise import Fisher


def main() -> None:
    """Train five steps and look."""
    torch.set_num_threads(1)
    name, which = sys.argv[1:]
    if which in ("reweighter", "plain"):
        step = loop(make(name), Reweighter(Fisher(20), seed=0) if which == "reweighter" else torch.mean)
    else:
        step = gated(make(name), which)
    before = resident_mib()
    for _ in range(5):
        step()
    json.dump({"peak_mib": peak_mib(), "on_top_mib": peak_mib() - before}, sys.stdout)


if __name__ == "__main__":
    main()
