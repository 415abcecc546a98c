"""The laws and the networks that the common tests run over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.noise import (
    Anticorrelated,
    BayesianBootstrap,
    Bernoulli,
    Cov,
    Emulate,
    EmulateReshuffled,
    Fisher,
    FullBatch,
    Gamma,
    Grouped,
    Injected,
    Laplace,
    Law,
    MiniBatch,
    Poisson,
    Rademacher,
    Reshuffled,
    Scheduled,
    SparseCov,
    SparseFisher,
    StudentT,
    Subsampled,
    TwoBatch,
    Uniform,
    noise_enhancement,
    svag,
)


def halving(step: int) -> Law:
    """A schedule that has a name, so that the text of its law is the same in every process."""
    return MiniBatch(4) if step < 10 else Cov(2)


#: (law, n, α, β): the exact values of the design's table, as fractions written out by hand.
TABLE: list[tuple[Law, int, float, float]] = [
    (FullBatch(), 1000, 0, 0),
    (MiniBatch(20, replacement=True), 1000, 1000 / 20, -1 / 20),
    (MiniBatch(20), 1000, 1000 * 980 / (20 * 999), -980 / (20 * 999)),
    (MiniBatch(7), 7, 0, 0),
    (Fisher(20), 1000, 50, 0),
    (Fisher(2500.5), 1000, 1000 / 2500.5, 0),
    (Cov(20), 1000, 50, -1 / 20),
    (Cov(4000), 1000, 0.25, -1 / 4000),
    (Bernoulli(20), 1000, 49, 0),
    (Bernoulli(12.5), 1000, 79, 0),
    (Poisson(20), 1000, 50, 0),
    (Poisson(4000), 1000, 0.25, 0),
    # Subsampled(B, inner): a, c are inner's α, β at B
    (Subsampled(250, FullBatch()), 1000, 1000 * 750 / (250 * 999), -750 / (250 * 999)),
    (Subsampled(250, Fisher(20)), 1000, 4 * 13.5 - 1000 * 249 / (250 * 999), 1000 * 249 / (250 * 999) - 1),
    (Subsampled(250, Bernoulli(20)), 1000, 4 * 12.5 - 1000 * 249 / (250 * 999), 1000 * 249 / (250 * 999) - 1),
    (Emulate(20), 250, 250 * 230 / (20 * 249), -230 / (20 * 249)),
    (Emulate(20, "fisher"), 250, 250 / 20 - 1, 0),
    (Emulate(20, "fisher", population=1000), 250, 1000 * 230 / (20 * 999), 0),
    (Emulate(20, "bernoulli"), 250, 250 / 20 - 1, 0),
    (Emulate(20, "bernoulli", population=1000), 250, 1000 * 230 / (20 * 999), 0),
    # Grouped(g, Cov(b)): a = g/b, c = −1/b at size g
    (Grouped(100, Cov(20)), 1000, 5 - 1 / 20 + 99 / (20 * 999), -99 / (20 * 999)),
    (Grouped(100, Fisher(20)), 1000, 5, 0),
    (Grouped(100, MiniBatch(20)), 100, 100 * 80 / (20 * 99), -80 / (20 * 99)),
    (SparseFisher(20, support=100), 1000, 50, 0),
    (SparseCov(20, support=100), 1000, 50, -1 / 20),
    (Injected(Laplace(), 20), 1000, 50, 0),
    (Injected(Rademacher(), 20, centred=True), 1000, 50, -1 / 20),
    (Injected(Gamma(0.5), 20, centred=True, support=7), 1000, 50, -1 / 20),
    (Injected(StudentT(3), 20), 1000, 50, 0),
    # scaled to the normal's quartiles, t of 3 has the variance 3·(0.674490/0.764892)²
    (Injected(StudentT(3, scale="iqr"), 20), 1000, 50 * 3 * (0.6744897501960817 / 0.7648923284043538) ** 2, 0),
    (TwoBatch(20, 0), 1000, 1000 * 980 / (20 * 999), -980 / (20 * 999)),
    (noise_enhancement(20, 1), 1000, 5 * 1000 * 980 / (20 * 999), -5 * 980 / (20 * 999)),
    (svag(20, 8), 1000, 8 * 1000 * 980 / (20 * 999), -8 * 980 / (20 * 999)),
    # l = 5, disjoint: n(nl − b)/(b(n − 1))
    (TwoBatch(20, 1, disjoint=True), 1000, 1000 * 4980 / (20 * 999), -4980 / (20 * 999)),
    (BayesianBootstrap(20), 1000, 50, -1 / 20),
    (BayesianBootstrap(1), 1000, 1000, -1),
    (Reshuffled(20), 1000, 1000 * 980 / (20 * 999), -980 / (20 * 999)),
    (EmulateReshuffled(100, 20), 1000, 1000 * 980 / (20 * 999), -980 / (20 * 999)),
    (EmulateReshuffled(300, 20), 1000, 1000 * 980 / (20 * 999), -980 / (20 * 999)),
    (Anticorrelated(Fisher(20)), 1000, 50, 0),
    (Scheduled(halving), 10, 10 * 6 / (4 * 9), -6 / (4 * 9)),
]

#: Laws with finitely many outcomes, at sizes small enough to visit them all.
ENUMERABLE: list[tuple[Law, int]] = [
    (FullBatch(), 5),
    (FullBatch(), 1),
    *[(MiniBatch(b), n) for n, b in [(1, 1), (2, 1), (5, 2), (7, 3), (7, 7)]],
    *[(MiniBatch(b, replacement=True), n) for n, b in [(1, 3), (3, 1), (4, 3), (3, 5)]],
    *[(Bernoulli(b), n) for n, b in [(1, 1), (5, 2), (7, 2.5), (6, 6)]],
    (Subsampled(3, FullBatch()), 6),
    (Subsampled(1, FullBatch()), 1),
    (Subsampled(1, Bernoulli(1)), 4),
    (Subsampled(4, MiniBatch(2)), 7),
    (Subsampled(4, MiniBatch(2, replacement=True)), 6),
    (Subsampled(4, Bernoulli(1.5)), 6),
    (Subsampled(5, Bernoulli(2)), 5),
    (Subsampled(3, Subsampled(2, Bernoulli(1))), 5),
    (Emulate(2, "bernoulli"), 5),
    (Emulate(2, "bernoulli", population=7), 5),
    (Subsampled(5, Emulate(2, "bernoulli", population=7)), 7),
    (Subsampled(4, Emulate(1, "bernoulli", population=6)), 6),
    (Grouped(2, MiniBatch(1)), 4),
    (Grouped(3, Injected(Rademacher(), 2, centred=True)), 6),
    (Grouped(1, Bernoulli(1)), 3),
    (Grouped(2, Bernoulli(1.5)), 4),
    (Grouped(4, MiniBatch(2)), 4),
    (Injected(Rademacher(), 2), 5),
    (Injected(Rademacher(), 2.5, centred=True), 5),
    (Injected(Rademacher(), 2, support=2), 5),
    (Injected(Rademacher(), 2, centred=True, support=3), 6),
    (Injected(Rademacher(), 2, centred=True, support=5), 5),
    (Injected(Rademacher(), 2, centred=True), 1),
    *[(TwoBatch(b, g), n) for n, b, g in [(5, 2, 0), (5, 2, 1), (4, 3, 0.3), (3, 3, 2), (1, 1, 1)]],
    *[(TwoBatch(b, g, disjoint=True), n) for n, b, g in [(5, 2, 1), (6, 3, 0.7), (4, 1, 0)]],
    (svag(2, 3), 5),
    (BayesianBootstrap(1), 4),
    (BayesianBootstrap(1), 1),
    (Reshuffled(2), 5),
    (Anticorrelated(MiniBatch(2)), 4),
    (Anticorrelated(Bernoulli(2)), 3),
    (Subsampled(4, Injected(Rademacher(), 2, centred=True)), 6),
    (Subsampled(4, TwoBatch(1, 0.5)), 5),
]

#: One of each law at n = 12, for the tests that are not about moments.
EVERY_LAW: list[Law] = [
    FullBatch(),
    MiniBatch(3),
    MiniBatch(3, replacement=True),
    Fisher(3),
    Cov(3),
    Bernoulli(3),
    Poisson(3),
    Subsampled(8, Fisher(3)),
    Subsampled(8, Emulate(3)),
    Grouped(4, Cov(3)),
    Grouped(4, MiniBatch(2)),
    Emulate(3),
    Emulate(3, "fisher", population=50),
    Emulate(3, "bernoulli"),
    SparseFisher(3, support=5),
    SparseCov(3, support=5),
    *[Injected(law, 3) for law in (Rademacher(), Uniform(), Laplace(), StudentT(3), Gamma(2))],
    Injected(StudentT(1.5, scale="iqr"), 3, centred=True, support=7),
    noise_enhancement(3, 0.5),
    TwoBatch(3, 1, disjoint=True),
    BayesianBootstrap(3),
    BayesianBootstrap(1),
    Reshuffled(3),
    EmulateReshuffled(6, 3),
    Anticorrelated(MiniBatch(3)),
    Scheduled(halving),
]


@dataclass(frozen=True)
class Network:
    """A model, its per-example loss, and data; all in float64."""

    name: str
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    x: Tensor
    y: Tensor


def networks(n: int = 12) -> list[Network]:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4))
    conv = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 5), nn.GELU(), nn.Linear(5, 3)
    )
    attention = nn.Sequential(
        nn.Embedding(7, 8),
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
        nn.Flatten(),
        nn.Linear(40, 1),
    )

    def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out, y, reduction="none")

    def squared(out: Tensor, y: Tensor) -> Tensor:
        return 0.5 * (out.squeeze(1) - y) ** 2

    return [
        Network("mlp", mlp.double(), cross_entropy, torch.randn(n, 6).double(), torch.randint(4, (n,))),
        Network("conv", conv.double(), cross_entropy, torch.randn(n, 2, 6, 6).double(), torch.randint(3, (n,))),
        Network("attention", attention.double(), squared, torch.randint(7, (n, 5)), torch.randn(n).double()),
    ]


def partly_trained(n: int = 12) -> tuple[nn.Module, Tensor, Tensor]:
    """A model of 4 trained parameters, 4 that no loss depends on, and 4 frozen ones; and data for `linear`."""
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(3, 1).double() for name in ("frozen", "used", "unused")})
    model["frozen"].requires_grad_(False)
    model.forward = lambda x: model["used"](model["frozen"](x) * x)
    return model, torch.randn(n, 3).double(), torch.randn(n, 1).double()


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def linear(out: Tensor, y: Tensor) -> Tensor:
    """A loss whose gradient does not depend on the parameters of a linear model."""
    return (out * y).squeeze(1)
