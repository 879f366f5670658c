"""End-point error of optical flow: whether what moves in a prediction moves as it should."""

from functools import partial
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.metrics._inputs import by_clip, bytes_clip
from evaluation.metrics.registry import Array, PerStimulus, register

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
"""The pyramid's scale and levels, the window, iterations, the polynomials' size and smoothing, and flags: as published,
and as OpenCV's tutorial has it."""
PUBLISHED_SIDE = 512
LONGEST = 128
"""The longer side, in pixels, at which `epe` looks at larger frames."""


@register(
    "epe",
    label="flow error (% of the longer side)",
    chance=None,
    span=(0.0, np.inf),
    view="frames",
    higher_is_better=False,
    smallest_side=16,
    fewest_frames=2,
)
def epe(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare motion: the mean length of the difference of two optical flows, in per cent of a frame's longer side.

    Flow from every frame to the next by Farneback (2003, *SCIA*, LNCS 2749:363) of grey frames, reduced to 128 pixels
    on the longer side where they are larger, with the settings of the published figures; averaged over pixels and pairs
    of frames. Lower is better; 0 where all moves alike. A still prediction earns the length of the true flow, which no
    guess beats easily: hold it against the mean predictor's row. Flow of what has no texture is 0, and small frames
    have little.
    """
    return by_clip(partial(_clip_error, None), prediction, truth)


@register(
    "epe_512",
    label="flow error as published (pixels at 512×512)",
    chance=None,
    span=(0.0, np.inf),
    view="frames",
    higher_is_better=False,
    fewest_frames=2,
    protocol="as Mind-Animator (Lu et al. 2025) and NeuroClips (2024) describe it: Farneback flow "
    "(.5, 3, 15, 3, 5, 1.2, 0) of grey frames at 512 × 512, the mean length of the difference, in pixels",
)
def epe_512(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare motion as published: the mean end-point error of Farneback's flow at 512×512, in pixels; lower is better.

    As `epe`, with every frame brought to 512 × 512 first (bilinear), whatever its proportions. It takes about a tenth
    of a second a pair of frames, so that it is computed only where a study names it. After Lu et al. (2025). The traps
    are those of `epe`.
    """
    return by_clip(partial(_clip_error, PUBLISHED_SIDE), prediction, truth)


def _clip_error(side: int | None, one: Array, other: Array) -> float:
    if not np.isfinite(one).all():
        return float("nan")
    a, b = (_grey(bytes_clip(clip), side) for clip in (one, other))
    flows = zip(pairwise(a), pairwise(b), strict=True)
    errors = [np.linalg.norm(_flow(*ours) - _flow(*true), axis=-1).mean() for ours, true in flows]
    unit = 1.0 if side else 100 / max(a[0].shape)
    return float(np.mean(errors)) * unit


def _grey(clip: NDArray[np.uint8], side: int | None) -> list[NDArray[np.uint8]]:
    return [cv2.cvtColor(_sized(np.ascontiguousarray(frame), side), cv2.COLOR_RGB2GRAY) for frame in clip]


def _sized(frame: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """Return a frame at the published size, or no larger than `LONGEST`."""
    if side is not None:
        return np.asarray(cv2.resize(frame, (side, side)))
    height, width = frame.shape[:2]
    factor = LONGEST / max(height, width)
    if factor >= 1:
        return frame
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


def _flow(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
    flow: NDArray[np.float32] = cv2.calcOpticalFlowFarneback(before, after, None, *FARNEBACK)
    return flow
