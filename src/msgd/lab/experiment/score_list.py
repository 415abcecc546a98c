"""The scores that an experiment reports, with their directions."""

from __future__ import annotations

from msgd.lab.errors import UserError
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.tasks.losses import LOWER_IS_BETTER
from msgd.lab.tasks.task import Task
from msgd.lab.training.loop import AVERAGED


def list_scores(names: list[str], task: Task | None, *, averaged: bool) -> list[Score]:
    """List the scores of an experiment, the deciding one first and the loss last.

    Args:
        names: the names that the task's evaluations report, in order.
        task: the user's own task; None for a built-in one.
        averaged: whether the averaged parameters are evaluated, too.

    Returns:
        The scores.

    Raises:
        UserError: ``LOWER_IS_BETTER`` names no score.
    """
    names = list(dict.fromkeys([*names, "loss"]))
    own = task.lower_is_better if task is not None else ()
    for name in own:
        if name not in names:
            raise UserError(f"LOWER_IS_BETTER: there is no score {name!r}; take some of {', '.join(names)}")
    lower = {*LOWER_IS_BETTER, *own}
    scores = [Score(name, name in lower) for name in names]
    return scores + ([Score(AVERAGED + name, name in lower) for name in names] if averaged else [])
