"""Positions of each process's examples in the logical batch that all processes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any  #: a process group, "world" or None
Layout = Literal["strided", "blocked"]  #: how the examples of a batch are distributed over the ranks


@dataclass(frozen=True)
class Ranks:
    """The processes that share a logical batch, and the rank of this one among them.

    Args:
        rank: rank of this process.
        size: number of processes.
        layout: "strided": example j of rank r has position j·size + r, as with DistributedSampler. "blocked": the
            examples of rank 0 come first, then those of rank 1, and so on.
        group: process group of torch.distributed with the backend gloo; None if there is only one process.
    """

    rank: int = 0
    size: int = 1
    layout: Layout = "strided"
    group: Any = None

    def positions(self, counts: list[int]) -> Tensor:
        """Return the positions of this process's examples in a micro-batch that is spread over all processes.

        If the ranks hold different numbers of examples, the strided layout continues among the ranks that have
        examples left.

        Args:
            counts: number of examples at each rank.

        Returns:
            int64 tensor of shape (counts[rank],), in increasing order.
        """
        own = torch.arange(counts[self.rank])
        if self.layout == "blocked":
            return own + sum(counts[: self.rank])
        before = [torch.clamp(own, max=count) for count in counts]  # examples of each rank in earlier rounds
        ahead = [(own < count).to(torch.int64) for count in counts[: self.rank]]  # lower ranks in the same round
        return torch.stack(before + ahead).sum(0)

    def share(self, total: int) -> Tensor:
        """Return the positions of this process's share of the examples, distributed as evenly as possible.

        Args:
            total: number of examples at all ranks together.

        Returns:
            int64 tensor in increasing order; empty if ``total`` ≤ rank.
        """
        return self.positions([len(range(rank, total, self.size)) for rank in range(self.size)])

    def all_gather(self, numbers: list[float]) -> list[list[float]]:
        """Collect some numbers from each rank, in one collective operation between hosts that waits for no device.

        Args:
            numbers: this rank's numbers; every rank passes the same count.

        Returns:
            The numbers of each rank, in the order of the ranks.
        """
        if self.size == 1:
            return [numbers]
        mine = torch.tensor(numbers, dtype=torch.float64)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyones, mine, group=self.group)
        return [theirs.tolist() for theirs in everyones]

    def check_equal(self, mine: dict[str, Any]) -> None:
        """Raise if the ranks differ in values that they must share.

        Args:
            mine: this rank's values, by name.

        Raises:
            ValueError: the values of another rank differ; every rank raises the same error.
        """
        if self.size == 1:
            return
        theirs: list[dict[str, Any]] = [{} for _ in range(self.size)]
        dist.all_gather_object(theirs, mine, group=self.group)
        for key in mine:
            values = [state[key] for state in theirs]
            if any(value != values[0] for value in values):
                raise ValueError(
                    f"the ranks differ in {key} ({', '.join(map(str, values[:4]))}{', …' if self.size > 4 else ''}): "
                    "use the same value on every rank (not seed + rank), because all ranks share one draw"
                )


def ranks(group: Any, layout: Layout) -> Ranks:
    """Return the processes of a group, or only this process if torch.distributed is not initialised.

    Args:
        group: a process group of torch.distributed; "world": all processes; None: this process alone.
        layout: see `Ranks`.

    Returns:
        The processes.

    Raises:
        ValueError: ``layout`` is unknown, or this process is not in the group.
    """
    if layout not in ("strided", "blocked"):
        raise ValueError(f'layout must be "strided" or "blocked", not {layout!r}')
    if group is None or not dist.is_available() or not dist.is_initialized():
        return Ranks(layout=layout)
    chosen = dist.group.WORLD if group == "world" else group
    rank, size = dist.get_rank(chosen), dist.get_world_size(chosen)
    if rank < 0:
        raise ValueError("this process is not in the group: pass the group of the processes that share the batch")
    if size > 1 and dist.get_backend(chosen) != "gloo":
        # NCCL exchanges device tensors, so the hosts would wait for their devices; gloo exchanges host tensors.
        members = dist.get_process_group_ranks(chosen)
        chosen = dist.new_group(members, backend="gloo", use_local_synchronization=True)
    return Ranks(rank, size, layout, chosen)
