"""A training run, with all settings that determine its result."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from msgd.lab.data.device import Pixels
from msgd.lab.data.load import TEXTS
from msgd.lab.optimizers.optimizer import Optimizer
from msgd.lab.optimizers.schedule import Schedule
from msgd.lab.recipes.own import NOTHING_OWN, OwnParts
from msgd.lab.tasks.objective import Objective, objective_of
from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law
from msgd.noise.streams import CROPS, DROPOUT, method_stream


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a method, a seed, and all settings that determine its result.

    A field with a default was added after the first version. `identity` leaves it out while it has its default, so that
    the folders of earlier runs stay valid. ``code`` holds the hashes of the user's own files, and ``own`` what they
    define, which is loaded in every process that trains.
    """

    method: str
    seed: int
    law: Law
    data: str
    data_digest: str
    n: int
    model: str
    lr: float
    momentum: float
    weight_decay: float
    steps: int
    eval_every: int
    lr_drops: tuple[int, ...] = ()
    lr_drop: float = 0.1
    pixels: Pixels = "unit"
    augment: int | None = None
    micro_batch: int | None = None
    vary: tuple[str, ...] = ("init", "noise")
    norm: str | None = None
    ghost: int | None = None
    noise: ParameterNoise | None = None
    penalty: Penalty | None = None
    optimizer: Optimizer | None = None
    schedule: Schedule | None = None
    clip: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    sam: float = 0.0
    eval_train: int | None = None
    code: tuple[str, ...] = ()
    own: OwnParts = dataclasses.field(default=NOTHING_OWN, compare=False, repr=False)
    checkpoint_every: int = dataclasses.field(default=500, compare=False)
    snapshots: tuple[int, ...] = dataclasses.field(default=(), compare=False)

    @property
    def stream(self) -> int:
        """The noise stream of the method, independent of those of other methods with the same seed."""
        return method_stream(self.method)

    @property
    def crops(self) -> int:
        """The method's stream of crops and flips."""
        return self.stream + CROPS

    @property
    def dropout(self) -> int:
        """The method's stream of the random numbers that a network of the user's own draws in its forward pass."""
        return self.stream + DROPOUT

    @property
    def init_seed(self) -> int:
        """Seed of the initial parameters."""
        return self.seed if "init" in self.vary else 0

    @property
    def noise_seed(self) -> int:
        """Seed of the noise."""
        return self.seed if "noise" in self.vary else 0

    @property
    def data_seed(self) -> int:
        """Seed of a generated data set."""
        return self.seed if "data" in self.vary else 0

    @property
    def evaluations(self) -> list[int]:
        """The steps after which the run is evaluated: 0, every multiple of ``eval_every``, and the last one."""
        return [*range(0, self.steps, self.eval_every), self.steps]

    def lr_at(self, step: int) -> float:
        """The learning rate at a step."""
        if self.schedule is not None:
            return self.lr * self.schedule.factor(step, self.steps)
        return self.lr * self.lr_drop ** sum(step >= drop for drop in self.lr_drops)

    @property
    def effective_batch_size(self) -> float | None:
        """The batch size whose SGD noise the law matches, infinite for a law without noise.

        None where the noise is not the law's alone, or has no variance.
        """
        moments = self.law.moments(self.n)
        if self.noise is not None or self.penalty is not None or math.isinf(moments.alpha):
            return None
        return moments.effective_batch_size(self.n)

    @property
    def evaluation_chunk(self) -> int:
        """Number of examples that are evaluated at a time: fewer if they may be large, texts or the user's own."""
        return 128 if self.own.task is not None or self.data in TEXTS else 2000

    @property
    def objective(self) -> Objective:
        """What the run minimises and reports; its code must be loaded."""
        return objective_of(self.own.task, text=self.data in TEXTS, label_smoothing=self.label_smoothing)

    def identity(self) -> dict[str, Any]:
        """A TOML table of all settings that determine the result; runs with equal tables are the same run."""
        table = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.compare and (field.default is dataclasses.MISSING or value != field.default):
                if isinstance(value, tuple):
                    value = list(value)
                table[field.name] = value if isinstance(value, list | int | float | str) else repr(value)
        return table
