"""What the leading eigenvalues of the gradient covariance C cost on VGG-11: prints JSON.

    python benchmarks/covariance_cost.py [--n 512] [--k 10] [--chunk 256] [--gib 20] [--routes lanczos,gram,dense]

`backward` is one ordinary backward pass over a chunk, and `gradient` that over all n examples: the unit of the times.
`lanczos` and `gram` are the two methods of `Covariance.eigenvalues`; `dense` forms the per-example gradients with
`torch.func`, at the largest n, halved until it fits, for which `--gib` of memory are enough. Each runs in a process of
its own, on one thread. Memory is the peak of the resident set, less what is resident once the network and the images
are there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from msgd import GradientMatrix
from msgd.diagnostics import Covariance
from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy

Result = dict[str, Any]


def setting(n: int) -> tuple[nn.Module, Tensor, Tensor]:
    """VGG-11 as it is initialised, and n random images of ten classes whose means differ."""
    torch.manual_seed(0)
    y = torch.arange(n) % 10
    x = 0.5 * torch.randn(n, 3, 32, 32) + torch.randn(10, 3, 32, 32)[y]
    model = build_network("vgg11", input_shape=(3, 32, 32), classes=10, seed=0)
    return model, x.contiguous(memory_format=torch.channels_last), y


def backward(n: int, chunk: int) -> Result:
    """Ordinary gradients of n examples, a chunk at a time."""
    model, x, y = setting(n)

    def work() -> Result:
        for images, classes in zip(torch.split(x, chunk), torch.split(y, chunk), strict=True):
            (F.cross_entropy(model(images), classes, reduction="sum") / n).backward()  # type: ignore[no-untyped-call]
        return {}

    return measured(work)


def operator(n: int, chunk: int, k: int, method: str) -> Result:
    """The k largest eigenvalues of C from products with G."""
    model, x, y = setting(n)
    matrix = GradientMatrix(model, cross_entropy, x, y, chunk=chunk if method == "lanczos" else None)

    def work() -> Result:
        values = Covariance(matrix).eigenvalues(k, method=method)  # type: ignore[arg-type]
        return {"eigenvalues": values.tolist()}

    return measured(work)


def dense(n: int, k: int) -> Result:
    """The k largest eigenvalues of C from the matrix of per-example gradients."""
    model, x, y = setting(n)
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, parameters, (image[None],)), target[None])

    def work() -> Result:
        gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, x, y)
        columns = torch.cat([g.reshape(n, -1) for g in gradients.values()], dim=1)
        del gradients
        columns -= columns.mean(0)
        values = torch.linalg.eigvalsh((columns @ columns.t()).double() / n).flip(0)
        return {"eigenvalues": values[:k].tolist()}

    return measured(work)


def measured(work: Callable[[], Result]) -> Result:
    """Seconds and memory of some work, which has the process to itself."""
    before, start = peak(), time.perf_counter()
    result = work()
    return {**result, "seconds": time.perf_counter() - start, "peak_mib": peak() - before, "resident_mib": before}


def peak() -> float:
    """The largest resident set of this process so far, in MiB (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(gib: float, function: Callable[..., Result], *arguments: object) -> Result | None:
    """The result from a process of its own; None where memory did not do."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, gib, function, arguments))
    process.start()
    there.close()
    try:
        result: Result | None = here.recv()
    except EOFError:
        result = None
    process.join()
    return result


def _answer(pipe: Connection, gib: float, function: Callable[..., Result], arguments: tuple[object, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30), int(gib * 2**30)))
    torch.set_num_threads(1)
    try:
        pipe.send(function(*arguments))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        pipe.send(None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--gib", type=float, default=20.0)
    parser.add_argument("--routes", default="lanczos,dense")
    given = parser.parse_args()
    n, k, chunk, gib = given.n, given.k, given.chunk, given.gib
    result: Result = {
        "machine": {"processor": platform.machine(), "torch": torch.__version__, "python": platform.python_version()},
        "command": " ".join(["python", *sys.argv]),
        "n": n,
        "k": k,
        "chunk": chunk,
        "backward": alone(gib, backward, chunk, chunk),
        "gradient": alone(gib, backward, n, chunk),
    }
    for route in given.routes.split(","):
        if route == "dense":
            size = n
            while (found := alone(gib, dense, size, k)) is None:
                size //= 2
            result[route] = {"n": size, **found}
        else:
            result[route] = alone(gib, operator, n, chunk, k, route)
    for route in given.routes.split(","):
        row = result[route]
        row["gradients"] = row["seconds"] / (result["gradient"]["seconds"] * row.get("n", n) / n)
        row["peak_of_backward"] = row["peak_mib"] / result["backward"]["peak_mib"]
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
