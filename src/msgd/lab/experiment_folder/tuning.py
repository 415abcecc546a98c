"""What the tuning found: `tuning.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from msgd.lab.errors import UserError
from msgd.lab.recipes.schema import Count, Name, Positive
from msgd.lab.safe_io.bounded import read_json
from msgd.lab.safe_io.writing import write_atomically

Rate = Annotated[str, StringConstraints(pattern=r"^[0-9.e+-]{1,30}$")]


class _File(BaseModel):
    """What ``tuning.json`` holds: the fields of `Tuning`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    held_out: Count
    seeds: Count
    accuracy: Annotated[dict[Name, dict[Rate, Annotated[float, Field(ge=0, le=1)]]], Field(min_length=1)]
    chosen: dict[Name, Positive]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rates = {frozenset(row) for row in self.accuracy.values()}
        if len(rates) > 1 or self.accuracy.keys() != self.chosen.keys():
            raise ValueError("not every method has every learning rate, and one that was picked")
        tried = {float(rate) for rate in next(iter(rates))}
        if not tried >= set(self.chosen.values()):
            raise ValueError("a learning rate was picked that was not tried")
        return self


@dataclass(frozen=True)
class Tuning:
    """What the tuning found.

    Args:
        held_out: number of training examples that were held out.
        seeds: tuning runs of each method and learning rate.
        accuracy: method → learning rate, as text → mean accuracy on the held-out examples; 0 where a run
            diverged.
        chosen: method → the learning rate with the highest mean; the smaller one of two.
    """

    held_out: int
    seeds: int
    accuracy: dict[str, dict[str, float]]
    chosen: dict[str, float]

    def at_edge(self) -> list[str]:
        """The methods whose rate is the smallest or largest tried: their best may lie beyond."""
        tried = [float(lr) for lr in next(iter(self.accuracy.values()))]
        return [m for m, lr in self.chosen.items() if len(tried) > 1 and lr in (min(tried), max(tried))]

    def table(self, picked: str) -> tuple[list[str], list[list[str]]]:
        """Spell out the accuracies.

        Args:
            picked: how a picked rate's accuracy is written, such as ``"{} ←"``.

        Returns:
            Heads, and a row for each method; accuracies in percent.
        """
        rates = sorted({lr for row in self.accuracy.values() for lr in row}, key=float)
        forms = {m: [picked if float(lr) == self.chosen[m] else "{}" for lr in rates] for m in self.accuracy}
        body = [
            [m, *(form.format(f"{100 * row[lr]:.2f}") for form, lr in zip(forms[m], rates, strict=True))]
            for m, row in self.accuracy.items()
        ]
        return ["method", *(f"lr {lr}" for lr in rates)], body


def write_tuning(tuning: Tuning, out: Path) -> None:
    """Write ``tuning.json``."""
    write_atomically(out / "tuning.json", (json.dumps(asdict(tuning), indent=2) + "\n").encode())


def read_tuning(out: Path) -> Tuning:
    """Read ``tuning.json``.

    Args:
        out: the experiment's folder.

    Returns:
        The tuning.

    Raises:
        UserError: it is missing or damaged.
    """
    path = out / "tuning.json"
    try:
        found = _File.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        said = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise UserError(f"{path} is missing or damaged ({said}): msgd run writes it anew") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}): msgd run writes it anew") from error
    return Tuning(found.held_out, found.seeds, found.accuracy, found.chosen)
