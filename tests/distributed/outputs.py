"""Started as ranks: the gradient of mean losses of weighted outputs, in data parallel, against that of one process."""

import json
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.join import Join
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from helpers.rank_end import end_rank
from msgd import Reweighter
from msgd.noise import Cov

N, STEPS, SEED, LAW = 16, 3, 5, Cov(3)


class Network(nn.Module):
    """As a model of Transformers: it names its head, and computes its loss if it is given the targets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 8).double(), nn.Linear(8, 3).double()

    def get_output_embeddings(self):
        return self.head

    def forward(self, x, y=None):
        outputs = self.head(self.body(x).tanh())
        return outputs if y is None else F.cross_entropy(outputs, y)


def batch(step, n=N):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(n, 4, generator=generator).double(), torch.randint(3, (n,), generator=generator)


def flat(tensors):
    return torch.cat([(t.full_tensor() if hasattr(t, "full_tensor") else t).flatten() for t in tensors])


def truth(step, scale=None, w=None):
    """Σ w_i c_i ∇ℓ_i, example by example."""
    model, (x, y) = Network(), batch(step)
    w = LAW.draw(N, seed=SEED, step=step).dense().double() if w is None else w
    for i in range(N):
        (w[i] * (1 / N if scale is None else scale[i]) * F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])).backward()
    return flat([p.grad for p in model.parameters()])


def distance(found, step, **more):
    right = truth(step, **more)
    return float((found - right).norm() / right.norm())


def wrapped(how):
    model = Network()
    if how == "ddp":
        return DistributedDataParallel(model)
    if how == "fsdp":
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        fully_shard(model.head, mesh=mesh)
        return fully_shard(model, mesh=mesh)
    return model


def gradients(how, use, k, **more):
    """Each step's gradient from a loop with accumulation over k micro-batches."""
    rank, size = dist.get_rank(), dist.get_world_size()
    model = wrapped(how)
    reweight = Reweighter(LAW, seed=SEED, logical_batch=N if k > 1 else None, **more)
    if use == "attach":
        reweight.attach(model)
    found = []
    for step in range(STEPS):
        model.zero_grad()
        x, y = batch(step)
        for number, part in enumerate(torch.arange(N).chunk(k), start=1):
            own = part[rank::size]
            with model.no_sync() if how == "ddp" and number < k else nullcontext():
                if use == "attach":
                    loss = model(x[own], y[own])
                else:
                    loss = F.cross_entropy(reweight.outputs(model(x[own])), y[own])
                (loss / k).backward()
        found.append(flat([p.grad for p in model.parameters()]))
    assert reweight.step == STEPS
    return found


def equality():
    rows = {}
    for how in ("ddp", "fsdp"):
        for use in ("outputs", "attach"):
            for k in (1, 2, 4):
                for more in ({}, {"equal": True}):
                    found = gradients(how, use, k, **more)
                    rows[f"{how} {use} {k} {more}"] = [distance(each, step) for step, each in enumerate(found)]
    control = gradients("ddp", "outputs", 1, group=None)
    return rows, [distance(each, step) for step, each in enumerate(control)]


def unequal_ranks():
    """Ranks with 10 and 6 examples: DDP gives the mean of the ranks' means, with a weight for each example."""
    rank, model = dist.get_rank(), wrapped("ddp")
    counts = [10, 6]
    own = [torch.cat([torch.arange(0, 12, 2), torch.arange(12, 16)]), torch.arange(1, 12, 2)][rank]  # strided, then on
    x, y = batch(0)
    reweight = Reweighter(LAW, seed=SEED)
    F.cross_entropy(reweight.outputs(model(x[own])), y[own]).backward()
    scale = torch.full((N,), 1 / (2 * counts[0]), dtype=torch.float64)
    scale[1:12:2] = 1 / (2 * counts[1])
    return distance(flat([p.grad for p in model.parameters()]), 0, scale=scale)


def collectives(**more):
    """The exchanges of numbers in three calls after the first."""
    model, (x, y), calls = wrapped("ddp"), batch(0), []
    reweight = Reweighter(LAW, seed=SEED, **more)
    F.cross_entropy(reweight.outputs(model(x)), y).backward()
    names = [name for name in dir(dist) if name.startswith(("all_", "gather", "broadcast", "reduce", "scatter"))]
    kept = {name: getattr(dist, name) for name in names if callable(getattr(dist, name))}
    for name, call in kept.items():
        setattr(dist, name, lambda *a, call=call, name=name, **k: (calls.append(name), call(*a, **k))[1])
    try:
        for _ in range(3):
            model.zero_grad()
            F.cross_entropy(reweight.outputs(model(x)), y)
        with torch.no_grad():
            reweight.outputs(model(x))
    finally:
        for name, call in kept.items():
            setattr(dist, name, call)
    return len([name for name in calls if name.startswith("all_gather")])


def told(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def refused():
    rank, losses = dist.get_rank(), torch.ones(4, requires_grad=True)
    model, c = wrapped("ddp"), torch.ones(4)

    def joined():
        with Join([model]):
            Reweighter(LAW, seed=SEED).outputs(model(batch(0)[0]))

    def total(value):
        return lambda: Reweighter(LAW, seed=SEED)(losses, sample_weight=c, total=value)

    rows = {"total": told(total(4.0 + rank)), "same total": told(total(8.0))}
    rows["some totals"] = told(total(8.0 if rank else None))
    rows["equal"] = told(lambda: Reweighter(LAW, seed=SEED, equal=rank == 0).outputs(losses))
    rows["join"] = told(joined)
    rows["after join"] = told(lambda: Reweighter(LAW, seed=SEED, group=dist.group.WORLD).outputs(losses))
    model._join_config = None  # which torch leaves when a Join ends
    return rows


def warned():
    """Before there is a module in DDP."""
    rows = {}
    for name, more in {"world": {}, "none": {"group": None}, "own": {"group": dist.group.WORLD}}.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reweight = Reweighter(LAW, seed=SEED, **more)
            for _ in range(2):
                reweight.outputs(torch.ones(4, requires_grad=True))
        rows[name] = [str(each.message) for each in caught]
    return rows


def checked():
    """A check asks nothing of the other ranks, and leaves a model in DDP usable."""
    model, (x, y) = wrapped("ddp"), batch(0)
    reweight = Reweighter(LAW, seed=SEED)
    own = slice(dist.get_rank(), None, 2)

    def loss(m, inputs):
        return F.cross_entropy(reweight.outputs(m(inputs[0])), inputs[1])

    passed = reweight.check(model, (x[:5], y[:5]), loss).passed
    loss(model, (x[own], y[own])).backward()
    return passed, distance(flat([p.grad for p in model.parameters()]), 0)


def watched():
    model, rows = wrapped("ddp"), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    reweight = Reweighter(LAW, seed=SEED)
    reweight.watch(optimizer)
    x, y = batch(0)
    for k in (1, 2):
        for _ in range(k):
            F.cross_entropy(reweight.outputs(model(x)), y).backward()
        rows.append(told(optimizer.step))
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    result = {"warned": warned()}
    result["equality"], result["alone"] = equality()
    result |= {"unequal": unequal_ranks(), "refused": refused(), "checked": checked(), "watched": watched()}
    result["collectives"] = [collectives(), collectives(equal=True), collectives(group=None)]
    Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    end_rank()
