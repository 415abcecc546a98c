"""Started by torchrun: trains a network in data parallel, and says how far it is from one process on the whole batch.

The twin uses nothing of the seam: ``Σ w_i ℓ_i / n`` written out, on all examples, in this process.
"""

import itertools
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from helpers.rank_end import end_rank
from msgd import Reweighter
from msgd.noise import Bernoulli, Cov, Fisher, SparseCov, Subsampled

LAWS = [Cov(5), SparseCov(5, support=8), Fisher(5), Bernoulli(5), Subsampled(12, Fisher(5))]
STEPS, LR, SEED = 6, 0.1, 7
CASES = [
    *itertools.product(["ddp", "fsdp"], ["strided"], [1, 2, 4], [24]),
    ("ddp", "blocked", 2, 24),
    ("fsdp", "blocked", 1, 24),
    ("ddp", "strided", 2, 25),  # ranks and micro-batches of different sizes
    ("ddp", "blocked", 1, 25),
]


def network(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batch(n, step, dtype):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(n, 4, generator=generator, dtype=dtype)
    return x, torch.randint(3, (n,), generator=generator)


def losses_of(model, x, y):
    return nn.functional.cross_entropy(model(x), y, reduction="none")


def dealt(n, micro, layout, rank, size):
    """Positions of this rank's examples, one tensor for each micro-batch: the logical order is micro-step, position."""
    parts = torch.arange(n).tensor_split(micro)
    if layout == "strided":
        return [part[rank::size] for part in parts]
    return [part.tensor_split(size)[rank] for part in parts]


def one_process(law, n, dtype):
    model, first = network(dtype), None
    for step in range(STEPS):
        x, y = batch(n, step, dtype)
        w = law.draw(n, seed=SEED, step=step).dense().to(dtype)
        model.zero_grad()
        ((w * losses_of(model, x, y)).sum() / n).backward()
        gradients = [p.grad.clone() for p in model.parameters()]
        first = first or gradients
        with torch.no_grad():
            for p in model.parameters():
                p -= LR * p.grad
    return first, [p.detach() for p in model.parameters()]


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def in_parallel(law, n, micro, layout, wrap, dtype, **options):
    rank, size = dist.get_rank(), dist.get_world_size()
    plain = network(dtype)
    if wrap == "ddp":
        model = DistributedDataParallel(plain)
    else:
        model = fully_shard(plain, mesh=init_device_mesh("cpu", (size,)))
    reweight = Reweighter(law, seed=SEED, logical_batch=n if micro > 1 else None, layout=layout, **options)
    optimizer, first = torch.optim.SGD(model.parameters(), lr=LR), None
    for step in range(STEPS):
        x, y = batch(n, step, dtype)
        optimizer.zero_grad()
        parts = dealt(n, micro, layout, rank, size)
        for number, part in enumerate(parts, start=1):
            quiet = wrap == "ddp" and number < micro
            with model.no_sync() if quiet else nullcontext():
                reweight(losses_of(model, x[part], y[part])).backward()
        if first is None:
            first = [whole(p.grad).clone() for p in model.parameters()]
        optimizer.step()
    return first, [whole(p).detach() for p in model.parameters()]


def distance(mine, theirs):
    """The largest difference, relative to the largest number of its tensor."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(mine, theirs, strict=True))


def equality(laws):
    rows = []
    for dtype, law in itertools.product([torch.float64, torch.float32], laws):
        for wrap, layout, micro, n in CASES if dtype == torch.float64 else CASES[:6]:
            truth = one_process(law, n, dtype)
            found = in_parallel(law, n, micro, layout, wrap, dtype)
            first, last = (distance(a, b) for a, b in zip(found, truth, strict=True))
            row = {"law": repr(law), "dtype": str(dtype), "wrap": wrap, "layout": layout, "micro": micro, "n": n}
            rows.append({**row, "gradient": first, "parameters": last})
    return rows


def each_for_itself():
    """The control: ranks that do not share a draw are far from one process."""
    first, _ = in_parallel(Cov(5), 24, 1, "strided", "ddp", torch.float64, group=None)
    return distance(first, one_process(Cov(5), 24, torch.float64)[0])


def refused():
    """What ranks that differ are told."""
    rank, rows = dist.get_rank(), {}
    for name, make in {
        "seed": lambda: Reweighter(Fisher(5), seed=rank),
        "law": lambda: Reweighter(Fisher(5 + rank), seed=0),
        "logical_batch": lambda: Reweighter(Fisher(5), seed=0, logical_batch=24 * (rank + 1)),
        "layout": lambda: Reweighter(Fisher(5), seed=0, layout=["strided", "blocked"][rank % 2]),
    }.items():
        try:
            make()(torch.ones(4, requires_grad=True))
            rows[name] = ""
        except ValueError as error:
            rows[name] = str(error)
    behind = Reweighter(Fisher(5), seed=0)
    behind.load_state_dict({**behind.state_dict(), "step": rank})
    try:
        behind(torch.ones(4, requires_grad=True))
        rows["step"] = ""
    except ValueError as error:
        rows["step"] = str(error)
    some = Reweighter(Fisher(5), seed=0)
    try:
        some(torch.ones(4, requires_grad=True), sample_weight=torch.ones(4) if rank == 0 else None)
        rows["sample_weight"] = ""
    except ValueError as error:
        rows["sample_weight"] = str(error)
    alone = Reweighter(Fisher(5), seed=rank, group=None)  # each for itself is allowed where it is said
    rows["alone"] = float(alone(torch.ones(4, requires_grad=True)).detach())
    return rows


def totals():
    """Own weights of the examples, whose sum is over all ranks; and evaluation, where nothing is exchanged."""
    rank, size = dist.get_rank(), dist.get_world_size()
    n, law = 4 * size, Cov(3)
    every = torch.arange(1.0, n + 1, dtype=torch.float64)
    values = torch.sin(every)
    own = slice(rank, None, size)
    loss = Reweighter(law, seed=1)(values[own], sample_weight=every[own])
    loss = loss.detach().clone()
    dist.all_reduce(loss)
    w = law.draw(n, seed=1, step=0).dense().double()
    truth = float((w * every * values).sum() / every.sum())
    evaluated = None
    if rank == 0:  # the others are not there
        with torch.no_grad():
            evaluated = float(Reweighter(law, seed=1)(values[own]) - values[own].mean())
    return {"found": float(loss) / size, "truth": truth, "evaluated": evaluated}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = {"equality": equality(LAWS[: int(sys.argv[2])]), "totals": totals()}
    if dist.get_world_size() > 1:
        result |= {"refused": refused(), "each_for_itself": each_for_itself()}
    Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    end_rank()
