"""Clips in and out: video files and images to `(frame, height, width, 3)` uint8 by time, and back to H.264."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from core.config import Config
from core.errors import SourceError, SourceMissing
from core.media import Media
from core.pictures import IMAGE_SUFFIXES, is_picture, opened_picture
from core.videos import opened_container, opened_video, video_stream

Clip = NDArray[np.uint8]
"""A clip: (frame, height, width, 3), RGB, 0 to 255."""

SIGNATURE_BYTES = 32
"""How many of a file's first bytes say what it is."""
Fit = Literal["stretch", "crop", "pad"]
FITS: dict[Fit, Callable[..., Image.Image]] = {
    "stretch": Image.Image.resize,
    "crop": ImageOps.fit,
    "pad": ImageOps.pad,
}


class ClipConfig(Config):
    """What every clip of a study looks like once it is read."""

    frames: PositiveInt = 8
    height: PositiveInt = 32
    width: PositiveInt = 32
    start_s: NonNegativeFloat = 0.0
    """Where the part of the clip that is used begins, in seconds."""
    window_s: PositiveFloat = 3.0
    """How long that part is."""
    fit: Fit = "stretch"
    """How a picture of other proportions fills the frame: distorted, cropped, or padded with black."""

    @property
    def fps(self) -> float:
        """Frames per second of the sampled clip."""
        return self.frames / self.window_s


@dataclass(frozen=True)
class VideoInfo:
    """A video on disk, a file or a folder of frames, not read yet; sizes in pixels, as it is shown."""

    path: Path
    frames: int
    height: int
    width: int
    duration_s: float | None
    """None where it is not known: of one frame, or of a folder of frames."""
    transparent: bool = False
    """Whether its first frame has transparent pixels, which are laid on `core.media.BACKGROUND`."""


@contextmanager
def _opened(path: Path) -> Iterator[Media]:
    """Open a video or an image, by its first bytes and not by its name: what all reading and probing goes through."""
    if not path.exists():
        raise SourceMissing(f"{path}: no such clip; expected a video or an image; check source.path")
    if path.is_dir():
        raise SourceError(f"{path}: is a folder; name a video or an image")
    with path.open("rb") as file:
        start = file.read(SIGNATURE_BYTES)
    if not start:
        raise SourceError(f"{path}: empty, nothing that can be decoded; copy the file again")
    with opened_picture(path) if is_picture(start) else opened_video(path) as media:
        yield media


def read_clip(path: Path, config: ClipConfig) -> Clip:
    """Read a video or a still image, sampled by time over the config's window.

    Frame k shows the instant ``start_s + (k + 1/2) · window_s / frames``, counted from the file's first frame; a clip
    that ends within the window holds its last frame. The pixels are those that a player shows: a rotation that the file
    asks for is applied, pixels that are not square are taken into account, transparent ones are laid on
    `core.media.BACKGROUND`, and deep ones are scaled to 8 bits. A still image is a clip of one frame, repeated.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, holds no frame that can be decoded, is cut short or damaged, or ends before the window
        begins.
    """
    wanted = config.start_s + (np.arange(config.frames) + 0.5) * config.window_s / config.frames
    with _opened(path) as media:
        still = len(media.times_s) == 1 and media.duration_s is None
        if config.start_s > media.times_s[-1] and not still:
            raise SourceError(
                f"{path}: its last frame is at {media.times_s[-1]:g} s, the window begins at {config.start_s:g} s; "
                "fix clips.start_s"
            )
        places, counts = np.unique(np.searchsorted(media.times_s, wanted, side="right") - 1, return_counts=True)
        frames = [_fitted(picture, config) for picture in media.pictures(places.tolist())]
    return np.repeat(np.stack(frames), counts, axis=0)


def _fitted(picture: Image.Image, config: ClipConfig) -> NDArray[np.uint8]:
    size = config.width, config.height
    if picture.size != size:
        picture = FITS[config.fit](picture, size, Image.Resampling.BOX)
    return np.asarray(picture)


def read_frames(path: Path) -> Iterator[Clip]:
    """Yield every frame of a video as it is shown, (height, width, 3) uint8; raises as `read_clip` does."""
    with _opened(path) as media:
        for picture in media.pictures(range(len(media.times_s))):
            yield np.asarray(picture)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the tags of a video file, such as `title` and `comment`; raises as `read_clip` does."""
    if not path.exists():
        raise SourceMissing(f"{path}: no such video; check its name")
    with opened_container(path) as container:
        video_stream(container, path)
        return dict(container.metadata)


def video_files(path: Path) -> list[Path]:
    """Return the files of a video: itself, or a folder's still images by the numbers in their names, 2 before 10."""
    if not path.is_dir():
        return [path]
    stills = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    return sorted(stills, key=lambda file: (int((re.findall(r"\d+", file.stem) or ["-1"])[-1]), file.name))


def probe_video(path: Path) -> VideoInfo:
    """Return a video's frames, size and duration, as `read_clip` finds them; only its first frame is decoded.

    Raises `SourceError` where it cannot be decoded from the first frame on, or is cut short.
    """
    if path.is_dir():
        files = video_files(path)
        if not files:
            raise SourceError(f"{path}: a folder without images; expected frames such as 0001.png")
        first = probe_video(files[0])
        return replace(first, path=path, frames=len(files), duration_s=None)
    with _opened(path) as media:
        width, height = media.size
        return VideoInfo(path, len(media.times_s), height, width, media.duration_s, media.transparent)


def write_clip(
    path: Path, clip: Clip, fps: float, *, min_side: int = 256, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a clip as H.264 in MP4 (yuv420p, faststart), the form every browser plays, atomically.

    A small clip is enlarged by whole pixels until its shorter side reaches `min_side`, so that the halved colour
    resolution of yuv420p does not blur it. Same clip and same metadata, same bytes. Metadata are tags that MP4 has a
    place for, such as `title` and `comment`; `read_metadata` reads them again.
    """
    zoom = max(1, -(-min_side // min(clip.shape[1:3])))
    large = clip.repeat(zoom, axis=1).repeat(zoom, axis=2)
    large = np.pad(large, ((0, 0), (0, large.shape[1] % 2), (0, large.shape[2] % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file, not a buffer: faststart opens the finished file once more, by its name.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _encode(partial, large, fps, metadata or {})
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, clip: Clip, fps: float, metadata: Mapping[str, str]) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        # One thread, and no instruction set of its own choosing: the same clip gives the same bytes.
        stream.options = {"crf": "16", "preset": "veryfast", "x264-params": "cpu-independent=1"}
        stream.codec_context.thread_count = 1
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
