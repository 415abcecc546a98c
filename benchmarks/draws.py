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


def microseconds(name: str, n: int, repetitions: int) -> dict[str, list[float]]:
    """What a draw of a few of n takes, and two parts of it.

    Args:
        name: a key of `SPARSE`.
        n: number of examples.
        repetitions: of 20 calls each, after 3 that do not count.

    Returns:
        Microseconds of a draw, of its step's generator, and of its positions and weights, for each repetition.
    """
    law, rng, numbers = SPARSE[name], generator(0, 0), iter(range(10**9))
    parts: dict[str, Callable[[], object]] = {
        "draw": lambda: law.draw(n, seed=0, step=next(numbers)),
        "generator": lambda: generator(0, next(numbers)),
        "sample": lambda: law.sample(n, rng),
    }
    times: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(repetitions + 3):
        for part, call in parts.items():
            start = time.perf_counter()
            for _ in range(20):
                call()
            times[part].append((time.perf_counter() - start) / 20e-6)
    return {part: each[3:] for part, each in times.items()}


def sparse(name: str, n: int, times: dict[str, list[float]]) -> Result:
    """Summarise draws of a few of n.

    Args:
        name: a key of `SPARSE`.
        n: number of examples.
        times: from `microseconds`.

    Returns:
        Their median with its interval, and its parts; the peak of memory of a draw in KiB.
    """
    tracemalloc.start()
    SPARSE[name].draw(n, seed=0, step=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    low, high = interval(times["draw"])
    return {
        "us": statistics.median(times["draw"]),
        "low": low,
        "high": high,
        "the step's generator_us": statistics.median(times["generator"]),
        "positions and weights_us": statistics.median(times["sample"]),
        "peak_kib": peak / 1024,
        "n": n,
    }
