"""Measure the gradient noise during training, in your own loop.

python examples/probe.py [STEPS]
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

from msgd.diagnostics import Probe

B = 32


def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return one loss per example."""
    return F.cross_entropy(outputs, targets, reduction="none")


def main(steps: int) -> None:
    """Train on noisy classes and print the noise scale every 50 steps."""
    torch.manual_seed(0)
    inputs = torch.randn(2000, 20)
    targets = (inputs @ torch.randn(20, 5) + torch.randn(2000, 5)).argmax(1)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    chosen = torch.randperm(len(inputs))[:250]
    probe = Probe(model, losses, inputs[chosen], targets[chosen], every=50, population=len(inputs))

    print(f"{'step':>6}{'loss':>10}{'tr C':>10}{'|g|^2':>10}{'scale':>10}{'top of C':>10}")
    for step in range(steps):
        if found := probe(step):  # measured before the step, so step 0 is the start
            values = (found.loss, found.trace, found.mean_square, found.noise_scale, found.eigenvalue)
            print(f"{step:6d}" + "".join(f"{value:10.3g}" for value in values))
        batch = torch.randint(len(inputs), (B,))
        optimizer.zero_grad()
        losses(model(inputs[batch]), targets[batch]).mean().backward()
        optimizer.step()
    print(
        f"Where the noise scale is far above b = {B}, a step is mostly noise, and a larger batch gets further per step."
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
