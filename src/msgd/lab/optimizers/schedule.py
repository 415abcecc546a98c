"""The shape of the learning rate over a run: warm-up, then constant, in drops, a cosine, a line, or one's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from msgd.lab.errors import UserError

#: the fields of each kind, besides its warm-up
KINDS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "drops": ("drops", "drop"),
    "cosine": ("final",),
    "linear": ("final",),
}


@dataclass(frozen=True)
class Schedule:
    """The factor of the learning rate in each step. The repr is part of the identity of a run.

    Args:
        kind: a key of `KINDS`, or a reference to a function of one's own, such as ``task.py:shape``.
        warmup: number of steps in which the factor rises in a line: (step + 1)/warmup.
        final: the factor that "cosine" and "linear" approach.
        drops: the steps from which "drops" multiplies the factor by `drop` once more.
        drop: the factor of one drop.
        function: one's own, of the step and the number of steps.
    """

    kind: str = "constant"
    warmup: int = 0
    final: float = 0.0
    drops: tuple[int, ...] = ()
    drop: float = 0.1
    function: Callable[[int, int], float] | None = field(default=None, compare=False, repr=False)

    def factor(self, step: int, steps: int) -> float:
        """Compute the factor of the learning rate in a step.

        With t = step − warmup of T = steps − warmup: "cosine" is final + (1 − final)·(1 + cos(π·t/T))/2, "linear" is
        final + (1 − final)·(1 − t/T), "drops" is drop to the power of the number of drops ≤ step, and a function of
        one's own gets step and steps.

        Args:
            step: number of steps taken so far.
            steps: number of steps of the run.

        Returns:
            The factor, ≥ 0.

        Raises:
            UserError: the warm-up takes the whole run, or one's own function fails or returns no factor.
        """
        if self.warmup >= steps:
            raise UserError(
                f"schedule: a warm-up of {self.warmup} steps leaves none of {steps} steps; shorten it, or train longer"
            )
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / (steps - self.warmup)
        if self.function is not None:
            return self._own(self.function, step, steps)
        if self.kind == "cosine":
            return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
        if self.kind == "linear":
            return self.final + (1 - self.final) * (1 - done)
        return self.drop ** sum(at <= step for at in self.drops)  # 1 when constant

    def stretched(self, ratio: float) -> Schedule:
        """The same shape over a run of another length.

        Args:
            ratio: length of that run in units of this one's, > 0.

        Returns:
            A schedule whose warm-up and drops are at the rounded multiples of the steps.
        """
        drops = tuple(round(at * ratio) for at in self.drops)
        return replace(self, warmup=round(self.warmup * ratio), drops=drops)

    def _own(self, function: Callable[[int, int], float], step: int, steps: int) -> float:
        try:
            value = float(function(step, steps))
        except Exception as error:  # anybody's code
            raise UserError(f"schedule: {self.kind} of ({step}, {steps}): {error or type(error).__name__}") from error
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"schedule: {self.kind} of ({step}, {steps}) is {value}; return a finite number ≥ 0")
        return value


def schedule_of(
    value: str | dict[str, Any], *, where: str, function: Callable[[int, int], float] | None = None
) -> Schedule:
    """Read a schedule, such as ``"cosine"`` or ``{kind = "drops", drops = [600, 900], warmup = 50}``.

    Args:
        value: the kind, or a table of ``kind`` and the fields of `Schedule`.
        where: place of the value in messages.
        function: the function to which the kind refers, if it is one's own.

    Returns:
        The schedule.

    Raises:
        UserError: the kind or a field is unknown, or a value is wrong.
    """
    table: dict[str, Any] = {"kind": value} if isinstance(value, str) else dict(value)
    kind = table.pop("kind", None)
    if not isinstance(kind, str):
        raise UserError(f'{where}: kind: write the name of a schedule, such as kind = "cosine"')
    if function is None and kind not in KINDS:
        raise UserError(f"{where}: there is no schedule {kind!r}; there are {', '.join(KINDS)}")
    if function is not None and not callable(function):
        raise UserError(f"{where}: {kind} is not a function; it takes (step, steps) and returns a factor")
    allowed = ("warmup", *(KINDS[kind] if function is None else ()))
    for key, entry in table.items():
        if key not in allowed:
            raise UserError(f"{where}: {kind} has no field {key!r}; it has {', '.join(allowed)}")
        _check(key, entry, where)
    if kind == "drops" and not table.get("drops"):
        raise UserError(f"{where}: drops: write the steps at which the rate drops, such as drops = [600, 900]")
    if "drops" in table:
        table["drops"] = tuple(table["drops"])
    return Schedule(kind, **table, function=function)


def _check(key: str, value: Any, where: str) -> None:
    """Check the value of a field."""
    if key == "warmup" and not _is_count(value, 0):
        raise UserError(f"{where}: warmup: write a number of steps, not {value!r}")
    if key == "drops" and not (
        isinstance(value, list | tuple) and all(_is_count(at, 1) for at in value) and list(value) == sorted(set(value))
    ):
        raise UserError(f"{where}: drops: write steps ≥ 1 in rising order, such as [600, 900], not {value!r}")
    if key in {"final", "drop"} and not (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    ):
        raise UserError(f"{where}: {key}: write a number from 0 to 1, not {value!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
