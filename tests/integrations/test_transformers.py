"""Hugging Face Trainer: the steps are those of the plain loop and the Trainer's own; they resume; errors are clear."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from helpers.one_draw import (
    LAW,
    LR,
    SEED,
    SPLITS,
    N,
    data,
    logical_batches,
    losses_of,
    network,
    optimizer_of,
    parameters,
    plain_loop,
    same,
)
from msgd.integrations.transformers import ReweightMixin, sequence_losses
from msgd.noise import Emulate, FullBatch

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found")

FLOAT32 = 1e-6  # for networks of Transformers: their norms and losses compute in float32


class NoisyTrainer(ReweightMixin, Trainer):
    """In the order of the examples, so that the plain loop knows the batches."""

    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class PlainTrainer(Trainer):
    _get_train_sampler = NoisyTrainer._get_train_sampler


class Path(TrainerCallback):
    """Parameters at the start and after each step."""

    def __init__(self):
        self.path = []

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.path.append(parameters(model))

    def on_step_end(self, args, state, control, model, **kwargs):
        self.path.append(parameters(model))

    def steps(self):
        return torch.stack(self.path)


class Classifier(nn.Module):
    """No model of Transformers: its loss is the user's, or the cross entropy of "logits"."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x, labels=None):
        return {"logits": self.network(x)}


def arguments(folder, accumulated, micro, **more):
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": accumulated,
            "learning_rate": LR,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "num_train_epochs": 2,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **more,
        }
    )


