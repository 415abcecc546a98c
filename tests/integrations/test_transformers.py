"""Hugging Face Trainer and its subclasses: each step has the gradient of its examples, each alone, times its weight.

The twin computes every example by itself, with the Trainer's own loss. Without noise the callback changes no bit.
"""

import contextlib
import gc

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import IterableDataset
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DataCollatorWithFlattening,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from integrations.trainer_twin import (
    IGNORED,
    arguments,
    in_order,
    packed,
    relative,
    rows,
    share_of_rows,
    share_of_tokens,
    train,
    twin,
)
from msgd import Reweighter
from msgd.integrations.transformers import ReweightCallback
from msgd.noise import Cov, Emulate, Fisher, FullBatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found"),
    # TRL 1.16 and PEFT 0.21 use names that Transformers 5.24 renamed.
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated in `SFTTrainer`:FutureWarning"),
]

LAW, SEED, WORDS, N = Cov(2), 5, 19, 11
FLOAT32 = 1e-6
SPLITS = [(1, 4), (2, 2), (4, 1)]  # micro-batches and their size; the last step has 3 examples
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": WORDS}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tokens(n=N, length=7):
    """Of different lengths: what does not count is labelled -100, in one example everything but two tokens."""
    words = torch.randint(2, WORDS, (n, length), generator=torch.Generator().manual_seed(3))
    labels = words.clone()
    for i in range(n):
        labels[i, 2 + i % (length - 1) :] = IGNORED
    return [{"input_ids": a, "labels": b} for a, b in zip(words, labels, strict=True)]


def classes():
    return [{**example, "labels": torch.tensor(i % 3)} for i, example in enumerate(tokens())]


def seeded(cls, config):
    torch.manual_seed(0)
    return cls(config)


def llama(**more):
    return seeded(LlamaForCausalLM, LlamaConfig(intermediate_size=16, max_position_embeddings=64, **SMALL, **more))


def gpt2():
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 8, "vocab_size": WORDS}
    return seeded(GPT2LMHeadModel, GPT2Config(**sizes, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0))


def t5():
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": WORDS}
    return seeded(T5ForConditionalGeneration, T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0))


