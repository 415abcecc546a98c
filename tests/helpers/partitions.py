"""The exact covariance of the weights of all steps of an epoch, over every partition of the examples into batches."""

from itertools import combinations

import numpy as np
import pytest

from reference import Branches


class Linear(Branches):
    """Enumerates partitions, one order for each, and answers with given normals: weights are linear in them."""

    normals = np.zeros(0)

    def permutation(self, n):
        parts = list(partitions(tuple(range(n)), self.size))
        return np.array(parts[self._fork([1 / len(parts)] * len(parts))])

    def standard_normal(self, size):
        return self.normals.reshape(size)


def partitions(rest, size):
    """All ways to deal the examples into numbered batches; the order within a batch does not matter."""
    if not rest:
        yield ()
    for first in combinations(rest, size):
        for others in partitions(tuple(i for i in rest if i not in first), size):
            yield first + others


def linear(size, normals):
    rng = Linear()
    rng.size, rng.normals = size, normals
    return rng


def enumerated_covariance(n, B, b, draw):
    """Cov of all weights of a small epoch, exactly: over every partition, and over the normals by linearity."""
    entries = B // b * (n // B) * B
    constant = list(linear(B, np.zeros(entries)).outcomes(draw))
    columns = [list(linear(B, unit).outcomes(draw)) for unit in np.eye(entries)]
    total = 0
    for outcome, (p, w) in enumerate(constant):
        centre = (w - 1).ravel()
        total = total + p * np.outer(centre, centre)
        for column in columns:
            slope = (column[outcome][1] - w).ravel()
            total = total + p * np.outer(slope, slope)
    assert sum(p for p, _ in constant) == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(sum(p * w for p, w in constant), 1, atol=1e-12)
    return total


def covariance_of_reshuffled(n, b, steps):
    """Cov of the weights of the first steps of an epoch of `Reshuffled(b)`: every permutation, up to order."""
    total, dealt = 0, list(partitions(tuple(range(n)), b))
    for order in dealt:
        w = np.zeros((steps, n))
        for t in range(steps):
            w[t, list(order[t * b : (t + 1) * b])] = n / b
        total = total + np.outer((w - 1).ravel(), (w - 1).ravel()) / len(dealt)
    return total
