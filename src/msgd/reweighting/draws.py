"""The draws of a law in a training loop: one per logical batch, split over micro-batches and ranks."""

from __future__ import annotations

import gc
import warnings
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.join import Joinable

from msgd._checks import check_sample_weight, check_state, check_weights_add_up, positive_integer
from msgd.noise.law import Law, Weights
from msgd.noise.streams import generator
from msgd.reweighting.ranks import Layout, Ranks, ranks

_AVERAGING = {"DistributedDataParallel", "DDP", "FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine"}


class ReweighterState(TypedDict):
    """State of a `Reweighter`, as returned by ``state_dict``."""

    seed: int
    step: int
    offset: int
    law: str
    logical_batch: int | None


class Draws:
    """Positions in the draws of a law: which weights belong to the next examples of this process.

    A logical batch is all the examples between two optimizer steps, over all micro-batches and ranks. Its n weights are
    drawn once, from ``(seed, step)``; successive micro-batches use successive positions.

    Args:
        law: law of the weights.
        seed: seed of the noise.
        logical_batch: number of examples of a logical batch; None: each micro-batch is one.
        group: the processes that share a logical batch, as in `msgd.Reweighter`.
        layout: how a batch is distributed over the ranks, as in `msgd.Reweighter`.
        equal: whether all ranks always have the same number of examples, so that they need not exchange it.

    Raises:
        TypeError: ``law`` is not a law, or a number is not an integer.
        ValueError: a number is out of range, or ``layout`` is unknown.
    """

    _weights_seen = False  #: whether the values of a tensor of sample weights were checked

    def __init__(
        self,
        law: Law,
        seed: int,
        logical_batch: int | None = None,
        group: Any = "world",
        layout: Layout = "strided",
        equal: bool = False,
    ) -> None:
        if not isinstance(law, Law):
            raise TypeError(f"law must be a law such as noise.Emulate(b=256), not {law!r}")
        generator(seed, 0)  # raises for an invalid seed now, not at the first step
        if logical_batch is not None:
            law.moments(positive_integer("logical_batch", logical_batch))  # raises if the law is not defined for this n
        ranks(None, layout)  # raises for an unknown layout now
        self.law = law
        self.seed = seed
        self.logical_batch = logical_batch
        self.group = group
        self.layout: Layout = layout
        self.equal = equal
        self.step = 0
        self.offset = 0
        self.learning = False  # whether a `StepWatch` takes the sizes of logical batches from the steps before
        self.batches_since_step = 0  # complete ones, since the optimizer step that a `StepWatch` saw last
        self.examples_since_step = 0
        self.given_since_step: int | None = None  # the last step that a call was given; such calls are not counted
        self._ranks: Ranks | None = None  # set at the first call, because torch.distributed may be initialised later
        self._drawn: tuple[tuple[Law, int, int], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy finds its processes anew, and no optimizer is watched for it.
        return vars(self) | {"_ranks": None, "learning": False}

    def begin(self, n: int | None, *, step: int | None = None) -> None:
        """Begin a logical batch whose size becomes known only now, such as a short last one; drop an incomplete one.

        Args:
            n: number of examples, which becomes ``logical_batch``; None: the next call is a complete logical batch.
            step: step of its draw; None: the next step.

        Raises:
            TypeError: a number is not an integer.
            ValueError: a number is out of range, or the law is not defined for this n.

        Examples:
            >>> from msgd import Reweighter, noise
            >>> reweight = Reweighter(noise.Cov(b=2), seed=0)
            >>> reweight.begin(3)  # two micro-batches follow, of 2 and 1
            >>> loss = reweight(torch.ones(2)) + reweight(torch.ones(1))
            >>> round(float(loss), 5), reweight.step
            (1.0, 1)
        """
        if n is not None:
            self.law.moments(positive_integer("n", n))
        step = self.step if step is None else step
        generator(self.seed, step)
        self.logical_batch, self.step, self.offset = n, step, 0

    def flush(self) -> float:
        """End a logical batch that is shorter than ``logical_batch``, and advance.

        Returns:
            n / (number of losses so far): multiply the accumulated gradient by this factor to divide by the actual
            size instead of n. 1.0 if no logical batch is incomplete.

        Raises:
            ValueError: the law couples the weights of a logical batch, so that a part of them follows another law.
        """
        offset, n = self.offset, self.logical_batch
        if offset == 0 or n is None:
            return 1.0
        if self.law.coupled:
            raise ValueError(
                f"only {offset} of {n} losses came, and {self.law!r} couples all their weights: "
                "drop this gradient (optimizer.zero_grad()) and call discard()"
            )
        self.discard()
        return n / offset

    def discard(self) -> None:
        """Abandon an incomplete logical batch, whose gradient must not be used, and advance."""
        if self.offset:
            self.step, self.offset = self.step + 1, 0

    def state_dict(self) -> ReweighterState:
        """Return the state from which a run can resume.

        Returns:
            Seed, step, offset within the logical batch, its size, and the law as text.
        """
        return {
            "seed": self.seed,
            "step": self.step,
            "offset": self.offset,
            "law": repr(self.law),
            "logical_batch": self.logical_batch,
        }

    def load_state_dict(self, state: ReweighterState) -> None:
        """Resume from ``state``.

        Args:
            state: a state returned by `state_dict`.

        Raises:
            ValueError: ``state`` has another seed, law or logical batch, or is not a state of this class.
        """
        same = ("seed", "law") if self.learning else ("seed", "law", "logical_batch")
        check_state("Reweighter", state, self.state_dict(), same)
        generator(self.seed, state["step"])
        n = state["logical_batch"]
        if not 0 <= state["offset"] < (n or 1):
            raise ValueError(f"offset {state['offset']} lies outside the logical batch of {n or 1}")
        self.begin(n, step=state["step"])
        self.offset = self.examples_since_step = state["offset"]
        self._ranks = None  # the ranks compare their states again

    def _processes(self) -> Ranks:
        """Return the processes that share the logical batch; the first call checks that their states agree.

        Returns:
            The processes.

        Raises:
            ValueError: the ranks differ in a value that they must share, or the inputs may end early on some ranks.
        """
        if self._ranks is None:
            processes = ranks(self.group, self.layout)
            if processes.size > 1 and self.group == "world":
                _look_at_parallel_modules()
            values = ("seed", "step", "offset", "logical_batch", "layout", "equal")
            processes.check_equal({"law": repr(self.law), **{name: getattr(self, name) for name in values}})
            self._ranks = processes
        return self._ranks

    def _counts(self, n: int) -> list[int]:
        """Collect the number of examples of each rank, in one operation, or in none if they are equal.

        Args:
            n: number of examples of this process.

        Returns:
            The numbers of examples.
        """
        processes = self._processes()
        if self.equal:
            return [n] * processes.size
        return self._exchange(n, "", 0.0)[0]

    def _exchange(self, n: int, given: str, value: float) -> tuple[list[int], list[float]]:
        """Collect the number of examples of each rank and a value, always as many numbers whatever a rank passed."""
        kind = float(["", "sample_weight", "total"].index(given))
        shared = self._processes().all_gather([float(n), kind, value])
        if any(other != kind for _, other, _ in shared):
            raise ValueError("only some ranks passed sample_weight or total: pass it on all ranks or on none")
        return [int(count) for count, _, _ in shared], [each for _, _, each in shared]

    def _sum_sample_weight(self, sample_weight: Tensor, losses: Tensor, total: Any) -> Tensor:
        """Return the sum of the sample weights; refuse those that would give NaN, at least in the first call.

        In later calls the values of weights on a device are not looked at, because this would wait for the device.
        """
        check_sample_weight(sample_weight, losses)
        own = sample_weight.sum(dtype=torch.promote_types(sample_weight.dtype, torch.float32))
        if torch.compiler.is_compiling() or (self._weights_seen and sample_weight.device.type != "cpu"):
            return own
        self._weights_seen = True
        if total is None and (not torch.is_grad_enabled() or self._processes().size == 1):
            total = own
        check_weights_add_up(sample_weight, total)
        return own

    def _counts_and_total(self, n: int, own: Tensor, total: Any) -> tuple[list[int], Any]:
        """Collect the number of examples of each rank, and the sum of the sample weights of all.

        Args:
            n: number of examples of this process.
            own: sum of the sample weights of this process.
            total: the sum over the logical batch of all ranks, if it is given.

        Returns:
            The numbers of examples, and the sum.

        Raises:
            ValueError: ``total`` is given on some ranks only, or differs between them; or all weights are 0.
        """
        if self._processes().size == 1 or self.equal:
            return self._counts(n), own if total is None else total
        given = total is not None
        counts, values = self._exchange(n, *(("total", float(total)) if given else ("sample_weight", float(own))))
        if given and any(value != values[0] for value in values):
            raise ValueError(
                f"total differs between the ranks ({', '.join(map(str, values[:4]))}): pass the sum of c_i over the "
                "logical batch of all ranks, e.g. after torch.distributed.all_reduce"
            )
        if not given and not sum(values) > 0:
            raise ValueError("sample_weight is 0 for all examples of all ranks: leave out this batch on every rank")
        return counts, total if given else sum(values)

    def _next(self, counts: list[int], step: int | None = None, offset: int | None = None) -> Weights:
        """Return the weights of this process's examples in a micro-batch, and advance if no step is given.

        Args:
            counts: number of examples of each rank.
            step: use the draw of this step, and do not advance.
            offset: with ``step``: the position of the first example of the micro-batch.

        Returns:
            Weights on the CPU, in float32.

        Raises:
            ValueError: the micro-batch exceeds the logical batch, or ``offset`` and ``step`` do not fit.
        """
        together = sum(counts)
        if step is None and offset is not None:
            raise ValueError("offset goes with step: pass both, or neither to continue at the current position")
        if step is not None:
            if offset is None and together != (self.logical_batch or together):
                raise ValueError(
                    f"{together} of {self.logical_batch} losses with step={step}: pass offset=, the first position"
                )
            self.given_since_step = step
            return self._part(counts, step, offset or 0)
        self.examples_since_step += together
        n = self.logical_batch
        if self.learning and (n is None or self.batches_since_step or self.offset + together > n):
            return Weights(None, torch.ones(counts[self._processes().rank]), n or together)
        part = self._part(counts, self.step, self.offset)
        self.offset += together
        if self.offset >= (self.logical_batch or together):
            self.step, self.offset = self.step + 1, 0
            self.batches_since_step += 1
        return part

    def _part(self, counts: list[int], step: int, offset: int) -> Weights:
        """Return the weights of this rank's part of a micro-batch at ``offset``; rank r has ``counts[r]`` examples."""
        together, everyone = sum(counts), self._processes()
        whole = together if self.logical_batch is None else self.logical_batch
        if whole == 0:
            raise ValueError("no examples: the batch is empty, or all numbers in examples= are negative")
        if not 0 <= offset <= whole - together:
            raise ValueError(
                f"{together} losses from position {offset} run past the logical batch of {whole}: the micro-batches of "
                f"a step must add up to it; after a short one call {'discard' if self.law.coupled else 'flush'}()"
            )
        if self._drawn is None or self._drawn[0] != (self.law, step, whole):
            # One dense draw serves all micro-batches of the step.
            self._drawn = (self.law, step, whole), self.law.draw(whole, seed=self.seed, step=step).dense()
        value = self._drawn[1]
        if everyone.size == 1 and together == whole:
            return Weights(None, value, whole)
        index = offset + everyone.positions(counts)
        return Weights(index, value[index], whole)


def _look_at_parallel_modules() -> None:
    """Look once for a Join context, and for a module that averages gradients over the ranks."""
    # type() and not isinstance(), which fails for a weak proxy whose object is gone.
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), Joinable | nn.Module)]
    if any(getattr(getattr(thing, "_join_config", None), "enable", False) for thing in found):
        raise ValueError(
            "inside Join the inputs may end early on some ranks, and the others would wait for them: use a "
            "DistributedSampler instead of Join, which gives every rank equally many batches; pass "
            "group=torch.distributed.group.WORLD if the Join has ended"
        )
    kinds = {cls.__name__ for thing in found for cls in type(thing).__mro__}
    if not kinds & _AVERAGING:
        warnings.warn(
            "torch.distributed is initialised, but this process has no module in DDP or FSDP: if each process trains a "
            "model of its own, pass group=None; if you average the gradients yourself, pass "
            "group=torch.distributed.group.WORLD",
            UserWarning,
            stacklevel=2,
        )
