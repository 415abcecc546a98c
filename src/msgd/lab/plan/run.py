"""A training run, with all settings that determine its result."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgd.lab.data.device import Pixels
from msgd.langevin import ParameterNoise, Penalty
from msgd.noise import Law
from msgd.noise.streams import CROPS, method_stream


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: a method, a seed, and all settings that determine its result.

    A field with a default was added after the first version. `identity` leaves it out while it has its default, so that
    the folders of earlier runs stay valid.
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
        return self.lr * self.lr_drop ** sum(step >= drop for drop in self.lr_drops)

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
