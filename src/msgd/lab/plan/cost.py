"""The cost of a step, counted in examples."""

from __future__ import annotations

from msgd.lab.plan.run import Run
from msgd.lab.recipes.own import RecordedLaw
from msgd.langevin import SGLD
from msgd.noise import Law

COUNTING_DRAWS = 200  #: number of draws over which the examples of a step are averaged


def examples_per_step(law: Law, n: int) -> float:
    """Mean number of examples that a step visits, which are those with a nonzero weight.

    Args:
        law: the law of the weights.
        n: number of training examples.

    Returns:
        The number of examples. If it is random, the mean over 200 draws with fixed seeds.
    """
    if isinstance(law, RecordedLaw):
        return law.examples
    draws = (len(law.draw(n, seed=0, step=step).value) for step in range(COUNTING_DRAWS))
    first = next(draws)
    return float(n) if first == n else (first + sum(draws)) / COUNTING_DRAWS


def computed_per_step(run: Run) -> float:
    """Mean number of per-example gradients that a step computes.

    Args:
        run: the run.

    Returns:
        The number of examples that the step visits. Noise in parameter space adds all n examples for each measurement
        of the covariance. A penalty doubles the number, because it also needs a product with the Hessian; SAM does,
        because it needs two gradients.
    """
    visited = examples_per_step(run.law, run.n)
    if run.penalty is not None or run.sam:
        return 2 * visited
    if run.noise is None or isinstance(run.noise, SGLD):  # SGLD measures nothing
        return visited
    refresh = getattr(
        run.noise, "refresh", run.steps
    )  # without `refresh`, the noise is measured only once, at the start
    return visited + run.n * -(-run.steps // refresh) / run.steps
