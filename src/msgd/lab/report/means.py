"""A method's mean over seeds: as the cell of a table, and as a curve over steps."""

from __future__ import annotations

from collections.abc import Mapping

from msgd.lab.experiment_folder.results import FinishedRun
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


def mean_curve(done: list[FinishedRun], metric: str) -> list[tuple[int, float, float, float]]:
    """The mean of a metric over a method's runs, up to the step before the first of them diverges.

    Args:
        done: the runs.
        metric: name of the metric.

    Returns:
        Step, mean, and the ends of the mean's 95% interval, where every run has the metric.
    """
    band = []
    for records in zip(*(run.records for run in done), strict=False):
        values = [record.get(metric) for record in records]
        if None not in values:
            band.append((int(records[0]["step"]), *mean_interval(values)))
    return band
