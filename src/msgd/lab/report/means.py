"""A method's mean over seeds, as the cell of a table."""

from __future__ import annotations

from collections.abc import Mapping

from msgd.lab.experiment_folder.scores import Score
from msgd.statistics.paired_tests import mean_interval


def mean_text(score: Score, by_seed: Mapping[int, float]) -> str:
    """Write a method's mean with half its 95% interval.

    Args:
        score: the score.
        by_seed: seed → endpoint.

    Returns:
        The mean alone for one seed; a dash for none.
    """
    if not by_seed:
        return "–"
    mean, low, high = mean_interval(list(by_seed.values()))
    return score.mean(mean, (high - low) / 2 if len(by_seed) > 1 else None)
