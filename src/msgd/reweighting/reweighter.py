"""Random weights for the examples of a batch, in any training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from msgd._checks import check_losses, positive_integer
from msgd.noise.law import Law, Weights
from msgd.reweighting.attachment import Attachment
from msgd.reweighting.compiled_draw import CompiledDraw
from msgd.reweighting.documents import number_examples
from msgd.reweighting.draws import Draws
from msgd.reweighting.gate import Outputs, gate_examples, gated_tensors, map_tensors, number_of_examples
from msgd.reweighting.gradient_check import GradientCheck, check_gradient
from msgd.reweighting.graph import recomputed
from msgd.reweighting.ranks import Layout
from msgd.reweighting.step_watch import StepWatch
from msgd.reweighting.suspicions import Suspicions
from msgd.reweighting.weighted_mean import weighted_mean


class Reweighter(Draws):
    """Multiplies the gradient of each example by a random weight, drawn once per logical batch from ``(seed, step)``.

    There are three ways to apply the weights. Each gives the gradient ``G·w/n`` for one ordinary backward pass:

    - ``loss = loss_function(reweight.outputs(model(inputs)), targets)``: the loss stays as it is.
    - ``reweight.attach(model)``: the same, if the model computes its loss itself.
    - ``reweight(losses)``: returns ``divided_by · Σ w_i ℓ_i / n``, if you have one loss for each example.

    With gradients disabled nothing changes or advances: evaluation under `torch.no_grad()` needs no change, while
    `model.eval()` does not switch the noise off.

    If torch.distributed is initialised, the ranks together form the logical batch: each rank draws the weights of the
    whole batch and uses those of its own examples, whose numbers the ranks exchange at each call. DDP and FSDP divide
    the sum of the ranks' gradients by their number; ``reweight(losses)`` multiplies by it, as it divides by all n.

    Args:
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴.
        logical_batch: None: each call is one logical batch of any size. A number n: successive calls use the positions
            0 … n−1 of one draw: the micro-batches of gradient accumulation.
        divided_by: only for ``reweight(losses)`` with ``logical_batch``: the number by which a framework divides the
            loss of each micro-batch; 1 if it adds these losses unchanged.
        group: the processes that share a logical batch. A group of torch.distributed, such as the data-parallel group
            of a device mesh; "world": all processes; None: each process has its own logical batch.
        layout: how a batch is distributed over the ranks, which decides the example that each weight applies to.
            "strided", as with DistributedSampler: example j of rank r has position j·size + r. "blocked": the examples
            of rank 0 come first.
        equal: whether all ranks have the same number of examples in every call, so that they need not exchange it.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, ``divided_by`` is given without ``logical_batch``, or ``layout`` is
            unknown. The first call also raises it if the ranks differ in seed, step or law.

    Examples:
        >>> from msgd import noise
        >>> reweight = Reweighter(noise.Emulate(b=2), seed=0)
        >>> outputs = torch.ones(8, requires_grad=True)
        >>> reweight.outputs(outputs).mean().backward()
        >>> round(float(outputs.grad.sum()), 5)  # the weights of the Cov kind have mean 1 in every draw
        1.0

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(
        self,
        law: Law,
        *,
        seed: int,
        logical_batch: int | None = None,
        divided_by: int = 1,
        group: Any = "world",
        layout: Layout = "strided",
        equal: bool = False,
    ) -> None:
        super().__init__(law, seed, logical_batch, group, layout, equal)
        if positive_integer("divided_by", divided_by) != 1 and logical_batch is None:
            raise ValueError("divided_by needs logical_batch: pass both, since otherwise each call is a logical batch")
        self.divided_by = divided_by
        self._compiled = CompiledDraw(self._next_gate_weights)
        self._suspicions = Suspicions()
        self._watch: StepWatch | None = None
        self._means: list[tuple[Tensor, Tensor | None]] = []  # losses and sample weights of the logical batch so far

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._compiled = CompiledDraw(self._next_gate_weights)

    def __repr__(self) -> str:
        return (
            f"Reweighter({self.law!r}, seed={self.seed}, logical_batch={self.logical_batch}, "
            f"divided_by={self.divided_by}, step={self.step}, offset={self.offset})"
        )

    @property
    def last_mean(self) -> Tensor:
        """The plain mean Σ c_i ℓ_i / Σ c_i of this process's losses in the last logical batch, for the log."""
        if not self._means:
            raise ValueError("last_mean follows reweight(losses); with reweight.outputs the loss itself is plain")
        sums = [losses.sum(dtype=torch.float64) if c is None else (losses * c).sum() for losses, c in self._means]
        totals = [len(losses) if c is None else c.sum() for losses, c in self._means]
        return (sum(sums) / sum(totals)).to(torch.float32)  # type: ignore[union-attr]

    def outputs(
        self,
        outputs: Outputs,
        *,
        batch_dim: int = 0,
        examples: Tensor | None = None,
        step: int | None = None,
        offset: int | None = None,
    ) -> Outputs:
        """Return the outputs of a network unchanged; backward, multiply the gradient of each example by its weight.

        The loss stays as it is, with its reduction, its denominator and its division for accumulation. If the loss is
        ``Σ c_i ℓ_i`` and ℓ_i depends on the outputs of example i alone, its gradient becomes ``Σ w_i c_i ∇ℓ_i``. The
        number that is printed remains the plain loss. It works inside functions that are compiled whole.

        Args:
            outputs: a tensor of shape (batch, …), or a tuple, list, dictionary or ModelOutput of such tensors.
            batch_dim: dimension of the examples.
            examples: if a row holds several documents, the number of each token's example, int64, shape
                (batch, length); the numbers may start again in each row, and -1 is none. Also of shape (rows,), for
                outputs where several rows belong to one example.
            step: use the draw of this step and do not advance, e.g. in closures of LBFGS and the two passes of SAM.
            offset: with ``step``, if this is only a part of a logical batch: the position of the first example.

        Returns:
            The same structure with the same values.

        Raises:
            ValueError: an output is a scalar, or has another number of examples; the batch is empty; a micro-batch
                exceeds the logical batch; the law is not defined for this batch size.

        Examples:
            >>> from msgd import noise
            >>> reweight = Reweighter(noise.Emulate(b=2), seed=0)
            >>> model, targets = torch.nn.Linear(3, 4), torch.tensor([0, 1, 2, 3])
            >>> loss = torch.nn.functional.cross_entropy(reweight.outputs(model(torch.ones(4, 3))), targets)
        """
        tensors = gated_tensors(outputs)
        if not tensors:
            return outputs
        if examples is None:
            n, at = number_of_examples(tensors, batch_dim), None
        else:
            at, n = number_examples(examples)
        w = self._gate_weights(tensors[0], n, step, offset)
        return map_tensors(lambda y: gate_examples(y, w, at, batch_dim), outputs)

    def attach(self, module: nn.Module, *, head: str | None = None, batch_dim: int = 0) -> Attachment:
        """Weight the outputs of a module in every forward pass, for models that compute their loss themselves.

        In a model of Transformers it finds the head (``lm_head``, ``classifier`` …), and the documents that are packed
        into a row; ``print(handle)`` tells which module it took. The outputs of other modules are weighted as by
        `outputs`. At a linear layer it weights the layer's inputs, which are often fewer than its outputs.

        Args:
            module: the model, or the module whose outputs the loss depends on.
            head: the name of the head in a model of your own, such as "lm_head".
            batch_dim: dimension of the examples in the inputs and outputs.

        Returns:
            A handle; ``handle.remove()`` detaches.

        Examples:
            >>> from msgd import noise
            >>> model = torch.nn.Linear(3, 4)
            >>> Reweighter(noise.Emulate(b=2), seed=0).attach(model)
            Attachment(Linear)
        """
        return Attachment(self._gate_weights, module, head, batch_dim)

    def watch(self, optimizer: Any, *, scaler: Any = None, learn: bool = False) -> StepWatch:
        """Check at every optimizer step that exactly one logical batch came.

        Args:
            optimizer: the optimizer.
            scaler: the GradScaler that performs the steps; without it a skipped step looks like a missing one.
            learn: take the size of a logical batch from the steps before it, instead of raising. The first step then
                has no noise, because its size is not known when it begins.

        Returns:
            A handle; ``handle.remove()`` ends it.

        Raises:
            ValueError: at a step: no example was weighted, or the logical batch is incomplete, or there were several.

        Examples:
            >>> from msgd import noise
            >>> reweight = Reweighter(noise.Emulate(b=2), seed=0)
            >>> handle = reweight.watch(torch.optim.SGD(torch.nn.Linear(3, 4).parameters(), lr=0.1))
        """
        if self._watch is not None:
            self._watch.remove()
        self._watch = StepWatch(self, optimizer, scaler, learn)
        return self._watch

    def check(
        self, model: nn.Module, inputs: Any, loss: Callable[[nn.Module, Any], Tensor] | None = None
    ) -> GradientCheck:
        """Compare the weighted gradient on a few examples with that of each example alone.

        Args:
            model: the model.
            inputs: a small batch (2 to 16 examples): tensors with the batch first, in a tuple or dictionary.
            loss: function of ``(model, inputs)`` that returns the loss, with ``reweight.outputs`` in it if you use it;
                None: ``model(**inputs).loss``, with `attach`.

        Returns:
            What was found; ``print(result)`` says it in one line, and ``result.passed`` is a bool.

        Examples:
            >>> from msgd import noise
            >>> reweight, model = Reweighter(noise.Emulate(b=2), seed=0), torch.nn.Linear(3, 1)
            >>> found = reweight.check(model, torch.rand(4, 3), lambda m, x: reweight.outputs(m(x)).square().mean())
            >>> found.passed
            True
        """
        kept = vars(self).copy()
        try:
            self._suspicions = Suspicions(quiet=True)
            self.logical_batch, self.offset, self.group, self._ranks, self.learning = None, 0, None, None, False
            return check_gradient(self, model, inputs, loss)
        finally:
            vars(self).update(kept)

    def __call__(
        self,
        losses: Tensor,
        *,
        step: int | None = None,
        offset: int | None = None,
        sample_weight: Tensor | None = None,
        total: float | Tensor | None = None,
    ) -> Tensor:
        """Weight the losses of one (micro-)batch.

        Args:
            losses: one loss per example, shape (batch,), computed with ``reduction="none"``.
            step: as for `outputs`.
            offset: as for `outputs`.
            sample_weight: your own weights c_i ≥ 0 of the examples, shape (batch,), such as class weights or numbers of
                tokens; the call then returns ``divided_by · Σ w_i c_i ℓ_i / Σ c_i``.
            total: Σ c_i over the logical batch of all ranks, required with ``logical_batch``, since a micro-batch does
                not know it; otherwise it defaults to the sum over all ranks.

        Returns:
            The scalar to call ``.backward()`` on; with gradients disabled the plain mean, or Σ c_i ℓ_i / Σ c_i.

        Raises:
            TypeError: ``losses`` or ``sample_weight`` is not a floating-point tensor.
            ValueError: a shape is wrong, the batch is empty, a micro-batch exceeds the logical batch, the law is not
                defined for this batch size, a sample weight is negative or all are 0, ``total`` is missing or differs
                between ranks, or the call lies inside activation checkpointing, which would draw twice.
        """
        check_losses(losses)
        if total is not None and sample_weight is None:
            raise ValueError("total goes with sample_weight, whose sum over the logical batch it is: pass both or none")
        if sample_weight is not None:
            own = self._sum_sample_weight(sample_weight, losses, total)
        if torch.is_grad_enabled():
            self._look_at(losses, step, sample_weight)
        wide = torch.promote_types(losses.dtype, torch.float32)
        if sample_weight is None:
            weights = self.weights(len(losses), device=losses.device, dtype=wide, step=step, offset=offset)
            return weighted_mean(losses, weights)
        weighted = losses.to(wide) * sample_weight
        if not torch.is_grad_enabled():
            return weighted.sum() / own
        if total is None and (self.logical_batch is not None or self.equal):
            raise ValueError(
                "sample_weight with logical_batch or equal=True: pass total=, the sum of c_i over the logical batch"
            )
        counts, total = self._counts_and_total(len(losses), own, total)
        drawn = self._scaled(self._next(counts, step, offset), losses.device, wide)
        return weighted_mean(weighted, drawn) * (drawn.n / total)

    def weights(
        self,
        n: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        step: int | None = None,
        offset: int | None = None,
    ) -> Weights:
        """Return the weights of the next n losses, for `weighted_mean`.

        Args:
            n: number of losses in this (micro-)batch, ≥ 1.
            device: device of the losses.
            dtype: dtype of the losses.
            step: as for `outputs`.
            offset: as for `outputs`; it is a position in the batch of all ranks together.

        Returns:
            Weights such that ``weighted_mean(losses, weights)`` equals the result of a call with these losses.

        Raises:
            ValueError: as for a call with losses.
        """
        if positive_integer("the number of losses", n) and not torch.is_grad_enabled():
            return Weights(None, torch.ones(n, device=device, dtype=dtype), n)
        return self._scaled(self._next(self._counts(n), step, offset), device, dtype)

    def _look_at(self, losses: Tensor, step: int | None, sample_weight: Tensor | None) -> None:
        """Keep the losses for the log, and look whether they are what they seem."""
        if recomputed():
            raise ValueError(
                "reweight(losses) lies inside activation checkpointing, which computes it twice: call it outside"
            )
        self._suspicions.first_call(losses, losses=sample_weight is None)
        self._look_for_step(losses, step)
        self._means = [*(self._means if self.offset else []), (losses.detach(), sample_weight)]

    def _look_for_step(self, values: Tensor, step: int | None) -> None:
        if step is None and not (self._watch and self._watch.active):
            self._suspicions.call(values, self.logical_batch, self.offset)

    def _next_gate_weights(self, n: int, step: int | None, offset: int | None) -> Tensor:
        """Return the weights of the next n examples of this process, on the CPU."""
        return self._next(self._counts(n), step, offset).value

    def _gate_weights(self, y: Tensor, n: int, step: int | None = None, offset: int | None = None) -> Tensor:
        """Return the weights of the next n examples, on the device of their outputs y."""
        dtype = torch.promote_types(y.dtype, torch.float32)
        if torch.compiler.is_compiling():
            return self._compiled(y, n, step, offset).to(y.device, dtype)
        if recomputed():  # the second pass of activation checkpointing, whose weights nothing uses
            return torch.ones(n, device=y.device, dtype=dtype)
        if n == len(y):
            self._suspicions.first_call(y, losses=False)
        self._look_for_step(y, step)
        return Weights(None, self._next_gate_weights(n, step, offset), n).to(y.device, dtype).value

    def _scaled(self, weights: Weights, device: torch.device | str, dtype: torch.dtype) -> Weights:
        """Move weights to a device, and undo the divisions of a framework."""
        weights, factor = weights.to(device, dtype), self.divided_by * self._processes().size
        return weights if factor == 1 else replace(weights, value=weights.value * factor)
