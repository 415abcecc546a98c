"""The noise in Hugging Face Trainer: a mixin, and losses of single sequences for it."""

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
        "msgd.integrations.transformers needs Transformers and Accelerate: pip install 'msgd[transformers]'"
    ) from error


def sequence_losses(logits: Tensor, labels: Tensor, *, shift: bool = False) -> Tensor:
    """Cross entropy of each example of a batch, summed over its tokens: ``ℓ_i = Σ_t ℓ_it`` where labels are not -100.

    Args:
        logits: shape (batch, …, classes).
        labels: integers, shape (batch, …): the next tokens, or the class of each example.
        shift: the logits at one position are for the label at the next, as in causal language models.

    Returns:
        Shape (batch,), in float32 or wider.

    Raises:
        TypeError: ``labels`` are no integers.
        ValueError: the shapes do not fit.

    Examples:
        >>> logits = torch.zeros(2, 3, 5)  # five words, equally likely: log 5 = 1.609 for each token that counts
        >>> sequence_losses(logits, torch.tensor([[1, 2, 3], [1, 2, -100]]), shift=True)
        tensor([3.2189, 1.6094])
    """
    if labels.is_floating_point():
        raise TypeError("these labels are no classes: give compute_loss_func=, which returns one loss for each example")
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} for labels of shape {tuple(labels.shape)}: "
            "give compute_loss_func=, which returns one loss for each example"
        )
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(wide.reshape(-1, wide.shape[-1]), labels.reshape(-1), reduction="none", ignore_index=-100)
    return losses.view(len(labels), -1).sum(1)


class ReweightMixin:
    """Weights the losses of single examples in a `transformers.Trainer`, and leaves the rest to it.

    The gradient of an optimizer's step is that of ``Σ w_i ℓ_i / N``: w is drawn once for the examples of all its
    micro-batches (``gradient_accumulation_steps``) and processes, ℓ_i is the sum over the tokens of a sequence, and N
    is the Trainer's ``num_items_in_batch``, the number of tokens (labels that are not -100) in all of them; without
    labels, N is the number of examples. So the step is that of one process on the whole batch, whether
    ``average_tokens_across_devices`` is set or not. The draw is that of ``(noise_seed, state.global_step)``: a run that
    is resumed has the same noise. Evaluation is the Trainer's own mean.

    The losses are cross entropies, of tokens or classes. Another loss is given as ``compute_loss_func=``: of
    ``(outputs, labels)`` it returns **one loss for each example**, shape (batch,), a sum over its labels that is not
    divided by N. Label weights are multiplied into it.

    Args:
        *args: of the Trainer.
        law: of the weights, such as `msgd.noise.Emulate`, whose b counts sequences.
        noise_seed: names the noise, 0 ≤ noise_seed < 2⁶⁴; the same in all processes.
        **kwargs: of the Trainer.

    Raises:
        TypeError: ``law`` is no law, or the losses are no floating-point tensor.
        ValueError: a setting under which the scale would be wrong (several GPUs in one process, tensor, context or
            sequence parallelism, label smoothing without a loss of one's own), or not one loss for each example.

    Examples:
        >>> from msgd import noise
        >>> from transformers import Trainer
        >>> class NoisyTrainer(ReweightMixin, Trainer):
        ...     pass  # NoisyTrainer(model, args, train_dataset=…, law=noise.Emulate(b=32), noise_seed=0)

    References:
        Wu et al. 2020, arXiv 1906.07405.
    """

    accelerator: Any  # these are the Trainer's
    args: Any
    model: Any
    state: Any

    def __init__(self, *args: Any, law: Law, noise_seed: int, **kwargs: Any) -> None:
        # "blocked": Accelerate deals whole batches, the first to rank 0, the second to rank 1.
        self._reweight = Reweighter(law, seed=noise_seed, layout="blocked")
        super().__init__(*args, **kwargs)
        self._losses_of = self.compute_loss_func or self._cross_entropies
        self.compute_loss_func: Any = self._weighted_loss  # so Trainer takes the loss as scaled for accumulation
        self._sizes: list[int] = []  # of the micro-batches to come of this step
        self._items: int | None = None  # in the logical batch, over all processes
        self._called = False
        self._check_scale()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, *args: Any) -> Any:
        """As Trainer's: the micro-batches of a step, from which it also learns the size of the logical batch.

        Args:
            epoch_iterator: of the Trainer.
            num_batches: of the Trainer.
            *args: of the Trainer.

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
        """As Trainer's.

        Args:
            *args: of the Trainer.
            **kwargs: of the Trainer.

        Returns:
            The loss of the micro-batch.

        Raises:
            ValueError: the Trainer's ``compute_loss`` was overridden and the weights were not asked for.
        """
        self._called = False
        loss: Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not self._called:
            raise ValueError(
                "compute_loss has not called compute_loss_func, and the losses are not weighted: instead of overriding "
                "compute_loss give compute_loss_func=, which returns one loss for each example"
            )
        self._sizes = self._sizes[1:]
        return loss

    def _weighted_loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        """The loss of a micro-batch as Trainer expects it of a ``compute_loss_func``."""
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
        # The Reweighter and, in this case, Trainer both undo the mean over processes: once is enough.
        twice = self.args.average_tokens_across_devices and num_items_in_batch is not None
        return loss / self.accelerator.num_processes if twice else loss

    def _cross_entropies(self, outputs: Any, labels: Any) -> Tensor:
        """The loss where the user has given none."""
        if labels is None:
            raise ValueError('the batches have no "labels": give compute_loss_func=, which returns one loss for each')
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        model = self.accelerator.unwrap_model(self.model)
        return sequence_losses(logits, labels, shift=getattr(model, "loss_function", None) is ForCausalLMLoss)

    def _check_scale(self) -> None:
        """Refuse what would scale the gradient in a way that is not accounted for."""
        if self.args.n_gpu > 1:
            raise ValueError("one process on several GPUs (DataParallel): start one process for each, with torchrun")
        if self.args.label_smoothing_factor and self._losses_of == self._cross_entropies:
            raise ValueError("label_smoothing_factor: give compute_loss_func= with F.cross_entropy(label_smoothing=…)")
        parallelism = getattr(self.accelerator, "parallelism_config", None)
        if parallelism is not None and parallelism.non_data_parallel_size > 1:
            raise ValueError("tensor, context and sequence parallelism share examples among processes: not supported")
