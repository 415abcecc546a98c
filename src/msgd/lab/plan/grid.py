"""The grid of a phase diagram: every method at every learning rate and batch size, and its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msgd.lab.plan.resolve import resolve
from msgd.lab.plan.run import Run
from msgd.lab.recipes.schema import Recipe


@dataclass(frozen=True)
class Cell:
    """A method at one learning rate and, if its law has a batch size, at one batch size."""

    method: str
    lr: float
    b: float | None

    @property
    def name(self) -> str:
        """The cell's name as a method, such as ``sgd+lr0p1+b20``, with p for the decimal point."""
        parts = [self.method, f"lr{self.lr:g}", *([] if self.b is None else [f"b{self.b:g}"])]
        return "+".join(parts).replace(".", "p")


def cells(recipe: Recipe) -> dict[str, Cell]:
    """List the cells of a recipe with a table ``[grid]``.

    Args:
        recipe: the recipe.

    Returns:
        The cells by name, grouped by method.
    """
    assert recipe.grid is not None
    table = {}
    for name in recipe.methods:
        size = recipe.grid.b[0]
        has_b = recipe.law(name, b=size) != recipe.law(name, b=size + 1)
        sizes: Sequence[float | None] = recipe.grid.b if has_b else [None]
        for lr in recipe.grid.lr:
            for b in sizes:
                cell = Cell(name, lr, b)
                table[cell.name] = cell
    return table


def grid_runs(recipe: Recipe, *, n: int, digests: Sequence[str]) -> list[Run]:
    """List every run of a recipe with a table ``[grid]``.

    Args:
        recipe: the recipe.
        n: number of training examples.
        digests: as in `resolve`.

    Returns:
        The runs, whose methods are the names of the cells.
    """
    planned = []
    for name, cell in cells(recipe).items():
        method = recipe.methods[cell.method].model_copy(update={"lr": cell.lr})
        alone = recipe.model_copy(update={"b": recipe.b if cell.b is None else cell.b, "methods": {name: method}})
        planned += resolve(alone, n=n, digests=digests)
    return planned


def references(recipe: Recipe) -> dict[str, str]:
    """Map each cell to the cell it is compared with: the reference at the same learning rate and batch size, if any."""
    table = cells(recipe)
    base = {(cell.lr, cell.b): name for name, cell in table.items() if cell.method == recipe.reference}
    matches = {name: base.get((cell.lr, cell.b)) or base.get((cell.lr, None)) for name, cell in table.items()}
    return {name: other for name, other in matches.items() if other and table[name].method != recipe.reference}


def planned_runs(recipe: Recipe, *, n: int, digests: list[str]) -> list[Run]:
    """List all runs of a recipe, with or without a grid (see `resolve`)."""
    return (grid_runs if recipe.grid else resolve)(recipe, n=n, digests=digests)
