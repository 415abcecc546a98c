"""The plain loop that the integrations are held to: one draw over each logical batch, written out."""

import torch
from torch import nn

from msgd.noise import Emulate

LAW, SEED, LR = Emulate(2), 7, 0.1
N, LOGICAL = 27, 8  # each epoch has logical batches of 8, 8, 8 and 3
SPLITS = [(1, 8), (2, 4), (4, 2)]  # micro-batches of a logical batch, and their size


def data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 4, generator=generator, dtype=torch.float64)
    return x, torch.randint(3, (N,), generator=generator)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)


def losses_of(logits, y):
    return nn.functional.cross_entropy(logits, y, reduction="none")


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def logical_batches(epochs=1, logical=LOGICAL):
    return [torch.arange(N)[start : start + logical] for _ in range(epochs) for start in range(0, N, logical)]


def plain_loop(batches, *, c=None, clip=None, law=LAW, examples=None, split=None):
    """Parameters at the start and after each step; c: own weights of all examples, in Σ w c ℓ / Σ c.

    split: (number k, size) of the micro-batches of a framework, whose losses are means of their own, divided by k also
    where a step has fewer of them.
    """
    (x, y), model = examples or data(), network()
    optimizer, path = optimizer_of(model), [parameters(model)]
    for step, batch in enumerate(batches):
        w = law.draw(len(batch), seed=SEED, step=step).dense().double()
        own = torch.ones(len(batch)).double() if c is None else c[batch]
        optimizer.zero_grad()
        number, size = split or (1, len(batch))
        for part in torch.arange(len(batch)).split(size):
            losses = losses_of(model(x[batch[part]]), y[batch[part]])
            ((w[part] * own[part] * losses).sum() / own[part].sum() / number).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        path.append(parameters(model))
    return torch.stack(path)


def same(path, truth, atol=1e-12):
    """Equal to rounding: in float64 a dozen steps agree to 1e-12 of parameters of order 1."""
    torch.testing.assert_close(path, truth, rtol=0, atol=atol)
