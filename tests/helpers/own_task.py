"""A regression task of one's own: a task file with a law, an optimizer and a schedule, and a recipe that uses them."""

TASK = '''"""A task."""
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from msgd.noise import Law, Sample
from msgd.noise.moments import Moments

LOWER_IS_BETTER = ["mae"]


def data(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    y = x[:, :1] - x[:, 1:2] ** 2
    return (x[:40], y[:40]), (x[40:], y[40:])


def network():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def loss(outputs, targets):
    return F.mse_loss(outputs, targets, reduction="none").mean(1)


def scores(outputs, targets):
    return {"mae": (outputs - targets).abs().mean(1)}


@dataclass(frozen=True)
class Signs(Law):
    b: float

    def moments(self, n):
        return Moments(n / self.b, 0.0)

    def sample(self, n, rng):
        return Sample(None, 1 + (n / self.b) ** 0.5 * rng.choice([-1.0, 1.0], size=n))


class Counting(torch.optim.Optimizer):
    def __init__(self, params, lr, decay=0.5):
        super().__init__(params, {"lr": lr, "decay": decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["sum"] = state.get("sum", torch.zeros_like(p, dtype=torch.float64)) * group["decay"] + p.grad
                p.sub_(group["lr"] * state["sum"].float() / state["count"] ** 0.5)


def falling(step, steps):
    return 1 - step / steps
'''

RECIPE = """
title = "Own"
task = "task.py"
lr = 0.05
b = 8
steps = 30
eval_every = 10
checkpoint_every = 10
seeds = 2
margin = 0.1
reference = "sgd"
[methods.sgd]
law = "mini-batch"
[methods.signs]
law = "task.py:Signs"
[methods.own]
law = "injected"
scalar_law = { law = "rademacher" }
optimizer = { kind = "task.py:Counting", decay = 0.25 }
schedule = { kind = "task.py:falling", warmup = 3 }
clip = 1.0
ema = 0.9
[methods.adamw]
law = "cov"
optimizer = "AdamW"
schedule = "cosine"
sam = 0.05
lr = 0.01
"""


def write_task(folder, *, task=TASK, recipe=RECIPE):
    """Write task.py and own.toml; return the path of the recipe."""
    folder.mkdir(exist_ok=True)
    (folder / "task.py").write_text(task)
    (folder / "own.toml").write_text(recipe)
    return folder / "own.toml"
