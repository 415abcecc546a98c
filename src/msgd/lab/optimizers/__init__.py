"""Optimizers of torch and of one's own, schedules of the learning rate, clipping, averages and the climb of SAM.

`optimizer_of` and `schedule_of` read the tables of a recipe; `Optimizer.build` makes the optimizer of a run.
"""

from __future__ import annotations

from msgd.lab.optimizers.clip import clip_gradients
from msgd.lab.optimizers.ema import Average
from msgd.lab.optimizers.optimizer import Optimizer, optimizer_kinds, optimizer_of
from msgd.lab.optimizers.sam import climb, restore
from msgd.lab.optimizers.schedule import Schedule, schedule_of
from msgd.lab.optimizers.state import BuiltOptimizer

__all__ = [
    "Average",
    "BuiltOptimizer",
    "Optimizer",
    "Schedule",
    "climb",
    "clip_gradients",
    "optimizer_kinds",
    "optimizer_of",
    "restore",
    "schedule_of",
]
