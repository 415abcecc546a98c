"""Verdicts: against SciPy's own tests, on data whose answer is known, with stated error rates."""

import numpy as np
import pytest
from scipy import stats

from msgd.statistics.paired_tests import compare, mean_interval


def scores(differences, *, base=0.5, name="m"):
    return {"ref": dict.fromkeys(range(len(differences)), base), name: {i: base + d for i, d in enumerate(differences)}}


def one(differences, margin=0.015):
    (comparison,) = compare(scores(differences), "ref", margin)
    return comparison


def test_against_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.47, 0.01, 9), rng.normal(0.46, 0.01, 9)
    (c,) = compare({"ref": dict(enumerate(a)), "m": dict(enumerate(b))}, "ref", 0.02)
    test = stats.ttest_rel(b, a)
    assert c.p_unadjusted == pytest.approx(test.pvalue, rel=1e-12)
    for level, low, high in ((0.95, c.ci_low, c.ci_high), (0.90, c.ci90_low, c.ci90_high)):
        interval = test.confidence_interval(level)
        assert (low, high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    lower = stats.ttest_1samp(b - a, -0.02, alternative="greater").pvalue
    upper = stats.ttest_1samp(b - a, 0.02, alternative="less").pvalue
    assert c.p_equivalence == pytest.approx(max(lower, upper), rel=1e-12)


def test_tost_is_the_90_percent_interval():
    rng = np.random.default_rng(1)
    for _ in range(300):
        c = one(rng.normal(rng.uniform(-0.02, 0.02), 0.01, 8))
        inside = c.ci90_low > -0.015 and c.ci90_high < 0.015
        assert inside == (c.p_equivalence < 0.05)
        assert (
            c.verdict
            in {
                (True, True): "negligible",
                (True, False): "different",
                (False, True): "equivalent",
                (False, False): "inconclusive",
            }[(c.p_difference <= 0.05, inside)]
        )


def test_the_four_verdicts():
    jitter = np.array([-1, 1, -1, 1, -1, 1, -1, 1]) * 0.002
    assert one(0.000 + jitter).verdict == "equivalent"
    assert one(0.040 + jitter).verdict == "different"
    assert one(0.008 + jitter).verdict == "negligible"
    noisy = one(0.005 + 10 * jitter)
    assert noisy.verdict == "inconclusive"
    assert noisy.seeds_needed > 8


def test_error_rates_of_both_claims():
    """With no true difference "different" in ≤ 5% of families; at the margin "equivalent" in ≤ 5%.

    Each count is binomial; the bound is its upper 1e-4 quantile at a rate of 5%, so a false alarm has that probability.
    """
    rng = np.random.default_rng(2)
    number, bound = 1000, stats.binom.isf(1e-4, 1000, 0.05)
    false_difference = false_equivalence = 0
    for _ in range(number):
        base = rng.normal(0.47, 0.01, 8)
        family = {"ref": base, **{f"m{i}": base + rng.normal(0, 0.006, 8) for i in range(4)}}
        table = {name: dict(enumerate(values)) for name, values in family.items()}
        false_difference += any(c.p_difference <= 0.05 for c in compare(table, "ref", 0.015))
        edge = one(rng.normal(0.015, 0.006, 8))
        false_equivalence += edge.verdict in ("equivalent", "negligible")
    assert false_difference <= bound
    assert false_equivalence <= bound
    # Negative control: without Holm's adjustment four tests exceed the bound.
    unadjusted = sum(
        any(stats.ttest_1samp(rng.normal(0, 0.006, 8), 0).pvalue <= 0.05 for _ in range(4)) for _ in range(number)
    )
    assert unadjusted > stats.binom.isf(1e-4, number, 0.05)


def test_the_number_of_seeds_that_would_do():
    """With that many seeds, drawn with the observed mean and spread, one of the two tests passes 80% of the time."""
    differences = 2 * np.array([0.004, -0.012, 0.015, -0.006, 0.011, 0.009, -0.011, 0.014])
    c = one(differences)
    assert c.verdict == "inconclusive"
    rng = np.random.default_rng(3)
    draws = rng.normal(differences.mean(), differences.std(ddof=1), (3000, c.seeds_needed))
    verdicts = [one(row) for row in draws]
    differ = np.mean([v.p_difference <= 0.05 for v in verdicts])
    same = np.mean([v.p_equivalence < 0.05 for v in verdicts])
    assert 0.77 < max(differ, same) < 0.87  # the next whole number of seeds overshoots a little
    assert one(np.array([-0.3, 0.33])).seeds_needed is None  # beyond what one would run


def test_pairs_are_by_seed_and_incomplete_ones_are_left_out():
    table = {"ref": {0: 0.1, 1: 0.2, 2: 0.3}, "m": {2: 0.31, 1: 0.22, 7: 0.9}, "none": {9: 0.5}}
    (c,) = compare(table, "ref", 0.05)
    assert (c.method, c.seeds) == ("m", 2)
    assert c.difference == pytest.approx(0.015)
    assert compare({"m": {0: 0.1}}, "ref", 0.05) == []


def test_one_seed_and_no_spread():
    c = one([0.02])
    assert (c.verdict, c.ci_low, c.p_difference, c.seeds_needed) == ("inconclusive", None, None, None)
    # Pairs that all differ alike have no spread; what is left is their number: a sign test.
    assert one([0.0] * 3).verdict == "inconclusive"
    assert one([0.0] * 5).verdict == "equivalent"
    constant = compare({"ref": {0: 0.25, 1: 0.5}, "m": {0: 0.5, 1: 0.75}}, "ref", 0.1)[0]
    assert (constant.verdict, constant.p_difference, constant.p_equivalence) == ("inconclusive", 0.5, 1.0)
    assert one([0.25] * 6).verdict == "different"


def test_without_a_margin_only_a_difference_can_be_shown():
    jitter = np.array([-1, 1, -1, 1, -1, 1, -1, 1]) * 0.002
    same, apart = one(0.0 + jitter, None), one(0.04 + jitter, None)
    assert (same.verdict, apart.verdict) == ("inconclusive", "different")
    assert (apart.margin, apart.p_equivalence) == (None, None)
    assert apart.p_difference == pytest.approx(stats.ttest_1samp(0.04 + jitter, 0).pvalue, rel=1e-9)
    assert one(0.0 + jitter, 0.015).verdict == "equivalent"  # a control


def test_the_seeds_of_the_t_test_alone():
    """Against the power of a t-test from the noncentral t distribution, summed over both tails."""
    differences = np.array([0.004, -0.012, 0.015, -0.006, 0.011, 0.009, -0.011, 0.014])
    needed = one(differences, None).seeds_needed
    assert needed > one(differences, 0.009).seeds_needed  # equivalence can be shown sooner
    effect = differences.mean() / differences.std(ddof=1)
    power = []
    for n in (needed - 1, needed):
        t = stats.t.ppf(0.975, n - 1)
        power.append(stats.nct.sf(t, n - 1, effect * np.sqrt(n)) + stats.nct.cdf(-t, n - 1, effect * np.sqrt(n)))
    assert power[0] < 0.8 <= power[1]
    assert one(differences - differences.mean(), None).seeds_needed is None  # no number of seeds shows that


def test_scores_may_have_any_unit():
    """Verdicts do not change where scores and margin are in another unit."""
    rng = np.random.default_rng(5)
    d = rng.normal(0.01, 0.01, 8)
    small, large = one(d, 0.015), one(1e6 * d, 1.5e4)
    assert large.p_unadjusted == pytest.approx(small.p_unadjusted, rel=1e-6)
    assert large.p_equivalence == pytest.approx(small.p_equivalence, rel=1e-6)
    assert (large.verdict, large.seeds_needed) == (small.verdict, small.seeds_needed)


def test_differences_whose_squares_are_zero_have_no_spread():
    c = compare({"ref": dict.fromkeys(range(3), 0.0), "m": {0: 5e-324, 1: 1e-323, 2: 5e-324}}, "ref", 0.1)[0]
    assert (c.p_unadjusted, c.p_equivalence, c.seeds_needed) == (0.25, 0.125, None)


def test_mean_interval():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    interval = stats.t.interval(0.95, 2, loc=2, scale=1 / np.sqrt(3))
    assert (mean, low, high) == pytest.approx((2.0, *interval))
    assert mean_interval([4.0]) == (4.0, 4.0, 4.0)


def test_differences_equal_to_rounding_have_no_spread():
    """0.3 − 0.2 and 0.2 − 0.1 differ in the last bit: a sign test is left, and SciPy has nothing to warn of."""
    scores = {"sgd": {0: 0.1, 1: 0.2, 2: 0.3}, "cov": {0: 0.2, 1: 0.3, 2: 0.4}}
    differences = [scores["cov"][seed] - scores["sgd"][seed] for seed in range(3)]
    assert len(set(differences)) > 1
    (comparison,) = compare(scores, "sgd", 0.05)
    assert comparison.p_unadjusted == 2.0**-2
    assert comparison.p_equivalence == 1.0
