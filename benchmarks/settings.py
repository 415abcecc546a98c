"""The networks and batches that steps are timed on, and the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from msgd.lab.networks.vgg import vgg11
from msgd.lab.training.sgd import Trainer, select_examples
from msgd.noise import Law

Losses = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """A network with a batch, and the loss of each of its examples."""

    model: nn.Module
    x: Tensor
    y: Tensor
    losses: Losses


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each example, shape (n,)."""
    return F.cross_entropy(logits, targets, reduction="none")


class Language(nn.Module):
    """A causal transformer: 4 layers of width 128, 4 heads."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, 128)
        layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, words, bias=words == 1000)  # GPT-2's has none

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next tokens, shape (n, length, words)."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        logits: Tensor = self.head(self.body(self.embed(tokens), mask=mask, is_causal=True))
        return logits


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """The mean loss of each sequence, shape (n,)."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none").mean(1)


def channels_last(images: Tensor) -> Tensor:
    """Images laid out as the lab has them."""
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


def make(name: str, device: str = "cpu") -> Setting:
    """Build a setting.

    Args:
        name: "conv-small", n = 1000; "vgg11", B = 128; "transformer", B = 32 sequences of 64 tokens of 1000; or
            "language", B = 8 sequences of 64 tokens of 50,257, the vocabulary of GPT-2.
        device: where.

    Returns:
        The same network and batch every time.
    """
    torch.manual_seed(0)
    if name in ("transformer", "language"):
        words, B = (1000, 32) if name == "transformer" else (50_257, 8)
        tokens = torch.randint(words, (B, 64), device=device)
        return Setting(Language(words).to(device), tokens, tokens, next_token)
    if name == "vgg11":
        x, y = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))
        model: nn.Module = vgg11((3, 32, 32), 10)
    else:
        from msgd.lab.networks.build import build_network

        x, y = torch.rand(1000, 1, 28, 28), torch.randint(10, (1000,))
        model = build_network("conv-small", input_shape=(1, 28, 28), classes=10, seed=0)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Setting(model, channels_last(x).to(device), y.to(device), cross_entropy)


def loop(setting: Setting, weighted: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A training loop's step: forward, backward, SGD.

    Args:
        setting: the network and its batch.
        weighted: makes one number of the losses.

    Returns:
        The step.
    """
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        weighted(setting.losses(setting.model(setting.x), setting.y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def mean_loop(setting: Setting, outputs: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A training loop's step with the usual mean loss of the outputs.

    Args:
        setting: the network and its batch.
        outputs: what is done to the outputs before the loss.

    Returns:
        The step.
    """
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.01)
    sequences = setting.losses is next_token

    def step() -> None:
        optimizer.zero_grad()
        y = outputs(setting.model(setting.x))
        logits, targets = (y[:, :-1].flatten(0, 1), setting.y[:, 1:].flatten()) if sequences else (y, setting.y)
        loss: Tensor = F.cross_entropy(logits, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def lab_steps(setting: Setting, law: Law, stretch: int) -> Callable[[], None]:
    """The laboratory's steps, whose weights are drawn ahead for a stretch, as in training."""
    trainer, numbers = Trainer(setting.model, lr=0.01), iter(range(10**9))

    def steps() -> None:
        draws = [law.draw(len(setting.y), seed=0, step=next(numbers)) for _ in range(stretch)]
        for weights in draws:
            trainer.step(setting.x, setting.y, weights)

    return steps


def by_hand(setting: Setting) -> Callable[[], None]:
    """The step that one would write for speed: no optimizer object, one fused update."""
    parameters: list[Tensor] = list(setting.model.parameters())

    def step() -> None:
        loss = F.cross_entropy(setting.model(setting.x), setting.y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-0.01)

    return step


def by_hand_on_few(setting: Setting, b: int, stretch: int) -> Callable[[], None]:
    """As `by_hand`, on b random images a step, drawn and chosen by hand: what sparse steps could cost at best."""
    parameters: list[Tensor] = list(setting.model.parameters())

    def steps() -> None:
        for _ in range(stretch):
            index = torch.randint(len(setting.y), (b,))
            loss = F.cross_entropy(setting.model(select_examples(setting.x, index)), setting.y[index])
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                torch._foreach_add_(parameters, gradients, alpha=-0.01)

    return steps
