"""Statistics over independent values: intervals, paired tests of a difference and of equivalence, Holm's correction."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from msgd.statistics.intervals import Estimate
from msgd.statistics.multiple_testing import holm

if TYPE_CHECKING:
    from msgd.statistics.paired_tests import Comparison, compare, mean_interval

__all__ = ["Comparison", "Estimate", "compare", "holm", "mean_interval"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a worker that trains needs no tests, and scipy.stats takes 0.4 s.
    if name not in ("Comparison", "compare", "mean_interval"):
        raise AttributeError(f"module 'msgd.statistics' has no attribute {name!r}")
    return getattr(import_module("msgd.statistics.paired_tests"), name)
