"""Says in words which metrics could not be had, and why."""

from collections.abc import Mapping, Sequence

from evaluation.centred import is_centred
from evaluation.config import ONLY_WHERE_NAMED
from evaluation.metrics import SPACES_OF, Metric, metric
from evaluation.spaces import Spaces, in_space

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
