"""Metrics of pixels: SSIM, PSNR, hue and optical flow of every frame beside its true frame."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from core.threads import threads
from evaluation.metrics.protocols import Protocol
from evaluation.metrics.registry import Array, PerStimulus, register

cv2.setNumThreads(1)
"""Clips are scored in parallel threads; OpenCV's own threads inside each of them would only compete."""


def unit_clip(clip: NDArray[Any]) -> NDArray[np.float64]:
    """Return one clip as floats from 0 to 1; uint8 is divided by 255.

    Raises
    ------
    ValueError
        A float clip leaves the range from 0 to 1 (NaN is allowed).
    """
    if clip.dtype == np.uint8:
        return np.asarray(clip / 255.0)
    scaled = clip.astype(np.float64)
    if (scaled < 0.0).any() or (scaled > 1.0).any():
        raise ValueError(
            f"clip of {clip.dtype} reaches from {np.nanmin(scaled):g} to {np.nanmax(scaled):g}; "
            "expected uint8, or floats from 0 to 1"
        )
    return scaled


def bytes_clip(clip: NDArray[Any]) -> NDArray[np.uint8]:
    """Return one clip as bytes; floats from 0 to 1 are rounded. Raises as `unit_clip` does."""
    return clip if clip.dtype == np.uint8 else np.rint(255.0 * unit_clip(clip)).astype(np.uint8)


def by_clip(score: Callable[[NDArray[Any], NDArray[Any]], float], prediction: Array, truth: Array) -> PerStimulus:
    """Score every pair of clips, several at a time where there are several cores; the values do not depend on that."""
    with ThreadPoolExecutor(max_workers=threads()) as workers:
        return np.array(list(workers.map(score, prediction, truth)), np.float64)


SIDE = 7
SIGMA, REACH = 1.5, 5
"""Standard deviation of the Gaussian in pixels, and its radius: 3.5 standard deviations, rounded."""
LUMINANCE = 0.01**2
CONTRAST = 0.03**2
GREY_WEIGHTS = (0.2125, 0.7154, 0.0721)
"""Weights of red, green and blue in a grey value, scikit-image's `rgb2gray`."""


