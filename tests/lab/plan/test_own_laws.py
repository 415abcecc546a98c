"""Laws of one's own: draws that contradict the moments are refused, and honest ones pass."""

from dataclasses import dataclass

import numpy as np
import pytest

from msgd.lab.errors import UserError
from msgd.lab.plan.own_laws import check_draws
from msgd.noise import Bernoulli, FullBatch, Injected, Law, MiniBatch, Poisson, Sample, StudentT
from msgd.noise.moments import Moments


@dataclass(frozen=True)
class Signs(Law):
    b: float
    mean: float = 1.0
    factor: float = 1.0

    def moments(self, n):
        return Moments(n / self.b, 0.0)

    def sample(self, n, rng):
        return Sample(None, self.mean + (self.factor * n / self.b) ** 0.5 * rng.choice([-1.0, 1.0], size=n))


@pytest.mark.parametrize("n", [2, 40, 1000])
@pytest.mark.parametrize("law", [Signs(2), Bernoulli(2), MiniBatch(2), FullBatch(), Poisson(1)], ids=repr)
def test_honest_laws_pass(law, n):
    """The draws are fixed by their seeds, so that this is no matter of chance."""
    check_draws(law, n)


def test_a_law_without_variance_is_not_judged_by_its_draws():
    check_draws(Injected(StudentT(1.5, scale="iqr"), 20), 100)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (Signs(2, mean=1.2), "Signs: its weights must have mean 1, but 5000 draws for n = 40 have mean 1"),
        (Signs(2, mean=0.0), "Signs: its weights must have mean 1"),
        (Signs(2, factor=4.0), r"Signs: moments\(40\) claims the variance α \+ β = 20, but 5000 draws have 8"),
        (Signs(2, factor=0.25), r"claims the variance α \+ β = 20, but 5000 draws have 5"),
    ],
)
def test_wrong_laws_are_refused(law, message):
    with pytest.raises(UserError, match=message):
        check_draws(law, 40)


@dataclass(frozen=True)
class Sparse(Signs):
    """All weight on one example, as an index and a value: the others count with weight 0."""

    def moments(self, n):
        return Moments(n, -1.0)

    def sample(self, n, rng):
        return Sample(np.array([rng.integers(n)]), np.array([float(n)]))


def test_examples_that_are_left_out_have_weight_0():
    check_draws(Sparse(1), 50)
