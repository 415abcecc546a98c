"""Random weights in a training loop with Accelerate, also with gradient accumulation by `accelerator.accumulate`."""

from __future__ import annotations

from typing import Any, TypedDict

import torch
from torch import Tensor

from msgd._checks import check_state, positive_integer
from msgd.integrations.batch_sizes import REMEDY, AnnouncedReweighter
from msgd.noise import Law
from msgd.reweighting.reweighter import Reweighter

try:
    from accelerate import Accelerator

    from msgd.integrations.prepared_loader import examples_in_loader
except ImportError as error:
    raise ImportError("msgd.integrations.accelerate needs Accelerate: pip install accelerate") from error


class AcceleratedState(TypedDict):
    """State of an `AcceleratedReweighter`, as returned by ``state_dict``."""

    seed: int
    step: int
    law: str


class AcceleratedReweighter(AnnouncedReweighter):
    """A `msgd.Reweighter` whose logical batch is that of ``accelerator.accumulate``, over all processes.

    The loss stays the usual mean, ``loss = F.cross_entropy(reweight.outputs(model(inputs)), targets)``, and
    ``accelerator.backward(loss)`` divides it as it always does. Or call ``reweight.attach(model)`` once, if the model
    computes its loss itself. w is drawn once for all micro-batches and processes of an optimizer step. The object
    registers itself for checkpointing, so that ``save_state`` and ``load_state`` resume the noise. With gradients
    disabled nothing changes or advances.

    ``reweight(losses)``, for one loss per example, returns ``Σ w_i ℓ_i / n`` over the n examples of the logical batch:
    it undoes the divisions of Accelerate, which differ from n if the last micro-batches are short.

    Use the weights once for each batch of a prepared loader: by one call, or in one forward pass. To be told where that
    is not so, call ``reweight.watch(optimizer)``.

    Args:
        accelerator: the Accelerator of the training loop.
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        logical_batch: number of examples of a step over all micro-batches and processes. Required only with gradient
            accumulation over a loader whose batch sizes are not known in advance, such as that of an IterableDataset.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, or processes share examples (tensor parallelism). During training: the
            size of the logical batch cannot be determined, or the optimizer step comes before or after its end.

    Examples:
        >>> from msgd import noise
        >>> accelerator = Accelerator(cpu=True)
        >>> model = accelerator.prepare(torch.nn.Linear(3, 4))
        >>> reweight = AcceleratedReweighter(accelerator, noise.Emulate(b=2), seed=0)
        >>> with accelerator.accumulate(model):
        ...     outputs = reweight.outputs(model(torch.ones(8, 3)))
        ...     accelerator.backward(torch.nn.functional.cross_entropy(outputs, torch.arange(8) % 4))
        >>> reweight.step
        1

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, accelerator: Accelerator, law: Law, *, seed: int, logical_batch: int | None = None) -> None:
        parallelism = getattr(accelerator, "parallelism_config", None)
        if parallelism is not None and parallelism.non_data_parallel_size > 1:
            raise ValueError("some processes share examples (tensor parallel): use msgd.Reweighter(group=…) instead")
        # "blocked": Accelerate distributes whole batches, the first to rank 0, the second to rank 1.
        super().__init__(law, seed=seed, layout="blocked")
        self._accelerator: Any = accelerator
        self._given = None if logical_batch is None else positive_integer("logical_batch", logical_batch)
        self.divided_by = accelerator.gradient_accumulation_steps
        self._pass: tuple[int, int, int] | None = None  # identifies the current pass over a loader
        self._index = -1  # of the current micro-batch in that pass
        accelerator.register_for_checkpointing(self)

    def state_dict(self) -> AcceleratedState:  # type: ignore[override]  # a state without a position in a batch
        """Return the state from which a run can resume.

        An incomplete logical batch is not part of it: its gradient is not saved, so it is drawn again.

        Returns:
            Seed, step, and the law as text.
        """
        return {"seed": self.seed, "step": self.step, "law": repr(self.law)}

    def load_state_dict(self, state: AcceleratedState) -> None:
        """Resume from ``state``.

        Args:
            state: a state returned by `state_dict`.

        Raises:
            ValueError: ``state`` has another seed or law, or is not a state of this class.
        """
        check_state("AcceleratedReweighter", state, self.state_dict(), ("seed", "law"))
        self.begin(None, step=state["step"])

    def _look_for_step(self, values: Tensor, step: int | None) -> None:
        """Guess where optimizer steps are only if Accelerate does not know: without its accumulation."""
        if self._accelerator.gradient_accumulation_steps == 1:
            Reweighter._look_for_step(self, values, step)

    def _before_micro_batch(self) -> None:
        """Begin a logical batch if the last one is complete."""
        self._follow()
        self.divided_by = self._accelerator.gradient_accumulation_steps
        if not self.offset:
            self.begin(None if self._accelerator.sync_gradients else self._size())

    def _after_micro_batch(self, n: int) -> None:
        """Raise if the optimizer step comes before or after the end of the logical batch."""
        del n
        if self._accelerator.sync_gradients and self.offset:
            raise ValueError(f"the optimizer step comes after {self.offset} of {self.logical_batch} examples: {REMEDY}")
        if not self._accelerator.sync_gradients and not self.offset:
            raise ValueError(
                f"all {self.logical_batch} examples came, and the optimizer step comes later: use the weights once for "
                f"each batch, and {REMEDY}"
            )

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
        if self._given is not None:
            return self._given
        accelerator = self._accelerator
        accumulated, state = accelerator.gradient_accumulation_steps, accelerator.gradient_state
        stop = self._index + accumulated - (accelerator.step - 1) % accumulated
        own = None
        if state.in_dataloader and state.sync_with_dataloader:
            own = examples_in_loader(state.active_dataloader, self._index, stop)
        if own is None:
            raise ValueError(f"the loader (is it prepared?) cannot tell how many examples a step will have: {REMEDY}")
        return int(accelerator.gather(torch.tensor([own], device=accelerator.device)).sum())
