"""Likeness of hue: as an angle, and as it has been published."""

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._inputs import by_clip, bytes_clip, unit_clip
from evaluation.metrics.registry import Array, PerStimulus, register

GREY = 1e-9
"""Chroma below which a pixel has no hue."""
CHROMA_PLANE = np.array([[1.0, -0.5, -0.5], [0.0, 0.75**0.5, -(0.75**0.5)]])
"""From red, green and blue to a place in the plane of hue and chroma, grey in the middle and red to the right."""


@register("hue", label="hue (circular, by saturation)", chance=0.0, span=(-1.0, 1.0), view="frames")
def hue(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare hues as angles: the mean cosine of the hue difference over pixels, weighed by the true chroma, −1 to 1.

    Hue is a circle: red at 1° is as near to red at 359° as it gets. Hue and chroma are the angle and the length of
    (R − (G + B) / 2, √3 / 2 (G − B)), within 1.2° of HSV's hue (Hanbury 2008, *Pattern Recognition Letters* 29:494).
    The true chroma is the weight, since grey has no hue; a predicted pixel without any counts 0, so that a grey clip
    earns 0. Opposite hues earn −1. Higher is better. A truth without any colour has no value. Chance, 0, is that of
    hues that do not know the truth and favour none; where clips share their hues guessing earns more: hold it against
    the shuffled brain's row.
    """
    return by_clip(_clip_hue, prediction, truth)


def _clip_hue(one: Array, other: Array) -> float:
    predicted, true = unit_clip(one), unit_clip(other)
    if not np.isfinite(predicted).all():
        return float("nan")
    sums = np.sum([_frame_hue(a, b) for a, b in zip(predicted, true, strict=True)], axis=0)
    alike, total = float(sums[0]), float(sums[1])
    return alike / total if total > GREY * true[..., 0].size else float("nan")


def _frame_hue(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return the sum over pixels of the true chroma times the cosine of the hue difference, and of the true chroma."""
    (a, b), (wanted_a, wanted_b) = (cv2.split(cv2.transform(frame, CHROMA_PLANE)) for frame in (one, other))
    length, weight = np.sqrt(a * a + b * b), np.sqrt(wanted_a * wanted_a + wanted_b * wanted_b)
    alike = (a * wanted_a + b * wanted_b) / np.where(length > GREY, length, np.inf)
    return float(alike.sum()), float(weight.sum())


@register(
    "hue_pcc",
    label="Hue-pcc as published",
    chance=None,
    span=(0.0, 1.0),
    view="frames",
    protocol="Mind-Animator (Lu et al. 2025), which others took over: OpenCV's 8-bit hue of RGB frames that are read "
    "as BGR, the cosine of the two hue images, averaged over frames",
)
def hue_pcc(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare hues as published: the cosine, not a correlation, of two frames' hue images, averaged over frames.

    Kept so that figures can stand beside published ones, with its faults: red and blue are exchanged, hue is taken for
    a number from 0 to 179, so that two reds may be as far apart as can be, grey pixels count, and a cosine of numbers
    above 0 is high whatever is shown. A frame whose hue is 0 throughout (grey, black) has no cosine, which is an error
    there and 0 here. Higher is better. Guessing earns no fixed value; `hue` is the figure to read.
    """
    return by_clip(_clip_hue_pcc, prediction, truth)


def _clip_hue_pcc(one: Array, other: Array) -> float:
    if not np.isfinite(one).all():
        return float("nan")
    pairs = zip(bytes_clip(one), bytes_clip(other), strict=True)
    return float(np.mean([_cosine(_hue_of_bgr(a), _hue_of_bgr(b)) for a, b in pairs]))


def _hue_of_bgr(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2HSV)[..., 0], np.float64)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float((a * b).sum()) / lengths if lengths else 0.0