def classified(folder, accumulated, micro, *, cls=NoisyTrainer, resume=None, loss=None, **more):
    model, path = Classifier(), Path()
    x, y = data()
    dataset = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    trainer = cls(
        model,
        arguments(folder, accumulated, micro, **more),
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_loss_func=loss,
        callbacks=[path],
        optimizers=(optimizer_of(model), None),
        law=LAW,
        noise_seed=SEED,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer, path.steps()


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_steps_are_those_of_the_plain_loop(tmp_path, accumulated, micro):
    _, path = classified(tmp_path, accumulated, micro)
    same(path, plain_loop(logical_batches(2)))


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
def test_clipping_and_the_users_own_loss(tmp_path, accumulated, micro):
    """Label weights, in a loss of the user's own, over num_items_in_batch."""
    class_weight = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    x, y = data()

    def loss(outputs, labels):
        return F.cross_entropy(outputs["logits"], labels, reduction="none", weight=class_weight)

    _, path = classified(tmp_path, accumulated, micro, loss=loss, max_grad_norm=0.1)
    model, truth = network(), []
    optimizer = optimizer_of(model)
    for step, batch in enumerate(logical_batches(2)):
        truth.append(parameters(model))
        w = LAW.draw(len(batch), seed=SEED, step=step).dense().double()
        optimizer.zero_grad()
        (w * class_weight[y[batch]] * losses_of(model(x[batch]), y[batch])).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    same(path, torch.stack([*truth, parameters(model)]))


@pytest.mark.parametrize(("accumulated", "micro"), SPLITS)
@pytest.mark.parametrize("steps", [2, 4])
def test_stop_and_resume(tmp_path, accumulated, micro, steps):
    saving = {"save_strategy": "steps", "save_steps": 2}
    _, straight = classified(tmp_path, accumulated, micro, **saving)
    checkpoint = tmp_path / f"checkpoint-{steps}"
    _, resumed = classified(tmp_path / "resumed", accumulated, micro, resume=str(checkpoint), **saving)
    assert torch.equal(resumed, straight[steps:])


def test_evaluation_is_the_plain_mean_and_does_not_advance(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 9, "eval_on_start": True}
    trainer, path = classified(tmp_path, 2, 4, **options)
    same(path, plain_loop(logical_batches(2)))
    x, y = data()
    truth = losses_of(trainer.model.network(x), y).mean().item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(truth, rel=1e-12)


SPOKEN = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def sequences(n=11, length=7):
    """Of different lengths: what does not count is labelled -100, in one example everything but a token."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(5, (n, length), generator=generator)
    labels = tokens.clone()
    for i in range(n):
        labels[i, 2 + i % (length - 1) :] = -100
    return tokens, labels


def language_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=5, max_position_embeddings=8, **sizes)).double()


def spoken(folder, accumulated, micro, cls, **more):
    model, path = language_model(), Path()
    dataset = [{"input_ids": a, "labels": b} for a, b in zip(*sequences(), strict=True)]
    noise = {"law": more.pop("law", LAW), "noise_seed": SEED} if cls is NoisyTrainer else {}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    trainer = cls(
        model,
        arguments(folder, accumulated, micro, num_train_epochs=1, **more),
        train_dataset=dataset,
        eval_dataset=dataset,
        callbacks=[path],
        optimizers=(optimizer, None),
        **noise,
    )
    trainer.train()
    return path.steps(), trainer.evaluate()["eval_loss"]


def spoken_plainly(law, batches=SPOKEN):
    """Σ_i w_i Σ_t ℓ_it / Σ tokens, token by token."""
    model, (tokens, labels) = language_model(), sequences()
    optimizer, path = torch.optim.SGD(model.parameters(), lr=LR), [parameters(model)]
    for step, batch in enumerate(batches):
        x, y = tokens[batch], labels[batch]
        w = law.draw(len(x), seed=SEED, step=step).dense().double()
        logp = model(x).logits.log_softmax(-1)
        total, items = 0.0, 0
        for i in range(len(x)):
            for t in range(1, x.shape[1]):
                if y[i, t] != -100:
                    total, items = total - w[i] * logp[i, t - 1, y[i, t]], items + 1
        optimizer.zero_grad()
        (total / items).backward()
        optimizer.step()
        path.append(parameters(model))
    return torch.stack(path)


@pytest.mark.parametrize(("accumulated", "micro"), [(1, 4), (2, 2), (4, 1)])
def test_language_models_have_a_weight_for_each_sequence(tmp_path, accumulated, micro):
    path, _ = spoken(tmp_path, accumulated, micro, NoisyTrainer)
    same(path, spoken_plainly(LAW), FLOAT32)
    assert (path - spoken_plainly(FullBatch())).abs().max() > 1e-3


def test_without_noise_it_is_the_trainer_itself(tmp_path):
    """Loss, steps and evaluation; so the scale is Trainer's own."""
    for average in (True, False):
        more = {"average_tokens_across_devices": average}
        path, loss = spoken(tmp_path, 2, 2, PlainTrainer, **more)
        noisy, evaluated = spoken(tmp_path, 2, 2, NoisyTrainer, law=FullBatch(), **more)
        same(noisy, path, FLOAT32)
        assert evaluated == pytest.approx(loss, rel=1e-6)


def test_a_classifier_of_transformers(tmp_path):
    """BERT, dropout off, one step: its gradient is that of Σ w ℓ / n."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).double()
    start, tokens, y = parameters(model), sequences(n=6)[0], torch.arange(6) % 3
    model.zero_grad()
    w = LAW.draw(6, seed=SEED, step=0).dense().double()
    (w * losses_of(model(tokens).logits, y)).mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    NoisyTrainer(
        model,
        arguments(tmp_path, 3, 2, max_steps=1),
        train_dataset=[{"input_ids": a, "labels": b} for a, b in zip(tokens, y, strict=True)],
        optimizers=(torch.optim.SGD(model.parameters(), lr=LR), None),
        law=LAW,
        noise_seed=SEED,
    ).train()
    same(parameters(model), start - LR * gradient)


def test_sequence_losses():
    tokens, labels = sequences()
    logits = language_model()(tokens).logits
    mean = language_model()(tokens, labels=labels).loss
    losses = sequence_losses(logits, labels, shift=True)
    torch.testing.assert_close(losses.sum() / (labels[:, 1:] != -100).sum(), mean.double(), rtol=1e-5, atol=0)
    with pytest.raises(TypeError, match="compute_loss_func="):
        sequence_losses(logits, labels.double())
    with pytest.raises(ValueError, match="compute_loss_func="):
        sequence_losses(logits, labels[:, 1:])
    assert sequence_losses(logits.half(), labels).dtype == torch.float32


class Overridden(NoisyTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return F.cross_entropy(model(inputs["x"])["logits"], inputs["labels"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cls": Overridden}, "compute_loss has not called compute_loss_func"),
        ({"loss": lambda outputs, labels: outputs["logits"].mean()}, 'reduction="none"'),
        ({"loss": lambda outputs, labels: outputs["logits"].flatten()}, "12 losses for 4 ex"),
    ],
)
def test_what_would_be_wrong_names_the_remedy(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        classified(tmp_path, 2, 4, **options)


def test_label_smoothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="label_smoothing_factor: pass compute_loss_func="):
        spoken(tmp_path, 2, 2, NoisyTrainer, label_smoothing_factor=0.1)


def test_a_loss_without_labels(tmp_path):
    """A loss from the outputs alone: Trainer counts no items, and N is the number of examples."""

    class Squares(Classifier):
        def forward(self, x):
            return {"losses": self.network(x).square().sum(1)}

    model, path = Squares(), Path()
    NoisyTrainer(
        model,
        arguments(tmp_path, 2, 4, num_train_epochs=1),
        train_dataset=[{"x": a} for a in data()[0]],
        compute_loss_func=lambda outputs, labels: outputs["losses"],
        callbacks=[path],
        optimizers=(optimizer_of(model), None),
        law=Emulate(2),
        noise_seed=SEED,
    ).train()
    plain, truth = network(), []
    optimizer = optimizer_of(plain)
    for step, batch in enumerate(logical_batches()):
        truth.append(parameters(plain))
        w = Emulate(2).draw(len(batch), seed=SEED, step=step).dense().double()
        optimizer.zero_grad()
        (w * plain(data()[0][batch]).square().sum(1)).mean().backward()
        optimizer.step()
    same(path.steps(), torch.stack([*truth, parameters(plain)]))


def test_n_counts_only_what_is_there(tmp_path):
    assert N % 8
    trainer, _ = classified(tmp_path, 4, 2, num_train_epochs=1)
    assert trainer._reweight.logical_batch == N % 8
