"""What a run minimises, and what its evaluations report."""

from __future__ import annotations

from dataclasses import dataclass

from msgd.lab.tasks.losses import (
    LossFunction,
    ScoreFunction,
    classification_scores,
    cross_entropy,
    smoothed_cross_entropy,
    text_scores,
)
from msgd.lab.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Objective:
    """The functions of outputs and targets that training and evaluation need.

    Args:
        loss: the loss that training minimises, one per example.
        reported_loss: the loss that evaluations report, which is without label smoothing.
        scores: the scores that evaluations report, see `Task`.
    """

    loss: LossFunction = cross_entropy
    reported_loss: LossFunction = cross_entropy
    scores: ScoreFunction = classification_scores


def objective_of(task: Task | None, *, text: bool, label_smoothing: float = 0.0) -> Objective:
    """The objective of a run.

    Args:
        task: the user's own task; None for a built-in one.
        text: whether the examples are sequences of characters.
        label_smoothing: of the built-in cross-entropy.

    Returns:
        The objective. A task with an own loss and no scores is judged by its loss.
    """
    task = task or Task()
    plain = task.loss or cross_entropy
    loss = smoothed_cross_entropy(label_smoothing) if label_smoothing else plain
    if task.scores is not None:
        return Objective(loss, plain, task.scores)
    if task.loss is not None:
        return Objective(loss, plain, lambda outputs, targets: {"loss": plain(outputs, targets)})
    return Objective(loss, plain, text_scores if text else classification_scores)
