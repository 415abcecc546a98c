"""What the weighted gradient has to be: each example's own gradient, from a batch of one, times its weight."""

import torch
from torch.nn import functional as F

SEED = 5
#: relative error of a sum in float64, and in float32
EXACT, ROUNDED = 1e-12, 1e-6


def weights(law, n, step=0, seed=SEED):
    return law.draw(n, seed=seed, step=step).dense().double()


def weighted_sum(model, loss_of, factors):
    """Σ_i f_i ∇ℓ_i as one vector; ``loss_of(model, i)`` is the loss of example i, computed from a batch of one."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for i, factor in enumerate(factors):
        grads = torch.autograd.grad(loss_of(model, i), parameters, allow_unused=True)
        each = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]
        total += float(factor) * torch.cat([g.flatten() for g in each]).double()
    return total


def gradient(model):
    """The gradient that a backward pass left, as one vector in float64."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]).double()


def far(found, truth):
    return float((found - truth).norm() / truth.norm())


def classifier(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).to(dtype)


def batch(n=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (n,), generator=generator)


def classified(model, law, x, y, step=0):
    """The gradient of the weighted mean cross-entropy."""
    w = weights(law, len(x), step)
    return weighted_sum(model, lambda m, i: F.cross_entropy(m(x[i : i + 1]), y[i : i + 1]), w / len(x))


class Headed(torch.nn.Module):
    """A model in which attach finds the head."""

    def __init__(self):
        super().__init__()
        self.net = classifier()

    def get_output_embeddings(self):
        return self.net[2]

    def forward(self, x):
        return self.net(x)
