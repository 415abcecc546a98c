"""A Trainer that computes the weighted gradient the slow, obvious way: each example alone, times its weight."""

from itertools import pairwise

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback, TrainingArguments

IGNORED = -100


class Gradients(TrainerCallback):
    """The gradient of each optimizer step."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        named = [p for p in model.parameters() if p.requires_grad]
        self.steps.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in named]))


def arguments(folder, accumulated, micro, cls=TrainingArguments, **more):
    return cls(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": accumulated,
            "learning_rate": 0.05,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "num_train_epochs": 1,
            "optim": "sgd",
            "use_cpu": True,
            "bf16": False,
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **more,
        }
    )


def in_order(cls):
    """The class, with the examples in their order."""

    class InOrder(cls):
        def _get_train_sampler(self, *args):
            return SequentialSampler(self.train_dataset)

    return InOrder


def rows(inputs):
    """The examples of a batch, each as a batch of one."""
    n = len(inputs["labels"])
    return [{k: v[i : i + 1] if torch.is_tensor(v) and len(v) == n else v for k, v in inputs.items()} for i in range(n)]


def packed(inputs):
    """The documents of a single packed row."""
    starts = [*(inputs["position_ids"][0] == 0).nonzero().flatten().tolist(), inputs["position_ids"].shape[1]]
    pieces = []
    for start, stop in pairwise(starts):
        if stop - start > 1:
            piece = {k: inputs[k][:, start:stop] for k in ("input_ids", "labels", "position_ids")}
            pieces.append(piece)
    return pieces


def share_of_tokens(piece, inputs):
    """The share of an example in a mean over the tokens of a micro-batch."""
    return (piece["labels"] != IGNORED).sum() / (inputs["labels"] != IGNORED).sum()


def share_of_rows(piece, inputs):
    del piece
    return 1 / len(inputs["labels"])


def twin(cls, law, seed, *, parts=rows, share=None, alone=None):
    """A subclass that weights each example alone.

    ``parts``: the examples of a micro-batch. ``share``: the share of an example in the loss of a micro-batch that has a
    denominator of its own; None: the loss is divided by num_items_in_batch, so that the parts add up. ``alone``: a
    context for the loss of an example alone.
    """

    class Twin(in_order(cls)):
        def get_batch_samples(self, *args):
            samples, items = super().get_batch_samples(*args)
            # Rank 0 has the first examples of each micro-batch, rank 1 the next.
            counts = torch.tensor([len(parts(batch)) for batch in samples])
            everyones = self.accelerator.gather(counts).view(-1, len(counts)).T.flatten()
            w = law.draw(int(everyones.sum()), seed=seed, step=self.state.global_step).dense()
            mine = w.split(everyones.tolist())[self.accelerator.process_index :: self.accelerator.num_processes]
            self.w = iter(torch.cat(mine))
            return samples, items

        def training_step(self, model, inputs, num_items_in_batch=None):
            model.train()
            inputs = self._prepare_inputs(inputs)
            loss = self.compute_loss(model, dict(inputs), num_items_in_batch=num_items_in_batch)
            plain = loss.detach()
            # The examples alone meet no other rank, which may have another number of documents.
            single = self.accelerator.unwrap_model(model)
            self.accelerator.gather_for_metrics = lambda value: value
            for piece in parts(inputs):
                w = next(self.w)
                with alone(single) if alone else torch.enable_grad():
                    own = self.compute_loss(single, dict(piece), num_items_in_batch=num_items_in_batch)
                loss = loss + (w - 1) * own * (1 if share is None else share(piece, inputs))
            del self.accelerator.gather_for_metrics
            if (not self.model_accepts_loss_kwargs or num_items_in_batch is None) and self.compute_loss_func is None:
                loss, plain = (value / self.current_gradient_accumulation_steps for value in (loss, plain))
            loss.backward()
            return plain

    return Twin


def train(cls, model, dataset, args, *callbacks, resume=None, **more):
    """Train, and return the gradients of the steps and the logged losses."""
    gradients = Gradients()
    options = {"optimizers": (torch.optim.SGD(model.parameters(), lr=args.learning_rate), None), **more}
    trainer = cls(model=model, args=args, train_dataset=dataset, callbacks=[*callbacks, gradients], **options)
    trainer.train(resume_from_checkpoint=resume)
    return torch.stack(gradients.steps), [log["loss"] for log in trainer.state.log_history if "loss" in log]


def relative(found, truth):
    """The largest relative error of the gradients of the steps."""
    return float(((found - truth).norm(dim=1) / truth.norm(dim=1)).max())
