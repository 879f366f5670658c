"""Spaces, and which metrics apply to them.

`latents_centred` holds the arrays of `latents` minus the mean of the training targets, truth and predictions alike.
Stimuli resemble each other, so that in `latents` the mean predictor itself correlates far above 0; here it correlates
0, R² compares with it, and retrieval is among deviations from it.

`latents_residual` holds them less what luminance, contrast and motion of the same clip explain linearly, by a
regression fitted on training clips (`evaluation.statistics.controls_partial.Residual`): what is left of a score is
more than low-level similarity.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from evaluation.config import ONLY_WHERE_NAMED
from evaluation.metrics import SPACES_OF, Array, Groups, Metric, metric

CENTRED, RESIDUAL = "_centred", "_residual"


def centred(space: str) -> str:
    """Return the name of a space less its training mean: `latents_centred`."""
    return space if is_centred(space) else f"{space}{CENTRED}"


def is_centred(space: str) -> bool:
    """Return whether a space is one less its training mean."""
    return space.endswith(CENTRED)


def residual(space: str) -> str:
    """Return the name of a space less what low-level features explain: `latents_residual`."""
    return f"{space}{RESIDUAL}"


def is_residual(space: str) -> bool:
    """Return whether a space is one less what low-level features explain."""
    return space.endswith(RESIDUAL)


def plain(space: str) -> str:
    """Return the name of the space itself: `latents` of `latents_centred` and of `latents_residual`."""
    return space.removesuffix(CENTRED).removesuffix(RESIDUAL)


def centre(rows: NDArray[Any], mean: NDArray[Any]) -> NDArray[np.float32]:
    """Subtract the training mean, (...) or one a stimulus as `mean_prediction` returns it, from rows (n, ...).

    Float32; zeros where a row is the mean in float32: the mean predictor is constant here, and earns chance.

    Raises
    ------
    ValueError
        The mean's shape is not that of a row.
    """
    if mean.shape not in (rows.shape, rows.shape[1:]):
        raise ValueError(f"rows {rows.shape} and training mean {mean.shape}; expected {rows.shape[1:]}")
    return np.asarray(rows.astype(np.float32) - mean.astype(np.float32))


Spaces: TypeAlias = Mapping[str, Array]
"""Arrays (n, ...) by space: `pixels`, `latents`, `text`, any other target's name, and these less their training mean
(`latents_centred`). `frames` is another name of `pixels`. Spaces in `evaluation.metrics.SPACES_OF` hold no vectors."""
VECTORS_OF = {
    "frames": "pixels",
    "clip_frames": "clip",
    "captions": "text",
    "caption_clip": "text",
    "video_classes": "clip",
    "frame_classes": "clip",
    "video_attributes": "text",
    "caption_attributes": "text",
}
"""By space without vectors, the space that was probably meant where a metric of vectors is named with it."""


def in_space(arrays: Spaces, space: str) -> Array | None:
    """Return the array of a space, None without one; `frames` is `pixels` unless it has an array of its own."""
    array = arrays.get(space)
    return arrays.get("pixels") if array is None and space == "frames" else array


def chance_of(name: str, truth: Array | None = None) -> float | None:
    """Return what guessing earns in a metric, `space.metric`; None where there is no fixed value.

    Parameters
    ----------
    truth : array, shape (n, ...), of the space, for metrics whose chance depends on it; None there without
    """
    chosen = metric(name)
    if chosen.chance_in_centred and not is_centred(name.rpartition(".")[0]):
        return None
    return chosen.chance_of(truth)


def applicable(metrics: Sequence[str], arrays: Spaces, groups: Groups | None = None) -> list[str]:
    """Return the `space.metric` names that apply to these arrays, in the order of `metrics`.

    Parameters
    ----------
    metrics : `space.metric` names, or bare metric names, which stand for every space they apply to; one that does not
        apply (no such space, no groups, frames too small, too few stimuli, a target of numbers that is called
        `captions`) is skipped
    arrays : arrays (n, ...) by space

    Raises
    ------
    ConfigError
        A metric is unknown, or does not exist in the space that is named (`pixels.ssim` is `frames.ssim`;
        `latents.r2` is `latents_centred.r2`).
    """
    names: dict[str, None] = {}
    for name in metrics:
        chosen = metric(name)
        space = name.rpartition(".")[0]
        for candidate in [space] if space else _spaces_for(chosen, arrays):
            _check_space(chosen, candidate)
            array = in_space(arrays, candidate)
            numbers_for_words = chosen.view == "words" and array is not None and array.dtype.kind in "biuf"
            if array is not None and not numbers_for_words and chosen.applies_to(array.shape, groups):
                names[f"{candidate}.{chosen.name}"] = None
    return list(names)


def _spaces_for(chosen: Metric, arrays: Spaces) -> list[str]:
    of_view = SPACES_OF.get(chosen.view)
    return list(of_view) if of_view else [space for space in arrays if _better_space(chosen, space) == space]


def require_space(name: str) -> None:
    """Raise `ConfigError` unless a metric exists in the space that it is named with, `space.metric`."""
    _check_space(metric(name), name.rpartition(".")[0])


def _check_space(chosen: Metric, space: str) -> None:
    better = _better_space(chosen, space)
    if better != space:
        raise ConfigError(f"metric '{space}.{chosen.name}' does not exist; did you mean '{better}.{chosen.name}'?")


def _better_space(chosen: Metric, space: str) -> str:
    """Return the space itself where the metric exists in it, else the one that was probably meant."""
    of_view = SPACES_OF.get(chosen.view)
    if of_view:
        return space if space in of_view else of_view[0]
    vectors = VECTORS_OF.get(space, space)
    return centred(vectors) if chosen.view == "centred" else vectors


Needs = Mapping[str, str]
NEEDS_OF_A_FOLDER: Needs = {
    "groups": "classes of stimuli, which a folder does not have",
    "centred": "training clips (--training)",
    "frame_vectors": "a CLIP model (--clip)",
    "classes": "a classifier (--video-classifier, --frame-classifier or --judge)",
    "labels": "a classifier of the small world's attributes (--judge)",
    "words": "captions, decoded and seen (--captions)",
    "caption_score": "captions (--captions) and a CLIP model (--clip)",
}
NEEDS_OF_A_STUDY: Needs = {
    "groups": "classes of stimuli, which the source does not have",
    "centred": "a target for comparing rendered clips",
    "frame_vectors": "judges.clip",
    "classes": "judges.videos, judges.frames or judges.small_world",
    "labels": "judges.small_world",
    "words": "captions, decoded and seen",
    "caption_score": "captions and judges.clip",
}
"""What a metric of each view needs and does not have where its space has no array."""


def why_skipped(metrics: Sequence[str], scored: Sequence[str], truth: Spaces, needs: Needs) -> list[str]:
    """Return one line for each reason why metrics were skipped: "skipped retrieval_50: needs 50 stimuli, found 48".

    Parameters
    ----------
    metrics : `space.metric` or bare names, as configured
    scored : the `space.metric` names that were scored
    truth : arrays by space
    needs : `NEEDS_OF_A_FOLDER` or `NEEDS_OF_A_STUDY`
    """
    reasons: dict[str, list[str]] = {}
    done = {*scored, *(name.rpartition(".")[2] for name in scored)}
    for name in dict.fromkeys(metrics):
        if name not in done:
            reasons.setdefault(f"needs {_need(name, truth, needs)}", []).append(name)
    unnamed = [name for name in ONLY_WHERE_NAMED if name not in {asked.rpartition(".")[2] for asked in metrics}]
    if unnamed:
        reasons["computed only where it is named"] = unnamed
    return [f"skipped {', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _need(name: str, truth: Spaces, needs: Needs) -> str:
    chosen, space = metric(name), name.rpartition(".")[0]
    if chosen.needs_groups:
        return needs["groups"]
    arrays = (in_space(truth, candidate) for candidate in _spaces(chosen, space, truth))
    array = next((array for array in arrays if array is not None), None)
    of_size = None if array is None else _need_of_size(chosen, array.shape)
    return of_size or needs.get(chosen.view, f"the space '{space}'" if space else "predictions in the same space")


def _spaces(chosen: Metric, space: str, truth: Spaces) -> Sequence[str]:
    if space:
        return [space]
    of_view = SPACES_OF.get(chosen.view)
    return of_view or [name for name in truth if is_centred(name) == (chosen.view == "centred")]


def _need_of_size(chosen: Metric, shape: tuple[int, ...]) -> str | None:
    """Return what the truth's shape lacks, None where it has all that the metric needs."""
    if shape[0] < chosen.min_stimuli:
        return f"{chosen.min_stimuli} stimuli, found {shape[0]}"
    if chosen.view in ("frames", "frame_vectors") and shape[1] < chosen.min_frames:
        return f"{chosen.min_frames} frames a clip, found {shape[1]}"
    if chosen.view == "classes" and shape[-1] < chosen.min_classes:
        return f"{chosen.min_classes} classes, found {shape[-1]}"
    if chosen.view == "frames" and min(shape[2:4]) < chosen.min_side:
        return f"frames of {chosen.min_side} pixels a side, found {min(shape[2:4])}"
    return None
