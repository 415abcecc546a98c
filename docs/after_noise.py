"""Write the tables of scaling.md: how clipping, Adam, LARS, LAMB, Muon and float16 transform the noise. `make docs`.

The network is a perceptron of 40-100-100-10 on MNIST-1D, after 300 steps of gradient descent at lr 0.1. All n = 1000
examples form the batch, and Cov(b) draws its noise. The parameters stay fixed during the draws.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from mnist1d.data import make_dataset
from torch import Tensor, nn
from torch.nn import functional as F

from msgd import GradientMatrix, noise

PAGE = Path(__file__).with_name("scaling.md")
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
N, STEPS = 1000, 300
SIZES = (None, 200, 50, 20, 5)  #: b; None: no noise


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return one loss per example."""
    return F.cross_entropy(outputs, targets, reduction="none")


def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network after 300 steps, the inputs and the classes."""
    made = make_dataset()
    x, y = torch.tensor(made["x"][:N]).float(), torch.tensor(made["y"][:N])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses(model(x), y).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model, x, y


def drawn(G: Tensor, b: int | None, draws: int) -> Tensor:
    """Return the noisy gradients of some draws, shape (d, draws), or the mean gradient if there is no noise."""
    if b is None:
        return G.mean(1, keepdim=True)
    w = torch.stack([noise.Cov(b).draw(N, seed=0, step=step).dense() for step in range(draws)], dim=1)
    return G @ w / N


def clipping(G: Tensor, draws: int = 1000) -> list[list[str]]:
    """Measure length and direction of steps that are clipped at twice the length of the mean gradient."""
    mean = G.mean(1)
    length, rows = float(mean.norm()), []
    for b in SIZES:
        noisy = drawn(G, b, draws)
        norms = noisy.norm(dim=0)
        clipped = noisy * (2 * length / norms).clamp(max=1)
        along = float((mean @ clipped).mean()) / length**2
        kept = variance(clipped) / variance(noisy) if b else math.nan
        share = float((norms > 2 * length).float().mean())
        rows.append(
            [
                "none" if b is None else str(b),
                f"{float(norms.square().mean().sqrt()) / length:.1f}",
                f"{100 * share:.0f}%",
                f"{along:.2f}",
                f"{100 * kept:.0f}%" if b else "–",
            ]
        )
    return rows


def adam(G: Tensor, draws: int = 2000) -> list[list[str]]:
    """Measure mean and spread of Adam's update in units of the learning rate, once its averages have settled."""
    rows = []
    for b in SIZES:
        noisy = drawn(G, b, draws)
        first, second = torch.zeros(len(G)), torch.zeros(len(G))
        total, squares, counted = torch.zeros(len(G)), torch.zeros(len(G)), 0
        for step in range(1, draws + 1):
            gradient = noisy[:, step % noisy.shape[1]]
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            if step > draws // 2:
                update = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
                total, squares, counted = total + update, squares + update**2, counted + 1
        live = second > 0  # a weight behind a unit that no example activates has no gradient
        mean = (total / counted)[live]
        spread = ((squares / counted)[live] - mean**2).clamp(min=0).mean().sqrt()
        rows.append(
            ["none" if b is None else str(b), f"{float(mean.square().mean().sqrt()):.2f}", f"{float(spread):.2f}"]
        )
    return rows


Rule = Callable[[Tensor], Tensor]  #: from the gradient of a step, shape (d,), to its update in units of η


def clip(gradient: Tensor) -> Tensor:
    """Shorten the gradient to length 1, like the default max_grad_norm=1.0 of the Hugging Face Trainer."""
    shorter: Tensor = gradient / gradient.norm().clamp(min=1)
    return shorter


def scaled(update: Tensor, parameters: list[Tensor]) -> Tensor:
    """Give the update of each layer the length of the layer's parameters."""
    layers = zip(torch.split(update, [p.numel() for p in parameters]), parameters, strict=True)
    return torch.cat([part * p.norm() / part.norm().clamp(min=1e-12) for part, p in layers])


def lamb(parameters: list[Tensor]) -> Rule:
    """LAMB without weight decay: Adam's update, scaled in each layer (You et al. 2020, arXiv 1904.00962)."""
    first, second, step = torch.zeros(1), torch.zeros(1), 0

    def update(gradient: Tensor) -> Tensor:
        nonlocal first, second, step
        step += 1
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        return scaled(first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-6), parameters)

    return update


