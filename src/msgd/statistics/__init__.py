"""Statistics over independent values: intervals, paired tests of a difference and of equivalence, Holm's correction."""

from msgd.statistics.intervals import Estimate
from msgd.statistics.multiple_testing import holm
from msgd.statistics.paired_tests import Comparison, compare, mean_interval

__all__ = ["Comparison", "Estimate", "compare", "holm", "mean_interval"]
