"""A clip as a page carries it: a small still that is there from the first, and a small video within the page."""

import base64
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from core.clips import Clip, write_clip

LONGER_SIDE = 192
"""Pixels of a preview's longer side, at most."""
CRISP_SIDE = 96
"""A clip whose longer side has this many pixels or fewer is enlarged by whole pixels, and shown with sharp edges."""
QUALITY, STILL_QUALITY = 55, 85
"""Of the WebP that stands where a video will be, and of one that is all there is."""


@dataclass(frozen=True)
class Preview:
    """A clip within a page.

    Attributes
    ----------
    poster : the middle frame, as a data URI
    video : MP4 in base64, or None for a clip in which nothing moves
    width, height : of the clip itself, in pixels
    crisp : whether its pixels are to be seen as such
    """

    poster: str
    video: str | None
    width: int
    height: int
    crisp: bool


def preview(clip: Clip, fps: float) -> Preview:
    """Make a clip's preview; the same clip gives the same bytes.

    Parameters
    ----------
    clip : uint8, shape (frame, height, width, 3)
    fps : float

    Raises
    ------
    ValueError
        It is no such clip.
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
    """Return the even number next to a side: what yuv420p takes without a margin."""
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
    """Return bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
