"""The rows that need a GPU: the steps there, whether drawing ahead pays, and training many seeds in lockstep.

python benchmarks/gpu.py [DEVICE]  prints the rows as JSON; on "cpu" a few repetitions, to see that they work.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping

import torch
from settings import by_hand, cross_entropy, lab_steps, loop, make
from timing import Result, interleaved, judged, ratio
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from msgd import Reweighter
from msgd.lab.networks.build import build_network
from msgd.lab.training.sgd import Trainer
from msgd.noise import Bernoulli, Fisher, FullBatch, Law, MiniBatch, Weights

AHEAD = 64  #: steps whose weights are drawn at once
SEEDS = 16  #: networks that are trained in lockstep
STRETCH = 50  #: steps of a sparse law that are timed at once


def waiting(steps: Callable[[], object], device: str) -> Callable[[], None]:
    """Steps, until the device has done them."""

    def run() -> None:
        steps()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def waits(step: Callable[[], object], device: str) -> str:
    """What in a step makes the host wait for the device, in PyTorch's words; "nothing"."""
    if device != "cuda":
        return "nothing (no CUDA device)"
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        return " ".join(str(error).split())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "nothing"


def peak_mib(step: Callable[[], object], device: str) -> float:
    """The peak of the device's memory over three steps."""
    if device != "cuda":
        return 1.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**20


def against(steps: Mapping[str, Callable[[], object]], repetitions: int, device: str) -> Result:
    """The ratio of the first step's time to the second's, with the median of both."""
    times = interleaved({name: waiting(step, device) for name, step in steps.items()}, repetitions, warm_up=5)
    above, below = times.values()
    return ratio(above, below) | {f"{name}_ms": 1e3 * statistics.median(each) for name, each in times.items()}


def one_line(device: str, repetitions: int) -> list[Result]:
    """`Reweighter` against the loop without noise, whether it waits, and weights drawn ahead in a pinned buffer."""
    rows = []
    for name in ("conv-small", "vgg11", "transformer"):
        ours = loop(make(name, device), Reweighter(Fisher(20), seed=0))
        plain = loop(make(name, device), torch.mean)
        found = against({"reweighter": ours, "plain": plain}, repetitions, device)
        found["waits_for"] = waits(ours, device)
        rows.append(judged(f"GPU: Reweighter step, {name}: time", "the loop without noise", 1.01, found))
        # Both networks are there all the time: what differs is the step.
        peaks = [peak_mib(step, device) for step in (ours, plain)]
        found = ratio([peaks[0]], [peaks[1]]) | {"reweighter_mib": peaks[0], "plain_mib": peaks[1]}
        rows.append(judged(f"GPU: Reweighter step, {name}: peak memory", "the loop without noise", 1.01, found))
        found = against({"in the step": ours, "ahead": loop(make(name, device), Ahead(device))}, repetitions, device)
        what = f"GPU: weights drawn {AHEAD} steps ahead in a pinned buffer, {name}: how many times less time"
        rows.append(judged(what, "weights drawn in the step", 1.0, found, at_least=True))
    return rows


class Ahead:
    """Weighs losses with the weights of `AHEAD` steps, drawn at once into one buffer and sent with one copy."""

    def __init__(self, device: str) -> None:
        self.device, self.step = device, 0
        self.rows: Tensor = torch.empty(0)

    def __call__(self, losses: Tensor) -> Tensor:
        """Weigh one step's losses."""
        place = self.step % AHEAD
        if place == 0:
            draws = [Fisher(20).draw(len(losses), seed=0, step=self.step + k).dense() for k in range(AHEAD)]
            rows = torch.stack(draws)
            self.rows = rows.pin_memory().to(self.device, non_blocking=True) if self.device == "cuda" else rows
        self.step += 1
        return (losses * self.rows[place]).mean()


