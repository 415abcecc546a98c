"""Slow, obvious twins of what the package computes fast. Nothing here calls the code it checks, but for `sample`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, permutations, product
from math import comb

import numpy as np
import torch
from torch import Tensor, nn


class Branches:
    """Stands in for a NumPy generator and walks through *every* outcome of the numbers that a law asks for.

    Each call of a method is a fork; running the law again and again, always taking the next untried branch, visits
    all outcomes with their probabilities. So the sampler itself is enumerated, not a formula beside it.
    """

    def __init__(self) -> None:
        self._path: list[int] = []
        self._widths: list[int] = []
        self._depth = 0
        self.probability = 1.0

    def outcomes(self, run: Callable[[Branches], np.ndarray]) -> Iterator[tuple[float, np.ndarray]]:
        while True:
            self._depth, self._widths, self.probability = 0, [], 1.0
            value = run(self)
            yield self.probability, value
            del self._path[self._depth :]
            while self._path and self._path[-1] + 1 == self._widths[len(self._path) - 1]:
                self._path.pop()
            if not self._path:
                return
            self._path[-1] += 1

    def _fork(self, probabilities: list[float]) -> int:
        if self._depth == len(self._path):
            self._path.append(0)
        self._widths.append(len(probabilities))
        branch = self._path[self._depth]
        self._depth += 1
        self.probability *= probabilities[branch]
        return branch

    def binomial(self, n: int, p: float) -> int:
        return self._fork([comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])

    def choice(self, n: int, size: int, *, replace: bool, shuffle: bool) -> np.ndarray:
        assert not replace
        assert not shuffle
        subsets = list(combinations(range(n), size))
        return np.array(subsets[self._fork([1 / len(subsets)] * len(subsets))], dtype=np.int64)

    def permutation(self, n: int) -> np.ndarray:
        orders = list(permutations(range(n)))
        return np.array(orders[self._fork([1 / len(orders)] * len(orders))], dtype=np.int64)

    def integers(self, n: int, *, size: int) -> np.ndarray:
        tuples = list(product(range(n), repeat=size))
        return np.array(tuples[self._fork([1 / len(tuples)] * len(tuples))], dtype=np.int64)


def dense(sample, n: int) -> np.ndarray:
    """The weights of all n examples, zeros included."""
    if sample.index is None:
        return sample.value
    w = np.zeros(n)
    for i, value in zip(sample.index, sample.value, strict=True):
        w[i] = value
    return w


def outcomes(law, n: int) -> list[tuple[float, np.ndarray]]:
    """Probability and weights of everything that a law with finitely many outcomes may draw."""
    return list(Branches().outcomes(lambda rng: dense(law.sample(n, rng), n)))


def enumerated_moments(law, n: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Total probability, E w and Cov(w) of a law with finitely many outcomes."""
    drawn = outcomes(law, n)
    total = sum(p for p, _ in drawn)
    mean = sum(p * w for p, w in drawn)
    return total, mean, sum(p * np.outer(w - mean, w - mean) for p, w in drawn)


def gradient_matrix(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """G, shape (d, n), column by column: one backward pass for each example on its own."""
    columns = []
    for i in range(len(x)):
        model.zero_grad()
        loss(model(x[i : i + 1]), y[i : i + 1]).sum().backward()
        columns.append(flat_gradient(model))
    return torch.stack(columns, dim=1)


def ghost_batch_norm(
    x: Tensor, sizes: list[int], weight: nn.Parameter, bias: nn.Parameter
) -> tuple[Tensor, Tensor, Tensor]:
    """Each group through a BatchNorm of its own; with the running mean and variance of a batch, from 0 and 1."""
    outputs, mean, variance, start = [], 0.0, 0.0, 0
    for size in sizes:
        norm = nn.BatchNorm2d(x.shape[1], momentum=1.0).to(x.dtype)  # momentum 1 keeps the group's statistics alone
        norm.weight, norm.bias = weight, bias
        outputs.append(norm(x[start : start + size]))
        mean = mean + size / len(x) * norm.running_mean
        variance = variance + size / len(x) * norm.running_var
        start += size
    return torch.cat(outputs), 0.1 * mean, 0.9 + 0.1 * variance


def flat_gradient(model: nn.Module) -> Tensor:
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()]
    ).clone()


