"""Metrics of frames' CLIP embeddings: similarity to the true frames, and among the frames of one clip."""

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, PerStimulus, register


def unit_vectors(array: Array) -> NDArray[np.float64]:
    """Divide each vector (the last axis) by its length, so that products are cosines.

    Parameters
    ----------
    array : shape (..., width)

    Returns
    -------
    array of the same shape, float64
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
    protocol="CLIP-pcc without a gate: the mean cosine of adjacent frames' CLIP embeddings, CLIP ViT-B/32 as published",
)
def consistency_adjacent(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Measure how smooth the prediction is: the mean cosine of the CLIP embeddings of each frame and the next.

    It ignores the truth: a still picture earns 1, whatever was shown. At most 1. Higher is taken as better, yet real
    clips earn less than 1: see the oracle's row. Guessing earns no fixed value.

    Published as "CLIP-pcc" in work after MinD-Video (2023), although it is a cosine and no correlation. Some set it to
    0 for every clip whose similarity to the truth is below a threshold, others do not: published values as far apart as
    .425 and .934 are of this same method and do not compare. Here nothing is set to 0.
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
