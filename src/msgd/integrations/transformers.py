"""Random weights in the Hugging Face Trainer: a mixin class, and the per-sequence losses that it uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from msgd._checks import check_losses
from msgd.noise import Law
from msgd.reweighting.reweighter import Reweighter

try:
    from accelerate.utils import find_batch_size
    from transformers.loss.loss_utils import ForCausalLMLoss
except ImportError as error:
    raise ImportError(
        "msgd.integrations.transformers needs Transformers and Accelerate: pip install transformers accelerate"
    ) from error


def sequence_losses(logits: Tensor, labels: Tensor, *, shift: bool = False) -> Tensor:
    """Return the cross entropy of each example, summed over its tokens: ``ℓ_i = Σ_t ℓ_it`` where labels are not -100.

    Args:
        logits: shape (batch, …, classes).
        labels: integers, shape (batch, …): the next tokens, or the class of each example.
        shift: whether the logits at one position predict the label at the next, as in causal language models.

    Returns:
        The losses, shape (batch,), in float32 or wider.

    Raises:
        TypeError: ``labels`` are not integers.
        ValueError: the shapes of ``logits`` and ``labels`` do not match.

    Examples:
        >>> logits = torch.zeros(2, 3, 5)  # five equally likely words: log 5 = 1.609 for each predicted token
        >>> sequence_losses(logits, torch.tensor([[1, 2, 3], [1, 2, -100]]), shift=True)
        tensor([3.2189, 1.6094])
    """
    if labels.is_floating_point():
        raise TypeError("labels must be integer classes: pass compute_loss_func=, which returns one loss per example")
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)}: "
            "pass compute_loss_func=, which returns one loss per example"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(wide.reshape(-1, wide.shape[-1]), labels.reshape(-1), reduction="none", ignore_index=-100)
    return losses.view(len(labels), -1).sum(1)


class ReweightMixin:
    """Weights the per-example losses in a `transformers.Trainer`, and leaves everything else unchanged.

    The gradient of an optimizer step is that of ``Σ w_i ℓ_i / N``. w is drawn once for the examples of all
    micro-batches of the step (``gradient_accumulation_steps``) and all processes. ℓ_i is the sum over the tokens of a
    sequence. N is the Trainer's ``num_items_in_batch``, the number of tokens (labels that are not -100) in the logical
    batch; without labels it is the number of examples. The step is therefore that of one process on the whole batch,
    with or without ``average_tokens_across_devices``. The draw is determined by ``(noise_seed, state.global_step)``, so
    a resumed run has the same noise. Evaluation uses the Trainer's own mean.

    The default loss is the cross entropy of tokens or classes. To use another loss, pass ``compute_loss_func=``: a
    function of ``(outputs, labels)`` that returns **one loss per example**, shape (batch,), summed over the labels of
    the example, not divided by N, and multiplied by label weights if there are any.

    Args:
        *args: arguments of the Trainer.
        law: law of the weights, such as `msgd.noise.Emulate`, whose b counts sequences.
        noise_seed: seed of the noise, 0 ≤ noise_seed < 2⁶⁴; the same in all processes.
        **kwargs: keyword arguments of the Trainer.

    Raises:
        TypeError: ``law`` is not a law, or the losses are not a floating-point tensor.
        ValueError: the loss function does not return one loss per example, or a setting makes the scale wrong: several
            GPUs in one process, tensor, context or sequence parallelism, or label smoothing with the default loss.

    Examples:
        >>> from msgd import noise
        >>> from transformers import Trainer
        >>> class NoisyTrainer(ReweightMixin, Trainer):
        ...     pass  # NoisyTrainer(model, args, train_dataset=…, law=noise.Emulate(b=32), noise_seed=0)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    accelerator: Any  # these four attributes are set by the Trainer
    args: Any
    model: Any
    state: Any

    def __init__(self, *args: Any, law: Law, noise_seed: int, **kwargs: Any) -> None:
        # "blocked": Accelerate distributes whole batches, the first to rank 0, the second to rank 1.
        self._reweight = Reweighter(law, seed=noise_seed, layout="blocked")
        super().__init__(*args, **kwargs)
        self._losses_of = self.compute_loss_func or self._cross_entropies
        self.compute_loss_func: Any = self._weighted_loss  # tells Trainer that the loss is scaled for accumulation
        self._sizes: list[int] = []  # numbers of examples in the remaining micro-batches of this step
        self._items: int | None = None  # number of tokens in the logical batch, over all processes
        self._called = False  # whether Trainer called _weighted_loss
        self._check_scale()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, *args: Any) -> Any:
        """Return the micro-batches of a step, as Trainer does, and begin a logical batch of their total size.

        Args:
            epoch_iterator: passed to Trainer.
            num_batches: passed to Trainer.
            *args: passed to Trainer.

        Returns:
            The micro-batches, and ``num_items_in_batch``.
        """
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, *args)  # type: ignore[misc]
        if samples:
            self._sizes = [find_batch_size(batch) for batch in samples]
            own = [sum(self._sizes), 0 if items is None else int(items)]
            n, everyones = self.accelerator.gather(torch.tensor([own], device=self.args.device)).sum(0).tolist()
            self._items = None if items is None else own[1] if self.args.average_tokens_across_devices else everyones
            self._reweight.begin(n, step=self.state.global_step)
        return samples, items

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Perform a training step, as Trainer does, and check that the losses were weighted.

        Args:
            *args: passed to Trainer.
            **kwargs: passed to Trainer.

        Returns:
            The loss of the micro-batch.

        Raises:
            ValueError: an overridden ``compute_loss`` did not call ``compute_loss_func``.
        """
        self._called = False
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not self._called:
            raise ValueError(
                "compute_loss has not called compute_loss_func, so the losses are not weighted: instead of overriding "
                "compute_loss pass compute_loss_func=, which returns one loss per example"
            )
        self._sizes = self._sizes[1:]
        return loss

    def _weighted_loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        """Compute the loss of a micro-batch, with the signature of a ``compute_loss_func``."""
        losses: Tensor = self._losses_of(outputs, labels)
        check_losses(losses)
        if not torch.is_grad_enabled():  # evaluation
            return losses.mean() if num_items_in_batch is None else losses.sum() / num_items_in_batch
        self._called = True
        if self._sizes and len(losses) != self._sizes[0]:
            raise ValueError(f"{len(losses)} losses for {self._sizes[0]} examples: return one for each, shape (batch,)")
        if self._items is None:
            loss = self._reweight(losses)
        else:
            loss = self._reweight(losses, sample_weight=torch.ones_like(losses), total=self._items)
        # In this case both the Reweighter and Trainer undo the mean over processes, so one factor is removed.
        twice = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return loss / self.accelerator.num_processes if twice else loss

    def _cross_entropies(self, outputs: Any, labels: Any) -> Tensor:
        """Compute the default loss, used without ``compute_loss_func``."""
        if labels is None:
            raise ValueError('no "labels" in the batches: pass compute_loss_func=, which returns one loss per example')
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        model = self.accelerator.unwrap_model(self.model)
        return sequence_losses(logits, labels, shift=getattr(model, "loss_function", None) is ForCausalLMLoss)

    def _check_scale(self) -> None:
        """Raise if a setting scales the gradient in a way that is not accounted for."""
        if self.args.n_gpu > 1:
            raise ValueError("one process uses several GPUs (DataParallel): start one process per GPU with torchrun")
        if self.args.label_smoothing_factor and self._losses_of == self._cross_entropies:
            raise ValueError("label_smoothing_factor: pass compute_loss_func= with F.cross_entropy(label_smoothing=…)")
        parallelism = getattr(self.accelerator, "parallelism_config", None)
        if parallelism is not None and parallelism.non_data_parallel_size > 1:
            raise ValueError("tensor, context and sequence parallelism are not supported: use data parallelism only")
