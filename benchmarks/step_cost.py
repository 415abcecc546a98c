"""What a step costs: prints JSON. Medians over interleaved repetitions, so that drift of the machine cancels.

    python benchmarks/step_cost.py [--repetitions N]

`reweighter`: one full step (forward, backward, SGD) of conv-small on 1000 examples with `Reweighter(Fisher(20))`,
its draw included, against the same step with the plain mean loss. `sparse`: the lab's step with Bernoulli(20) of 1000,
draw and indexing included, against its full-batch step; in stretches as in training, `STRETCH` steps for one full-batch
step. (A single sparse step straight after a full-batch one finds cold caches and takes a quarter longer.)
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from msgd import Reweighter
from msgd.lab.models import build
from msgd.lab.train import STRETCH, Trainer
from msgd.noise import Bernoulli, Fisher, FullBatch, Law

N = 1000


def interleaved(steps: dict[str, Callable[[], None]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each step, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(-3, repetitions):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if repetition >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def summary(times: dict[str, list[float]], one: str, other: str) -> dict[str, float]:
    """Medians in milliseconds, and the median of the ratios pair by pair with its quartiles."""
    ratios = [a / b for a, b in zip(times[one], times[other], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        f"{one}_ms": 1e3 * statistics.median(times[one]),
        f"{other}_ms": 1e3 * statistics.median(times[other]),
        "ratio": middle,
        "ratio_quartile_1": low,
        "ratio_quartile_3": high,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=100)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(N, 1, 28, 28)
    x = torch.empty_like(images, memory_format=torch.channels_last).copy_(images)  # as the lab lays them out
    y = torch.randint(10, (N,))
    reweight = Reweighter(Fisher(20), seed=0)

    def loop(with_noise: bool) -> Callable[[], None]:
        model = build("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def step() -> None:
            optimizer.zero_grad()
            losses = F.cross_entropy(model(x), y, reduction="none" if with_noise else "mean")
            (reweight(losses) if with_noise else losses).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return step

    def lab(law: Law, stretch: int) -> Callable[[], None]:
        trainer = Trainer(build("conv-small", input_shape=(1, 28, 28), classes=10, seed=0), lr=0.01)
        number = iter(range(10**9))

        def steps() -> None:
            for weights in [law.draw(N, seed=0, step=next(number)) for _ in range(stretch)]:
                trainer.step(x, y, weights)

        return steps

    reweighter = interleaved({"reweighter": loop(True), "plain": loop(False)}, repetitions)
    sparse = interleaved({"full_batch": lab(FullBatch(), 1), "bernoulli": lab(Bernoulli(20), STRETCH)}, repetitions)
    sparse["bernoulli"] = [seconds / STRETCH for seconds in sparse["bernoulli"]]
    result = {
        "machine": {
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "repetitions": repetitions,
        "reweighter": summary(reweighter, "reweighter", "plain"),
        "sparse": summary(sparse, "full_batch", "bernoulli"),
    }
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
