"""A batch sampler for laws that select examples: a DataLoader then loads only the selected examples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypedDict, TypeVar

import torch
from torch.utils.data import Sampler

from msgd._checks import check_state, positive_integer
from msgd.noise.compose import Grouped, Subsampled
from msgd.noise.correlated import Anticorrelated, Reshuffled
from msgd.noise.emulate import Emulate
from msgd.noise.emulate_reshuffled import EmulateReshuffled
from msgd.noise.injected import Cov, Fisher, Injected, SparseCov, SparseFisher
from msgd.noise.law import Law, Weights
from msgd.noise.sampling import Bernoulli, FullBatch, MiniBatch, Poisson
from msgd.noise.schedule import Scheduled
from msgd.noise.streams import generator
from msgd.noise.two_batch import TwoBatch
from msgd.reweighting.ranks import Layout, Ranks, ranks

Batch = TypeVar("Batch")

#: laws that choose examples, also where they happen to choose all n
_CHOOSING = (MiniBatch, Bernoulli, Poisson, Reshuffled, EmulateReshuffled, TwoBatch, Subsampled)
_DENSE = (FullBatch, Fisher, Cov, SparseFisher, SparseCov, Injected, Anticorrelated)


class SamplerState(TypedDict):
    """State of a `WeightedBatchSampler`, as returned by ``state_dict``."""

    seed: int
    step: int
    law: str
    n: int


class WeightedBatchSampler(Sampler[list[int]]):
    """Batches of the examples with non-zero weight, for `torch.utils.data.DataLoader(batch_sampler=…)`.

    At each step w ∈ Rⁿ is drawn over the whole data set. The loader loads the examples with w_i ≠ 0, and `weighted`
    yields each batch with its weights, so that ``weighted_mean(losses, weights) = Σ w_i·ℓ_i / n`` has the gradient
    G·w/n. A step costs about b examples for MiniBatch, Bernoulli and Poisson, and B examples for Subsampled. Laws that
    weight every example, such as Fisher, Cov and Emulate, are refused: each step would load all n. If a draw selects no
    example, one example with weight 0 is loaded, which gives a step with zero gradient.

    If torch.distributed is initialised, each rank loads its part of the draw, and its weights are multiplied by the
    number of ranks, because DDP and FSDP divide the sum of the ranks' gradients by that number.

    Args:
        law: law of the weights of all n examples.
        n: number of examples in the data set.
        seed: seed of the noise, 0 ≤ seed < 2⁶⁴.
        steps: number of batches in one pass over the loader. The next pass continues with the next step; after a pass
            that was interrupted, it consists of the remaining steps of that pass.
        group: see `Reweighter`.
        layout: how the examples of a draw are distributed over the ranks; see `Reweighter`.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, the law is not defined for this n or chooses no examples, or ``layout`` is
            unknown. The first pass also raises it if the ranks differ in seed, step or law.

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
        generator(seed, 0)  # raises for an invalid seed now, not at the first step
        try:
            positive_integer("n", n)
        except TypeError:
            given = type(n).__name__
            raise TypeError(f"n must be the number of examples, such as len(dataset), not a {given}") from None
        law.moments(n)  # raises if the law is not defined for this n
        if not _chooses(law, n):
            raise ValueError(
                f"{law!r} gives every example a weight, so that each step would load all {n} examples: use "
                "noise.Subsampled(B, law), which loads B, or a plain DataLoader with reweight.outputs"
            )
        ranks(None, layout)  # raises for an unknown layout
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
        """Number of batches that `weighted` has yielded, which is the step of the next batch."""
        return self._step

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of the examples of each step, from the current step to the end of the pass."""
        for step in range(self._step, (self._step // self.steps + 1) * self.steps):
            index, _ = self._select(step)
            yield index.tolist()

    def weighted(self, loader: Iterable[Batch]) -> Iterator[tuple[Weights, Batch]]:
        """Iterate once over the loader and yield each batch with its weights.

        The position counts the batches that were yielded, not those that the loader's workers have prefetched.

        Args:
            loader: a loader with this object as ``batch_sampler``, which returns its batches in order.

        Yields:
            The weights of the examples of the batch, in the batch's order, and the batch.

        Raises:
            ValueError: the loader has another batch sampler.
        """
        if getattr(loader, "batch_sampler", None) is not self:
            raise ValueError("the loader has another batch sampler: use DataLoader(..., batch_sampler=<this sampler>)")
        for batch in loader:
            index, value = self._select(self._step)
            self._step += 1
            yield Weights(index, value, self.n), batch

    def state_dict(self) -> SamplerState:
        """Return the state from which a run can resume.

        Returns:
            Seed, step, the law as text, and n.
        """
        return {"seed": self.seed, "step": self._step, "law": repr(self.law), "n": self.n}

    def load_state_dict(self, state: SamplerState) -> None:
        """Resume from ``state``; call this between two passes over the loader.

        Args:
            state: a state returned by `state_dict`.

        Raises:
            ValueError: ``state`` has another seed, law or number of examples, or is not a state of this class.
        """
        check_state("WeightedBatchSampler", state, self.state_dict(), ("seed", "law", "n"))
        generator(self.seed, state["step"])
        self._step = state["step"]
        self._ranks = None  # the ranks compare their states again

    def _select(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return this rank's examples of a step and their weights; one example of weight 0 if there are none."""
        if self._ranks is None:
            processes = ranks(self.group, self.layout)
            processes.check_equal({**self.state_dict(), "steps": self.steps, "layout": self.layout})
            self._ranks = processes
        drawn = self.law.draw(self.n, seed=self.seed, step=step)
        index = torch.arange(self.n) if drawn.index is None else drawn.index
        mine = self._ranks.share(len(index))
        if len(mine) == 0:
            return torch.zeros(1, dtype=torch.int64), torch.zeros(1)
        return index[mine], drawn.value[mine] * self._ranks.size


def _chooses(law: Law, n: int) -> bool:
    """Whether a law gives most examples the weight 0. For a law that is not known here, one draw decides."""
    if isinstance(law, Scheduled):
        law = law.law_of_step(0)
    if isinstance(law, Grouped):
        return _chooses(law.inner, law.size)
    if isinstance(law, Emulate):
        return law.kind == "bernoulli"
    if isinstance(law, _CHOOSING + _DENSE):
        return isinstance(law, _CHOOSING)
    return law.draw(n, seed=0, step=0).index is not None
