"""Random weights in Lightning: `training_step` returns one loss per example, and a callback weights the losses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from msgd._checks import check_losses, check_state, positive_integer
from msgd.integrations.batch_sizes import REMEDY, examples
from msgd.noise import Law
from msgd.reweighting.reweighter import Reweighter

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("msgd.integrations.lightning needs Lightning: pip install lightning") from error


class ReweightCallback(Callback):
    """Weights the per-example losses that ``training_step`` returns in place of their mean.

    The gradient of an optimizer step is that of ``Σ w_i ℓ_i / n``, with w drawn once for all micro-batches of the step
    (``accumulate_grad_batches``) and all processes (DDP, FSDP). Lightning divides each loss by the number of
    micro-batches, also in an incomplete last group; the callback undoes the division. The draw is determined by
    ``(seed, trainer.global_step)``, so a run that resumes from a checkpoint has the same noise as an uninterrupted
    one. Evaluation is unchanged.

    Args:
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        logical_batch: number of examples of a step over all micro-batches and processes. Required only with gradient
            accumulation over a loader whose batch sizes are not known in advance, such as that of an IterableDataset.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range. During training: ``training_step`` does not return one loss per example,
            the size of a logical batch cannot be determined, optimization is manual, or the strategy scales gradients
            in an unknown way.

    Examples:
        >>> from msgd import noise
        >>> class Net(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(3, 2)
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         return torch.nn.functional.cross_entropy(self.layer(x), y, reduction="none")
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> callback = ReweightCallback(noise.Emulate(b=64), seed=0)  # Trainer(callbacks=[callback]).fit(Net(), loader)

        ``training_step`` may also return a dictionary: ``{"loss": losses, "sample_weight": c, "total": …}`` gives
        Σ w_i c_i ℓ_i / Σ c_i, as with `msgd.Reweighter`. With accumulation "total" is Σ c_i over the logical batch.

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, law: Law, *, seed: int, logical_batch: int | None = None) -> None:
        self._reweight = Reweighter(law, seed=seed, layout="strided")  # the layout of Lightning's DistributedSampler
        self._logical_batch = None if logical_batch is None else positive_integer("logical_batch", logical_batch)
        self._unwrap: Callable[[], None] | None = None
        self._index = 0  # of the micro-batch in its epoch
        self._origin: int | None = None  # index at which the pass over the loader began; not 0 in a resumed epoch
        self._current_step: int | None = None  # step of the current logical batch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wrap ``training_step`` so that Lightning receives the weighted loss."""
        if stage != "fit" or self._unwrap is not None:
            return
        if not pl_module.automatic_optimization:
            raise ValueError("optimization is manual: remove this callback and call backward on msgd.Reweighter's loss")
        replicas = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
        if replicas.get("num_replicas", trainer.world_size) != trainer.world_size:
            raise ValueError("some processes share examples (tensor parallel): use msgd.Reweighter(group=…) instead")
        training_step, own = pl_module.training_step, "training_step" in vars(pl_module)  # true if compiled

        @functools.wraps(training_step)
        def weighted(*args: Any, **kwargs: Any) -> Any:
            return self._weighted(trainer, pl_module, training_step(*args, **kwargs))

        def unwrap() -> None:
            del pl_module.training_step
            if own:
                pl_module.training_step = training_step  # type: ignore[method-assign]

        pl_module.training_step = weighted  # type: ignore[method-assign]
        self._unwrap, self._current_step = unwrap, None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the module's own ``training_step``."""
        del trainer, pl_module, stage
        if self._unwrap is not None:
            self._unwrap()
            self._unwrap = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Call `teardown`, since Lightning does not after an exception."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare for a new pass over the loader."""
        del trainer, pl_module
        self._origin = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the index of the coming micro-batch."""
        del pl_module, batch
        self._index = batch_idx
        if self._origin is None:
            # In a resumed epoch the indices continue, but a loader without a state starts from the beginning.
            self._origin = 0 if hasattr(trainer.train_dataloader, "state_dict") else batch_idx

    def state_dict(self) -> dict[str, Any]:
        """Return the values that a resumed run must share; Lightning's ``global_step`` is the position.

        Returns:
            Seed and law.
        """
        return {"seed": self._reweight.seed, "law": repr(self._reweight.law)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a resumed run has the same noise.

        Args:
            state_dict: a state returned by `state_dict`.

        Raises:
            ValueError: the state has another seed or law.
        """
        check_state("ReweightCallback", state_dict, self.state_dict(), ("seed", "law"))

    def _weighted(self, trainer: Trainer, module: LightningModule, output: Any) -> Any:
        """Replace the losses in the output of ``training_step`` by their weighted mean."""
        if output is None:  # Lightning skips this micro-batch
            return None
        more = dict(output) if isinstance(output, Mapping) else {"loss": output}
        losses: Tensor = more["loss"]
        check_losses(losses)
        accumulated, step = trainer.accumulate_grad_batches, trainer.global_step
        stop = int(min(self._index - self._index % accumulated + accumulated, trainer.num_training_batches))
        if self._index % accumulated == 0 or self._current_step != step:
            self._reweight.begin(None if accumulated == 1 else self._size(trainer, module, stop), step=step)
            self._current_step = step
        expected = self._examples_before(trainer, self._index + 1)
        if accumulated > 1 and expected not in (None, len(losses)):
            raise ValueError(
                f"training_step returned {len(losses)} losses for a micro-batch of {expected} examples: return one each"
            )
        loss = self._reweight(losses, sample_weight=more.get("sample_weight"), total=more.get("total")) * accumulated
        seen = self._reweight.state_dict()["offset"]
        if seen and (self._index + 1 == stop or trainer.is_last_batch):
            raise ValueError(
                f"the optimizer step comes after {seen} of {self._reweight.logical_batch} examples: {REMEDY}"
            )
        return {**more, "loss": loss} if isinstance(output, Mapping) else loss

    def _size(self, trainer: Trainer, module: LightningModule, stop: int) -> int:
        """Return the number of examples of all processes in the micro-batches from this one to ``stop``."""
        if trainer.strategy.handles_gradient_accumulation:
            raise ValueError(
                f"{type(trainer.strategy).__name__} accumulates gradients itself, with a scale that is not known here: "
                "use accumulate_grad_batches=1, or DDP or FSDP"
            )
        if self._logical_batch is not None:
            return self._logical_batch
        own = self._examples_before(trainer, stop)
        if own is None:
            raise ValueError(f"the loader cannot tell how many examples a step will have: {REMEDY}")
        return int(trainer.strategy.reduce(torch.tensor(own, device=module.device), reduce_op="sum"))

    def _examples_before(self, trainer: Trainer, stop: int) -> int | None:
        """Return the number of examples in this process's micro-batches from this one to ``stop``."""
        origin = self._origin or 0
        return examples(getattr(trainer.train_dataloader, "batch_sampler", None), self._index - origin, stop - origin)
