"""The noise in Lightning: `training_step` returns one loss for each example, a callback of the Trainer weights them."""

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
    raise ImportError("msgd.integrations.lightning needs Lightning: pip install 'msgd[lightning]'") from error


class ReweightCallback(Callback):
    """Weights the losses that ``training_step`` returns, one for each example, instead of their mean.

    The gradient of an optimizer's step is that of ``Σ w_i ℓ_i / n``, with w drawn once for all of its micro-batches
    (``accumulate_grad_batches``) and processes (DDP, FSDP); Lightning's own division by the number of micro-batches,
    full or not, is undone. The draw is that of ``(seed, trainer.global_step)``, so a run that is resumed from a
    checkpoint has the same noise as one that was not stopped. Evaluation is untouched.

    Args:
        law: of the weights; `msgd.noise.Emulate` is right on batches from a data loader.
        seed: names the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        logical_batch: number of examples of a step over all micro-batches and processes; only needed with accumulation
            over a loader that cannot tell, such as that of an IterableDataset.

    Raises:
        TypeError: ``law`` is no law, or a number is no integer.
        ValueError: a number is out of range. While training: ``training_step`` does not return one loss for each
            example, the size of a logical batch cannot be known, or the strategy or the manual optimization is one
            whose scale is not known.

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

        A dictionary may hold more: ``{"loss": losses, "sample_weight": c, "total": …}`` is Σ w_i c_i ℓ_i / Σ c_i, as in
        `msgd.Reweighter`; with accumulation "total" is Σ c_i over the logical batch.

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, law: Law, *, seed: int, logical_batch: int | None = None) -> None:
        self._reweight = Reweighter(law, seed=seed, layout="strided")  # as DistributedSampler deals, Lightning's choice
        self._logical_batch = None if logical_batch is None else positive_integer("logical_batch", logical_batch)
        self._unwrap: Callable[[], None] | None = None
        self._index = 0  # of the micro-batch in its epoch
        self._origin: int | None = None  # the index at which the pass over the loader began: not 0 where it is resumed
        self._begun: int | None = None  # the step whose logical batch is under way

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put the weights between ``training_step`` and Lightning."""
        if stage != "fit" or self._unwrap is not None:
            return
        if not pl_module.automatic_optimization:
            raise ValueError("with manual optimization call backward on msgd.Reweighter's loss, without this callback")
        replicas = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
        if replicas.get("num_replicas", trainer.world_size) != trainer.world_size:
            raise ValueError("some processes share examples (tensor parallel): use msgd.Reweighter(group=…) instead")
        training_step, own = pl_module.training_step, "training_step" in vars(pl_module)  # its own if compiled

        @functools.wraps(training_step)
        def weighted(*args: Any, **kwargs: Any) -> Any:
            return self._weighted(trainer, pl_module, training_step(*args, **kwargs))

        def unwrap() -> None:
            del pl_module.training_step
            if own:
                pl_module.training_step = training_step  # type: ignore[method-assign]

        pl_module.training_step = weighted  # type: ignore[method-assign]
        self._unwrap, self._begun = unwrap, None

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the module its own ``training_step`` back."""
        del trainer, pl_module, stage
        if self._unwrap is not None:
            self._unwrap()
            self._unwrap = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As `teardown`, which Lightning leaves out after an exception."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Expect a new pass over the loader."""
        del trainer, pl_module
        self._origin = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note which micro-batch comes."""
        del pl_module, batch
        self._index = batch_idx
        if self._origin is None:
            # In an epoch that is resumed the indices go on, and a loader without a state begins anew all the same.
            self._origin = 0 if hasattr(trainer.train_dataloader, "state_dict") else batch_idx

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must share; its position is Lightning's ``global_step``.

        Returns:
            Seed and law.
        """
        return {"seed": self._reweight.seed, "law": repr(self._reweight.law)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume with another noise.

        Args:
            state_dict: from `state_dict`.

        Raises:
            ValueError: it is of another seed or law.
        """
        check_state("ReweightCallback", state_dict, self.state_dict(), ("seed", "law"))

    def _weighted(self, trainer: Trainer, module: LightningModule, output: Any) -> Any:
        """What Lightning takes for the output of ``training_step``."""
        if output is None:  # Lightning leaves this micro-batch out
            return None
        more = dict(output) if isinstance(output, Mapping) else {"loss": output}
        losses: Tensor = more["loss"]
        check_losses(losses)
        accumulated, step = trainer.accumulate_grad_batches, trainer.global_step
        stop = int(min(self._index - self._index % accumulated + accumulated, trainer.num_training_batches))
        if self._index % accumulated == 0 or self._begun != step:
            self._reweight.begin(None if accumulated == 1 else self._size(trainer, module, stop), step=step)
            self._begun = step
        expected = self._coming(trainer, self._index + 1)
        if accumulated > 1 and expected not in (None, len(losses)):
            raise ValueError(
                f"training_step returned {len(losses)} losses for a micro-batch of {expected} examples: one for each"
            )
        loss = self._reweight(losses, sample_weight=more.get("sample_weight"), total=more.get("total")) * accumulated
        seen = self._reweight.state_dict()["offset"]
        if seen and (self._index + 1 == stop or trainer.is_last_batch):
            raise ValueError(f"the step comes after {seen} of {self._reweight.logical_batch} examples: {REMEDY}")
        return {**more, "loss": loss} if isinstance(output, Mapping) else loss

    def _size(self, trainer: Trainer, module: LightningModule, stop: int) -> int:
        """Number of examples in all micro-batches from this one to ``stop``, of all processes."""
        if trainer.strategy.handles_gradient_accumulation:
            raise ValueError(
                f"{type(trainer.strategy).__name__} accumulates gradients by itself, at a scale of its own: "
                "use accumulate_grad_batches=1, or DDP or FSDP"
            )
        if self._logical_batch is not None:
            return self._logical_batch
        own = self._coming(trainer, stop)
        if own is None:
            raise ValueError(f"the loader cannot tell how many examples a step will have: {REMEDY}")
        return int(trainer.strategy.reduce(torch.tensor(own, device=module.device), reduce_op="sum"))

    def _coming(self, trainer: Trainer, stop: int) -> int | None:
        """Number of examples in this process's micro-batches from this one to ``stop``."""
        origin = self._origin or 0
        return examples(getattr(trainer.train_dataloader, "batch_sampler", None), self._index - origin, stop - origin)
