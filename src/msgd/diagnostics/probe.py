"""Measurement of the gradient noise at regular steps of any training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from msgd._checks import positive_integer
from msgd._eval_mode import eval_mode
from msgd.gradients.covariance import Covariance, mean_square
from msgd.gradients.gradient_matrix import GradientMatrix
from msgd.gradients.per_example import LossFunction


@dataclass(frozen=True)
class ProbeRecord:
    """The measurements of a `Probe` at one step; if the loss is not finite, the fields after it are NaN.

    Args:
        step: the training step.
        loss: mean loss of the probe's examples.
        trace: tr C, the total variance of one example's gradient.
        mean_square: ‖ḡ‖²; with a population it is an estimate, which may be negative.
        noise_scale: tr C/‖ḡ‖², in examples; infinite if ‖ḡ‖² is not positive.
        eigenvalue: largest eigenvalue of the covariance C of the probe's examples.
    """

    step: int
    loss: float
    trace: float
    mean_square: float
    noise_scale: float
    eigenvalue: float


class Probe:
    """Measures the gradient noise on fixed examples at regular steps, without affecting the training.

    With C and ḡ of the m examples, a record holds ``tr C``, ``‖ḡ‖²``, their ratio (the noise scale) and λ₁(C). If the
    examples are a random sample without replacement from N examples, ``population=N`` makes tr C and ‖ḡ‖² estimates for
    all N: over all subsets of size m, ``S = tr C_m·m(N − 1)/((m − 1)N)`` and
    ``Q = ‖ḡ_m‖² − S·(N − m)/(m(N − 1))`` have the means tr C and ‖ḡ‖² of the N examples, since m/(m − 1)·C_m is
    unbiased for N/(N − 1)·C, and ḡ_m has the variance ``tr C·(N − m)/(m(N − 1))``. Without ``population`` the noise
    scale of a sample can hardly exceed m.

    A measurement costs about six gradients of the mean loss of the m examples (the loss 1/3, tr C two, ‖ḡ‖² one, λ₁ two
    to three; 45 if m > 500, which takes Lanczos). With steps of b examples it slows training by a fraction of
    ``6·m/(b·every)``, and by more on small networks, where per-example gradients are slow.

    The model is measured in eval mode, without dropout and with BatchNorm's running statistics; afterwards the mode of
    each module is restored. Parameters, their ``.grad``, buffers and random generators do not change.

    Args:
        model: a model in float32 or float64, as for `msgd.GradientMatrix`.
        loss_fn: maps the model's outputs and the targets to one loss per example, shape (m,).
        inputs: inputs of the m ≥ 2 examples, along the first dimension.
        targets: targets of the m examples, along the first dimension.
        every: measure at steps that are multiples of this number, ≥ 1.
        population: N ≥ m, the number of examples from which the m were drawn; None: N = m.

    Raises:
        TypeError: a number is not an integer, or inputs and targets are not tensors.
        ValueError: ``every`` < 1, or there are fewer than two examples or more than the population.

    Examples:
        >>> import torch
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> probe = Probe(model, squares, torch.ones(2, 1), torch.tensor([[1.0], [3.0]]), every=10)
        >>> for step in range(20):
        ...     _ = probe(step)  # followed by a training step
        >>> [(record.step, record.trace, record.mean_square) for record in probe.records]
        [(0, 1.0, 4.0), (10, 1.0, 4.0)]

    References:
        McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162, for the noise scale; Cochran 1977, "Sampling
        techniques", chapter 2, for finite populations.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        *,
        every: int,
        population: int | None = None,
    ) -> None:
        self.every = positive_integer("every", every)
        self.records: list[ProbeRecord] = []
        self._model, self._loss_fn, self._inputs, self._targets = model, loss_fn, inputs, targets
        with eval_mode(model):
            m = GradientMatrix(model, loss_fn, inputs, targets).shape[1]  # raises if examples are coupled
        self.population = m if population is None else positive_integer("population", population)
        if not 2 <= m <= self.population:
            raise ValueError(f"{m} examples of {self.population}: pass at least 2, and at most the population")

    def __call__(self, step: int) -> ProbeRecord | None:
        """Measure and store a record if the step is a multiple of ``every``.

        Args:
            step: the training step, from 0.

        Returns:
            The record, or None at other steps.
        """
        if step % self.every:
            return None
        with eval_mode(self._model):
            record = self._measure(step)
        self.records.append(record)
        return record

    def _measure(self, step: int) -> ProbeRecord:
        matrix = GradientMatrix(self._model, self._loss_fn, self._inputs, self._targets)
        loss = matrix.mean_loss()
        if not math.isfinite(loss):
            return ProbeRecord(step, loss, *[math.nan] * 4)
        covariance, m, n = Covariance(matrix), matrix.shape[1], self.population
        eigenvalue = float(covariance.eigenvalues(1)[0])
        trace = covariance.trace() * m * (n - 1) / ((m - 1) * n)
        square = mean_square(matrix) - trace * (n - m) / (m * (n - 1))
        noise_scale = trace / square if square > 0 else math.inf
        return ProbeRecord(step, loss, trace, square, noise_scale, eigenvalue)
