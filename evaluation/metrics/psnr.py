"""Peak signal-to-noise ratio of frames, in decibels."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus, register
from evaluation.metrics.rows import unit_clip

FLOOR = 1 / 12 / 255**2
"""The squared error that rounding to 8 bits makes by itself; it bounds the value at 58.9 dB."""


@register("psnr", label="PSNR (dB)", chance=None, view="frames")
def psnr(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Average −10 log₁₀(mean squared error) over frames, of RGB from 0 to 1.

    As scikit-image's ``peak_signal_noise_ratio`` frame by frame, except that equal frames earn 58.9 dB (the error of
    rounding to 8 bits) and not infinity, which no mean survives. Guessing earns no fixed value.
    """
    pairs = zip(prediction, truth, strict=True)
    return np.array([_clip_psnr(unit_clip(one), unit_clip(other)) for one, other in pairs])


def _clip_psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    error = np.square(one - other).mean(axis=(1, 2, 3))
    return float((-10 * np.log10(np.maximum(error, FLOOR))).mean())
