"""Which metrics can be asked of which arrays: spaces by name, and the names `space.metric` that apply to them."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from core.errors import ConfigError
from evaluation.centred import centred
from evaluation.metrics import SPACES_OF, Array, Groups, Metric, metric

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
