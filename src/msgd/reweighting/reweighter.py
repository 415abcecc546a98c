"""The seam into any training loop: weight the losses of a batch, call ``backward`` once."""

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
    """What `Reweighter.state_dict` holds."""

    seed: int
    step: int
    offset: int
    law: str
    logical_batch: int | None


class Reweighter:
    """Turns per-example losses into one scalar whose gradient carries the noise of a law.

    Returns ``divided_by · Σ w_i ℓ_i / n`` with w drawn once for each logical batch from ``(seed, step)``; it costs one
    product of length n on top of the backward pass. With gradients disabled it returns the plain mean and does not
    advance, so evaluation needs no switch.

    Where torch.distributed is initialised, the logical batch is that of all ranks together: each draws the weights of
    the whole and takes those of its own examples. What is returned is then ``size`` times as large, since DDP and FSDP
    divide the sum of the ranks' gradients by their number; so the step is that of one process on the whole batch. The
    numbers of examples are exchanged at each call, and may differ.

    Args:
        law: of the weights; `msgd.noise.Emulate` is right on batches from a data loader.
        seed: names the noise, 0 ≤ seed < 2⁶⁴.
        logical_batch: None: each call is one logical batch, whatever its size. A number n: calls take the positions
            0 … n−1 of one draw in turn, so that the losses of micro-batches add up to that of the whole.
        divided_by: with ``logical_batch``: the number by which a framework divides each micro-loss; 1 where it adds
            them as they are.
        group: the processes that share a logical batch: a group of torch.distributed, such as the data-parallel one of
            a device mesh; "world": all, if there are several; None: each process is on its own.
        layout: how a batch is dealt to the ranks: "strided" as by DistributedSampler, example j of rank r the
            (j·size + r)-th; or "blocked", those of rank 0 first. It says which weight meets which example, no more.

    Raises:
        TypeError: ``law`` is no law, or a number is no integer.
        ValueError: a number is out of range, ``divided_by`` is given without ``logical_batch``, or there is no such
            layout; from the first call, the ranks differ in seed, step or law.

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
        generator(seed, 0)  # refuses a bad seed now, not at the first step
        if logical_batch is not None:
            law.moments(
                positive_integer("logical_batch", logical_batch)
            )  # likewise a b that the law cannot have at this n
        if positive_integer("divided_by", divided_by) != 1 and logical_batch is None:
            raise ValueError("divided_by needs logical_batch: without it each call is a whole logical batch")
        self.law = law
        self.seed = seed
        self.logical_batch = logical_batch
        self.divided_by = divided_by
        ranks(None, layout)  # refuses a bad layout now
        self.group = group
        self.layout = layout
        self._ranks: Ranks | None = None  # found at the first call: torch.distributed may be started after this
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
        """Number of logical batches behind: the step of the next draw."""
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
            losses: shape (batch,), one for each example: the loss with ``reduction="none"``.
            step: use the draw of this step and do not advance: for the closures of LBFGS, the two passes of SAM.
            offset: with ``step``, where these are not all the losses of a logical batch: the position of the first.
            sample_weight: your own weights c_i ≥ 0 of the examples, shape (batch,), such as class weights or numbers of
                tokens; what is returned is then ``divided_by · Σ w_i c_i ℓ_i / Σ c_i``.
            total: Σ c_i over the logical batch, which micro-batches cannot know; without ``logical_batch`` it is
                computed, over all ranks.

        Returns:
            The scalar to call ``.backward()`` on; with gradients disabled the plain mean, or Σ c_i ℓ_i / Σ c_i.

        Raises:
            TypeError: ``losses`` or ``sample_weight`` is no floating-point tensor.
            ValueError: a wrong shape, an empty batch, a micro-batch beyond the end of the logical one, a b that the law
                cannot have at this batch size, or a missing ``total``.
        """
        check_losses(losses)
        if total is not None and sample_weight is None:
            raise ValueError("total goes with sample_weight: it is the sum of these over the logical batch")
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
            raise ValueError("a micro-batch does not know the others' sample_weight: give total=, their sum over all")
        if total is None and self._everyone().size == 1:
            total = own
        counts, sums = self._exchanged(len(losses), given=1 if total is None else 2, own=own if total is None else None)
        drawn = self._next(counts, step, offset, losses.device, wide)
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
        """Weights of the next n losses, for `weighted_mean` inside a compiled function; a call without the losses.

        Args:
            n: number of losses in this (micro-)batch, ≥ 1.
            device: where the losses will be.
            dtype: of the losses.
            step: as in the call.
            offset: as in the call; positions are those in the batch of all ranks.

        Returns:
            Weights such that ``weighted_mean(losses, weights)`` is what the call returns.

        Raises:
            ValueError: as the call.
        """
        if positive_integer("the number of losses", n) and not torch.is_grad_enabled():
            return Weights(None, torch.ones(n, device=device, dtype=dtype), n)
        counts, _ = self._exchanged(n, given=0)
        return self._next(counts, step, offset, device, dtype)

    def begin(self, n: int | None, *, step: int | None = None) -> None:
        """Begin a logical batch whose size is known only now, such as a short last one; what was pending is given up.

        Args:
            n: its number of examples, which is ``logical_batch`` from here on; None: the next call is all of it.
            step: of its draw; None: the next one.

        Raises:
            TypeError: a number is no integer.
            ValueError: a number is out of range, or a b that the law cannot have at this n.

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
        """End a logical batch that came out short, and advance.

        Returns:
            n / (number of losses seen): multiply the accumulated gradient by it to divide by the short size instead
            of n. 1.0 where nothing was pending.

        Raises:
            ValueError: the law couples the weights of a logical batch, so a part of them has the wrong law.
        """
        if self._offset == 0 or self.logical_batch is None:
            return 1.0
        if self.law.coupled:
            raise ValueError(
                f"{self._offset} of {self.logical_batch} losses seen, and the weights of {self.law!r} hold only "
                "together: leave this gradient out (optimizer.zero_grad()) and call discard()"
            )
        scale = self.logical_batch / self._offset
        self.discard()
        return scale

    def discard(self) -> None:
        """Give up a logical batch that came out short, and advance: its gradient must not be used."""
        if self._offset:
            self._step, self._offset = self._step + 1, 0

    def state_dict(self) -> ReweighterState:
        """All that resuming needs.

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
        """Continue where ``state`` left off.

        Args:
            state: from `state_dict`.

        Raises:
            ValueError: it is of another seed, law or logical batch, or is no such state.
        """
        check_state("Reweighter", state, self.state_dict(), ("seed", "law", "logical_batch"))
        generator(self.seed, state["step"])
        if not 0 <= state["offset"] < (self.logical_batch or 1):
            raise ValueError(f"offset {state['offset']} lies outside the logical batch of {self.logical_batch or 1}")
        self._step, self._offset = state["step"], state["offset"]
        self._ranks = None  # to be compared again

    def _everyone(self) -> Ranks:
        """The processes that share the logical batch, compared with each other the first time."""
        if self._ranks is None:
            found = ranks(self.group, self.layout)
            found.check_alike({**self.state_dict(), "divided_by": self.divided_by, "layout": self.layout})
            self._ranks = found
        return self._ranks

    def _exchanged(self, n: int, *, given: int, own: Tensor | None = None) -> tuple[list[int], list[float]]:
        """Numbers of examples of all ranks and sums of their own weights, in one exchange that is the same for all."""
        shared = self._everyone().gathered([float(n), float(given), 0.0 if own is None else float(own)])
        if len({flag for _, flag, _ in shared}) > 1:
            raise ValueError("some ranks gave sample_weight, or total, and others did not: give it on all or on none")
        return [int(count) for count, _, _ in shared], [part for _, _, part in shared]

    def _next(
        self,
        counts: list[int],
        step: int | None,
        offset: int | None,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> Weights:
        """Weights of this rank's part of a micro-batch, with the factor; advances where no step is given."""
        together = sum(counts)
        if step is None and offset is not None:
            raise ValueError("offset goes with step; without step the position is kept here")
        if step is None:
            part = self._part(counts, self._step, self._offset)
            self._advance(together)
        else:
            if offset is None and together != (self.logical_batch or together):
                raise ValueError(
                    f"{together} of {self.logical_batch} losses with step={step}: say with offset= which ones they are"
                )
            part = self._part(counts, step, offset or 0)
        part, factor = part.to(device, dtype), self.divided_by * self._everyone().size
        return part if factor == 1 else replace(part, value=part.value * factor)

    def _part(self, counts: list[int], step: int, offset: int) -> Weights:
        """Weights of this rank's examples of a micro-batch, of which each rank has so many, from position offset on."""
        together, everyone = sum(counts), self._everyone()
        whole = together if self.logical_batch is None else self.logical_batch
        if not 0 <= offset <= whole - together:
            raise ValueError(
                f"{together} losses from position {offset} run past the logical batch of {whole}: let the micro-batches"
                f" of a step add up to it, and after a short one call {'discard' if self.law.coupled else 'flush'}()"
            )
        if self._drawn is None or self._drawn[0] != (step, whole):
            # Dense, once for all micro-batches of the step.
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