def crop_and_flip(images: Tensor, pad: int, rng: np.random.Generator) -> Tensor:
    """Image by image and pixel by pixel: rows of all images are drawn first, then columns, then flips."""
    n, channels, height, width = images.shape
    top = rng.integers(0, 2 * pad, size=n, endpoint=True)
    left = rng.integers(0, 2 * pad, size=n, endpoint=True)
    flips = rng.integers(0, 1, size=n, endpoint=True)
    result = torch.zeros(n, channels, height, width, dtype=images.dtype)
    for i, y, x in product(range(n), range(height), range(width)):
        down, right = y + int(top[i]) - pad, x + int(left[i]) - pad  # where in the image this pixel comes from
        if 0 <= down < height and 0 <= right < width:
            result[i, :, y, width - 1 - x if flips[i] else x] = images[i, :, down, right]
    return result


def covariance(matrix: Tensor) -> Tensor:
    """C of the columns of G, shape (d, d)."""
    n = matrix.shape[1]
    mean = matrix.mean(1)
    return sum(torch.outer(g - mean, g - mean) for g in matrix.T) / n


def hessian(model: nn.Module, mean_loss: Callable[[], Tensor]) -> Tensor:
    """The Hessian of a scalar, shape (d, d), row by row."""
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(mean_loss(), parameters, create_graph=True)
    rows = []
    for g in torch.cat([g.flatten() for g in gradient]):
        row = torch.autograd.grad(g, parameters, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([r.flatten() for r in row]))
    return torch.stack(rows)


def penalised_gradient(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    batches: list[list[int]],
    strength: float,
) -> Tensor:
    """∇[L + (λ/4)·Σ_k (|B_k|/n)·‖∇L_{B_k}‖²] = ḡ + (λ/2)·Σ_k (|B_k|/n)·H_k g_k, with dense Hessians."""
    matrix = gradient_matrix(model, loss, x, y)
    total = matrix.mean(1)
    for batch in batches:
        curvature = hessian(model, lambda batch=batch: loss(model(x[batch]), y[batch]).mean())
        total = total + strength / 2 * len(batch) / len(x) * curvature @ matrix[:, batch].mean(1)
    return total


def simulated_losses(law, X, y, *, lr: float, momentum: float, steps: int, seed: int, stream: int) -> list[float]:
    """Training losses of one trajectory of SGD on least squares, example by example."""
    n, d = X.shape
    theta, velocity, losses = np.zeros(d), np.zeros(d), []
    for step in range(steps + 1):
        residuals = [sum(X[i, k] * theta[k] for k in range(d)) - y[i] for i in range(n)]
        losses.append(0.5 * sum(r**2 for r in residuals) / n)
        w = dense(law.at_step(n, seed=seed, step=step, stream=stream), n)
        gradient = sum((w[i] * residuals[i] * X[i] for i in range(n)), np.zeros(d)) / n
        velocity = momentum * velocity + gradient
        theta = theta - lr * velocity
    return losses


def fourth_moment_radius(
    X: np.ndarray, lr: float, *, variance: float, skew: float, fourth: float, centred: bool
) -> float:
    """Spectral radius of E A⊗A⊗A⊗A, A = I − η·Σ w_i x_i x_iᵀ/n: below 1, fourth moments of the parameters are bounded.

    For w = 1 + ξ, or 1 + ξ − ξ̄ if centred, with independent ξ_i of the given second, third and fourth moment. With
    K = Ā⊗Ā, D_i = η·(x_i x_iᵀ − [H])/n and S = σ²·Σ D_i⊗D_i, it maps a symmetric tensor T, written as a matrix over
    pairs of indices, to the symmetric part of

        K T Kᵀ + 6·K T Sᵀ − 4·μ₃·Σ (Ā⊗D_i) T (D_i⊗D_i)ᵀ + 3·S T Sᵀ + (μ₄ − 3σ⁴)·Σ (D_i⊗D_i) T (D_i⊗D_i)ᵀ
    """
    n, d = X.shape
    H = X.T @ X / n
    mean = np.eye(d) - lr * H
    D = [lr * (np.outer(x, x) - (H if centred else 0)) / n for x in X]
    K, pairs = np.kron(mean, mean), np.array([np.kron(part, part) for part in D])
    mixed = np.array([np.kron(mean, part) for part in D])
    S = variance * sum(pairs)
    T, radius = np.eye(d * d), 0.0
    for _ in range(200):
        T = sum(np.transpose(T.reshape((d,) * 4), order) for order in permutations(range(4))).reshape(d * d, d * d) / 24
        T /= np.linalg.norm(T)
        image = K @ T @ K.T + 6 * K @ T @ S.T + 3 * S @ T @ S.T
        image += np.sum(((fourth - 3 * variance**2) * pairs - 4 * skew * mixed) @ T @ pairs.transpose(0, 2, 1), axis=0)
        before, radius = radius, float(np.sum(T * image))
        T = image
        if abs(radius - before) < 1e-9:
            break
    return radius
