"""Spaces less their training mean: what a prediction says about a stimulus beyond what all stimuli share.

`latents_centred` holds the arrays of `latents` minus the mean of the training targets, truth and predictions alike.
Stimuli resemble each other, so that in `latents` the mean predictor itself correlates far above 0; here it correlates
0, R² compares with it, and retrieval is among deviations from it.

Which metrics can be asked of which arrays: spaces by name, and the names `space.metric` that apply to them.

Says in words which metrics could not be had, and why.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError
from evaluation.config import ONLY_WHERE_NAMED
from evaluation.metrics import SPACES_OF, Array, Groups, Metric, metric

CENTRED = "_centred"


def centred(space: str) -> str:
    """Return the name of a space less its training mean: `latents_centred`."""
    return space if is_centred(space) else f"{space}{CENTRED}"


def is_centred(space: str) -> bool:
    """Say whether a space is one less its training mean."""
    return space.endswith(CENTRED)


def plain(space: str) -> str:
    """Return the name of the space itself: `latents` of `latents_centred`."""
    return space.removesuffix(CENTRED)


def centre(rows: NDArray[Any], mean: NDArray[Any]) -> NDArray[np.float32]:
    """Subtract the training mean from truth or predictions.

    Parameters
    ----------
    rows : array, shape (n, ...)
    mean : array, shape (...) or (n, ...)
        The training targets' mean, once or for every stimulus as `mean_prediction` returns it.

    Returns
    -------
    array, shape (n, ...), float32
        Zeros where a row is the mean in float32: the mean predictor is constant here, and earns chance.

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
(`latents_centred`). `frames` looks at `pixels`. The spaces of `evaluation.metrics.SPACES_OF` hold what is no vector."""
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
"""Where what is no vector a stimulus has one: the space that a metric of vectors was probably meant to look at."""


def in_space(arrays: Spaces, space: str) -> Array | None:
    """Return the array that metrics of a space look at; `frames` looks at `pixels` unless it is given itself."""
    found = arrays.get(space)
    return arrays.get("pixels") if found is None and space == "frames" else found


def applicable(metrics: Sequence[str], arrays: Spaces, groups: Groups | None = None) -> list[str]:
    """Return the `space.metric` names that these arrays can be scored by, in the order asked for.

    Parameters
    ----------
    metrics : sequence of str
        `space.metric` names, or bare metric names, which stand for every space they apply to. What the arrays cannot
        have (no such space, no groups, frames too small, too few stimuli) is left out.
    arrays : arrays (n, ...) by space
    groups : sequence of length n, optional

    Raises
    ------
    ConfigError
        A metric is unknown, or can never be had in the space it is asked for (`pixels.ssim`: it is `frames.ssim`;
        `latents.r2`: it is `latents_centred.r2`).
    """
    names: dict[str, None] = {}
    for asked in metrics:
        chosen = metric(asked)
        space = asked.rpartition(".")[0]
        for candidate in [space] if space else _spaces_for(chosen, arrays):
            _check_space(chosen, candidate)
            found = in_space(arrays, candidate)
            if found is not None and chosen.applies_to(found.shape, groups):
                names[f"{candidate}.{chosen.name}"] = None
    return list(names)


def _spaces_for(chosen: Metric, arrays: Spaces) -> list[str]:
    of_view = SPACES_OF.get(chosen.view)
    return list(of_view) if of_view else [space for space in arrays if _better_space(chosen, space) == space]


def _check_space(chosen: Metric, space: str) -> None:
    better = _better_space(chosen, space)
    if better != space:
        raise ConfigError(f"metric '{space}.{chosen.name}' does not exist; did you mean '{better}.{chosen.name}'?")


def _better_space(chosen: Metric, space: str) -> str:
    """Return the space itself where the metric can be had in it, else the one that was probably meant."""
    of_view = SPACES_OF.get(chosen.view)
    if of_view:
        return space if space in of_view else of_view[0]
    vectors = VECTORS_OF.get(space, space)
    return centred(vectors) if chosen.view == "centred" else vectors


Absent = Mapping[str, str]
OF_A_FOLDER: Absent = {
    "groups": "classes, which a folder does not name",
    "centred": "training clips (--training)",
    "frame_vectors": "a CLIP model (--clip)",
    "classes": "a classifier (--video-classifier, --frame-classifier or --judge)",
    "labels": "a judge of the small world's clips (--judge)",
    "words": "captions, decoded and seen (--captions)",
    "caption_score": "captions (--captions) and a CLIP model (--clip)",
}
OF_A_STUDY: Absent = {
    "groups": "classes of stimuli, which the source does not name",
    "centred": "a target that rendered clips can be compared by",
    "frame_vectors": "judges.clip",
    "classes": "judges.videos, judges.frames or judges.small_world",
    "labels": "judges.small_world",
    "words": "captions, decoded and seen",
    "caption_score": "captions and judges.clip",
}
"""What a metric of each view is in want of where there is nothing that it could look at."""


def why_left_out(asked: Sequence[str], had: Sequence[str], truth: Spaces, absent: Absent) -> list[str]:
    """Return one line for each reason for which metrics are left out.

    Parameters
    ----------
    asked : `space.metric` or bare names
    had : the `space.metric` names that were scored
    truth : arrays by space
    absent : `OF_A_FOLDER` or `OF_A_STUDY`
    """
    reasons: dict[str, list[str]] = {}
    for name in dict.fromkeys(asked):
        if not any(one == name or one.rpartition(".")[2] == name for one in had):
            reasons.setdefault(_reason(name, truth, absent), []).append(name)
    said = [f"left out, for want of {reason}: {', '.join(names)}" for reason, names in reasons.items()]
    unnamed = [name for name in ONLY_WHERE_NAMED if name not in {one.rpartition(".")[2] for one in asked}]
    return said + ([f"left out, computed only where it is named: {', '.join(unnamed)}"] if unnamed else [])


def _reason(name: str, truth: Spaces, absent: Absent) -> str:
    chosen, space = metric(name), name.rpartition(".")[0]
    if chosen.needs_groups:
        return absent["groups"]
    there = [one for one in _spaces(chosen, space, truth) if in_space(truth, one) is not None]
    if not there:
        return absent.get(chosen.view, f"the space '{space}'")
    found = in_space(truth, there[0])
    assert found is not None
    return _too_small(chosen, found.shape)


def _spaces(chosen: Metric, space: str, truth: Spaces) -> Sequence[str]:
    if space:
        return [space]
    of_view = SPACES_OF.get(chosen.view)
    return of_view or [one for one in truth if is_centred(one) == (chosen.view == "centred")]


def _too_small(chosen: Metric, shape: tuple[int, ...]) -> str:
    if shape[0] < chosen.fewest:
        return f"{chosen.fewest} stimuli, there are {shape[0]}"
    if chosen.view in ("frames", "frame_vectors") and shape[1] < chosen.fewest_frames:
        return f"{chosen.fewest_frames} frames a clip, there are {shape[1]}"
    if chosen.view == "classes":
        return f"{chosen.fewest_classes} classes, there are {shape[-1]}"
    return f"frames of {chosen.smallest_side} pixels a side"
