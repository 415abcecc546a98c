"""The seam into any training loop: weight the losses of a batch, call ``backward`` once."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from msgd.checks import whole
from msgd.noise.law import Law, Weights
from msgd.noise.streams import generator


def weighted_mean(losses: Tensor, weights: Weights) -> Tensor:
    """Weighted mean loss ``Σ value_i·ℓ_i / n``, whose gradient is ``G·w/n``.

    The sum is divided by n, never by the sum of the weights, so that the gradient is unbiased.

    Args:
        losses: shape (k,), of the examples that ``weights.index`` names, in that order (of all n where it is None).
        weights: one draw of a law.

    Returns:
        A scalar to call ``.backward()`` on, in float32 or wider.

    Raises:
        TypeError: ``losses`` is no floating-point tensor.
        ValueError: ``losses`` is not one loss for each weight.

    Example:
        >>> losses = torch.tensor([1.0, 2.0])
        >>> weighted_mean(losses, Weights(torch.tensor([1, 3]), torch.tensor([2.0, 2.0]), n=4))
        tensor(1.5000)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """
    check_losses(losses)
    if losses.shape != weights.value.shape:
        raise ValueError(
            f"{losses.shape[0]} losses for {weights.value.shape[0]} weights: "
            "give the losses of the examples that weights.index names, in its order (of all n where it is None)"
        )
    # A sum of half-precision losses can overflow before it is divided by n.
    wide = torch.promote_types(losses.dtype, torch.float32)
    return torch.dot(losses.to(wide), weights.to(losses.device, wide).value) / weights.n


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

    Args:
        law: of the weights; `msgd.noise.Emulate` is right on batches from a data loader.
        seed: names the noise, 0 ≤ seed < 2⁶⁴.
        logical_batch: None: each call is one logical batch, whatever its size. A number n: calls take the positions
            0 … n−1 of one draw in turn, so that the losses of micro-batches add up to that of the whole.
        divided_by: with ``logical_batch``: the number by which a framework divides each micro-loss; 1 where it adds
            them as they are.

    Raises:
        TypeError: ``law`` is no law, or a number is no integer.
        ValueError: a number is out of range, or ``divided_by`` is given without ``logical_batch``.

    Example:
        >>> from msgd import noise
        >>> reweight = Reweighter(noise.Emulate(b=2), seed=0)
        >>> losses = torch.ones(8, requires_grad=True)
        >>> reweight(losses).backward()
        >>> round(float(losses.grad.sum()), 5)  # the weights of the Cov kind have mean 1 in every draw
        1.0

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, law: Law, *, seed: int, logical_batch: int | None = None, divided_by: int = 1) -> None:
        if not isinstance(law, Law):
            raise TypeError(f"law must be a law such as noise.Emulate(b=256), not {law!r}")
        generator(seed, 0)  # refuses a bad seed now, not at the first step
        if logical_batch is not None:
            law.moments(whole("logical_batch", logical_batch))  # likewise a b that the law cannot have at this n
        if whole("divided_by", divided_by) != 1 and logical_batch is None:
            raise ValueError("divided_by needs logical_batch: without it each call is a whole logical batch")
        self.law = law
        self.seed = seed
        self.logical_batch = logical_batch
        self.divided_by = divided_by
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

    def __call__(self, losses: Tensor, *, step: int | None = None, offset: int | None = None) -> Tensor:
        """Weight the losses of one (micro-)batch.

        Args:
            losses: shape (batch,), one for each example: the loss with ``reduction="none"``.
            step: use the draw of this step and do not advance: for the closures of LBFGS, the two passes of SAM.
            offset: with ``step``, where these are not all the losses of a logical batch: the position of the first.

        Returns:
            The scalar to call ``.backward()`` on; with gradients disabled the plain mean.

        Raises:
            TypeError: ``losses`` is no floating-point tensor.
            ValueError: a wrong shape, an empty batch, a micro-batch beyond the end of the logical one, or a b that
                the law cannot have at this batch size.
        """
        check_losses(losses)
        n = losses.shape[0]
        return weighted_mean(
            losses, self.weights(n, device=losses.device, dtype=losses.dtype, step=step, offset=offset)
        )

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
            offset: as in the call.

        Returns:
            Weights such that ``weighted_mean(losses, weights)`` is what the call returns.

        Raises:
            ValueError: as the call.
        """
        if whole("the number of losses", n) and not torch.is_grad_enabled():
            return Weights(None, torch.ones(n, device=device, dtype=dtype), n)
        if step is None:
            if offset is not None:
                raise ValueError("offset goes with step; without step the position is kept here")
            part = self._part(n, self._step, self._offset)
            self._advance(n)
        else:
            if offset is None and n != (self.logical_batch or n):
                raise ValueError(
                    f"{n} of {self.logical_batch} losses with step={step}: say with offset= which ones they are"
                )
            part = self._part(n, step, offset or 0)
        return part.to(device, dtype)

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
        mine = self.state_dict()
        if not isinstance(state, dict) or set(state) != set(mine):
            raise ValueError(f"not the state of a Reweighter: it needs the keys {', '.join(mine)}")
        for key in ("seed", "law", "logical_batch"):
            if state[key] != mine[key]:
                raise ValueError(
                    f"this state is of {key} {state[key]}, and this Reweighter has {mine[key]}: "
                    "build the Reweighter as it was when the state was saved"
                )
        generator(self.seed, state["step"])
        if not 0 <= state["offset"] < (self.logical_batch or 1):
            raise ValueError(f"offset {state['offset']} lies outside the logical batch of {self.logical_batch or 1}")
        self._step, self._offset = state["step"], state["offset"]

    def _part(self, n: int, step: int, offset: int) -> Weights:
        whole = n if self.logical_batch is None else self.logical_batch
        if not 0 <= offset <= whole - n:
            raise ValueError(
                f"{n} losses from position {offset} run past the logical batch of {whole}: let the micro-batches of a "
                f"step add up to it, and after a short one call {'discard' if self.law.coupled else 'flush'}()"
            )
        if self._drawn is None or self._drawn[0] != (step, whole):
            # Dense, and with the factor, once for all micro-batches of the step.
            value = self.law.draw(whole, seed=self.seed, step=step).dense()
            self._drawn = (step, whole), value if self.divided_by == 1 else value * self.divided_by
        value = self._drawn[1]
        if n == whole:
            return Weights(None, value, whole)
        return Weights(torch.arange(offset, offset + n), value[offset : offset + n], whole)

    def _advance(self, n: int) -> None:
        self._offset += n
        if self._offset >= (self.logical_batch or n):
            self._step, self._offset = self._step + 1, 0


_TO_ONE = {True: "squeeze(1)", False: "flatten(1).mean(1)"}


def check_losses(losses: Tensor) -> None:
    """Refuse what is not one loss for each example.

    Args:
        losses: what a loss function returned.

    Raises:
        TypeError: it is no floating-point tensor.
        ValueError: its shape is not (batch,).
    """
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        raise TypeError("losses must be a floating-point tensor of one loss for each example")
    if losses.ndim != 1:
        raise ValueError(
            f"losses have shape {tuple(losses.shape)}, and one loss for each example is needed, shape (batch,): "
            'use reduction="none" in the loss'
            + ("" if losses.ndim == 0 else ", then losses." + _TO_ONE[losses.ndim == 2 and losses.shape[1] == 1])
        )
