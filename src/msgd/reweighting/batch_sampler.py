"""The seam for laws that choose examples: a DataLoader then loads those of a draw, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypedDict, TypeVar

import torch
from torch.utils.data import Sampler

from msgd._checks import check_state, positive_integer
from msgd.noise.law import Law, Weights
from msgd.noise.streams import generator
from msgd.reweighting.ranks import Layout, Ranks, ranks

Batch = TypeVar("Batch")


class SamplerState(TypedDict):
    """What `WeightedBatchSampler.state_dict` holds."""

    seed: int
    step: int
    law: str
    n: int


class WeightedBatchSampler(Sampler[list[int]]):
    """Batches of the examples whose weight is not zero, for `torch.utils.data.DataLoader(batch_sampler=…)`.

    At each step w ∈ Rⁿ is drawn over the whole data set; the loader loads the examples with w_i ≠ 0, and `weighted`
    hands each batch out with its weights, so that ``weighted_mean(losses, weights) = Σ w_i·ℓ_i / n`` and its gradient
    is G·w/n. For MiniBatch, Bernoulli, Poisson and Subsampled a step costs about b examples, or B; for laws that weight
    every example, such as Fisher and Cov, all n. A draw that chooses no example loads one with weight 0: a step with
    zero gradient.

    Where torch.distributed is initialised, each rank loads its part of the draw, and its weights are ``size`` times as
    large, since DDP and FSDP divide the sum of the ranks' gradients by their number.

    Args:
        law: of the weights of all n examples.
        n: number of examples in the data set.
        seed: names the noise, 0 ≤ seed < 2⁶⁴.
        steps: number of batches in one pass over the loader; the next pass goes on with the next step, and one that
            was broken off with what was left of it.
        group: as in `Reweighter`.
        layout: as in `Reweighter`: how the examples of a draw are dealt to the ranks.

    Raises:
        TypeError: ``law`` is no law, or a number is no integer.
        ValueError: a number is out of range, the law cannot be had at this n, or there is no such layout; from the
            first pass, the ranks differ in seed, step or law.

    Examples:
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from msgd import noise, weighted_mean
        >>> data = TensorDataset(torch.arange(100.0))
        >>> sampler = WeightedBatchSampler(noise.MiniBatch(4), 100, seed=0, steps=2)
        >>> loader = DataLoader(data, batch_sampler=sampler)
        >>> for weights, (x,) in sampler.weighted(loader):
        ...     print(x.long().tolist(), weights.value.tolist(), weighted_mean(x, weights).item() == x.mean().item())
        [1, 3, 24, 60] [25.0, 25.0, 25.0, 25.0] True
        [13, 33, 57, 70] [25.0, 25.0, 25.0, 25.0] True

    References:
        Wu et al. 2020, arXiv 1906.07405: the gradient of SGD is G·w/n.
    """

    def __init__(
        self, law: Law, n: int, *, seed: int, steps: int, group: Any = "world", layout: Layout = "strided"
    ) -> None:
        if not isinstance(law, Law):
            raise TypeError(f"law must be a law such as noise.Bernoulli(b=256), not {law!r}")
        generator(seed, 0)  # refuses a bad seed now, not at the first step
        law.moments(positive_integer("n", n))  # likewise a b that the law cannot have at this n
        ranks(None, layout)
        self.law, self.n, self.seed, self.steps = law, n, seed, positive_integer("steps", steps)
        self.group, self.layout = group, layout
        self._ranks: Ranks | None = None
        self._step = 0

    def __repr__(self) -> str:
        return f"WeightedBatchSampler({self.law!r}, {self.n}, seed={self.seed}, steps={self.steps}, step={self._step})"

    def __len__(self) -> int:
        return self.steps

    @property
    def step(self) -> int:
        """Number of batches that `weighted` has handed out: the step of the next."""
        return self._step

    def __iter__(self) -> Iterator[list[int]]:
        """Indices of the examples of each step, from where `weighted` stands to the end of the pass."""
        for step in range(self._step, (self._step // self.steps + 1) * self.steps):
            index, _ = self._chosen(step)
            yield index.tolist()

    def weighted(self, loader: Iterable[Batch]) -> Iterator[tuple[Weights, Batch]]:
        """One pass over the loader, each batch with its weights.

        A loader's workers fetch ahead; the position is kept here, by what was handed out.

        Args:
            loader: whose ``batch_sampler`` this is, and which loads in order.

        Yields:
            The weights of the examples of the batch, in its order, and the batch.

        Raises:
            ValueError: the loader has another batch sampler.
        """
        if getattr(loader, "batch_sampler", None) is not self:
            raise ValueError("the loader has another batch sampler: give DataLoader(..., batch_sampler=this one)")
        for batch in loader:
            index, value = self._chosen(self._step)
            self._step += 1
            yield Weights(index, value, self.n), batch

    def state_dict(self) -> SamplerState:
        """All that resuming needs.

        Returns:
            Seed, step, the law as text, and n.
        """
        return {"seed": self.seed, "step": self._step, "law": repr(self.law), "n": self.n}

    def load_state_dict(self, state: SamplerState) -> None:
        """Continue where ``state`` left off, between two passes over the loader.

        Args:
            state: from `state_dict`.

        Raises:
            ValueError: it is of another seed, law or data set, or is no such state.
        """
        check_state("WeightedBatchSampler", state, self.state_dict(), ("seed", "law", "n"))
        generator(self.seed, state["step"])
        self._step = state["step"]
        self._ranks = None  # to be compared again

    def _chosen(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's examples of a step and their weights; one of weight 0 where it has none."""
        if self._ranks is None:
            found = ranks(self.group, self.layout)
            found.check_alike({**self.state_dict(), "steps": self.steps, "layout": self.layout})
            self._ranks = found
        drawn = self.law.draw(self.n, seed=self.seed, step=step)
        index = torch.arange(self.n) if drawn.index is None else drawn.index
        mine = self._ranks.dealt(len(index))
        if len(mine) == 0:
            return torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        return index[mine], drawn.value[mine] * self._ranks.size
