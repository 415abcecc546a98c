"""Where the examples of each process stand in the logical batch that all processes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

Group = Any  #: a process group, "world" or None
Layout = Literal["strided", "blocked"]  #: how a batch was dealt to the ranks


@dataclass(frozen=True)
class Ranks:
    """The processes that share a logical batch, and which of them this one is.

    Args:
        rank: of this process.
        size: number of processes.
        layout: "strided": example j of rank r is the (j·size + r)-th, as DistributedSampler deals them; "blocked":
            those of rank 0 come first, then those of rank 1.
        group: of torch.distributed, whose backend is gloo; None: there is one process.
    """

    rank: int = 0
    size: int = 1
    layout: Layout = "strided"
    group: Any = None

    def positions(self, counts: list[int]) -> Tensor:
        """Positions of this process's examples in a micro-batch that is spread over all.

        Where ranks hold different numbers of examples, a strided deal goes on among those that have some left.

        Args:
            counts: number of examples at each rank.

        Returns:
            int64, shape (counts[rank],), in increasing order.
        """
        own = torch.arange(counts[self.rank])
        if self.layout == "blocked":
            return own + sum(counts[: self.rank])
        before = [torch.clamp(own, max=count) for count in counts]  # dealt to each rank in the rounds before
        ahead = [(own < count).to(torch.int64) for count in counts[: self.rank]]  # and in this round before this rank
        return torch.stack(before + ahead).sum(0)

    def dealt(self, together: int) -> Tensor:
        """Positions of this process's share of so many examples, dealt as evenly as can be.

        Args:
            together: number of examples at all ranks.

        Returns:
            int64, in increasing order; empty where there are fewer examples than ranks before this one.
        """
        return self.positions([len(range(rank, together, self.size)) for rank in range(self.size)])

    def gathered(self, numbers: list[float]) -> list[list[float]]:
        """Some numbers from each rank, in one collective operation between hosts: no device is waited for.

        Args:
            numbers: this rank's, as many as every other's.

        Returns:
            Those of each rank, in the order of the ranks.
        """
        if self.size == 1:
            return [numbers]
        mine = torch.tensor(numbers, dtype=torch.float64)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyones, mine, group=self.group)
        return [theirs.tolist() for theirs in everyones]

    def check_alike(self, mine: dict[str, Any]) -> None:
        """Refuse ranks that differ in what they must share.

        Args:
            mine: what this rank has.

        Raises:
            ValueError: another rank has something else; every rank raises the same error.
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
                    "give all the same, since they take their parts of one draw (no seed + rank)"
                )


def ranks(group: Any, layout: Layout) -> Ranks:
    """The processes of a group; this one alone where torch.distributed is not initialised.

    Args:
        group: a process group of torch.distributed; "world": all processes; None: this process alone.
        layout: as in `Ranks`.

    Returns:
        The processes.

    Raises:
        ValueError: there is no such layout, or this process is not in the group.
    """
    if layout not in ("strided", "blocked"):
        raise ValueError(f'layout must be "strided" or "blocked", not {layout!r}')
    if group is None or not dist.is_available() or not dist.is_initialized():
        return Ranks(layout=layout)
    chosen = dist.group.WORLD if group == "world" else group
    rank, size = dist.get_rank(chosen), dist.get_world_size(chosen)
    if rank < 0:
        raise ValueError("this process is not in the group: give the group of the processes that share the batch")
    if size > 1 and dist.get_backend(chosen) != "gloo":
        # NCCL exchanges what is on the devices, and hosts would wait for them; gloo goes from host to host.
        members = dist.get_process_group_ranks(chosen)
        chosen = dist.new_group(members, backend="gloo", use_local_synchronization=True)
    return Ranks(rank, size, layout, chosen)
