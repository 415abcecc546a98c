"""Random weights in a training loop with Accelerate, also with gradient accumulation by `accelerator.accumulate`."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor

from msgd._checks import check_state, positive_integer
from msgd.integrations.batch_sizes import REMEDY, examples
from msgd.noise import Law
from msgd.reweighting.reweighter import Reweighter

try:
    from accelerate import Accelerator
    from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
except ImportError as error:
    raise ImportError("msgd.integrations.accelerate needs Accelerate: pip install accelerate") from error


class AcceleratedState(TypedDict):
    """State of an `AcceleratedReweighter`, as returned by ``state_dict``."""

    seed: int
    step: int
    law: str


class AcceleratedReweighter:
    """Turns per-example losses into the scalar loss for ``accelerator.backward``.

    The gradient of an optimizer step is that of ``Σ w_i ℓ_i / n``, with w drawn once for all micro-batches of the step
    (``accelerator.accumulate``) and all processes. Accelerate divides each loss by ``gradient_accumulation_steps``,
    also when the data end early; this class undoes the division. It registers itself for checkpointing, so that
    ``save_state`` and ``load_state`` resume the noise. With gradients disabled it returns the plain mean and does not
    advance.

    Args:
        accelerator: the Accelerator of the training loop.
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        logical_batch: number of examples of a step over all micro-batches and processes. Required only with gradient
            accumulation over a loader whose batch sizes are not known in advance, such as that of an IterableDataset.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, or processes share examples (tensor parallelism).

    Examples:
        >>> from msgd import noise
        >>> accelerator = Accelerator(cpu=True)
        >>> reweight = AcceleratedReweighter(accelerator, noise.Emulate(b=2), seed=0)
        >>> losses = torch.ones(8, requires_grad=True)  # in the loop, within accelerator.accumulate(model)
        >>> accelerator.backward(reweight(losses))
        >>> round(float(losses.grad.sum()), 5)
        1.0

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, accelerator: Accelerator, law: Law, *, seed: int, logical_batch: int | None = None) -> None:
        parallelism = getattr(accelerator, "parallelism_config", None)
        if parallelism is not None and parallelism.non_data_parallel_size > 1:
            raise ValueError("some processes share examples (tensor parallel): use msgd.Reweighter(group=…) instead")
        # "blocked": Accelerate distributes whole batches, the first to rank 0, the second to rank 1.
        self._reweight = Reweighter(law, seed=seed, layout="blocked")
        self._accelerator = accelerator
        self._logical_batch = None if logical_batch is None else positive_integer("logical_batch", logical_batch)
        self._pass: tuple[int, int, int] | None = None  # identifies the current pass over a loader
        self._index = -1  # of the current micro-batch in that pass
        accelerator.register_for_checkpointing(self)

    @property
    def step(self) -> int:
        """Number of completed logical batches, which is the step of the next draw."""
        return self._reweight.step

    def __call__(
        self, losses: Tensor, *, sample_weight: Tensor | None = None, total: float | Tensor | None = None
    ) -> Tensor:
        """Weight the losses of a micro-batch; call this once for each batch of the loader.

        Args:
            losses: one loss per example, shape (batch,), computed with ``reduction="none"``.
            sample_weight: your own weights c_i ≥ 0 of the examples, shape (batch,); see `msgd.Reweighter`.
            total: Σ c_i over the logical batch; required with accumulation.

        Returns:
            The scalar for ``accelerator.backward``; with gradients disabled the plain mean.

        Raises:
            TypeError: ``losses`` or ``sample_weight`` is not a floating-point tensor.
            ValueError: a shape is wrong, the size of the logical batch cannot be determined, or the optimizer step
                comes before or after the end of the logical batch.
        """
        if not torch.is_grad_enabled():
            return self._reweight(losses, sample_weight=sample_weight, total=total)
        accelerator: Any = self._accelerator
        pending = self._reweight.state_dict()["offset"]
        self._follow()
        if not pending:
            self._reweight.begin(None if accelerator.sync_gradients else self._size())
        loss = self._reweight(losses, sample_weight=sample_weight, total=total)
        pending, n = self._reweight.state_dict()["offset"], self._reweight.logical_batch
        if accelerator.sync_gradients and pending:
            raise ValueError(f"the optimizer step comes after {pending} of {n} examples: {REMEDY}")
        if not accelerator.sync_gradients and not pending:
            raise ValueError(f"all {n} examples came, and the optimizer step comes later: {REMEDY}")
        accumulated: int = accelerator.gradient_accumulation_steps
        return loss * accumulated

    def state_dict(self) -> AcceleratedState:
        """Return the state from which a run can resume.

        An incomplete logical batch is not part of it: its gradient is not saved, so it is drawn again.

        Returns:
            Seed, step, and the law as text.
        """
        return {"seed": self._reweight.seed, "step": self._reweight.step, "law": repr(self._reweight.law)}

    def load_state_dict(self, state: AcceleratedState) -> None:
        """Resume from ``state``.

        Args:
            state: a state returned by `state_dict`.

        Raises:
            ValueError: ``state`` has another seed or law, or is not a state of this class.
        """
        check_state("AcceleratedReweighter", state, self.state_dict(), ("seed", "law"))
        self._reweight.begin(None, step=state["step"])

    def _follow(self) -> None:
        """Count the micro-batches of the current pass over a loader."""
        gradient_state = self._accelerator.gradient_state
        loader = gradient_state.active_dataloader
        # A pass that was left early stays in the list, and the next pass over the same loader is added to it.
        listed = sum(one is loader for one in gradient_state.dataloader_references)
        now = (id(loader), getattr(loader, "iteration", 0), listed)
        self._index = self._index + 1 if now == self._pass else 0
        self._pass = now

    def _size(self) -> int:
        """Return the number of examples of all processes in the micro-batches from this one to the optimizer step."""
        if self._logical_batch is not None:
            return self._logical_batch
        accelerator = self._accelerator
        accumulated, state = accelerator.gradient_accumulation_steps, accelerator.gradient_state
        stop = self._index + accumulated - (accelerator.step - 1) % accumulated
        own = None
        if state.in_dataloader and state.sync_with_dataloader:
            own = _examples_in(state.active_dataloader, self._index, stop)
        if own is None:
            raise ValueError(f"the loader (is it prepared?) cannot tell how many examples a step will have: {REMEDY}")
        return int(accelerator.gather(torch.tensor([own], device=accelerator.device)).sum())


def _examples_in(loader: Any, first: int, stop: int) -> int | None:
    """Return the number of examples in this process's batches first … stop−1 of a pass over a prepared loader."""
    sampler = loader.batch_sampler
    while isinstance(sampler, SkipBatchSampler):  # of accelerator.skip_first_batches
        first, stop = first + sampler.skip_batches, stop + sampler.skip_batches
        sampler = sampler.batch_sampler
    if not isinstance(sampler, BatchSamplerShard):
        return examples(sampler, first, stop)
    if not (sampler.even_batches or sampler.drop_last):
        return None
    # All batches are full: Accelerate completes the last ones with examples from the start of the data set.
    full = sampler.batch_size // (sampler.num_processes if sampler.split_batches else 1)
    return (min(stop, len(sampler)) - first) * int(full)
