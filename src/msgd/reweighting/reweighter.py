"""Random weights for the losses of a batch, in any training loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

import torch
from torch import Tensor

from msgd._checks import check_losses, check_sample_weight, check_state, positive_integer
from msgd.noise.law import Law, Weights
from msgd.noise.streams import generator
from msgd.reweighting.ranks import Layout, Ranks, ranks
from msgd.reweighting.weighted_mean import weighted_mean


class ReweighterState(TypedDict):
    """State of a `Reweighter`, as returned by ``state_dict``."""

    seed: int
    step: int
    offset: int
    law: str
    logical_batch: int | None


class Reweighter:
    """Turns per-example losses into one scalar loss whose gradient has the noise of a law.

    A call returns ``divided_by · Σ w_i ℓ_i / n``, with w drawn once per logical batch from ``(seed, step)``. It costs
    one product of length n in addition to the backward pass. With gradients disabled a call returns the plain mean and
    does not advance: evaluation under `torch.no_grad()` needs no change. `model.eval()` does not switch the noise off.

    If torch.distributed is initialised, the ranks together form the logical batch: each rank draws the weights of the
    whole batch and uses those of its own examples. The returned loss is then multiplied by the number of ranks, because
    DDP and FSDP divide the sum of the ranks' gradients by that number; the step is therefore that of one process on the
    whole batch. The ranks exchange their numbers of examples at each call; these may differ.

    Args:
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴.
        logical_batch: None: each call is one logical batch of any size. A number n: successive calls use the positions
            0 … n−1 of one draw, so that the losses of the micro-batches add up to that of the whole batch.
        divided_by: with ``logical_batch``: the number by which a framework divides the loss of each micro-batch; 1 if
            it adds these losses unchanged.
        group: the processes that share a logical batch. A group of torch.distributed, such as the data-parallel group
            of a device mesh; "world": all processes; None: each process has its own logical batch.
        layout: how a batch is distributed over the ranks, which decides the example that each weight applies to.
            "strided", as with DistributedSampler: example j of rank r has position j·size + r. "blocked": the examples
            of rank 0 come first.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, ``divided_by`` is given without ``logical_batch``, or ``layout`` is
            unknown. The first call also raises it if the ranks differ in seed, step or law.

    Examples:
        >>> from msgd import noise
        >>> reweight = Reweighter(noise.Emulate(b=2), seed=0)
        >>> losses = torch.ones(8, requires_grad=True)
        >>> reweight(losses).backward()
        >>> round(float(losses.grad.sum()), 5)  # the weights of the Cov kind have mean 1 in every draw
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
    ) -> None:
        if not isinstance(law, Law):
            raise TypeError(f"law must be a law such as noise.Emulate(b=256), not {law!r}")
        generator(seed, 0)  # raises for an invalid seed now, not at the first step
        if logical_batch is not None:
            law.moments(positive_integer("logical_batch", logical_batch))  # raises if the law is not defined for this n
        if positive_integer("divided_by", divided_by) != 1 and logical_batch is None:
            raise ValueError("divided_by needs logical_batch: pass both, since otherwise each call is a logical batch")
        self.law = law
        self.seed = seed
        self.logical_batch = logical_batch
        self.divided_by = divided_by
        ranks(None, layout)  # raises for an unknown layout now
        self.group = group
        self.layout = layout
        self._ranks: Ranks | None = None  # set at the first call, because torch.distributed may be initialised later
        self._step = 0
        self._offset = 0
        self._drawn: tuple[tuple[int, int], Tensor] | None = None

    def __repr__(self) -> str:
        return (
            f"Reweighter({self.law!r}, seed={self.seed}, logical_batch={self.logical_batch}, "
            f"divided_by={self.divided_by}, step={self._step}, offset={self._offset})"
        )

    @property
    def step(self) -> int:
        """Number of completed logical batches, which is the step of the next draw."""
        return self._step

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
            step: use the draw of this step and do not advance, e.g. in closures of LBFGS and the two passes of SAM.
            offset: with ``step``, if ``losses`` is only a part of a logical batch: the position of the first loss.
            sample_weight: your own weights c_i ≥ 0 of the examples, shape (batch,), such as class weights or numbers of
                tokens; the call then returns ``divided_by · Σ w_i c_i ℓ_i / Σ c_i``.
            total: Σ c_i over the logical batch, required with ``logical_batch``, since a micro-batch does not know it;
                otherwise it defaults to the sum over all ranks.

        Returns:
            The scalar to call ``.backward()`` on; with gradients disabled the plain mean, or Σ c_i ℓ_i / Σ c_i.

        Raises:
            TypeError: ``losses`` or ``sample_weight`` is not a floating-point tensor.
            ValueError: a shape is wrong, the batch is empty, a micro-batch exceeds the logical batch, the law is not
                defined for this batch size, or ``total`` is missing.
        """
        check_losses(losses)
        if total is not None and sample_weight is None:
            raise ValueError("total goes with sample_weight, whose sum over the logical batch it is: pass both or none")
        wide = torch.promote_types(losses.dtype, torch.float32)
        if sample_weight is None:
            weights = self.weights(len(losses), device=losses.device, dtype=wide, step=step, offset=offset)
            return weighted_mean(losses, weights)
        check_sample_weight(sample_weight, losses)
        own = sample_weight.sum(dtype=torch.promote_types(sample_weight.dtype, torch.float32))
        weighted = losses.to(wide) * sample_weight
        if not torch.is_grad_enabled():
            return weighted.sum() / own
        if total is None and self.logical_batch is not None:
            raise ValueError("sample_weight with logical_batch: pass total=, the sum of c_i over the logical batch")
        if total is None and self._processes().size == 1:
            total = own
        counts, sums = self._exchange(len(losses), kind=1 if total is None else 2, own=own if total is None else None)
        drawn = self._next_weights(counts, step, offset, losses.device, wide)
        return weighted_mean(weighted, drawn) * (drawn.n / (sum(sums) if total is None else total))

    def weights(
        self,
        n: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        step: int | None = None,
        offset: int | None = None,
    ) -> Weights:
        """Return the weights of the next n losses, e.g. for `weighted_mean` inside a compiled function.

        Args:
            n: number of losses in this (micro-)batch, ≥ 1.
            device: device of the losses.
            dtype: dtype of the losses.
            step: as for a call with losses.
            offset: as for a call with losses; it is a position in the batch of all ranks together.

        Returns:
            Weights such that ``weighted_mean(losses, weights)`` equals the result of a call with these losses.

        Raises:
            ValueError: as for a call with losses.
        """
        if positive_integer("the number of losses", n) and not torch.is_grad_enabled():
            return Weights(None, torch.ones(n, device=device, dtype=dtype), n)
        counts, _ = self._exchange(n, kind=0)
        return self._next_weights(counts, step, offset, device, dtype)

    def begin(self, n: int | None, *, step: int | None = None) -> None:
        """Begin a logical batch whose size becomes known only now, such as a short last one; drop an incomplete one.

        Args:
            n: number of examples, which becomes ``logical_batch``; None: the next call is a complete logical batch.
            step: step of its draw; None: the next step.

        Raises:
            TypeError: a number is not an integer.
            ValueError: a number is out of range, or the law is not defined for this n.

        Examples:
            >>> from msgd import noise
            >>> reweight = Reweighter(noise.Cov(b=2), seed=0)
            >>> reweight.begin(3)  # two micro-batches follow, of 2 and 1
            >>> loss = reweight(torch.ones(2)) + reweight(torch.ones(1))
            >>> round(float(loss), 5), reweight.step
            (1.0, 1)
        """
        if n is not None:
            self.law.moments(positive_integer("n", n))
        step = self._step if step is None else step
        generator(self.seed, step)
        self.logical_batch, self._step, self._offset = n, step, 0

    def flush(self) -> float:
        """End a logical batch that is shorter than ``logical_batch``, and advance.

        Returns:
            n / (number of losses so far): multiply the accumulated gradient by this factor to divide by the actual
            size instead of n. 1.0 if no logical batch is incomplete.

        Raises:
            ValueError: the law couples the weights of a logical batch, so that a part of them follows another law.
        """
        if self._offset == 0 or self.logical_batch is None:
            return 1.0
        if self.law.coupled:
            raise ValueError(
                f"only {self._offset} of {self.logical_batch} losses came, and {self.law!r} couples all their weights: "
                "drop this gradient (optimizer.zero_grad()) and call discard()"
            )
        scale = self.logical_batch / self._offset
        self.discard()
        return scale

    def discard(self) -> None:
        """Abandon an incomplete logical batch, whose gradient must not be used, and advance."""
        if self._offset:
            self._step, self._offset = self._step + 1, 0

    def state_dict(self) -> ReweighterState:
        """Return the state from which a run can resume.

        Returns:
            Seed, step, offset within the logical batch, its size, and the law as text.
        """
        return {
            "seed": self.seed,
            "step": self._step,
            "offset": self._offset,
            "law": repr(self.law),
            "logical_batch": self.logical_batch,
        }

    def load_state_dict(self, state: ReweighterState) -> None:
        """Resume from ``state``.

        Args:
            state: a state returned by `state_dict`.

        Raises:
            ValueError: ``state`` has another seed, law or logical batch, or is not a state of this class.
        """
        check_state("Reweighter", state, self.state_dict(), ("seed", "law", "logical_batch"))
        generator(self.seed, state["step"])
        if not 0 <= state["offset"] < (self.logical_batch or 1):
            raise ValueError(f"offset {state['offset']} lies outside the logical batch of {self.logical_batch or 1}")
        self._step, self._offset = state["step"], state["offset"]
        self._ranks = None  # the ranks compare their states again

    def _processes(self) -> Ranks:
        """Return the processes that share the logical batch; the first call checks that their states agree."""
        if self._ranks is None:
            processes = ranks(self.group, self.layout)
            processes.check_equal({**self.state_dict(), "divided_by": self.divided_by, "layout": self.layout})
            self._ranks = processes
        return self._ranks

    def _exchange(self, n: int, *, kind: int, own: Tensor | None = None) -> tuple[list[int], list[float]]:
        """Exchange the numbers of examples and the sums of sample weights of all ranks, in one operation."""
        # kind encodes the arguments of the call. 0: no sample_weight; 1: sample_weight; 2: sample_weight and total.
        shared = self._processes().all_gather([float(n), float(kind), 0.0 if own is None else float(own)])
        if len({flag for _, flag, _ in shared}) > 1:
            raise ValueError("only some ranks passed sample_weight or total: pass it on all ranks or on none")
        return [int(count) for count, _, _ in shared], [part for _, _, part in shared]

    def _next_weights(
        self,
        counts: list[int],
        step: int | None,
        offset: int | None,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Weights:
        """Return the scaled weights of this rank's part of a micro-batch; advance if no step is given."""
        together = sum(counts)
        if step is None and offset is not None:
            raise ValueError("offset goes with step: pass both, or neither to continue at the current position")
        if step is None:
            part = self._part(counts, self._step, self._offset)
            self._advance(together)
        else:
            if offset is None and together != (self.logical_batch or together):
                raise ValueError(
                    f"{together} of {self.logical_batch} losses with step={step}: pass offset=, the first position"
                )
            part = self._part(counts, step, offset or 0)
        part, factor = part.to(device, dtype), self.divided_by * self._processes().size
        return part if factor == 1 else replace(part, value=part.value * factor)

    def _part(self, counts: list[int], step: int, offset: int) -> Weights:
        """Return the weights of this rank's part of a micro-batch at ``offset``; rank r has ``counts[r]`` losses."""
        together, everyone = sum(counts), self._processes()
        whole = together if self.logical_batch is None else self.logical_batch
        if not 0 <= offset <= whole - together:
            raise ValueError(
                f"{together} losses from position {offset} run past the logical batch of {whole}: the micro-batches of "
                f"a step must add up to it; after a short one call {'discard' if self.law.coupled else 'flush'}()"
            )
        if self._drawn is None or self._drawn[0] != (step, whole):
            # One dense draw serves all micro-batches of the step.
            self._drawn = (step, whole), self.law.draw(whole, seed=self.seed, step=step).dense()
        value = self._drawn[1]
        if everyone.size == 1 and together == whole:
            return Weights(None, value, whole)
        index = offset + everyone.positions(counts)
        return Weights(index, value[index], whole)

    def _advance(self, together: int) -> None:
        self._offset += together
        if self._offset >= (self.logical_batch or together):
            self._step, self._offset = self._step + 1, 0
