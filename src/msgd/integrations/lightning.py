"""Random weights in Lightning: a callback, and a `training_step` that returns its usual mean loss."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from msgd._checks import check_state, positive_integer
from msgd.integrations.batch_sizes import REMEDY, AnnouncedReweighter, examples
from msgd.noise import Law
from msgd.reweighting.attachment import Attachment
from msgd.reweighting.graph import ungated_parameter

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("msgd.integrations.lightning needs Lightning: pip install lightning") from error


class ReweightCallback(Callback):
    """Multiplies the gradient of each example by a random weight; ``training_step`` returns its usual loss.

    The weights are applied to the gradient that flows back into the outputs of ``module``, so that the loss, the
    metrics and Lightning's scale stay as they are: Lightning divides each loss by ``accumulate_grad_batches``, also in
    an incomplete last group. w is drawn once for all micro-batches of an optimizer step and all processes (DDP,
    FSDP), from ``(seed, trainer.global_step)``, so a run that resumes from a checkpoint has the same noise as an
    uninterrupted one. If ``module`` is called several times for one batch, its examples keep their weights. Evaluation
    is unchanged.

    With manual optimization each training step is a logical batch; if several come before an optimizer step, pass
    ``logical_batch``.

    Args:
        law: law of the weights; use `msgd.noise.Emulate` for batches from a data loader.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        module: name of the module whose outputs the loss depends on, such as "head" or "model.lm_head". None: the only
            child module that has parameters. In a model of Transformers its head is found, as by
            `msgd.Reweighter.attach`.
        logical_batch: number of examples of a step over all micro-batches and processes. Required only with gradient
            accumulation if the batch sizes are not known in advance, as with an IterableDataset.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range. During training: the module is not known, ``training_step`` does not use
            it or does not return a scalar, the size of a logical batch cannot be determined or is not that of a step,
            or the strategy does not tell how it accumulates.

    Examples:
        >>> from msgd import noise
        >>> class Net(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = torch.nn.Linear(3, 2)
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         return torch.nn.functional.cross_entropy(self.layers(x), y)
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> callback = ReweightCallback(noise.Emulate(b=64), seed=0)  # Trainer(callbacks=[callback]).fit(Net(), loader)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, law: Law, *, seed: int, module: str | None = None, logical_batch: int | None = None) -> None:
        given = None if logical_batch is None else positive_integer("logical_batch", logical_batch)
        self._reweight = _StepReweighter(law, seed, given)
        self._module = module
        self._handle: Attachment | None = None
        self._looked = False  # whether the first loss was looked at

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach the weights."""
        replicas = getattr(trainer.strategy, "distributed_sampler_kwargs", None) or {}
        if replicas.get("num_replicas", trainer.world_size) != trainer.world_size:
            raise ValueError("some processes share examples (tensor parallel): use msgd.Reweighter(group=…) instead")
        self.teardown(trainer, pl_module, "fit")
        self._reweight.follow(trainer)
        self._handle = self._reweight.attach(_module_of(pl_module, self._module))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Detach the weights."""
        del trainer, pl_module, stage
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
            self._reweight.follow(None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Detach the weights, since Lightning does not call `teardown` after an exception."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prepare for a new pass over the loader."""
        del trainer, pl_module
        self._reweight.origin = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the index of the coming micro-batch."""
        del pl_module, batch
        self._reweight.start(batch_idx, resumable=hasattr(trainer.train_dataloader, "state_dict"))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Raise if the loss is no scalar, or computed without the weights."""
        del trainer
        if not pl_module.automatic_optimization:
            return
        if loss.numel() != 1:
            raise ValueError(
                f"training_step returned a loss of shape {tuple(loss.shape)}: return its usual mean, one number; the "
                "callback weights the gradient of each example by itself"
            )
        self._look_for_weights(pl_module)
        if not self._looked:
            self._looked = True
            self._look_for_other_ways(pl_module, loss)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Raise if a training step with manual optimization was computed without the weights."""
        del trainer, outputs, batch, batch_idx
        if not pl_module.automatic_optimization:
            self._look_for_weights(pl_module)

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

    def _look_for_other_ways(self, pl_module: LightningModule, loss: Tensor) -> None:
        parameter = ungated_parameter(loss, pl_module.named_parameters())
        if parameter is not None:
            warnings.warn(
                f"a part of the loss reaches the {parameter} without weights, as a penalty does; if it is no such "
                "part, pass module=, the name of one module that returns all outputs that the loss depends on",
                UserWarning,
                stacklevel=2,
            )

    def _look_for_weights(self, pl_module: LightningModule) -> None:
        if not self._reweight.used:
            name = "the module" if self._handle is None else self._handle.name
            raise ValueError(
                f"training_step did not use the outputs of {name}, so that its loss has no weights: pass module=, the "
                f"name of the module of {type(pl_module).__name__} whose outputs the loss depends on"
            )


class _StepReweighter(AnnouncedReweighter):
    """A `Reweighter` whose draws are those of ``trainer.global_step``."""

    def __init__(self, law: Law, seed: int, given: int | None) -> None:
        super().__init__(law, seed=seed, layout="strided")  # the layout of Lightning's DistributedSampler
        self._given = given
        self._trainer: Any = None
        self.origin: int | None = None  # index at which the pass over the loader began; not 0 in a resumed epoch
        self._index = 0  # of the micro-batch in its epoch
        self.used = False  # whether weights were drawn for this micro-batch
        self._place = (-1, -1, 0)  # step, index and offset of the micro-batch whose weights were drawn last

    def follow(self, trainer: Trainer | None) -> None:
        """Begin to take the steps of a trainer; None: of no trainer any more."""
        self._trainer, self._place = trainer, (-1, -1, 0)
        self.begin(None)

    def start(self, index: int, *, resumable: bool) -> None:
        """Begin a micro-batch."""
        self._index, self.used = index, False
        if self.origin is None:
            # In a resumed epoch the indices continue, but a loader without a state starts from the beginning.
            self.origin = 0 if resumable else index

    def _next_gate_weights(self, n: int, step: int | None, offset: int | None) -> Tensor:
        if self._asks and not self._trainer.training:  # gradients that a validation step computes
            return torch.ones(n)
        return super()._next_gate_weights(n, step, offset)

    def _before_micro_batch(self) -> None:
        """Take the position of this micro-batch in the draw of its step."""
        trainer, step, index = self._trainer, self._trainer.global_step, self._index
        last_step, last_index, offset = self._place
        self.used = True
        if (step, index) == (last_step, last_index):  # again, in a closure or for another view of the examples
            self.step, self.offset = step, offset
            return
        if not trainer.lightning_module.automatic_optimization:
            self._begin_manually(step, again=step == last_step)
        elif index % trainer.accumulate_grad_batches == 0 or step != last_step:
            self.begin(None if trainer.accumulate_grad_batches == 1 else self._size(), step=step)
        self._place = (step, index, self.offset)

    def _begin_manually(self, step: int, *, again: bool) -> None:
        """Begin a logical batch, unless this micro-batch belongs to the last one; ``again``: no step came between."""
        if again and (self._given is None or not self.offset):
            raise ValueError(
                "several training steps for one optimizer step: with manual optimization pass logical_batch=, the "
                "number of examples of an optimizer step"
            )
        if not again and self.offset:
            raise ValueError(
                f"the optimizer step came after {self.offset} of {self.logical_batch} examples: in manual optimization "
                "leave out a short last group, or omit logical_batch= and step after each training step"
            )
        if not again:
            self.begin(self._given, step=step)

    def _after_micro_batch(self, n: int) -> None:
        """Raise if the optimizer step comes before or after the end of the logical batch."""
        trainer, pending = self._trainer, self.offset
        if not trainer.lightning_module.automatic_optimization or trainer.accumulate_grad_batches == 1:
            return
        expected = self._examples_before(self._index + 1) if self._given is None else n
        if expected not in (None, n):
            raise ValueError(
                f"the weighted outputs have {n} rows for a micro-batch of {expected} examples: pass module=, the name "
                "of a module that returns one row for each example, or logical_batch=, the number of rows of a step"
            )
        last = self._index + 1 == self._stop() or trainer.is_last_batch
        if pending and last:
            raise ValueError(f"the optimizer step comes after {pending} of {self.logical_batch} examples: {REMEDY}")
        if not pending and not last:
            raise ValueError(f"all {self.logical_batch} examples came, and the optimizer step comes later: {REMEDY}")

    def _stop(self) -> int:
        """Return the index after the last micro-batch of this step."""
        trainer, index = self._trainer, self._index
        accumulated = trainer.accumulate_grad_batches
        return int(min(index - index % accumulated + accumulated, trainer.num_training_batches))

    def _size(self) -> int:
        """Return the number of examples of all processes in the micro-batches from this one to the step."""
        strategy = self._trainer.strategy
        if strategy.handles_gradient_accumulation:
            raise ValueError(
                f"{type(strategy).__name__} accumulates gradients itself, and does not tell when: "
                "use accumulate_grad_batches=1, or DDP or FSDP"
            )
        if self._given is not None:
            return self._given
        own = self._examples_before(self._stop())
        if own is None:
            raise ValueError(f"the loader cannot tell how many examples a step will have: {REMEDY}")
        return int(strategy.reduce(torch.tensor(own, device=strategy.root_device), reduce_op="sum"))

    def _examples_before(self, stop: int) -> int | None:
        """Return the number of examples in this process's micro-batches from this one to ``stop``."""
        sampler, origin = getattr(self._trainer.train_dataloader, "batch_sampler", None), self.origin or 0
        return examples(sampler, self._index - origin, stop - origin)


def _module_of(pl_module: LightningModule, name: str | None) -> nn.Module:
    """Return the module with this name, or the only child module that has parameters."""
    children = {key: child for key, child in pl_module.named_children() if any(True for _ in child.parameters())}
    owner, listed = type(pl_module).__name__, ", ".join(children) or "none"
    if name is None:
        if len(children) != 1:
            raise ValueError(
                f"{owner} has not one child module with parameters ({listed}): pass module=, the name of the one whose "
                "outputs the loss depends on; if these are several, let one module return their outputs"
            )
        return next(iter(children.values()))
    try:
        return pl_module.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{owner} has no module {name!r}: pass module=, e.g. one of its children ({listed})") from None
