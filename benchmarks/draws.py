"""What a draw of the weights costs, against NumPy's raw generator."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from timing import Result, interleaved, interval, ratio

from msgd import noise
from msgd.noise import Law, generator

SPARSE_B = 256

#: dense laws, and the numbers that they are made of
DENSE: dict[str, tuple[Law, Callable[[Generator, int], object]]] = {
    "Fisher(20)": (noise.Fisher(20), lambda rng, n: rng.standard_normal(n)),
    "Cov(20)": (noise.Cov(20), lambda rng, n: rng.standard_normal(n)),
    "Rademacher": (noise.Injected(noise.Rademacher(), 20), lambda rng, n: rng.integers(2, size=n)),
    "Uniform": (noise.Injected(noise.Uniform(), 20), lambda rng, n: rng.random(n)),
    "Laplace": (noise.Injected(noise.Laplace(), 20), lambda rng, n: rng.laplace(size=n)),
    "BayesianBootstrap(20)": (noise.BayesianBootstrap(20), lambda rng, n: rng.dirichlet(np.full(n, 19 / n))),
}
SPARSE: dict[str, Law] = {
    "MiniBatch(256)": noise.MiniBatch(SPARSE_B),
    "MiniBatch(256, replacement=True)": noise.MiniBatch(SPARSE_B, replacement=True),
    "Bernoulli(256)": noise.Bernoulli(SPARSE_B),
    "Poisson(256)": noise.Poisson(SPARSE_B),
}


def dense(name: str, n: int, repetitions: int) -> Result:
    """Time a dense draw and the raw generator in turn.

    Args:
        name: a key of `DENSE`.
        n: number of weights.
        repetitions: of each.

    Returns:
        The ratio, and milliseconds of both.
    """
    law, raw = DENSE[name]
    numbers = iter(range(10**9))
    times = interleaved(
        {
            "draw": lambda: law.draw(n, seed=0, step=next(numbers)),
            "raw": lambda: raw(generator(0, next(numbers)), n),
        },
        repetitions,
    )
    milliseconds = {f"{key}_ms": 1e3 * statistics.median(seconds) for key, seconds in times.items()}
    return {**ratio(times["draw"], times["raw"]), **milliseconds}


def microseconds(name: str, n: int, repetitions: int) -> list[float]:
    """What a draw of a few of n takes.

    Args:
        name: a key of `SPARSE`.
        n: number of examples.
        repetitions: of 20 draws each, after 3 that do not count.

    Returns:
        Microseconds of a draw, for each repetition.
    """
    law, numbers, times = SPARSE[name], iter(range(10**9)), []
    for _ in range(repetitions + 3):
        start = time.perf_counter()
        for _ in range(20):
            law.draw(n, seed=0, step=next(numbers))
        times.append((time.perf_counter() - start) / 20e-6)
    return times[3:]


def sparse(name: str, n: int, times: list[float]) -> Result:
    """Summarise draws of a few of n.

    Args:
        name: a key of `SPARSE`.
        n: number of examples.
        times: from `microseconds`.

    Returns:
        Their median with its interval; the peak of memory of a draw in KiB.
    """
    tracemalloc.start()
    SPARSE[name].draw(n, seed=0, step=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    low, high = interval(times)
    return {"us": statistics.median(times), "low": low, "high": high, "peak_kib": peak / 1024, "n": n}
