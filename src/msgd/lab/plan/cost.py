"""What a step costs, in examples."""

from __future__ import annotations

from msgd.lab.plan.run import Run
from msgd.langevin import SGLD

COUNTING_DRAWS = 200


def examples_per_step(run: Run) -> float:
    """Mean number of examples that a step visits: those whose weight is not zero.

    Args:
        run: the run.

    Returns:
        The number; for laws that draw it, a mean over 200 draws, which are always the same.
    """
    draws = (len(run.law.draw(run.n, seed=0, step=step).value) for step in range(COUNTING_DRAWS))
    first = next(draws)
    return float(run.n) if first == run.n else (first + sum(draws)) / COUNTING_DRAWS


def computed_per_step(run: Run) -> float:
    """Mean number of gradients of one example that a step computes.

    Args:
        run: the run.

    Returns:
        The examples that the step visits; for noise in parameter space and all n once for each measurement, for a
        penalty each of the n twice (its gradient, and its Hessian times a vector).
    """
    visited = examples_per_step(run)
    if run.penalty is not None:
        return 2 * visited
    if run.noise is None or isinstance(run.noise, SGLD):  # which measures nothing
        return visited
    refresh = getattr(run.noise, "refresh", run.steps)  # without one it measures at the start only
    return visited + run.n * -(-run.steps // refresh) / run.steps
