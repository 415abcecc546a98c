"""The exponential moving average of a network's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "ema."


class Average:
    """The average e ← decay·e + (1 − decay)·θ, from e = θ₀. Buffers, such as running means, are not averaged.

    Args:
        model: the network, with its initial parameters θ₀.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        self.averages = {name: value.detach().clone() for name, value in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters into the average, after a step."""
        torch._foreach_lerp_(list(self.averages.values()), list(self.parameters.values()), 1 - self.decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Evaluate the network at the average; afterwards its parameters are bitwise what they were.

        Yields:
            Nothing.
        """
        targets = list(self.parameters.values())
        saved = [value.detach().clone() for value in targets]
        with torch.no_grad():
            torch._foreach_copy_(targets, list(self.averages.values()))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(targets, saved)

    def state(self) -> dict[str, Tensor]:
        """The averages by name, such as ``ema.0.weight``."""
        return {f"{PREFIX}{name}": value.contiguous() for name, value in self.averages.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a state that `state` returned.

        Args:
            tensors: by name; other names are ignored.
        """
        for name, value in self.averages.items():
            value.copy_(tensors[f"{PREFIX}{name}"])
