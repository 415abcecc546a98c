"""The result of tuning the learning rates: `tuning.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.metrics import LARGEST_LOSS
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.recipes.bounds import Count, Name, Positive
from msgd.lab.safe_io.bounded import read_json
from msgd.lab.safe_io.writing import write_atomically

Value = Annotated[float, Field(gt=-LARGEST_LOSS, lt=LARGEST_LOSS)]
Rate = Annotated[str, StringConstraints(pattern=r"^[0-9.e+-]{1,30}$")]


class _File(BaseModel):
    """The contents of ``tuning.json``: the fields of `Tuning`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    held_out: Count
    seeds: Count
    scores: Annotated[dict[Name, dict[Rate, Value | None]], Field(min_length=1)]
    chosen: dict[Name, Positive]

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, table: Any) -> Any:
        """Read what an earlier version wrote, which knew accuracies only, and 0 where a run diverged."""
        if isinstance(table, dict) and "scores" not in table:
            return {"scores" if key == "accuracy" else key: value for key, value in table.items()}
        return table

    @model_validator(mode="after")
    def _complete(self) -> Self:
        rates = {frozenset(row) for row in self.scores.values()}
        if len(rates) > 1 or self.scores.keys() != self.chosen.keys():
            raise ValueError("a method lacks a learning rate or its chosen rate")
        candidates = {float(rate) for rate in next(iter(rates))}
        if not candidates >= set(self.chosen.values()):
            raise ValueError("a chosen learning rate is none of the candidates")
        return self


@dataclass(frozen=True)
class Tuning:
    """The result of tuning the learning rates.

    Args:
        held_out: number of training examples that were held out.
        seeds: number of tuning runs for each method and learning rate.
        scores: method → learning rate, as text → mean of the score that decides, on the held-out examples; None where
            a run diverged.
        chosen: method → the learning rate with the best mean; of equal ones, the smallest.
    """

    held_out: int
    seeds: int
    scores: dict[str, dict[str, float | None]]
    chosen: dict[str, float]

    def at_edge(self) -> list[str]:
        """The methods whose rate is the smallest or largest candidate, so that a better one may lie beyond."""
        rates = [float(lr) for lr in next(iter(self.scores.values()))]
        return [m for m, lr in self.chosen.items() if len(rates) > 1 and lr in (min(rates), max(rates))]

    def table(self, score: Score, highlight: str) -> tuple[list[str], list[list[str]]]:
        """Format the means as a table.

        Args:
            score: the score that decides.
            highlight: format of the mean at a method's chosen rate, such as ``"{} ←"``.

        Returns:
            The column heads, and a row for each method; an accuracy in percent.
        """
        rates = sorted({lr for row in self.scores.values() for lr in row}, key=float)
        forms = {m: [highlight if float(lr) == self.chosen[m] else "{}" for lr in rates] for m in self.scores}
        body = [
            [m, *(form.format(_cell(row[lr], score)) for form, lr in zip(forms[m], rates, strict=True))]
            for m, row in self.scores.items()
        ]
        return ["method", *(f"lr {lr}" for lr in rates)], body


def _cell(value: float | None, score: Score) -> str:
    return "diverged" if value is None else score.mean(value, None)


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
        UserError: the file is missing or damaged.
    """
    path = out / "tuning.json"
    try:
        file = _File.model_validate(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        detail = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise UserError(f"{path} is missing or damaged ({detail}): let msgd run write it again") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged ({error}): let msgd run write it again") from error
    return Tuning(file.held_out, file.seeds, file.scores, file.chosen)