def bart():
    parts = {f"{part}_{what}": size for part in ("encoder", "decoder") for what, size in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    sizes = {"d_model": 16, "vocab_size": WORDS, "max_position_embeddings": 16, "forced_eos_token_id": 2}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    return seeded(BartForConditionalGeneration, BartConfig(**sizes, **parts, **ids, **rates))


def bert():
    return seeded(BertForMaskedLM, BertConfig(intermediate_size=16, **SMALL, **NO_DROPOUT))


def mixtral():
    moe = {"num_local_experts": 4, "num_key_value_heads": 2, "output_router_logits": True, "router_aux_loss_coef": 0.1}
    config = MixtralConfig(intermediate_size=16, max_position_embeddings=8, **SMALL, **moe)
    return seeded(MixtralForCausalLM, config)


@pytest.fixture(scope="module", autouse=True)
def _frozen_garbage():
    """The Trainer collects garbage at each start, which takes a third of a second with all these libraries."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextlib.contextmanager
def without_router_loss(model):
    kept, model.router_aux_loss_coef = model.router_aux_loss_coef, 0.0
    yield
    model.router_aux_loss_coef = kept


MODELS = {
    "llama": (llama, {}),
    "gpt2": (gpt2, {}),  # the embeddings are the head
    "t5": (t5, {"share": share_of_tokens}),
    "bart": (bart, {"share": share_of_tokens}),
    "bert": (bert, {"share": share_of_tokens}),
    "mixtral": (mixtral, {"alone": without_router_loss}),
}


def compared(folder, make, dataset, split, *, cls=Trainer, args=None, options=None, **how):
    """The gradients with the callback, of the twin, and of the plain Trainer; losses of the first and the last."""
    args = args or arguments(folder, *split)
    options = options or {}
    found, losses = train(in_order(cls), make(), dataset, args, ReweightCallback(LAW, seed=SEED), **options)
    truth, _ = train(twin(cls, LAW, SEED, **how), make(), dataset, args, **options)
    plain, plain_losses = train(in_order(cls), make(), dataset, args, **options)
    ones, ones_losses = train(in_order(cls), make(), dataset, args, ReweightCallback(FullBatch(), seed=SEED), **options)
    assert torch.equal(ones, plain)
    assert ones_losses == plain_losses
    assert losses[0] == plain_losses[0]  # the loss that is printed is the plain one, as long as the parameters agree
    assert relative(found, plain) > 0.1  # the control: what the comparison would miss
    assert relative(found, truth) < FLOAT32


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_models_with_their_own_loss_whatever_the_accumulation(tmp_path, name, split):
    make, how = MODELS[name]
    compared(tmp_path, make, tokens(), split, **how)


@pytest.mark.filterwarnings(
    "ignore:a part of the loss reaches the parameter model.layers.0.mlp.gate.weight"
)  # a router
@pytest.mark.parametrize("name", ["gpt2", "bart", "bert", "mixtral"])
def test_models_with_their_own_loss(tmp_path, name):
    """Shifted or not, with tied embeddings, a bias, or the loss of a router, which no example has to itself."""
    make, how = MODELS[name]
    compared(tmp_path, make, tokens(), (2, 2), **how)


def test_sequence_to_sequence_trainer_and_label_smoothing(tmp_path):
    args = arguments(tmp_path, 2, 2, cls=Seq2SeqTrainingArguments)
    compared(tmp_path, t5, tokens(), None, cls=Seq2SeqTrainer, args=args, share=share_of_tokens)
    smoothed = arguments(tmp_path, 2, 2, label_smoothing_factor=0.1)
    compared(tmp_path, llama, tokens(), None, args=smoothed)


class Shifting(nn.Module):
    """A causal model of the user's own, which shifts the labels itself; its mean is over tokens."""

    def __init__(self):
        super().__init__()
        self.words, self.lm_head = nn.Embedding(WORDS, 16), nn.Linear(16, WORDS)

    def forward(self, input_ids, labels=None):
        logits = self.lm_head(self.words(input_ids).cumsum(1).tanh())
        if labels is None:
            return {"logits": logits}
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        return {"loss": loss, "logits": logits}


def shifted_share(piece, inputs):
    return (piece["labels"][:, 1:] != IGNORED).sum() / (inputs["labels"][:, 1:] != IGNORED).sum()


def test_a_model_of_the_users_own_needs_the_name_of_its_head(tmp_path):
    def make():
        return seeded(lambda _: Shifting(), None)

    with pytest.raises(ValueError, match=r"computed inside of Shifting.*module='lm_head' in a callback"):
        train(in_order(Trainer), make(), tokens(), arguments(tmp_path, 1, 4), ReweightCallback(LAW, seed=SEED))
    callback = ReweightCallback(LAW, seed=SEED, module="head")
    with pytest.raises(ValueError, match="no module 'head'; there are words, lm_head"):
        train(in_order(Trainer), make(), tokens(), arguments(tmp_path, 1, 4), callback)
    for split in SPLITS:
        callback = ReweightCallback(LAW, seed=SEED, module="lm_head")
        found, _ = train(in_order(Trainer), make(), tokens(), arguments(tmp_path, *split), callback)
        truth, _ = train(twin(Trainer, LAW, SEED, share=shifted_share), make(), tokens(), arguments(tmp_path, *split))
        assert relative(found, truth) < FLOAT32


CLASS_WEIGHT = torch.tensor([0.5, 1.0, 3.0])


def weighted_mean_loss(outputs, labels, num_items_in_batch=None):
    """A mean with class weights, in the user's own scale: not divided by num_items_in_batch."""
    return F.cross_entropy(outputs["logits"], labels, weight=CLASS_WEIGHT)


def share_of_class_weight(piece, inputs):
    return CLASS_WEIGHT[piece["labels"]].sum() / CLASS_WEIGHT[inputs["labels"]].sum()


@pytest.mark.parametrize("cls", [BertForSequenceClassification, RobertaForSequenceClassification])
def test_classifiers_and_a_loss_of_the_users_own(tmp_path, cls):
    """The head of BERT is a linear layer, that of RoBERTa is a network."""

    def make():
        config = BertConfig if cls is BertForSequenceClassification else RobertaConfig
        return seeded(cls, config(intermediate_size=16, num_labels=3, classifier_dropout=0.0, **SMALL, **NO_DROPOUT))

    compared(tmp_path, make, classes(), (2, 2), share=share_of_rows)
    options = {"compute_loss_func": weighted_mean_loss}
    compared(tmp_path, make, classes(), (2, 2), options=options, share=share_of_class_weight)


def documents(*, seed=4):
    lengths = [3, 5, 2, 7, 4, 6, 3, 8, 2, 5, 4, 6]
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, WORDS, (n,), generator=generator).tolist() for n in lengths]


