"""Where the time of the lab's steps goes, against the machine's peak rate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from timing import Result
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

#: operators that FLOPs are counted of → the operators that the profiler shows their time under
COUNTED = {
    "aten.convolution": ("aten::mkldnn_convolution", "aten::thnn_conv2d", "aten::_slow_conv2d_forward"),
    "aten.convolution_backward": ("aten::convolution_backward", "aten::_slow_conv2d_backward"),
    "aten.addmm": ("aten::addmm",),
    "aten.mm": ("aten::mm",),
}


def peak_gflops(size: int = 1536, repetitions: int = 7) -> float:
    """The largest rate of a matrix product in float32, on this process's threads."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def parts(step: Callable[[], object], repetitions: int, *, stretch: int = 1) -> list[Result]:
    """Time and FLOPs of a step by operator, the most expensive first.

    Args:
        step: the step, or a stretch of some.
        repetitions: how many are profiled.
        stretch: how many steps it is.

    Returns:
        For each operator: name, milliseconds of its own and their share, GFLOP (None: none are counted), GFLOP/s.
    """
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    flops = {str(op): count / stretch for op, count in counter.get_flop_counts()["Global"].items()}
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(repetitions):
            step()
    own = {event.key: event.self_cpu_time_total / 1e3 / repetitions / stretch for event in profiled.key_averages()}
    total = sum(own.values())
    found = []
    for name, milliseconds in sorted(own.items(), key=lambda item: -item[1]):
        counted = next((c for c, shown in COUNTED.items() if name in shown), None)
        gflop = flops.get(counted, 0) / 1e9 if counted else 0.0
        found.append(
            {
                "operator": name,
                "ms": milliseconds,
                "share": milliseconds / total,
                "gflop": gflop or None,
                "gflops": gflop / milliseconds * 1e3 if gflop else None,
            }
        )
    return found[:12]


def median_ms(step: Callable[[], object], repetitions: int) -> float:
    """Milliseconds of a step without a profiler."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
