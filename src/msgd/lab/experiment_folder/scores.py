"""The scores of an experiment: what its methods are compared by, in which unit, and how their numbers are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from msgd.lab.errors import UserError
from msgd.lab.safe_io.bounded import plain_line

LONGEST_NAME = 40  #: largest number of characters in the name of a score
MOST_SCORES = 40  #: an evaluation holds each score twice, and at most 100 numbers


@dataclass(frozen=True)
class Score:
    """A number by which runs are compared.

    Args:
        name: one line of at most `LONGEST_NAME` characters. A run's metrics hold the score as ``test_NAME`` and
            ``train_NAME``.
        lower_is_better: whether a lower value is better, as for a loss.
        margin: the largest difference that does not matter, in the score's unit; None: no equivalence is claimed.

    Raises:
        ValueError: the name is empty, too long, or no plain line, or the margin is not positive and finite.
    """

    name: str
    lower_is_better: bool = False
    margin: float | None = None

    def __post_init__(self) -> None:
        """Check the name and the margin."""
        if not 0 < len(self.name) <= LONGEST_NAME:
            raise ValueError(f"a score's name has 1 to {LONGEST_NAME} characters, not {len(self.name)}")
        if plain_line(self.name) != self.name.strip():
            raise ValueError(f"the name {self.name!r} of a score starts or ends with a space")
        if self.margin is not None and not 0 < self.margin < math.inf:
            raise ValueError(f"the margin of {self.name} is {self.margin}; write a positive number")

    @property
    def key(self) -> str:
        """The metric that holds the score on the test examples."""
        return f"test_{self.name}"

    @property
    def percent(self) -> bool:
        """Whether the score is a fraction that is shown in percent, and its differences in points: an accuracy."""
        return self.name == "accuracy" or self.name.endswith(" accuracy")

    @property
    def scale(self) -> float:
        """The factor from the stored value to the value shown."""
        return 100.0 if self.percent else 1.0

    @property
    def title(self) -> str:
        """The title of an axis: the name, with the unit."""
        return f"{self.name} [%]" if self.percent else self.name

    @property
    def within(self) -> str:
        """The margin in words; empty without one."""
        return "" if self.margin is None else f"±{self.scale * self.margin:g}{self._unit}"

    @property
    def _unit(self) -> str:
        return " points" if self.percent else ""

    def mean(self, value: float, half_width: float | None) -> str:
        """Write a mean with half its interval.

        Args:
            value: the mean.
            half_width: half the width of its interval; None for a single value, which is written alone.

        Returns:
            Percent with two decimals; another score with as many digits as give the half width two.
        """
        shown = self._number(value, half_width)
        return shown if half_width is None else f"{shown} ± {self._number(half_width, half_width)}"

    def difference(self, value: float, low: float | None = None, high: float | None = None) -> str:
        """Write a difference with its sign, in points or in the score's unit.

        Args:
            value: the difference.
            low: lower end of its interval, whose width sets the number of digits; None where there is none.
            high: upper end.

        Returns:
            The number, without the word "points".
        """
        return self._number(value, _half(low, high), "+")

    def in_words(self, value: float, low: float | None = None, high: float | None = None) -> str:
        """Write a difference for a sentence: as `difference`, with its unit."""
        return self.difference(value, low, high) + self._unit

    def interval(self, low: float | None, high: float | None) -> str:
        """Write the interval of a difference; a dash where there is none."""
        if low is None or high is None:
            return "–"
        return f"{self.difference(low, low, high)} … {self.difference(high, low, high)}"

    def short(self, value: float) -> str:
        """Write a value in a few characters, with its unit."""
        return f"{100 * value:.1f}%" if self.percent else f"{value:.3g}"

    def _number(self, value: float, half_width: float | None, sign: str = "") -> str:
        return f"{100 * value:{sign}.2f}" if self.percent else _digits(value, half_width, sign)


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def _digits(value: float, half_width: float | None, sign: str) -> str:
    """Write a number with as many digits as give its half width two; with four where there is no half width."""
    if not half_width:
        return f"{value:{sign}.4g}"
    decimals = 1 - math.floor(math.log10(half_width))
    if decimals <= 6 and max(abs(value), half_width) < 1e6:
        return f"{value:{sign}.{max(0, decimals)}f}"
    digits = math.floor(math.log10(abs(value))) + decimals if value else 0
    return f"{value:{sign}.{min(max(0, digits), 7)}e}"


ACCURACY = Score("accuracy")
LOSS = Score("loss", lower_is_better=True)


def check_scores(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Check that scores can belong to one experiment.

    Args:
        scores: the scores; the first one decides.

    Returns:
        The same scores.

    Raises:
        ValueError: there are none or too many, or two have the same name.
    """
    if not 0 < len(scores) <= MOST_SCORES:
        raise ValueError(f"an experiment has 1 to {MOST_SCORES} scores, not {len(scores)}")
    if len({score.name for score in scores}) < len(scores):
        raise ValueError("two scores have the same name")
    return tuple(scores)


def with_margins(scores: Sequence[Score], margin: float | None, margins: Mapping[str, float]) -> tuple[Score, ...]:
    """Give each score the margin that a recipe sets for it.

    Args:
        scores: the scores; the first one decides.
        margin: the margin of the first.
        margins: name → margin of the others; a score that is not named has none.

    Returns:
        The scores with their margins.

    Raises:
        UserError: a name in ``margins`` is none of the other scores, or the margin of a percentage is not below 1.
    """
    first, *others = (score.name for score in scores)
    for name in margins:
        if name == first:
            raise UserError(f"margins: {name} decides, and its margin is the key margin; leave it out of margins")
        if name not in others:
            known = f"take some of {', '.join(others)}" if others else "leave margins out"
            raise UserError(f"margins: there is no further score {name!r}; {known}")
    found = tuple(replace(score, margin={**margins, first: margin}.get(score.name)) for score in scores)
    for score in found:
        if score.percent and score.margin is not None and score.margin >= 1:
            key = "margin" if score.name == first else f"margins.{score.name}"
            raise UserError(f"{key}: {score.name} lies in [0, 1]; write less than 1, such as 0.015 for 1.5 points")
    return found
