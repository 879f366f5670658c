"""Structural similarity of frames, in the RGB 7×7 uniform variant."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from evaluation.metrics.registry import Array, PerStimulus, register
from evaluation.metrics.rows import unit_clip

WINDOW = 7
LUMINANCE = 0.01**2
CONTRAST = 0.03**2


@register("ssim", label="SSIM (RGB, 7×7 uniform)", chance=None, view="frames", smallest_side=WINDOW)
def ssim(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each frame's local means, variances and covariance, and average over channels and frames; at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) on RGB with a uniform 7×7 window, sample covariance, K₁ = .01, K₂ = .03, and
    the 3 pixels along the border left out: what scikit-image's ``structural_similarity(channel_axis=-1)`` computes and
    MinD-Video reports. It is not comparable with the grey, Gaussian σ 1.5 variant that NEURONS reports. Guessing earns
    no fixed value: hold it against the mean predictor's row.
    """
    pairs = zip(prediction, truth, strict=True)
    return np.array([_clip_ssim(unit_clip(one), unit_clip(other)) for one, other in pairs])


def _clip_ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not np.isfinite(one).all():
        return float("nan")
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_1, mean_2 = _local_mean(one), _local_mean(other)
    variance_1 = unbiased * (_local_mean(one * one) - mean_1**2)
    variance_2 = unbiased * (_local_mean(other * other) - mean_2**2)
    covariance = unbiased * (_local_mean(one * other) - mean_1 * mean_2)
    above = (2 * mean_1 * mean_2 + LUMINANCE) * (2 * covariance + CONTRAST)
    below = (mean_1**2 + mean_2**2 + LUMINANCE) * (variance_1 + variance_2 + CONTRAST)
    edge = WINDOW // 2
    return float((above / below)[:, edge:-edge, edge:-edge].mean())


def _local_mean(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(uniform_filter(clip, size=(1, WINDOW, WINDOW, 1)))
