"""Clips in and out: video files and images to `(frame, height, width, 3)` uint8 by time, and back to H.264."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from core.config import Config
from core.errors import SourceError, SourceMissing

Clip = NDArray[np.uint8]
"""A clip: (frame, height, width, 3), RGB, 0 to 255."""

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
"""Still images; everything else, moving GIF and WebP too, is read as a video."""
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


def read_clip(path: Path, config: ClipConfig) -> Clip:
    """Read a video or a still image, sampled by time over the config's window.

    Frame k shows the instant ``start_s + (k + 1/2) · window_s / frames``, counted from the file's first frame; a clip
    that ends within the window holds its last frame. A rotation that the file asks for is applied, and pixels that are
    not square are taken into account. A still image is a clip of one frame, repeated.

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, holds no frame that can be decoded, or ends before the window begins.
    """
    if not path.exists():
        raise SourceMissing(f"{path}: no such clip; expected a video or an image; check source.path")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return np.repeat(_fitted(_read_image(path), config)[None], config.frames, axis=0)
    wanted = config.start_s + (np.arange(config.frames) + 0.5) * config.window_s / config.frames
    return np.stack([_fitted(frame, config) for frame in _read_video(path, wanted.tolist(), config.start_s)])


def _read_image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except OSError as error:
        raise SourceError(f"{path}: not an image that can be decoded ({error}); replace the file") from error


def _read_video(path: Path, wanted_s: list[float], start_s: float) -> list[Image.Image]:
    """Return what a video shows at the wanted instants, ascending; other frames are decoded, but not converted."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            shape = float(stream.sample_aspect_ratio or 1)
            chosen = list(_shown(container.decode(stream), wanted_s, start_s, path))
            pictures = {id(frame): _picture(frame, shape) for frame in chosen}
    except (av.FFmpegError, IndexError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not a video that can be decoded ({error}); replace the file") from error
    return [pictures[id(frame)] for frame in chosen]


def _shown(frames: Iterable[Any], wanted_s: list[float], start_s: float, path: Path) -> Iterator[Any]:
    """Yield for each wanted instant the frame that is on screen then."""
    current, first, time = None, None, 0.0
    waiting = iter(wanted_s)
    instant = next(waiting, None)
    for frame in frames:
        moment = float(frame.time or 0.0)
        first = moment if first is None else first
        while current is not None and instant is not None and instant < moment - first:
            yield current
            instant = next(waiting, None)
        if instant is None:
            return
        current, time = frame, moment - first
    if current is None:
        raise SourceError(f"{path}: holds no video frame; replace the file")
    if start_s > time:
        raise SourceError(
            f"{path}: its last frame is at {time:g} s, the window begins at {start_s:g} s; fix clips.start_s"
        )
    yield from (current for _ in chain([instant], waiting))


def _picture(frame: Any, shape: float) -> Image.Image:
    """Return a decoded frame upright and with square pixels."""
    picture = Image.fromarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
    if shape == 1:
        return picture
    wide = round(frame.rotation / 90) % 2 == 0
    width, height = picture.size
    size = (round(width * shape), height) if wide else (width, round(height * shape))
    return picture.resize(size, Image.Resampling.BOX)


def _fitted(picture: Image.Image, config: ClipConfig) -> NDArray[np.uint8]:
    size = config.width, config.height
    if picture.size != size:
        picture = FITS[config.fit](picture, size, Image.Resampling.BOX)
    return np.asarray(picture)


def read_frames(path: Path) -> Iterator[Clip]:
    """Yield every frame of a video as it is stored, (height, width, 3) uint8; raises `SourceError` where it is none."""
    with _opened(path) as container:
        for frame in container.decode(container.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")


def read_metadata(path: Path) -> dict[str, str]:
    """Return the tags of a video file, such as `title` and `comment`; raises as `read_frames` does."""
    with _opened(path) as container:
        return dict(container.metadata)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise SourceMissing(f"{path}: no such video; check its name")
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise SourceError(f"{path}: holds no video; name an mp4 of a reconstruction")
            yield container
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not a video that can be read ({error.strerror}); check its name") from error


@dataclass(frozen=True)
class VideoInfo:
    """A video on disk, a file or a folder of frames, not read yet; sizes in pixels."""

    path: Path
    frames: int
    height: int
    width: int
    duration_s: float | None
    """None where it is not known: of one frame, or of a folder of frames."""


def video_files(path: Path) -> list[Path]:
    """Return the files of a video: itself, or a folder's still images by the numbers in their names, 2 before 10."""
    if not path.is_dir():
        return [path]
    stills = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."]
    return sorted(stills, key=lambda file: (int((re.findall(r"\d+", file.stem) or ["-1"])[-1]), file.name))


def probe_video(path: Path) -> VideoInfo:
    """Return a video's frames, size and duration; only images are decoded. Raises `SourceError` for anything else."""
    try:
        if path.is_dir():
            files = video_files(path)
            first = probe_video(files[0])
            return VideoInfo(path, len(files), first.height, first.width, None)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            with Image.open(path) as image:
                return VideoInfo(path, 1, image.height, image.width, None)
        return _probe_container(path)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{path}: not a video that can be decoded ({error}); replace the file") from error


def _probe_container(path: Path) -> VideoInfo:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = float(stream.time_base or 1)
        packets = [packet for packet in container.demux(stream) if packet.pts is not None and packet.size]
        shown = sorted((packet.pts * base, (packet.duration or 0) * base) for packet in packets)
        if not shown:
            raise SourceError(f"{path}: holds no video frame; replace the file")
        (first, _), (last, length) = shown[0], shown[-1]
        still = len(shown) == 1
        duration = None if still else last - first + (length or (last - first) / (len(shown) - 1))
        return VideoInfo(path, len(shown), stream.height, stream.width, duration)


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
