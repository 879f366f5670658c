"""Clips in and out: video files and images to `(frame, height, width, 3)` uint8 by time, and back to H.264."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import PositiveFloat, PositiveInt

from core.config import Config
from core.errors import SourceError, SourceMissing

Clip = NDArray[np.uint8]
"""A clip: (frame, height, width, 3), RGB, 0 to 255."""

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}


class ClipConfig(Config):
    """What every clip of a study looks like once it is read."""

    frames: PositiveInt = 8
    height: PositiveInt = 32
    width: PositiveInt = 32
    window_s: PositiveFloat = 3.0
    """The part of the clip that is used, from its start, in seconds."""

    @property
    def fps(self) -> float:
        """Frames per second of the sampled clip."""
        return self.frames / self.window_s


def read_clip(path: Path, config: ClipConfig) -> Clip:
    """Read a video or a still image, sampled by time over the config's window.

    Frame k shows the instant ``(k + 1/2) · window_s / frames``; a clip shorter than the window holds its last frame.
    A still image is a clip of one frame, repeated.

    Returns
    -------
    Clip, shape (frames, height, width, 3)

    Raises
    ------
    SourceMissing, SourceError
        The file is absent, or holds no frame that can be decoded.
    """
    if not path.exists():
        raise SourceMissing(f"{path}: no such clip; expected a video or an image; check source.path")
    frames, times = _read_image(path) if path.suffix.lower() in IMAGE_SUFFIXES else _read_video(path)
    wanted = (np.arange(config.frames) + 0.5) * config.window_s / config.frames
    shown = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(frames) - 1)
    return np.stack([_resize(frames[index], config) for index in shown])


def _read_image(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    try:
        with Image.open(path) as image:
            return [np.asarray(image.convert("RGB"))], np.zeros(1)
    except OSError as error:
        raise SourceError(f"{path}: not an image that can be decoded ({error}); replace the file") from error


def _read_video(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float64]]:
    frames, times = [], []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                times.append(float(frame.time or 0.0))
    except (av.FFmpegError, IndexError) as error:
        raise SourceError(f"{path}: not a video that can be decoded ({error}); replace the file") from error
    if not frames:
        raise SourceError(f"{path}: holds no video frame; replace the file")
    return frames, np.asarray(times) - times[0]


def _resize(frame: NDArray[np.uint8], config: ClipConfig) -> NDArray[np.uint8]:
    if frame.shape[:2] == (config.height, config.width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((config.width, config.height), Image.Resampling.BOX))


def write_clip(path: Path, clip: Clip, fps: float, *, min_side: int = 256) -> None:
    """Write a clip as H.264 in MP4 (yuv420p, faststart), the form every browser plays, atomically.

    A small clip is enlarged by whole pixels until its shorter side reaches `min_side`, so that the halved colour
    resolution of yuv420p does not blur it. Same clip, same bytes.
    """
    zoom = max(1, -(-min_side // min(clip.shape[1:3])))
    large = clip.repeat(zoom, axis=1).repeat(zoom, axis=2)
    large = np.pad(large, ((0, 0), (0, large.shape[1] % 2), (0, large.shape[2] % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file, not a buffer: faststart opens the finished file once more, by its name.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _encode(partial, large, fps)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(path: Path, clip: Clip, fps: float) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        # One thread, and no instruction set of its own choosing: the same clip gives the same bytes.
        stream.options = {"crf": "16", "preset": "veryfast", "x264-params": "cpu-independent=1"}
        stream.codec_context.thread_count = 1
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