def muon(parameters: list[Tensor]) -> Rule:
    """PyTorch's Muon on the weight matrices, at its default momentum of 0.95 and without weight decay."""
    matrices = [nn.Parameter(torch.zeros_like(p)) for p in parameters if p.ndim == 2]
    optimizer = torch.optim.Muon(matrices, lr=1.0, weight_decay=0.0)

    def update(gradient: Tensor) -> Tensor:
        parts = torch.split(gradient, [p.numel() for p in parameters])
        grads = [part.view_as(p) for part, p in zip(parts, parameters, strict=True) if p.ndim == 2]
        with torch.no_grad():
            for matrix, grad in zip(matrices, grads, strict=True):
                matrix.zero_()
                matrix.grad = grad.clone()
        optimizer.step()  # type: ignore[no-untyped-call]
        return -torch.cat([matrix.detach().flatten() for matrix in matrices])

    return update


def normalised(
    G: Tensor, parameters: list[Tensor], draws: int = 400, sizes: tuple[int | None, ...] = SIZES
) -> list[list[str]]:
    """Measure what is left of the noiseless update in the mean update of each rule, at fixed parameters."""
    rules: list[Callable[[], Rule]] = [
        lambda: clip,
        lambda: lambda gradient: scaled(gradient, parameters),  # LARS but for its momentum, which is linear
        lambda: lamb(parameters),
        lambda: muon(parameters),
    ]
    rows, plain = [], None
    for b in sizes:
        noisy, means = drawn(G, b, draws), []
        for rule in rules:
            update = rule()
            steps = [update(noisy[:, step % noisy.shape[1]]) for step in range(draws)]
            means.append(torch.stack(steps[draws // 2 :]).mean(0))  # once the averages have settled
        plain = plain or means
        length = float(noisy.norm(dim=0).square().mean().sqrt())
        left = [f"{float(mean @ first / (first @ first)):.2f}" for mean, first in zip(means, plain, strict=True)]
        rows.append(["none" if b is None else str(b), f"{length:.2f}", *left])
    return rows


def variance(vectors: Tensor) -> float:
    """Return the trace of the covariance of the columns."""
    return float(vectors.var(1).sum())


def float16(model: nn.Module, x: Tensor, y: Tensor, draws: int = 5) -> list[list[str]]:
    """Find the largest weight, and the highest loss scale at which no float16 gradient overflows."""
    rows = []
    for b in SIZES:
        weights = [(noise.Cov(b) if b else noise.FullBatch()).draw(N, seed=0, step=step) for step in range(draws)]
        w = torch.stack([weight.dense() for weight in weights])
        lowest = 24
        for one in w:
            lowest = highest_scale(model, x, y, one, lowest)
        rows.append(
            [
                "none" if b is None else str(b),
                f"{math.sqrt(noise.Cov(b).moments(N).alpha) if b else 0:.1f}",
                f"{100 * float((w < 0).float().mean()):.0f}%",
                f"{float(w.abs().max()):.0f}",
                f"2^{lowest}",
            ]
        )
    return rows


def highest_scale(model: nn.Module, x: Tensor, y: Tensor, w: Tensor, start: int) -> int:
    """Halve the loss scale from 2^start, as GradScaler does, until all gradients are finite; return its logarithm."""
    with torch.autocast("cpu", torch.float16):
        loss = (w * losses(model(x), y)).mean()
    for exponent in range(start, 0, -1):
        found = torch.autograd.grad(loss * 2.0**exponent, list(model.parameters()), retain_graph=True)
        if all(bool(gradient.isfinite().all()) for gradient in found):
            return exponent
    return 0


HEADS = {
    "clipping": ["b", "‖g̃‖ / ‖ḡ‖", "clipped", "step along ḡ", "remaining noise"],
    "adam": ["b", "mean update / η", "spread / η"],
    "normalised": ["b", "‖g̃‖", "clipped at 1.0", "LARS", "LAMB", "Muon"],
    "float16": ["b", "standard deviation of w", "negative", "largest absolute w", "highest loss scale"],
}


def tables() -> dict[str, list[list[str]]]:
    """Compute the tables."""
    model, x, y = trained()
    G = GradientMatrix(model, losses, x, y).to_dense().detach()
    parameters = [parameter.detach() for parameter in model.parameters()]
    return {
        "clipping": clipping(G),
        "adam": adam(G),
        "normalised": normalised(G, parameters),
        "float16": float16(model, x, y),
    }


def markdown(heads: list[str], body: list[list[str]]) -> str:
    """Write a table of numbers."""
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, ["--:"] * len(heads), *body])


def main() -> None:
    """Write the tables into the page."""
    found = tables()
    text = PAGE.read_text()
    PAGE.write_text(PLACE.sub(lambda m: f"{m[1]}{markdown(HEADS[m[2]], found[m[2]])}{m[3]}", text))


if __name__ == "__main__":
    main()
