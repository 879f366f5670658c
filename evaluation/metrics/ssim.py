"""Structural similarity of frames, in the two variants in use: RGB with a 7×7 window, grey with a Gaussian one."""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.clips import by_clip, unit_clip
from evaluation.metrics.registry import Array, PerStimulus, register

WINDOW = 7
SIGMA, REACH = 1.5, 5
"""The Gaussian's standard deviation in pixels, and how far it reaches: 3.5 of them, rounded."""
LUMINANCE = 0.01**2
CONTRAST = 0.03**2
GREY = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in a grey value, scikit-image's `rgb2gray`."""
Image = NDArray[np.float64]


@register(
    "ssim",
    label="SSIM (RGB, 7×7 uniform)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    smallest_side=WINDOW,
    protocol="MinD-Video (Chen et al. 2023): scikit-image's structural_similarity of RGB frames, averaged over frames",
)
def ssim(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each frame's local means, variances and covariance, and average over channels and frames; at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) on RGB with a uniform 7×7 window, sample covariance, K₁ = .01, K₂ = .03, and
    the 3 pixels along the border left out: what scikit-image's ``structural_similarity(channel_axis=-1)`` computes and
    MinD-Video reports. It is not comparable with `ssim_gaussian`. Higher is better. Guessing earns no fixed value, and
    a blurred mean does well: hold it against the mean predictor's row.
    """
    mean = partial(cv2.blur, ksize=(WINDOW, WINDOW))
    return by_clip(partial(_clip_ssim, mean, WINDOW // 2, WINDOW**2 / (WINDOW**2 - 1), False), prediction, truth)


@register(
    "ssim_gaussian",
    label="SSIM (grey, Gaussian σ 1.5)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    smallest_side=2 * REACH + 1,
    protocol="NeuroClips (2024) and NEURONS (2025), after MindEye: scikit-image's structural_similarity of grey frames "
    "with gaussian_weights, sigma=1.5, use_sample_covariance=False; at the frames' own size, where they resize to 425",
)
def ssim_gaussian(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each grey frame's local means, variances and covariance, weighed by a Gaussian; averaged, at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) as published there: a Gaussian window of σ 1.5 pixels, population covariance,
    K₁ = .01, K₂ = .03, and the 5 pixels along the border left out. It ignores colour and is mostly higher than `ssim`,
    with which it is not comparable. Higher is better. Guessing earns no fixed value: hold it against the mean
    predictor's row.
    """
    side = 2 * REACH + 1
    mean = partial(cv2.GaussianBlur, ksize=(side, side), sigmaX=SIGMA)
    return by_clip(partial(_clip_ssim, mean, REACH, 1.0, True), prediction, truth)


def _clip_ssim(
    mean: Callable[[Image], Image], edge: int, unbiased: float, grey: bool, one: NDArray[np.uint8], other: Array
) -> float:
    """Return the mean SSIM of a clip's frames; `mean` is over the window, variances are multiplied by `unbiased`."""
    pair = unit_clip(one), unit_clip(other)
    if not np.isfinite(pair[0]).all():
        return float("nan")
    a, b = (clip @ np.array(GREY) for clip in pair) if grey else pair
    return float(np.mean([_frame_ssim(mean, edge, unbiased, x, y) for x, y in zip(a, b, strict=True)]))


def _frame_ssim(mean: Callable[[Image], Image], edge: int, unbiased: float, one: Image, other: Image) -> float:
    mean_1, mean_2 = mean(one), mean(other)
    variance_1 = unbiased * (mean(one * one) - mean_1**2)
    variance_2 = unbiased * (mean(other * other) - mean_2**2)
    covariance = unbiased * (mean(one * other) - mean_1 * mean_2)
    above = (2 * mean_1 * mean_2 + LUMINANCE) * (2 * covariance + CONTRAST)
    below = (mean_1**2 + mean_2**2 + LUMINANCE) * (variance_1 + variance_2 + CONTRAST)
    return float((above / below)[edge:-edge, edge:-edge].mean())