@dataclass(frozen=True)
class _Window:
    """A window that slides over a frame."""

    total: Callable[[Array], Array]
    """Function that sums a frame over the window around every pixel."""
    weight: int
    """What the window's weights add up to."""
    divisor: int
    """Divisor of a sum of squared deviations: `weight`, or one less for a sample's variance."""
    edge: int
    """Pixels along the border that are ignored."""


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
    min_side=SIDE,
    follows=Protocol(
        "MinD-Video (Chen et al. 2023)",
        "scikit-image's structural_similarity of RGB frames, averaged over frames",
        frames=6,
        side=256,
    ),
)
def ssim(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each frame's local means, variances and covariance, and average over channels and frames; at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) on RGB with a uniform 7×7 window, sample covariance, K₁ = .01, K₂ = .03, and
    the 3 pixels along the border ignored: what scikit-image's ``structural_similarity(channel_axis=-1)`` computes and
    MinD-Video reports. It is not comparable with `ssim_gaussian`. Higher is better. Guessing earns no fixed value, and
    a blurred mean does well: compare it with the mean predictor's row.
    """
    return by_clip(_clip_ssim, prediction, truth)


@register(
    "ssim_gaussian",
    label="SSIM (grey, Gaussian σ 1.5)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    min_side=2 * REACH + 1,
)
def ssim_gaussian(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each grey frame's local means, variances and covariance, weighed by a Gaussian; averaged, at most 1.

    Wang et al. (2004, *IEEE TIP* 13:600) as published there: a Gaussian window of σ 1.5 pixels, population covariance,
    K₁ = .01, K₂ = .03, and the 5 pixels along the border ignored. It ignores colour and is mostly higher than `ssim`,
    with which it is not comparable. Nor is it comparable with NEURONS (2025), whose code passes grey frames to
    scikit-image with ``channel_axis=-1``: every column is then a channel, the window runs along columns alone, and
    values come out higher. Higher is better. Guessing earns no fixed value: compare it with the mean predictor's row.
    """
    return by_clip(_clip_ssim_gaussian, prediction, truth)


def _clip_ssim(predicted: Array, true: Array) -> float:
    """Return the mean SSIM of a clip's RGB frames; bytes are added up as integers, which is exact and fast."""
    if not np.isfinite(predicted).all():
        return float("nan")
    pair, peak = (predicted, true), 255
    if predicted.dtype != np.uint8 or true.dtype != np.uint8:
        pair, peak = (unit_clip(predicted), unit_clip(true)), 1
    frames = zip(*(map(np.ascontiguousarray, clip) for clip in pair), strict=True)
    return float(np.mean([_frame_ssim(UNIFORM, a, b, peak) for a, b in frames]))


def _clip_ssim_gaussian(predicted: Array, true: Array) -> float:
    if not np.isfinite(predicted).all():
        return float("nan")
    frames = zip(*(map(_grey, unit_clip(clip)) for clip in (predicted, true)), strict=True)
    return float(np.mean([_frame_ssim(GAUSSIAN, a, b, 1) for a, b in frames]))


def _grey(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.transform(frame, np.array([GREY_WEIGHTS])))


def _frame_ssim(window: _Window, predicted: Array, true: Array, peak: int) -> float:
    """Return the mean SSIM of two frames with values from 0 to `peak`.

    With sums S over a window of weight w, and d the divisor, everything is multiplied by w² (means) or w d (variances),
    so that nothing is divided before the end: of bytes, all terms are integers below 2³¹.
    """
    total, weight = window.total, window.weight
    sum_1, sum_2 = total(predicted), total(true)
    means = sum_1 * sum_2
    covariance = total(_product(predicted, true))
    variances = total(_product(predicted, predicted) + _product(true, true))
    sum_1 *= sum_1
    sum_2 *= sum_2
    sum_1 += sum_2
    covariance *= weight
    covariance -= means
    variances *= weight
    variances -= sum_1
    luminance, contrast = LUMINANCE * (peak * weight) ** 2, CONTRAST * peak**2 * weight * window.divisor
    above = means * 2.0
    above += luminance
    term = covariance * 2.0
    term += contrast
    above *= term
    above /= np.add(sum_1, luminance, out=term)
    above /= np.add(variances, contrast, out=term)
    edge = window.edge
    return float(above[edge:-edge, edge:-edge].mean())


def _product(predicted: Array, true: Array) -> Array:
    return np.asarray(cv2.multiply(predicted, true, dtype=cv2.CV_32S if predicted.dtype == np.uint8 else cv2.CV_64F))


FLOOR = 1 / 12 / 255**2
"""Squared error of rounding to 8 bits; it bounds the value at 58.9 dB."""


@register("psnr", label="PSNR (dB)", chance=None, span=(0.0, 58.93), view="frames")
def psnr(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Average −10 log₁₀(mean squared error) over frames, of RGB from 0 to 1; higher is better.

    As scikit-image's ``peak_signal_noise_ratio`` frame by frame, except that equal frames earn 58.9 dB (the error of
    rounding to 8 bits) instead of infinity, which would make the mean infinite. Guessing earns no fixed value, and a
    blurred mean does well: compare it with the mean predictor's row.
    """
    return by_clip(_clip_psnr, prediction, truth)


def _clip_psnr(predicted: NDArray[np.uint8], true: Array) -> float:
    error = np.square(unit_clip(predicted) - unit_clip(true)).mean(axis=(1, 2, 3))
    return float((-10 * np.log10(np.maximum(error, FLOOR))).mean())


MIN_CHROMA = 1e-9
"""Chroma below which a pixel has no hue."""
CHROMA_PLANE = np.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
"""Projection of red, green and blue onto the plane of hue and chroma: grey at the origin, red to the right."""


@register(
    "hue",
    label="hue (circular, by saturation)",
    chance=None,
    span=(-1.0, 1.0),
    view="frames",
    without_value="shows no colour",
)
def hue(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare hues as angles: the mean cosine of the hue difference over pixels, weighed by the true chroma, −1 to 1.

    Hue is circular: 1° and 359° are both red. Hue and chroma are the angle and the length of
    (R − (G + B) / 2, √3 / 2 (G − B)), within 1.2° of HSV's hue (Hanbury 2008, *Pattern Recognition Letters* 29:494).
    The true chroma is the weight, since grey has no hue; a predicted pixel without any counts 0, so that a grey clip
    earns 0. Opposite hues earn −1. Higher is better. A truth without any colour has no value. Hues that are independent
    of the truth and favour none earn 0; clips share their hues, so guessing earns more and there is no chance level:
    compare it with the shuffled brain's row.
    """
    return by_clip(_clip_hue, prediction, truth)


def _clip_hue(predicted: Array, true: Array) -> float:
    predicted, true = unit_clip(predicted), unit_clip(true)
    if not np.isfinite(predicted).all():
        return float("nan")
    sums = np.sum([_frame_hue(a, b) for a, b in zip(predicted, true, strict=True)], axis=0)
    alike, total = float(sums[0]), float(sums[1])
    return alike / total if total > MIN_CHROMA * true[..., 0].size else float("nan")


def _frame_hue(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum over pixels of the true chroma times the cosine of the hue difference, and of the true chroma."""
    (a, b), (wanted_a, wanted_b) = (cv2.split(cv2.transform(frame, CHROMA_PLANE)) for frame in (predicted, true))
    length, weight = np.sqrt(a * a + b * b), np.sqrt(wanted_a * wanted_a + wanted_b * wanted_b)
    alike = (a * wanted_a + b * wanted_b) / np.where(length > MIN_CHROMA, length, np.inf)
    return float(alike.sum()), float(weight.sum())


@register(
    "hue_pcc",
    label="Hue-pcc (Mind-Animator)",
    chance=None,
    span=(0.0, 1.0),
    view="frames",
    follows=Protocol(
        "Mind-Animator (Lu et al. 2025)",
        "OpenCV's 8-bit hue of RGB frames that are read as BGR, the cosine of the two hue images, averaged over frames",
    ),
)
def hue_pcc(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare hues as published: the cosine, not a correlation, of two frames' hue images, averaged over frames.

    Kept for comparison with published values, with its faults: red and blue are exchanged; hue is taken for a number
    from 0 to 179, so that two reds may have the largest difference; grey pixels count; and a cosine of positive numbers
    is high whatever is shown. A frame whose hue is 0 everywhere (grey, black) has no cosine: an error in the published
    code, 0 here. Higher is better. Guessing earns no fixed value; `hue` is the metric to read.
    """
    return by_clip(_clip_hue_pcc, prediction, truth)


def _clip_hue_pcc(predicted: Array, true: Array) -> float:
    if not np.isfinite(predicted).all():
        return float("nan")
    pairs = zip(bytes_clip(predicted), bytes_clip(true), strict=True)
    return float(np.mean([_cosine(_hue_of_bgr(a), _hue_of_bgr(b)) for a, b in pairs]))


def _hue_of_bgr(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2HSV)[..., 0], np.float64)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / lengths if lengths else 0.0


FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
"""Scale and levels of the pyramid, window, iterations, size and smoothing of the polynomials, flags: as published and
as in OpenCV's tutorial."""
PUBLISHED_SIDE = 512
MAX_SIDE = 128
"""Pixels to which `epe` reduces the longer side of larger frames."""


@register(
    "epe",
    label="flow error (% of the longer side)",
    chance=None,
    span=(0.0, np.inf),
    view="frames",
    higher_is_better=False,
    min_side=16,
    min_frames=2,
)
def epe(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare motion: the mean length of the difference of two optical flows, in per cent of a frame's longer side.

    Flow from every frame to the next by Farneback (2003, *SCIA*, LNCS 2749:363) of grey frames, reduced to 128 pixels
    on the longer side where they are larger, with the settings of the published figures; averaged over pixels and pairs
    of frames. Lower is better; 0 where both move alike. A still prediction earns the length of the true flow, which is
    hard to beat by guessing: compare it with the mean predictor's row. Flow without texture is 0, and small frames have
    little texture.
    """
    return by_clip(partial(_clip_error, None), prediction, truth)


@register(
    "epe_512",
    label="flow error (Mind-Animator, pixels at 512×512)",
    chance=None,
    span=(0.0, np.inf),
    view="frames",
    higher_is_better=False,
    min_frames=2,
    follows=Protocol(
        "Mind-Animator (Lu et al. 2025)",
        "Farneback flow (.5, 3, 15, 3, 5, 1.2, 0) of frames of 512 × 512, turned grey as BGR though they are RGB, the "
        "mean length of the difference, in pixels",
        frames=8,
        side=512,
    ),
)
def epe_512(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare motion as published: the mean end-point error of Farneback's flow at 512×512, in pixels; lower is better.

    As `epe`, with every frame brought to 512 × 512 first (bilinear), whatever its proportions, and with the published
    code's grey, .114 R + .587 G + .299 B: its frames are RGB, and are turned grey as if they were BGR. `epe_512_luma`
    is the same of true luminance. Each takes about a tenth of a second a pair of frames, so it is computed only where
    a study names it. After Lu et al. (2025). For its traps see `epe`: compare it with the mean predictor's row.
    """
    return by_clip(partial(_clip_error, PUBLISHED_SIDE, grey=cv2.COLOR_BGR2GRAY), prediction, truth)


@register(
    "epe_512_luma",
    label="flow error of luminance (pixels at 512×512)",
    chance=None,
    span=(0.0, np.inf),
    view="frames",
    higher_is_better=False,
    min_frames=2,
)
def epe_512_luma(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare motion at 512×512 by true luminance, in pixels; lower is better.

    As `epe_512`, but for the grey, which is that of RGB frames, .299 R + .587 G + .114 B (ITU-R BT.601). Not a
    published figure, after Lu et al. (2025): compare it with the mean predictor's row.
    """
    return by_clip(partial(_clip_error, PUBLISHED_SIDE), prediction, truth)


def _clip_error(side: int | None, predicted: Array, true: Array, *, grey: int = cv2.COLOR_RGB2GRAY) -> float:
    if not np.isfinite(predicted).all():
        return float("nan")
    a, b = (_grey_frames(bytes_clip(clip), side, grey) for clip in (predicted, true))
    flows = zip(pairwise(a), pairwise(b), strict=True)
    errors = [np.linalg.norm(_flow(*ours) - _flow(*true), axis=-1).mean() for ours, true in flows]
    unit = 1.0 if side else 100 / max(a[0].shape)
    return float(np.mean(errors)) * unit


def _grey_frames(clip: NDArray[np.uint8], side: int | None, grey: int) -> list[NDArray[np.uint8]]:
    return [np.asarray(cv2.cvtColor(_sized(np.ascontiguousarray(frame), side), grey)) for frame in clip]


def _sized(frame: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Return a frame of the published size, or reduced to at most `MAX_SIDE`."""
    if side is not None:
        return np.asarray(cv2.resize(frame, (side, side)))
    height, width = frame.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return frame
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    flow: NDArray[np.float32] = cv2.calcOpticalFlowFarneback(before, after, None, *FARNEBACK)
    return flow


def unit_vectors(array: Array) -> NDArray[np.float64]:
    """Divide each vector of (..., width) by its length, so that products are cosines.

    A zero vector stays zero: its cosine with everything is 0. A vector that is not finite becomes NaN.
    """
    vectors = np.array(array, dtype=np.float64)
    finite = np.isfinite(vectors).all(axis=-1)
    vectors[~finite] = 0.0
    vectors /= or_one(np.abs(vectors).max(axis=-1, keepdims=True))  # so that squaring tiny values does not underflow
    vectors /= or_one(np.linalg.norm(vectors, axis=-1, keepdims=True))
    vectors[~finite] = np.nan
    return vectors


def or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths to divide by: 1 in place of 0."""
    return np.where(lengths == 0.0, 1.0, lengths)


@register("similarity", label="similarity of frames", chance=None, span=(-1.0, 1.0), view="frame_vectors")
def similarity(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare frames by meaning: the cosine of the CLIP embeddings of each frame and its true frame, averaged.

    Frames are compared in their places, so both clips have equally many. At most 1, higher is better. Known as the
    "CLIP score" of frames; the embeddings are those of CLIP (Radford et al., ICML 2021).

    The trap: CLIP's embeddings of any two images point the same way to a degree, so that unrelated frames earn far more
    than 0. Guessing earns no fixed value, and figures of different CLIP models do not compare: compare it with
    the shuffled brain's and the mean predictor's rows.
    """
    return _mean_cosine(unit_vectors(prediction), unit_vectors(truth))


@register(
    "consistency_adjacent",
    label="consistency of adjacent frames",
    chance=None,
    span=(-1.0, 1.0),
    view="frame_vectors",
    min_frames=2,
    follows=Protocol(
        "CLIP-pcc without a gate, by the CLIP of MinD-Video's code (Chen et al. 2023)",
        "the mean cosine of adjacent frames' embeddings",
        weights={"clip_frames": "openai/clip-vit-base-patch32"},
        frames=6,
    ),
)
def consistency_adjacent(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Measure how smooth the prediction is: the mean cosine of the CLIP embeddings of each frame and the next.

    It ignores the truth: a still picture earns 1, whatever was shown. At most 1. Higher is taken as better, yet real
    clips earn less than 1: see the oracle's row. Guessing earns no fixed value.

    Published as "CLIP-pcc" in work after MinD-Video (2023), although it is a cosine and no correlation. Some set it to
    0 for every clip whose similarity to the truth is below a threshold (Mind-Animator: VIFI-CLIP of at most .6), others
    do not: published values as far apart as .425 and .934 are of this same method and do not compare. Here nothing is
    set to 0. The published embeddings are CLIP ViT-B/32's.
    """
    unit = unit_vectors(prediction)
    return _mean_cosine(unit[:, :-1], unit[:, 1:])


@register(
    "consistency_all",
    label="consistency of all frames",
    chance=None,
    span=(-1.0, 1.0),
    view="frame_vectors",
    min_frames=2,
)
def consistency_all(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Measure how consistent the prediction is: the mean cosine of the CLIP embeddings of all pairs of its frames.

    As `consistency_adjacent`, and sensitive to slow drift as well as to jumps: the "frame consistency" of Tune-A-Video
    (Wu et al., ICCV 2023). It ignores the truth: a still picture earns 1, whatever was shown. At most 1. Higher is
    taken as better, yet real clips earn less than 1: see the oracle's row. Guessing earns no fixed value.
    """
    unit = unit_vectors(prediction)
    frames = unit.shape[1]
    # The square of the sum holds every pair twice, and each frame with itself once.
    of_all, of_each = np.square(unit.sum(axis=1)).sum(axis=-1), np.square(unit).sum(axis=(1, 2))
    return np.asarray(np.clip((of_all - of_each) / (frames * (frames - 1)), -1.0, 1.0))


def _mean_cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> PerStimulus:
    """Return the mean over frames of the cosines of unit vectors (n, frame, width), shape (n,)."""
    return np.asarray(np.clip(np.einsum("nfw,nfw->nf", one, other).mean(axis=1), -1.0, 1.0))
