"""A tiny language model that computes its loss itself, and its plain loop with the weights written out."""

import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from helpers.one_draw import LAW, SEED, parameters

SENTENCES, LOGICAL_SENTENCES = 11, 4  # logical batches of 4, 4 and 3


def language_model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=7, max_position_embeddings=8, **sizes))


def sentences():
    """Sentences of different lengths, as a list of dictionaries."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(7, (SENTENCES, 6), generator=generator)
    ends = torch.randint(3, 7, (SENTENCES, 1), generator=generator)
    labels = ids.masked_fill(torch.arange(6) >= ends, -100)
    return [{"input_ids": x, "labels": y} for x, y in zip(ids, labels, strict=True)]


def language_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.5)


def language_plainly(split):
    """Parameters at the start and after each step, where each micro-batch has the mean over its tokens."""
    model, (number, size) = language_model(), split
    optimizer, path = language_optimizer(model), [parameters(model)]
    for step, start in enumerate(range(0, SENTENCES, LOGICAL_SENTENCES)):
        batch = sentences()[start : start + LOGICAL_SENTENCES]
        w = LAW.draw(len(batch), seed=SEED, step=step).dense()
        optimizer.zero_grad()
        for part in torch.arange(len(batch)).split(size):
            ids, labels = (torch.stack([batch[i][key] for i in part]) for key in ("input_ids", "labels"))
            logits, targets = model(ids).logits[:, :-1], labels[:, 1:]
            losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(len(part), -1)
            ((w[part, None] * losses).sum() / (targets != -100).sum() / number).backward()
        optimizer.step()
        path.append(parameters(model))
    return torch.stack(path)
