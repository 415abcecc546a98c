"""A method's mean over seeds: as the cell of a table, and as a curve over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgd.lab.experiment_folder.results import FinishedRun
from msgd.lab.experiment_folder.scores import LOSS, Score
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


def is_logarithmic(score: Score, means: Sequence[float]) -> bool:
    """Whether curves are drawn over a logarithmic axis.

    Args:
        score: the score.
        means: all means that are drawn.

    Returns:
        True for a loss whose means are positive, and for another score whose means are positive and span a factor of
        ten; an accuracy never has such an axis.
    """
    if score.percent or not means or min(means) <= 0:
        return False
    return score.name == LOSS.name or max(means) >= 10 * min(means)


def drawn_band(
    score: Score, curve: list[tuple[int, float, float, float]], *, logarithmic: bool
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Scale a mean curve and its band for a figure, and keep the band within the axis.

    Args:
        score: the score.
        curve: from `mean_curve`.
        logarithmic: whether the axis is logarithmic.

    Returns:
        Steps, means, and the lower and upper ends of the band.
    """
    steps = [step for step, *_ in curve]
    centre, low, high = ([score.scale * point[i] for point in curve] for i in (1, 2, 3))
    if score.percent:  # a t-interval may leave what an accuracy can be
        low, high = [max(v, 0.0) for v in low], [min(v, 100.0) for v in high]
    elif logarithmic:  # or reach below zero, where there is no logarithm
        low = [max(v, 0.2 * c) for v, c in zip(low, centre, strict=True)]
    return steps, centre, low, high
