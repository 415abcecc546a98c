"""Random weights in the Hugging Face Trainer and its subclasses, by a callback."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from msgd.noise import Law
from msgd.reweighting.attachment import Attachment
from msgd.reweighting.documents import examples_in
from msgd.reweighting.ranks import Layout
from msgd.reweighting.reweighter import Reweighter

try:
    from accelerate.state import GradientState
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    from msgd.integrations.prepared_loader import examples_in_loader
except ImportError as error:
    raise ImportError(
        "msgd.integrations.transformers needs Transformers and Accelerate: pip install transformers accelerate"
    ) from error

#: What a callback attached to a model; a training that was interrupted leaves it there.
_ATTACHED: WeakKeyDictionary[nn.Module, tuple[Attachment, Any]] = WeakKeyDictionary()
_TOGETHER = (
    "rows that belong together, such as the two answers of a preference, need one weight; this callback cannot "
    "give it, a loop of your own can: reweight.outputs(y, examples=…)"
)
_STATE = "msgd"  # name of the law and seed in the state that the Trainer saves


class ReweightCallback(TrainerCallback):  # type: ignore[misc]
    """Weights the outputs of the model in any `transformers.Trainer`, whose loss stays as it is.

    The callback attaches to the model's head (`msgd.Reweighter.attach`), so that the gradient of each example is
    multiplied by its weight. The loss may be the model's own, a ``compute_loss_func``, label smoothing, or that of a
    subclass such as ``Seq2SeqTrainer`` or TRL's ``SFTTrainer``; its scale and the printed loss are the Trainer's. w is
    drawn once for the examples of all micro-batches of a step (``gradient_accumulation_steps``) and all processes, from
    ``(seed, state.global_step)``, so that a resumed run has the same noise. An example is a sequence, or a document if
    several are packed into a row. Evaluation is unchanged.

    Args:
        law: law of the weights, such as `msgd.noise.Emulate`, whose b counts examples.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴; the same in all processes.
        module: the module whose outputs the loss depends on, by its name in the model; None: the head that is found.
        logical_batch: number of examples of a step over all micro-batches and processes. Required only with gradient
            accumulation over batches whose sizes cannot be found.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range. During training: the head was not called, so that nothing was weighted;
            the model was resumed with another law or seed; one process uses several GPUs (DataParallel), or processes
            share examples (tensor, context or sequence parallelism).

    Examples:
        >>> from msgd import noise
        >>> callback = ReweightCallback(noise.Emulate(b=32), seed=0)  # Trainer(model, args, …, callbacks=[callback])

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    def __init__(self, law: Law, *, seed: int, module: str | None = None, logical_batch: int | None = None) -> None:
        # "blocked": Accelerate distributes whole batches, the first to rank 0, the second to rank 1.
        self._reweight = _StepReweighter(law, seed=seed, layout="blocked")
        if logical_batch is not None:
            self._reweight.begin(logical_batch)  # raises for an invalid number now
        self._module = module
        self._logical_batch = logical_batch
        self._attachment: Attachment | None = None
        self._made: list[int] = []  # examples of each batch of this epoch so far; one more may be made than taken
        self._taken = 0  # batches of earlier steps in it
        self._restore: list[Callable[[], None]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Attach to the model; refuse settings whose scale is not known, and another law than the checkpoint's."""
        del control
        _check_scale(args)
        mine = {"law": repr(self._reweight.law), "seed": self._reweight.seed}
        saved = state.stateful_callbacks.get(_STATE, {}).get("attributes", mine)
        for key, value in mine.items():
            if saved[key] != value:
                raise ValueError(
                    f"the checkpoint is of {key} {saved[key]}, and this callback has {value}: build it as it was"
                )
        state.stateful_callbacks[_STATE] = {"args": {}, "attributes": mine}
        model: nn.Module = kwargs["model"]
        stale, training = _ATTACHED.pop(model, (self._attachment, None))
        if training is not None and training() is state:
            raise ValueError("there are two ReweightCallbacks: pass one to the Trainer")
        if stale is not None:
            stale.remove()
        self._attachment = self._reweight.attach(model, head=self._module)
        _ATTACHED[model] = self._attachment, weakref.ref(state)
        if self._logical_batch is None:
            self._count(kwargs["train_dataloader"])

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to count the batches of an epoch."""
        del args, state, control, kwargs
        self._made, self._taken = [], 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the logical batch of a step, of which the Trainer has taken all micro-batches."""
        del control, kwargs
        n, reweight = self._logical_batch, self._reweight
        if n is None:
            own = self._examples(args.gradient_accumulation_steps)
            everyones = [int(count) for (count,) in reweight._processes().all_gather([float(sum(own))])]
            # With one micro-batch in a step its size need not be known before.
            n, reweight.expected = (sum(everyones), own) if all(everyones) else (None, [])
        reweight.begin(n, step=state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check that the outputs of all micro-batches were weighted."""
        del args, control, kwargs
        reweight, seen = self._reweight, self._reweight.examples_since_step
        reweight.examples_since_step = reweight.batches_since_step = 0
        if seen == 0:
            name = "the module" if self._attachment is None else self._attachment.name
            raise ValueError(
                f"nothing was weighted in this step, because {name} was not called: name the module whose outputs the "
                "loss depends on (module=), and switch fused losses off (use_liger_kernel=False)"
            )
        if reweight.offset or reweight.step != state.global_step + 1:
            raise ValueError(
                f"the optimizer step comes after {seen} examples, and the draw is of "
                f"{reweight.logical_batch or 'one call'}: the model must be called once for each micro-batch, and "
                "logical_batch= is the number of examples of a step"
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Detach from the model and the loader."""
        del args, state, control
        _ATTACHED.pop(kwargs["model"], None)
        if self._attachment is not None:
            self._attachment.remove()
            self._attachment = None
        for restore in self._restore:
            restore()
        self._restore = []

    def _count(self, loader: Any) -> None:
        """Count the examples of the batches that the Trainer's loader makes."""
        base = getattr(loader, "base_dataloader", loader)
        if base.num_workers == 0:
            # The rest of a resumed epoch comes from another loader, which has the same collate_fn.
            collate = base.collate_fn
            base.collate_fn = lambda features: self._note(collate(features), len(features))
            self._restore.append(lambda: setattr(base, "collate_fn", collate))
        elif base is not loader:
            most = getattr(base.batch_sampler, "batch_size", None)
            loader.base_dataloader = _Noted(base, lambda batch: self._note(batch, most, short=True))
            self._restore.append(lambda: setattr(loader, "base_dataloader", base))

    def _note(self, batch: Any, features: int | None, *, short: bool = False) -> Any:
        """Note the number of examples of a batch that was made of so many features, or of fewer if it may be short."""
        named = batch if isinstance(batch, Mapping) else {}
        rows, n, at = examples_in([] if named else batch, named)
        if features is not None and at is None and (rows > features if short else rows not in (0, features)):
            raise ValueError(f"the collator makes {rows} rows of {features} examples: {_TOGETHER}")
        self._made.append(n)
        return batch

    def _examples(self, accumulated: int) -> list[int]:
        """Return the number of this process's examples in each micro-batch of the coming step; none if not known."""
        first, self._taken = self._taken, self._taken + accumulated
        if self._made or accumulated == 1:
            return self._made[first : first + accumulated]
        loader = GradientState().active_dataloader
        found = [examples_in_loader(loader, index, index + 1) for index in range(first, first + accumulated)]
        if None in found:
            raise ValueError(
                "the sizes of the micro-batches are not known: pass logical_batch=, the number of examples of a step, "
                "or set dataloader_num_workers=0"
            )
        return [size for size in found if size]  # none beyond the end of the epoch


class _StepReweighter(Reweighter):
    """A `Reweighter` that knows how many examples the micro-batches of this step have."""

    def __init__(self, law: Law, *, seed: int, layout: Layout) -> None:
        super().__init__(law, seed=seed, layout=layout)
        self.expected: list[int] = []

    def _next_gate_weights(self, n: int, step: int | None, offset: int | None) -> Tensor:
        expected = self.expected.pop(0) if self.expected else n
        if n != expected:
            raise ValueError(f"the model returned {n} rows for a micro-batch of {expected} examples: {_TOGETHER}")
        return super()._next_gate_weights(n, step, offset)

    def _look_for_step(self, values: Tensor, step: int | None) -> None:
        """Do not guess where optimizer steps are: the Trainer knows."""


class _Noted:
    """A loader whose batches are noted."""

    def __init__(self, loader: Any, note: Callable[[Any], Any]) -> None:
        self._loader, self._note = loader, note

    def __iter__(self) -> Iterator[Any]:
        return map(self._note, self._loader)

    def __len__(self) -> int:
        return len(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _check_scale(args: TrainingArguments) -> None:
    """Raise if a setting scales or shares the gradient in a way that is not accounted for."""
    if args.n_gpu > 1:
        raise ValueError("one process uses several GPUs (DataParallel): start one process per GPU with torchrun")
    parallelism = getattr(args, "parallelism_config", None)
    if parallelism is not None and parallelism.non_data_parallel_size > 1:
        raise ValueError("tensor, context and sequence parallelism are not supported: use data parallelism only")
