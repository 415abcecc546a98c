"""Optimizer steps that are checked against the logical batches: one logical batch for each step."""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from msgd.reweighting.draws import Draws

_REMEDY = "pass logical_batch=, the number of examples of a step, or use watch(optimizer, learn=True)"


class StepWatch:
    """Hooks of an optimizer that raise if a step does not use exactly one logical batch; ``remove()`` ends it.

    Args:
        draws: the draws of a `Reweighter`.
        optimizer: the optimizer; a wrapper with the attribute ``optimizer`` is looked through.
        scaler: the GradScaler that performs the steps, if there is one; a step that it skips ends the logical batch.
        learn: take the size of a logical batch from the steps before it, instead of raising.

    Raises:
        TypeError: ``optimizer`` is not an optimizer of torch.
    """

    def __init__(self, draws: Draws, optimizer: Any, scaler: Any = None, learn: bool = False) -> None:
        optimizer = _inner(optimizer)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"watch needs an optimizer of torch.optim, not {type(optimizer).__name__}")
        # A Reweighter that is replaced takes its watch along.
        self._draws = weakref.ref(draws, lambda _: self.remove())
        self._optimizer: Optimizer = optimizer
        self._learn = draws.learning = learn
        self._sizes: deque[int] = deque([draws.logical_batch] if draws.logical_batch else [], maxlen=2)
        self._warned = False
        self._given = -1  # the last given step of an earlier optimizer step
        self._stepped = False  # whether the optimizer was called within a step of the scaler
        self._removals: list[Callable[[], None]] = [optimizer.register_step_pre_hook(self._before_step).remove]
        if scaler is not None:
            self._look_through(scaler)
        self._reset()

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # the copy of a `Reweighter` has none

    @property
    def active(self) -> bool:
        """Whether it watches: until ``remove()``."""
        return bool(self._removals)

    def remove(self) -> None:
        """Stop watching."""
        draws = self._draws()
        if draws is not None:
            draws.learning = False
        for removal in self._removals:
            removal()
        self._removals = []

    def _look_through(self, scaler: Any) -> None:
        """Notice the steps that a GradScaler skips, in which it does not call the optimizer."""
        step = scaler.step

        def watched(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            self._stepped = False
            result = step(optimizer, *args, **kwargs)
            if _inner(optimizer) is self._optimizer and not self._stepped:
                self._check()
            return result

        scaler.step = watched
        self._removals.append(lambda: vars(scaler).pop("step", None))

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check the logical batch of this step."""
        del optimizer
        self._stepped = True
        # A closure computes the losses within the step: those of the step before are there now.
        self._check(closure=(len(args) > 1 and args[1] is not None) or kwargs.get("closure") is not None)

    def _check(self, *, closure: bool = False) -> None:
        draws = self._draws()
        if draws is None:
            return
        seen, completed, pending = draws.examples_since_step, draws.batches_since_step, draws.offset
        given = draws.given_since_step
        self._reset()
        if given is not None and given <= self._given:
            raise ValueError(
                f"an optimizer step with the draw of step {given}, which an earlier optimizer step had: pass a number "
                "that counts the optimizer steps of all epochs as step="
            )
        self._given = self._given if given is None else given
        if closure:
            self._check_closure(completed)
            return
        if self._learn:
            self._learn_from(draws, seen, completed)
            return
        if seen == 0 and given is None:
            raise ValueError(
                "an optimizer step without weighted examples: call reweight(losses) or reweight.outputs(y) in every "
                "step, or attach to a module that the loss depends on"
            )
        if pending:
            n = draws.logical_batch
            raise ValueError(
                f"an optimizer step after {pending} of {n} examples of a logical batch: before a shorter one call "
                f"reweight.begin(its size), or {_REMEDY}"
            )
        if completed > 1:
            raise ValueError(
                f"an optimizer step after {completed} logical batches, {seen} examples together: with accumulation "
                f"{_REMEDY}; otherwise weight all outputs of a batch in one call, evaluate under torch.no_grad(), give "
                "both passes of SAM the same step=, give each of several optimizers a Reweighter of its own, and pass "
                "scaler= for a GradScaler, which may skip steps"
            )

    def _check_closure(self, completed: int) -> None:
        """Raise if the passes of one step, such as those of LBFGS, had different draws."""
        if completed > 1:
            raise ValueError(
                f"{completed} draws in the closure of one optimizer step, which then compares different losses: pass "
                "step=, the number of the optimizer step, in the closure"
            )

    def _learn_from(self, draws: Draws, seen: int, completed: int) -> None:
        """Take the size of the next logical batch from the last two steps, so that one short step changes nothing."""
        if seen == 0:
            return
        if not self._sizes and draws.logical_batch:
            self._sizes.append(draws.logical_batch)  # of a run that goes on
        if self._sizes and seen != draws.logical_batch and not self._warned:
            self._warned = True
            warnings.warn(
                f"a step of {seen} examples where {draws.logical_batch} were expected from the steps before it: "
                "some of them have noise of another strength; call reweight.begin(size) to announce a shorter step",
                UserWarning,
                stacklevel=4,
            )
        self._sizes.append(seen)
        draws.begin(max(self._sizes), step=draws.step if completed else draws.step + 1)

    def _reset(self) -> None:
        draws = self._draws()
        if draws is not None:
            draws.examples_since_step = draws.batches_since_step = 0
            draws.given_since_step = None


def _inner(optimizer: Any) -> Any:
    """Look through wrappers of an optimizer."""
    while (wrapped := getattr(optimizer, "optimizer", getattr(optimizer, "base_optimizer", None))) is not None:
        optimizer = wrapped
    return optimizer
