"""Structural similarity of frames, in the two variants in use: RGB with a 7×7 window, grey with a Gaussian one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._inputs import by_clip, unit_clip
from evaluation.metrics.registry import Array, PerStimulus, register

SIDE = 7
SIGMA, REACH = 1.5, 5
"""The Gaussian's standard deviation in pixels, and how far it reaches: 3.5 of them, rounded."""
LUMINANCE = 0.01**2
CONTRAST = 0.03**2
GREY = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in a grey value, scikit-image's `rgb2gray`."""


@dataclass(frozen=True)
class _Window:
    """What a frame is looked at through."""

    total: Callable[[Array], Array]
    """Sums a frame over the window around every pixel."""
    weight: int
    """What the window's weights add up to."""
    divisor: int
    """By what a sum of squared deviations is divided: `weight`, or one less for a sample's variance."""
    edge: int
    """How many pixels along the border are left out."""


def _sums(frame: Array) -> Array:
    depth = cv2.CV_32S if frame.dtype.kind in "iu" else cv2.CV_64F
    return np.asarray(cv2.boxFilter(frame, depth, (SIDE, SIDE), normalize=False))


UNIFORM = _Window(_sums, SIDE**2, SIDE**2 - 1, SIDE // 2)
GAUSSIAN = _Window(partial(cv2.GaussianBlur, ksize=(2 * REACH + 1, 2 * REACH + 1), sigmaX=SIGMA), 1, 1, REACH)


@register(
    "ssim",
    label="SSIM (RGB, 7×7 uniform)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    smallest_side=SIDE,
    protocol="MinD-Video (Chen et al. 2023): scikit-image's structural_similarity of RGB frames, averaged over frames",
)
def ssim(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each frame's local means, variances and covariance, and average over channels and frames; at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) on RGB with a uniform 7×7 window, sample covariance, K₁ = .01, K₂ = .03, and
    the 3 pixels along the border left out: what scikit-image's ``structural_similarity(channel_axis=-1)`` computes and
    MinD-Video reports. It is not comparable with `ssim_gaussian`. Higher is better. Guessing earns no fixed value, and
    a blurred mean does well: hold it against the mean predictor's row.
    """
    return by_clip(_clip_ssim, prediction, truth)


@register(
    "ssim_gaussian",
    label="SSIM (grey, Gaussian σ 1.5)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    smallest_side=2 * REACH + 1,
)
def ssim_gaussian(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each grey frame's local means, variances and covariance, weighed by a Gaussian; averaged, at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) as published there: a Gaussian window of σ 1.5 pixels, population covariance,
    K₁ = .01, K₂ = .03, and the 5 pixels along the border left out. It ignores colour and is mostly higher than `ssim`,
    with which it is not comparable. Nor is it with NEURONS (2025), whose code hands grey frames to scikit-image with
    ``channel_axis=-1``: every column is then a channel, the window runs along columns alone, and figures come out
    higher. Higher is better. Guessing earns no fixed value: hold it against the mean predictor's row.
    """
    return by_clip(_clip_ssim_gaussian, prediction, truth)


def _clip_ssim(one: Array, other: Array) -> float:
    """Return the mean SSIM of a clip's RGB frames; bytes are added up as integers, which is exact and fast."""
    if not np.isfinite(one).all():
        return float("nan")
    pair, most = (one, other), 255
    if one.dtype != np.uint8 or other.dtype != np.uint8:
        pair, most = (unit_clip(one), unit_clip(other)), 1
    frames = zip(*(map(np.ascontiguousarray, clip) for clip in pair), strict=True)
    return float(np.mean([_frame_ssim(UNIFORM, a, b, most) for a, b in frames]))


def _clip_ssim_gaussian(one: Array, other: Array) -> float:
    if not np.isfinite(one).all():
        return float("nan")
    frames = zip(*(map(_grey, unit_clip(clip)) for clip in (one, other)), strict=True)
    return float(np.mean([_frame_ssim(GAUSSIAN, a, b, 1) for a, b in frames]))


def _grey(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.transform(frame, np.array([GREY])))


def _frame_ssim(window: _Window, one: Array, other: Array, most: int) -> float:
    """Return the mean SSIM of two frames with values from 0 to `most`.

    With sums S over a window of weight w, and d the divisor, everything is multiplied by w² (means) or w d (variances),
    so that nothing is divided before the end: of bytes, all terms are integers below 2³¹.
    """
    total, weight = window.total, window.weight
    sum_1, sum_2 = total(one), total(other)
    means = sum_1 * sum_2
    covariance = total(_product(one, other))
    variances = total(_product(one, one) + _product(other, other))
    sum_1 *= sum_1
    sum_2 *= sum_2
    sum_1 += sum_2
    covariance *= weight
    covariance -= means
    variances *= weight
    variances -= sum_1
    luminance, contrast = LUMINANCE * (most * weight) ** 2, CONTRAST * most**2 * weight * window.divisor
    above = means * 2.0
    above += luminance
    term = covariance * 2.0
    term += contrast
    above *= term
    above /= np.add(sum_1, luminance, out=term)
    above /= np.add(variances, contrast, out=term)
    edge = window.edge
    return float(above[edge:-edge, edge:-edge].mean())


def _product(one: Array, other: Array) -> Array:
    return np.asarray(cv2.multiply(one, other, dtype=cv2.CV_32S if one.dtype == np.uint8 else cv2.CV_64F))
