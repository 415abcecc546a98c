"""The laboratory's full-batch step against a hand-written loop, and its sparse steps against that. Prints JSON.

python benchmarks/lab.py full-batch|sparse QUICK
"""

from __future__ import annotations

import json
import statistics
import sys

import torch
from settings import by_hand, by_hand_on_few, lab_steps, loop, make
from timing import Result, interleaved, judged, ratio
from where import median_ms, parts, peak_gflops

from msgd.lab.training.loop import STRETCH
from msgd.noise import Bernoulli, FullBatch, MiniBatch


def full_batch(quick: bool) -> list[Result]:
    """The lab's full-batch step against hand-written loops, and where its time goes."""
    routes = {
        "lab": lab_steps(make("conv-small"), FullBatch(), 1),
        "torch.optim.SGD": loop(make("conv-small"), torch.mean),
        "fused update": by_hand(make("conv-small")),
    }
    times = interleaved(routes, 3 if quick else 150)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    best = min(("torch.optim.SGD", "fused update"), key=lambda name: medians[name])
    found = ratio(times["lab"], times[best]) | {f"{name}_ms": 1e3 * value for name, value in medians.items()}
    found["peak_gflops"] = peak_gflops()
    found["where"] = parts(routes["lab"], 2 if quick else 10)
    found["step_ms"] = median_ms(routes["lab"], 3 if quick else 20)
    return [judged("the lab's full-batch step, conv-small, n = 1000", f"hand-written loop ({best})", 1.03, found)]


def sparse_steps(quick: bool) -> list[Result]:
    """The lab's sparse steps against its full-batch step, in stretches as in training."""
    rows = []
    for law, reach in ((MiniBatch(20), 25.0), (Bernoulli(20), 20.0)):
        routes = {
            "full": lab_steps(make("conv-small"), FullBatch(), 1),
            "sparse": lab_steps(make("conv-small"), law, STRETCH),
            "by hand": by_hand_on_few(make("conv-small"), 20, STRETCH),
        }
        times = interleaved(routes, 3 if quick else 100)
        each = [seconds / STRETCH for seconds in times["sparse"]]
        found = ratio(times["full"], each) | {
            "full_ms": 1e3 * statistics.median(times["full"]),
            "sparse_ms": 1e3 * statistics.median(each),
            "hand-written loop on 20 chosen images_ms": 1e3 / STRETCH * statistics.median(times["by hand"]),
            "peak_gflops": peak_gflops(),
            "where": parts(routes["sparse"], 1 if quick else 5, stretch=STRETCH),
        }
        found["step_ms"] = found["sparse_ms"]
        what = f"the lab's {law!r} step of 1000, conv-small: how many times cheaper"
        rows.append(judged(what, "its full-batch step", reach, found, at_least=True))
    return rows


GROUPS = {"full-batch": full_batch, "sparse": sparse_steps}


def main() -> None:
    """Measure one group."""
    torch.set_num_threads(1)
    group, quick = sys.argv[1:]
    json.dump(GROUPS[group](quick == "1"), sys.stdout)


if __name__ == "__main__":
    main()
