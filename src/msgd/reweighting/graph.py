"""Questions to the graph that autograd records."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
import torch.utils.checkpoint
from torch import Tensor


def ungated_leaf(y: Tensor) -> Tensor | None:
    """Return a parameter that a tensor leads to without passing a gate, by a walk through its graph.

    Args:
        y: a loss or outputs.

    Returns:
        The first that is found, or None: all of the gradient is weighted.
    """
    nodes, seen = [y.grad_fn], set()
    while nodes:
        node: Any = nodes.pop()
        # A compiled function may contain a gate: what lies behind it is not known.
        if node is None or node in seen or any(name in type(node).__name__ for name in ("_Gate", "CompiledFunction")):
            continue
        seen.add(node)
        leaf: Tensor | None = getattr(node, "variable", None)
        if leaf is not None:
            return leaf
        nodes += [edge for edge, _ in node.next_functions]
    return None


def ungated_parameter(y: Tensor, named: Iterable[tuple[str, Tensor]]) -> str | None:
    """Describe a parameter that a tensor leads to without passing a gate.

    Args:
        y: a loss or outputs.
        named: the parameters of the model, by name.

    Returns:
        "parameter" with its name, if it has one; None if all of the gradient is weighted.
    """
    leaf = ungated_leaf(y)
    if leaf is None:
        return None
    return next((f"parameter {name}" for name, each in named if each is leaf), "parameter")


def recomputed() -> bool:
    """Say whether this forward pass is the second one of activation checkpointing, within a backward pass.

    Returns:
        True if it is.

    Raises:
        ValueError: the checkpoint is reentrant, so that its first pass ran without gradients.
    """
    if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
        return False
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename == torch.utils.checkpoint.__file__:
            if frame.f_code.co_name == "backward":
                raise ValueError(
                    "the outputs lie inside a reentrant checkpoint, whose first pass has no gradients: use "
                    "use_reentrant=False, or weight the outputs outside of it"
                )
            return True
    return False
