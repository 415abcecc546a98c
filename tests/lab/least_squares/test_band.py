"""The band around an exact curve."""

import math

import numpy as np

from msgd.lab.least_squares.band import compare_with_curve


def test_the_band():
    exact, steps = np.array([4.0, 2.0]), [0, 5]
    mean, error = np.array([4.0, 2.2]), np.array([0.0, 0.1])
    at = compare_with_curve(exact, mean, error, 2.01, steps)
    assert at.on_curve
    np.testing.assert_allclose([at.largest, at.step, at.half_width], [2, 5, 2.01 * 0.05])
    assert not compare_with_curve(exact, mean, error, 1.99, steps).on_curve
    for lost in (math.inf, math.nan):
        off = compare_with_curve(exact, np.array([4.0, lost]), error, 3.0, steps)
        assert (off.largest, off.half_width, off.on_curve, off.step) == (None, None, False, 5)
    still = compare_with_curve(exact, exact * (1 + 1e-12), np.zeros(2), 3.0, steps)  # a law without noise, to rounding
    assert still.on_curve
    assert not compare_with_curve(exact, exact * (1 + 1e-6), np.zeros(2), 3.0, steps).on_curve