def packed_documents():
    return [{"input_ids": document} for document in documents()]


@pytest.mark.parametrize("split", [(1, 4), (2, 2)])
def test_documents_that_are_packed_into_a_row_have_a_weight_each(tmp_path, split):
    dataset = packed_documents()
    options = {"data_collator": DataCollatorWithFlattening()}
    compared(tmp_path, llama, dataset, split, options=options, parts=packed)


def tokenizer():
    words = Tokenizer(models.WordLevel({str(i): i for i in range(WORDS)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1", pad_token="0", unk_token="0")


def packing(strategy):
    return {"packing": True, "packing_strategy": strategy, "max_length": 12}


@pytest.mark.parametrize("split", [(1, 4), (2, 2)])
@pytest.mark.parametrize(
    ("config", "how"),
    [
        ({}, rows),
        ({"loss_type": "dft"}, rows),
        ({"label_smoothing_factor": 0.1}, rows),
        (packing("bfd"), packed),
        (packing("wrapped"), rows),
    ],
    ids=["nll", "dft", "smoothing", "bfd", "wrapped"],
)
def test_trl(tmp_path, config, how, split):
    """SFTTrainer with its own losses, which never compute the logits, and both packings."""
    args = arguments(tmp_path, *split, cls=SFTConfig, **config)
    dataset = Dataset.from_list(packed_documents())
    options = {"processing_class": tokenizer()}
    compared(tmp_path, llama, dataset, None, cls=SFTTrainer, args=args, options=options, parts=how)


def test_adapters(tmp_path):
    """LoRA on the attention: only its parameters are trained; the head is frozen."""

    def make():
        return get_peft_model(llama(), LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False))

    torch.manual_seed(1)
    compared(tmp_path, lambda: (torch.manual_seed(1), make())[1], tokens(), (2, 2))


#: What the tests on two ranks train: dataset, class of the arguments and the Trainer, options, examples of a batch.
TRAINERS = {
    "rows": (tokens, TrainingArguments, Trainer, dict, rows),
    "packed": (
        packed_documents,
        TrainingArguments,
        Trainer,
        lambda: {"data_collator": DataCollatorWithFlattening()},
        packed,
    ),
    "trl": (
        lambda: Dataset.from_list(packed_documents()),
        lambda **more: SFTConfig(**packing("bfd"), **more),
        SFTTrainer,
        lambda: {"processing_class": tokenizer()},
        packed,
    ),
}


def gradients_on_two_ranks(folder, how, average):
    """The gradients with the callback, of the twin, of the plain Trainer, and with weights of 1."""
    dataset, config, cls, options, parts = how
    args = arguments(folder, 2, 1, cls=config, average_tokens_across_devices=average)

    def trained(kind, *callbacks):
        return train(kind, llama(), dataset(), args, *callbacks, **options())[0]

    found = trained(in_order(cls), ReweightCallback(LAW, seed=SEED))
    truth, plain = trained(twin(cls, LAW, SEED, parts=parts)), trained(in_order(cls))
    return found, truth, plain, trained(in_order(cls), ReweightCallback(FullBatch(), seed=SEED))


def saved(folder, split, callback, *, dataset=None, resume=None, **more):
    options = {key: more.pop(key) for key in ("data_collator",) if key in more}
    args = arguments(folder, *split, save_strategy="steps", save_steps=2, num_train_epochs=2, **more)
    return train(in_order(Trainer), llama(), dataset or tokens(), args, callback, resume=resume, **options)[0]


@pytest.mark.parametrize(
    ("split", "more"),
    [
        ((1, 4), {}),
        ((2, 2), {}),
        ((2, 2), {"dataloader_num_workers": 1}),
        ((2, 2), {"data_collator": DataCollatorWithFlattening()}),
    ],
    ids=["batches", "accumulated", "workers", "packed"],
)
@pytest.mark.parametrize("steps", [2, 4])
def test_stop_and_resume(tmp_path, split, more, steps):
    """In the middle of an epoch of three steps, and of the next."""
    dataset = packed_documents() if "data_collator" in more else None
    straight = saved(tmp_path, split, ReweightCallback(LAW, seed=SEED), dataset=dataset, **more)
    checkpoint = str(tmp_path / f"checkpoint-{steps}")
    resumed = saved(tmp_path / "b", split, ReweightCallback(LAW, seed=SEED), dataset=dataset, resume=checkpoint, **more)
    assert torch.equal(resumed, straight[steps:])


def test_another_noise_is_refused(tmp_path):
    saved(tmp_path, (1, 4), ReweightCallback(LAW, seed=SEED))
    checkpoint = str(tmp_path / "checkpoint-2")
    for other, key in ((ReweightCallback(Cov(3), seed=SEED), "law"), (ReweightCallback(LAW, seed=6), "seed")):
        with pytest.raises(ValueError, match=f"checkpoint is of {key} .* build it as it was"):
            saved(tmp_path / "b", (1, 4), other, resume=checkpoint)


def test_evaluation_is_the_plain_mean_and_does_not_advance(tmp_path):
    options = {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True}
    args = arguments(tmp_path, 2, 2, **options)
    noisy, _ = train(
        in_order(Trainer), llama(), tokens(), args, ReweightCallback(LAW, seed=SEED), eval_dataset=tokens()
    )
    without, _ = train(
        in_order(Trainer), llama(), tokens(), arguments(tmp_path, 2, 2), ReweightCallback(LAW, seed=SEED)
    )
    assert torch.equal(noisy, without)


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


def test_a_model_can_be_trained_again_after_an_interruption(tmp_path):
    model, args = llama(), arguments(tmp_path, 2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        train(in_order(Trainer), model, tokens(), args, ReweightCallback(LAW, seed=SEED), Stop())
    model.load_state_dict(before)
    again, _ = train(in_order(Trainer), model, tokens(), args, ReweightCallback(LAW, seed=SEED))
    fresh, _ = train(in_order(Trainer), llama(), tokens(), args, ReweightCallback(LAW, seed=SEED))
    assert torch.equal(again, fresh)
    hooks = [module for module in model.modules() if module._forward_pre_hooks or "forward" in vars(module)]
    assert not hooks  # nothing is left on the model after the training


class Stream(IterableDataset):
    def __iter__(self):
        return iter(tokens())


def test_streams_and_announced_sizes(tmp_path):
    """The batches of a stream are counted as they are made."""
    more = {"max_steps": 2}

    def trained(dataset, cls, **said):
        return train(cls, llama(), dataset, arguments(tmp_path, 2, 2, **more), ReweightCallback(LAW, seed=SEED, **said))

    truth, _ = trained(tokens(), in_order(Trainer))
    assert torch.equal(trained(Stream(), Trainer)[0], truth)
    assert torch.equal(trained(tokens(), in_order(Trainer), logical_batch=4)[0], truth)
    with pytest.raises(ValueError, match="after 4 examples, and the draw is of 5"):
        trained(tokens(), in_order(Trainer), logical_batch=5)


class Bypassed(LlamaForCausalLM):
    """A fused loss: the head's weight is used, the head is not called."""

    def forward(self, input_ids, labels=None, **kwargs):
        hidden = self.model(input_ids).last_hidden_state[:, :-1]
        logits = F.linear(hidden, self.lm_head.weight)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)}


def test_a_loss_without_the_head_is_refused(tmp_path):
    model = seeded(Bypassed, LlamaConfig(intermediate_size=16, max_position_embeddings=64, **SMALL))
    with pytest.raises(ValueError, match=r"lm_head: Linear was not called.*use_liger_kernel=False"):
        train(in_order(Trainer), model, tokens(), arguments(tmp_path, 1, 4), ReweightCallback(LAW, seed=SEED))


class Preferences(Trainer):
    """Two rows for each example, as in preference optimization."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        twice = torch.cat([inputs["input_ids"], inputs["input_ids"].flip(1)])
        return model(input_ids=twice).logits.square().mean()


@pytest.mark.parametrize("split", [(1, 4), (2, 2)])
def test_two_rows_of_an_example_are_refused(tmp_path, split):
    with pytest.raises(ValueError, match=r"\d rows for a micro-batch of \d examples: rows that belong together"):
        train(in_order(Preferences), llama(), tokens(), arguments(tmp_path, *split), ReweightCallback(LAW, seed=SEED))


@pytest.mark.parametrize("split", [(1, 4), (2, 2)])
@pytest.mark.parametrize("workers", [0, 1])
def test_preference_optimization_is_refused(tmp_path, split, workers):
    """TRL's collator puts the two answers of a preference into rows of their own."""
    words = [{"prompt": f"{i % 9} ", "chosen": f"{i % 7} 3", "rejected": f"{i % 5} 4"} for i in range(8)]
    args = arguments(tmp_path, *split, cls=DPOConfig, dataloader_num_workers=workers)
    options = {"processing_class": tokenizer(), "ref_model": llama()}
    with pytest.raises(ValueError, match=r"the collator makes \d rows of \d examples: rows that belong together"):
        train(DPOTrainer, llama(), Dataset.from_list(words), args, ReweightCallback(LAW, seed=SEED), **options)


def test_a_model_with_two_heads_is_refused():
    config = BertConfig(intermediate_size=16, **SMALL, **NO_DROPOUT)
    model, words = seeded(BertForPreTraining, config), torch.stack([example["input_ids"] for example in tokens()])
    handle = Reweighter(LAW, seed=SEED).attach(model)
    assert "cls.predictions.decoder" in str(handle)
    with pytest.raises(ValueError, match="seq_relationship_logits comes from another head"):
        model(words)
    handle.remove()
    answering = seeded(BertForQuestionAnswering, config)  # one head, whose outputs are split
    Reweighter(LAW, seed=SEED).attach(answering)
    assert answering(words).start_logits.requires_grad


def test_a_module_beside_the_loss_is_noticed(tmp_path):
    """The head of GPT-2 is its embedding: weighting the body leaves the head's own gradient plain."""
    callback = ReweightCallback(LAW, seed=SEED, module="transformer.ln_f")
    with pytest.raises(ValueError, match=r"logits comes from another head than transformer\.ln_f"):
        train(in_order(Trainer), gpt2(), tokens(), arguments(tmp_path, 1, 4), callback)


def test_two_callbacks_are_refused(tmp_path):
    callbacks = [ReweightCallback(LAW, seed=SEED) for _ in range(2)]
    with pytest.raises(ValueError, match="there are two ReweightCallbacks"):
        train(in_order(Trainer), llama(), tokens(), arguments(tmp_path, 1, 4), *callbacks)


def test_bad_arguments():
    with pytest.raises(TypeError, match="law must be a law"):
        ReweightCallback(3, seed=0)
    with pytest.raises(ValueError, match="at least 1"):
        ReweightCallback(Fisher(2), seed=0, logical_batch=0)
    with pytest.raises(ValueError, match="seed"):
        ReweightCallback(Emulate(2), seed=-1)