def lab(device: str, repetitions: int) -> list[Result]:
    """The laboratory's steps, full and sparse."""
    routes = {
        "lab": lab_steps(make("conv-small", device), FullBatch(), 1),
        "by hand": by_hand(make("conv-small", device)),
    }
    found = against(routes, repetitions, device)
    rows = [
        judged("GPU: the lab's full-batch step, conv-small, n = 1000", "hand-written loop (fused update)", 1.03, found)
    ]
    laws: list[tuple[Law, float]] = [(MiniBatch(20), 25.0), (Bernoulli(20), 20.0)]
    for law, reach in laws:
        full = lab_steps(make("conv-small", device), FullBatch(), STRETCH)
        found = against(
            {"full": full, "sparse": lab_steps(make("conv-small", device), law, STRETCH)},
            max(2, repetitions // 5),
            device,
        )
        found |= {key: found[key] / STRETCH for key in ("full_ms", "sparse_ms")}
        what = f"GPU: the lab's {law!r} step of 1000, conv-small: how many times cheaper"
        rows.append(judged(what, "its full-batch step", reach, found, at_least=True))
    return rows


def networks(device: str) -> list[nn.Module]:
    """The main job's network, of `SEEDS` seeds."""
    return [build_network("mlp", input_shape=(40,), classes=10, seed=seed).to(device) for seed in range(SEEDS)]


def in_turn(models: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], None]:
    """The laboratory's step of each network, one after the other, each with noise of its own."""
    trainers, numbers = [Trainer(model, lr=0.01) for model in models], iter(range(10**9))

    def step() -> None:
        number = next(numbers)
        for seed, trainer in enumerate(trainers):
            trainer.step(x, y, Fisher(20).draw(len(y), seed=seed, step=number))

    return step


def in_lockstep(models: list[nn.Module], x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Callable[[], None]]:
    """The same step of all networks at once: their parameters, stacked, and the step."""
    parameters, _ = stack_module_state(models)
    skeleton, numbers = models[0], iter(range(10**9))

    def loss(parameters: dict[str, Tensor], weights: Tensor) -> Tensor:
        return (cross_entropy(functional_call(skeleton, parameters, (x,)), y) * weights).mean()

    gradient = vmap(grad(loss))

    def step() -> None:
        number = next(numbers)
        draws = [Fisher(20).draw(len(y), seed=seed, step=number).value for seed in range(SEEDS)]
        weights = Weights(None, torch.cat(draws), len(y)).to(x.device).value.view(SEEDS, -1)
        with torch.no_grad():
            moves = gradient(parameters, weights)
            torch._foreach_add_(list(parameters.values()), [moves[name] for name in parameters], alpha=-0.01)

    return parameters, step


def lockstep(device: str, repetitions: int) -> list[Result]:
    """Whether training many seeds in lockstep with vmap pays."""
    torch.manual_seed(0)
    x, y = torch.randn(1000, 40).to(device), torch.randint(10, (1000,)).to(device)
    models = networks(device)
    parameters, together = in_lockstep(networks(device), x, y)
    sequential = in_turn(models, x, y)
    sequential()
    together()
    for name, stacked in parameters.items():
        one_by_one = torch.stack([model.state_dict()[name] for model in models])
        torch.testing.assert_close(stacked.detach(), one_by_one, rtol=1e-3, atol=1e-5)
    found = against({"in turn": sequential, "lockstep": together}, repetitions, device)
    what = f"{SEEDS} seeds of mlp, n = 1000, in lockstep with vmap: how many times less time"
    return [judged(("GPU: " if device == "cuda" else "") + what, "one after the other", 1.0, found, at_least=True)]


def on_gpu(quick: bool) -> list[Result]:
    """All rows that need a GPU; the reason where there is none."""
    if not torch.cuda.is_available():
        raise RuntimeError("torch sees no CUDA device here")
    repetitions = 10 if quick else 200
    return one_line("cuda", repetitions) + lab("cuda", repetitions)


def main() -> None:
    """Measure on the device that is named."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
    torch.set_num_threads(1)
    rows = on_gpu(False) if device == "cuda" else lab(device, 2) + lockstep(device, 2)
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
