"""Started by torchrun: the same scripts as in one process, in data parallel; each writes the steps that it took."""

import os
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState

from helpers.one_draw import LAW
from helpers.rank_end import end_rank
from integrations.test_accelerate import Loop
from integrations.test_lightning import Net, fit, loader
from integrations.test_lightning_loops import fabric_steps
from integrations.test_transformers import TRAINERS, gradients_on_two_ranks
from msgd.noise import FullBatch


def main(folder):
    """Two processes, two micro-batches of two examples at each: logical batches of eight."""
    paths = {f"accelerate {by}": Loop(2, 2, by=by).epoch().steps() for by in ("outputs", "attach", "losses", "nothing")}
    paths["accelerate ones"] = Loop(2, 2, law=FullBatch()).epoch().steps()
    loop = Loop(2, 2)
    with torch.no_grad():
        evaluated = [loop.accelerator.gather_for_metrics(loop.model(x).sum(1)) for x, *_ in loop.loader]
    paths["evaluated"] = torch.cat(evaluated)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    for average in (True, False):
        for name, how in TRAINERS.items():
            paths[f"{name} {average}"] = gradients_on_two_ranks(folder, how, average)
    for law in (LAW, FullBatch(), None):
        module = Net()
        fit(module, 2, loader(2), law=law, strategy="ddp", devices=2)
        paths[f"lightning {law}"] = module.steps()
    paths["fabric"] = fabric_steps(2, 2, strategy="ddp", devices=2)
    torch.save(paths, folder / f"{os.environ['RANK']}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    end_rank()
