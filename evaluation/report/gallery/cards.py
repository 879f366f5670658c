"""One clip in the gallery: its previews, its captions with the right words marked, its scores and facts."""

import base64
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.clips import Clip, write_clip
from evaluation.diagnoses.leaks import plain_words
from evaluation.report.wording import metric_label, number, short_label
from evaluation.statistics.scores import RECONSTRUCTION, Values

LONGER_SIDE = 192
"""Pixels of a preview's longer side, at most."""
CRISP_SIDE = 96
"""A clip whose longer side has this many pixels or fewer is enlarged by whole pixels, and shown with sharp edges."""
QUALITY, STILL_QUALITY = 55, 85
"""WebP quality of a still with a video, and of one without."""


@dataclass(frozen=True)
class Preview:
    """A clip in the page; width and height are its own, in pixels."""

    poster: str
    """The middle frame, as a data URI."""
    video: str | None
    """MP4 in base64, or None for a clip in which nothing moves."""
    width: int
    height: int
    crisp: bool
    """Whether its pixels are shown with sharp edges."""


def preview(clip: Clip, fps: float) -> Preview:
    """Return the preview of a clip (frame, height, width, 3), uint8; the same clip gives the same bytes.

    Raises
    ------
    ValueError
        The clip has another shape or type.
    """
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not clip.size:
        raise ValueError(f"gallery: found {clip.dtype} {clip.shape}; expected uint8 (frame, height, width, 3)")
    height, width = clip.shape[1:3]
    small = _reduced(clip)
    moves = bool((clip != clip[:1]).any())
    return Preview(
        poster=_still(small[len(small) // 2], lossless=_is_crisp(clip), quality=QUALITY if moves else STILL_QUALITY),
        video=_video(small, fps) if moves else None,
        width=width,
        height=height,
        crisp=_is_crisp(clip),
    )


def _is_crisp(clip: Clip) -> bool:
    return bool(max(clip.shape[1:3]) <= CRISP_SIDE)


def _reduced(clip: Clip) -> Clip:
    """Return a clip whose sides fit, each pixel the average of the area that it covers."""
    height, width = clip.shape[1:3]
    scale = LONGER_SIDE / max(height, width)
    if scale >= 1:
        return clip
    size = (_even(width * scale), _even(height * scale))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in clip])


def _even(side: float) -> int:
    """Return the nearest even number: yuv420p needs even sides."""
    return max(2, 2 * round(side / 2))


def _video(clip: Clip, fps: float) -> str:
    zoom = _zoom(max(clip.shape[1:3])) if _is_crisp(clip) else 1
    with tempfile.TemporaryDirectory(prefix="gallery-") as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, clip, fps, min_side=zoom * min(clip.shape[1:3]))
        return base64.b64encode(path.read_bytes()).decode()


def _zoom(side: int) -> int:
    """Return the power of two that enlarges most: pixels that end where H.264's blocks end need half the bytes."""
    return 1 << ((LONGER_SIDE // side).bit_length() - 1)


def _still(frame: Clip, *, lossless: bool, quality: int) -> str:
    buffer = BytesIO()
    Image.fromarray(frame).save(
        buffer, format="WEBP", lossless=lossless, quality=100 if lossless else quality, method=4
    )
    return data_uri(buffer.getvalue(), "image/webp")


def data_uri(content: bytes, kind: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@dataclass(frozen=True)
class GalleryItem:
    """One test stimulus: the clip that was seen, its reconstruction, and its scores."""

    stimulus: str
    seen: Clip
    """(frame, height, width, 3) uint8."""
    reconstructed: Clip
    seen_file: str | None = None
    """Path of the whole video, relative to the page."""
    reconstructed_file: str | None = None
    true_caption: str | None = None
    decoded_caption: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """By `space.metric`, NaN without a value."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Provenance of the clip: "nearest training clip", "seed", "models"."""


def gallery_items(
    stimuli: Sequence[str],
    seen: Sequence[Clip] | NDArray[np.uint8],
    reconstructed: Sequence[Clip] | NDArray[np.uint8],
    values: Values,
    *,
    folders: tuple[str, str],
    true_captions: Sequence[str] | None,
    decoded_captions: Sequence[str] | None,
    facts: Sequence[Mapping[str, str]],
) -> list[GalleryItem]:
    """Return the items of a run's gallery, one a stimulus.

    Parameters
    ----------
    values : every row's scores of each stimulus
    folders : of the run, in which ``<stimulus>.mp4`` shows what was seen, and what was reconstructed
    true_captions, decoded_captions : one a stimulus, empty where there is none
    """
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=seen[index],
            reconstructed=reconstructed[index],
            seen_file=f"{folders[0]}/{stimulus}.mp4",
            reconstructed_file=f"{folders[1]}/{stimulus}.mp4",
            true_caption=(true_captions[index] or None) if true_captions else None,
            decoded_caption=(decoded_captions[index] or None) if decoded_captions else None,
            scores={name: float(one[index]) for name, one in values.get(RECONSTRUCTION, {}).items()},
            facts=facts[index],
        )
        for index, stimulus in enumerate(stimuli)
    ]


@dataclass(frozen=True)
class Word:
    """A word of a decoded caption, and whether the true caption has it."""

    text: str
    right: bool


def marked_words(decoded: str, true: str) -> list[Word]:
    """Mark the words of a decoded caption that are in the true one, each as often as there.

    Case and punctuation do not count, and neither does the order.
    """
    remaining = Counter(plain_words(word) for word in true.split())
    marked = []
    for word in decoded.split():
        key = plain_words(word)
        right = bool(key) and remaining[key] > 0
        remaining[key] -= right
        marked.append(Word(word, right))
    return marked


def card(item: GalleryItem, names: Sequence[str], fps: float) -> dict[str, Any]:
    """Return the content of a clip's card; `names` are the scores in their order."""
    values = [item.scores.get(name, math.nan) for name in names]
    previews = [preview(item.seen, fps), preview(item.reconstructed, fps)]
    return {
        "item": item,
        "screens": [
            {"kind": "Seen", "preview": previews[0], "file": _link(item.seen_file)},
            {"kind": "Reconstructed", "preview": previews[1], "file": _link(item.reconstructed_file)},
        ],
        "media": json.dumps([shown.video for shown in previews]) if any(shown.video for shown in previews) else "",
        "sort_values": json.dumps([value if math.isfinite(value) else None for value in values]),
        "words": plain_words(" ".join([item.stimulus, item.true_caption or "", item.decoded_caption or ""])),
        "caption": _caption(item),
        "scores": {name: _score(name, k, value) for k, (name, value) in enumerate(zip(names, values, strict=True))},
    }


def _link(file: str | None) -> str | None:
    return None if file is None else quote(file)


def _score(name: str, index: int, value: float) -> dict[str, Any]:
    text = number(value) if math.isfinite(value) else ""
    return {"index": index, "label": metric_label(name), "short": short_label(name), "text": text}


def _caption(item: GalleryItem) -> dict[str, Any] | None:
    """Return the decoded caption's words, how many of them are right, and the same as text without marks."""
    if not item.decoded_caption:
        return None
    if not item.true_caption:
        return {"words": [Word(word, False) for word in item.decoded_caption.split()], "count": "", "described": ""}
    words = marked_words(item.decoded_caption, item.true_caption)
    counted = [word for word in words if plain_words(word.text)]
    right, wrong = ([word.text for word in counted if word.right is which] for which in (True, False))
    described = f"Right words: {', '.join(right) or 'none'}. Other words: {', '.join(wrong) or 'none'}."
    return {"words": words, "count": f"{len(right)} of {len(counted)} words right", "described": described}
