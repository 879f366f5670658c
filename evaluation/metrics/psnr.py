"""Peak signal-to-noise ratio of frames, in decibels."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._inputs import by_clip, unit_clip
from evaluation.metrics.registry import Array, PerStimulus, register

FLOOR = 1 / 12 / 255**2
"""The squared error that rounding to 8 bits makes by itself; it bounds the value at 58.9 dB."""


@register("psnr", label="PSNR (dB)", chance=None, span=(0.0, 58.93), view="frames")
def psnr(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Average −10 log₁₀(mean squared error) over frames, of RGB from 0 to 1; higher is better.

    As scikit-image's ``peak_signal_noise_ratio`` frame by frame, except that equal frames earn 58.9 dB (the error of
    rounding to 8 bits) and not infinity, which no mean survives. Guessing earns no fixed value, and a blurred mean does
    well: hold it against the mean predictor's row.
    """
    return by_clip(_clip_psnr, prediction, truth)


def _clip_psnr(one: NDArray[np.uint8], other: Array) -> float:
    error = np.square(unit_clip(one) - unit_clip(other)).mean(axis=(1, 2, 3))
    return float((-10 * np.log10(np.maximum(error, FLOOR))).mean())
