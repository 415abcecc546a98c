"""Choice of the batch size b of a law from a measured noise scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from msgd._checks import positive, positive_integer
from msgd.diagnostics.noise_scale import NoiseScale


@dataclass(frozen=True)
class Suggestion:
    """A batch size b for `msgd.noise.Emulate`.

    Args:
        b: the batch size; infinite if the gradient could not be distinguished from 0.
        low: batch size at the lower end of the noise scale's interval; equal to b if the noise scale was a number.
        high: batch size at the upper end of the interval.
        efficiency: efficiency of a step with b examples, as requested.
        missing: variance that a batch of ``batch`` examples lacks, in units of tr C: 1/b − 1/batch, at least 0; 1/b
            without ``batch``.
    """

    b: float
    low: float
    high: float
    efficiency: float
    missing: float


def suggest_batch_size(
    noise_scale: NoiseScale | float, *, efficiency: float = 0.5, batch: int | None = None
) -> Suggestion:
    """Return the batch size at which a step makes a given fraction of the progress of a step without noise.

    With the noise scale B_noise that fraction is ``e = 1/(1 + B_noise/b)``, so ``b = B_noise·e/(1 − e)``. At e = 1/2, b
    is the noise scale itself: the noise is as large as the gradient. The result is a starting point for a search and
    says nothing about generalization. The noise scale grows while a network learns, so measure it in the phase that
    takes most of the training; find by experiments what helps generalization (``msgd run … --tune``, ``[grid]``).

    Args:
        noise_scale: tr C/‖ḡ‖², in examples: an estimate of `NoiseScaleMeter`, or a number from `Probe`,
            `simple_noise_scale` or a measurements.json.
        efficiency: e, between 0 and 1; a lower efficiency means more noise.
        batch: B, the size of the batch that the noise will be added to.

    Returns:
        The batch size, at least 1, with the interval of the estimate.

    Raises:
        TypeError: ``noise_scale`` or ``efficiency`` is not a number, or ``batch`` is not an integer.
        ValueError: ``noise_scale`` is not positive, ``efficiency`` is not between 0 and 1, or ``batch`` < 1.

    Examples:
        >>> suggest_batch_size(120.0, batch=1000)
        Suggestion(b=120.0, low=120.0, high=120.0, efficiency=0.5, missing=0.007333333333333333)
        >>> suggest_batch_size(120.0, efficiency=0.2).b
        30.0

    References:
        McCandlish, Kaplan, Amodei et al. 2018, arXiv 1812.06162, equation 2.6.
    """
    share = positive("efficiency", efficiency)
    if share >= 1:
        raise ValueError(f"efficiency must lie between 0 and 1, not {efficiency!r}: 1 would need an infinite batch")
    if isinstance(noise_scale, NoiseScale):
        scales = (noise_scale.value, noise_scale.low, noise_scale.high)
    else:
        scales = (noise_scale if noise_scale == math.inf else positive("noise_scale", noise_scale),) * 3
    b, low, high = (max(1.0, scale * share / (1 - share)) for scale in scales)
    missing = max(0.0, 1 / b - (0.0 if batch is None else 1 / positive_integer("batch", batch)))
    return Suggestion(b, low, high, share, missing)
