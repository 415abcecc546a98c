"""Started by torchrun: takes steps of the lab in float64, and says how far they are from one process's.

The twin writes the step out, on all examples, in this process, by the whole draw and autograd.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from helpers.rank_end import end_rank
from helpers.training import make
from msgd.lab.data.augment import crop_and_flip
from msgd.lab.networks.build import build_network
from msgd.lab.tasks.losses import cross_entropy
from msgd.lab.training.data_parallel import own_part, process_count, rank
from msgd.lab.training.sgd import Trainer
from msgd.lab.training.step import advance
from msgd.langevin import SGLD, FullBatchPenalty, GLDDiag, GLDLeading, MiniBatchPenalty
from msgd.noise import Bernoulli, Cov, FullBatch, MiniBatch, Subsampled, generator

N, STEPS = 23, 4
CASES = {
    "gradient descent": {"law": FullBatch()},
    "mini-batch": {"law": MiniBatch(7)},
    "one example": {"law": MiniBatch(1)},  # nothing for the other ranks
    "with replacement": {"law": MiniBatch(7, replacement=True)},
    "cov": {"law": Cov(5)},
    "bernoulli": {"law": Bernoulli(1)},  # some draws are empty
    "subsampled": {"law": Subsampled(12, Cov(5))},
    "micro-batches": {"law": Cov(5), "micro_batch": 4},
    "images": {"law": MiniBatch(7), "model": "conv-small"},
    "augmented": {"law": MiniBatch(7), "model": "conv-small", "augment": 2, "micro_batch": 2},
    "augmented, all": {"law": FullBatch(), "model": "conv-small", "augment": 2},
    "gld-diag": {"law": FullBatch(), "noise": GLDDiag(5, refresh=2)},
    "gld-leading": {"law": FullBatch(), "noise": GLDLeading(5, k=2, refresh=3)},
    "sgld": {"law": MiniBatch(7), "noise": SGLD(temperature=1e-3, lr=0.05)},
    "mini-batch-penalty": {"law": FullBatch(), "penalty": MiniBatchPenalty(strength=0.1, b=5)},
    "full-batch-penalty": {"law": FullBatch(), "penalty": FullBatchPenalty(strength=0.1)},
}


def examples(run):
    draw = torch.Generator().manual_seed(1)
    shape = (1, 28, 28) if run.model == "conv-small" else (6,)
    x = torch.randn(N, *shape, generator=draw, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x, torch.arange(N) % 10


def network(run, x):
    return build_network(run.model, input_shape=tuple(x.shape[1:]), classes=10, seed=0).double()


def twin(run):
    """θ ← θ − η·v, v ← μ·v + g + λ·θ, g = Σ w_i ∇ℓ_i / n + what is added; nothing of the trainer."""
    x, y = examples(run)
    model, velocity, state = network(run, x), None, {}
    parameters = list(model.parameters())
    for step in range(STEPS):
        names = {"seed": run.noise_seed, "step": step, "stream": run.stream}
        if run.penalty:
            gradient = run.penalty.gradient(model, cross_entropy, x, y, **names)
        else:
            weights = run.law.draw(N, **names)
            index = torch.arange(N) if weights.index is None else weights.index
            images = x[index]
            if run.augment and len(index):
                images = crop_and_flip(images, run.augment, generator(run.noise_seed, step, run.crops))
            losses = torch.nn.functional.cross_entropy(model(images), y[index], reduction="none")
            gradient = torch.autograd.grad((weights.value.double() * losses).sum() / N, parameters)
        if run.noise:
            if run.noise.refresh_due(step):
                state = run.noise.measure(model, cross_entropy, x, y)
            gradient = [g + a for g, a in zip(gradient, run.noise.sample(state, parameters, **names), strict=True)]
        with torch.no_grad():
            moves = [g + run.weight_decay * p for g, p in zip(gradient, parameters, strict=True)]
            velocity = (
                moves if velocity is None else [run.momentum * v + m for v, m in zip(velocity, moves, strict=True)]
            )
            for p, v in zip(parameters, velocity, strict=True):
                p -= run.lr * v
    return parameters


def shared(run):
    x, y = examples(run)
    trainer = Trainer(network(run, x), run.lr, run.momentum, run.weight_decay, run.micro_batch)
    advance(trainer, run, range(STEPS), (x, y))
    return trainer.parameters


def flat(parameters):
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def row(run):
    """What rank 0 finds; the others only take part."""
    mine = flat(shared(run))
    everyones = [torch.empty_like(mine) for _ in range(process_count())]
    dist.all_gather(everyones, mine)
    if rank() > 0:
        return None
    truth, start = flat(twin(run)), flat(network(run, examples(run)[0]).parameters())
    other = flat(twin(replace(run, seed=run.seed + 1)))  # the control
    distances = [float((there - truth).abs().max() / truth.abs().max()) for there in (*everyones, start, other)]
    return {"distances": distances[:-2], "moved": distances[-2], "another seed": distances[-1]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rows = {name: row(make(**{"model": "mlp", "n": N, **changes})) for name, changes in CASES.items()}
    parts = [own_part(number) for number in (0, 1, 7, 8)]
    result = {"rows": rows, "parts": [[part.start, part.stop] for part in parts]}
    Path(sys.argv[1], f"{os.environ['RANK']}.json").write_text(json.dumps(result))
    end_rank()
