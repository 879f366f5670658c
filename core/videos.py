"""Videos that libav reads, as a player shows them: frames in the order of display, each with its time.

A container is read once for its packets, whose stamps say when frames are shown, and the packets are then decoded until
the last frame that is wanted. Damage is an error, where libav would go on with grey or repeated frames.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from av.video.reformatter import Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

from core.errors import SourceError
from core.media import Media, laid_on_background
from core.pictures import IMAGE_SUFFIXES
from core.promises import bytes_promised

KEPT = 256 * 2**20
"""A file of more bytes is read a second time to be decoded; the packets of a smaller one are kept in memory."""
STRICT = {"err_detect": "crccheck+explode"}
"""Has libav's decoders raise where they would conceal damage."""
HIGH_RANGE = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
"""Transfer functions of videos that players map to the range of a usual screen, each in its own way."""
HD_WIDTH, SD_HEIGHT = 1280, 576
"""A video that names no colour matrix has that of BT.709 from this width on or above this height, else BT.601's."""
UNSPECIFIED_MATRIX = 2
USUAL_RATE = 25
"""Frames per second of a stream that has no stamps and names no rate."""
VP8_SHOWN = 0x10
"""The bit of a VP8 frame's first byte that says it is shown."""
HEIF = {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"}
"""Brands of pictures, often of several tiles, in the container of MP4."""
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of WebM's transparency, which libav's own skip."""


@dataclass(frozen=True)
class Schedule:
    """When the frames of a video are shown.

    Attributes
    ----------
    times_s : of each shown frame, ascending, the first at 0
    duration_s : until the last frame ends; None of a single one
    stamps : the presentation stamp of each shown frame, ascending, in units of the stream; None where the container has
        none worth anything, and the frames that a decoder puts out simply follow each other
    """

    times_s: Sequence[float]
    duration_s: float | None
    stamps: Sequence[int] | None

    def beginning_with(self, stamp: int | None) -> "Schedule":
        """Return the schedule from the first frame that can be decoded; those before it refer to frames cut away."""
        if self.stamps is None or stamp not in self.stamps:
            return self
        skipped = self.stamps.index(stamp)
        begin, duration = self.times_s[skipped], self.duration_s
        times = [time - begin for time in self.times_s[skipped:]] if skipped else self.times_s
        return Schedule(times, None if duration is None else duration - begin, self.stamps[skipped:])


@contextmanager
def opened_container(path: Path) -> Iterator[Any]:
    """Open a file with libav; raises `SourceError`, in one line, where it is no video or cannot be read."""
    try:
        # An absolute path: libav takes what stands before a colon for a protocol.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, SourceError):
            raise
        _require_whole(path)
        what = "an image" if path.suffix.lower() in IMAGE_SUFFIXES else "a video"
        raise SourceError(f"{path}: not {what} that can be decoded ({error.strerror}); replace the file") from error


def _require_whole(path: Path) -> None:
    """Raise where a file has fewer bytes than its first bytes promise."""
    size, promised = path.stat().st_size, bytes_promised(path)
    if promised is not None and size < promised:
        raise SourceError(
            f"{path}: cut short: its header promises {promised:,} bytes, {size:,} are there; copy the file again"
        )


@contextmanager
def opened_video(path: Path) -> Iterator[Media]:
    """Open a video, read its packets and decode its first frame.

    Raises `SourceError`, in one line, where it holds no video, is cut short, damaged, or of a high dynamic range; the
    media's pictures raise it where damage shows only then.
    """
    with ExitStack() as stack:
        container = stack.enter_context(opened_container(path))
        stream = video_stream(container, path)
        packets = [packet for packet in container.demux(stream) if packet.size]
        _require_frames(path, stream, packets)
        schedule, total = _schedule(stream, packets), len(packets)
        source: Iterator[Any] = iter(packets)
        if path.stat().st_size > KEPT:
            del packets
            stream = video_stream(stack.enter_context(opened_container(path)), path)
            source = (packet for packet in stream.container.demux(stream) if packet.size)
        frames = _decoded(path, _decoder(stream), source, total)
        first = next(frames, None)
        if first is None:
            raise SourceError(f"{path}: holds no video frame; replace the file")
        _require_usual_range(first, path)
        schedule = schedule.beginning_with(first.pts)
        shape = float(stream.sample_aspect_ratio or 1)
        transparent = _has_alpha(first) and bool(first.to_ndarray(format="rgba")[..., 3].min() < 255)

        def pictures(places: Sequence[int]) -> Iterator[Image.Image]:
            for frame in _chosen(path, itertools.chain([first], frames), schedule, places):
                yield _picture(frame, shape)

        yield Media(schedule.times_s, schedule.duration_s, _size(first, shape), transparent, pictures)


def video_stream(container: Any, path: Path) -> Any:
    """Return the video that a player shows: the default one, never a cover picture; raises `SourceError`."""
    if container.metadata.get("major_brand") in HEIF:
        raise SourceError(f"{path}: is a HEIF picture, which is not read; convert it to PNG")
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not streams:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"{path}: holds no video, only {found}; name a video or an image")
    return next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])


def _require_frames(path: Path, stream: Any, packets: Sequence[Any]) -> None:
    """Raise where frames that the container promises are not there, or not whole."""
    size, index = path.stat().st_size, stream.index_entries
    beyond = sum(entry.pos + entry.size > size for entry in index)
    whole = sum(not packet.is_corrupt for packet in packets)
    promised, there = stream.frames or len(index), min(whole, len(index) - beyond) if beyond else whole
    length = bytes_promised(path)
    if (beyond or (length is not None and size < length)) and there < promised:
        raise SourceError(
            f"{path}: cut short: its header promises {promised} frames, {there} are there; copy the file again"
        )
    _require_whole(path)
    if whole < len(packets):
        raise SourceError(
            f"{path}: {len(packets) - whole} of its {len(packets)} frames are damaged; copy the file again"
        )


def _schedule(stream: Any, packets: Sequence[Any]) -> Schedule:
    """Return when a stream's frames are shown.

    Some containers (AVI, ASF) stamp frames in the order of decoding, and some streams have no stamps. There, the frames
    that a decoder puts out, which are in the order of display, take the stamps in their order.
    """
    packets = [packet for packet in packets if not packet.is_discard and _is_visible(stream, packet)]
    base, stamps = stream.time_base or Fraction(1), [packet.pts for packet in packets]
    trusted = None
    if None not in stamps and len(set(stamps)) == len(stamps):
        order = sorted(stamps)
        if order != stamps or not stream.codec_context.reorder_depth:
            trusted = order
    elif all(packet.dts is not None for packet in packets):
        order = sorted(packet.dts for packet in packets)
    else:
        rate = stream.codec_context.framerate or stream.average_rate or USUAL_RATE
        order, base = list(range(len(packets))), 1 / rate
    times = [float((stamp - order[0]) * base) for stamp in order]
    if len(times) < 2:
        return Schedule(times, None, trusted)
    last = max(packets, key=lambda packet: packet.pts) if trusted else packets[-1]
    length = float((last.duration or 0) * (stream.time_base or 0)) or times[-1] / (len(times) - 1)
    return Schedule(times, times[-1] + length, trusted)


def _is_visible(stream: Any, packet: Any) -> bool:
    """Return whether a packet holds a frame to show; VP8 has others, which are only for reference."""
    return stream.codec_context.name not in ("vp8", "libvpx") or bool(memoryview(packet)[0] & VP8_SHOWN)


def _decoder(stream: Any) -> Any:
    """Return a stream's decoder, with that for transparency where the stream has any."""
    context = stream.codec_context
    name = ALPHA_DECODERS.get(context.name)
    if name and stream.metadata.get("alpha_mode") == "1":
        context = av.CodecContext.create(name, "r")
        context.extradata = stream.codec_context.extradata
    context.options, context.thread_type = STRICT, "AUTO"
    return context


def _decoded(path: Path, decoder: Any, packets: Iterable[Any], total: int) -> Iterator[Any]:
    """Yield a video's frames in the order of display; raises `SourceError` where one is damaged."""
    count, reason = 0, ""
    try:
        for packet in itertools.chain(packets, [None]):
            for frame in decoder.decode(packet):
                if frame.is_corrupt:
                    raise SourceError(_damaged(path, count + 1, total, "parts of it are missing"))
                count += 1
                yield frame
    except av.FFmpegError as error:
        reason = str(error.strerror)
        raise SourceError(_damaged(path, count + 1, total, reason)) from error


def _damaged(path: Path, place: int, total: int, reason: str) -> str:
    return f"{path}: not a video that can be decoded from frame {place} of {total} on ({reason}); replace the file"


def _chosen(path: Path, frames: Iterable[Any], schedule: Schedule, places: Sequence[int]) -> Iterator[Any]:
    """Yield the frames of some places, ascending; those between are decoded, but not converted."""
    wanted, total = iter(places), len(schedule.times_s)
    current = next(wanted, None)
    for place, frame in enumerate(frames):
        if schedule.stamps is not None and frame.pts not in (None, schedule.stamps[min(place, total - 1)]):
            raise SourceError(_damaged(path, place + 1, total, "a frame is missing there"))
        while current == place:
            yield frame
            current = next(wanted, None)
        if current is None:
            return
    raise SourceError(f"{path}: its container lists {total} frames, fewer can be decoded; replace the file")


def _require_usual_range(frame: Any, path: Path) -> None:
    if name := HIGH_RANGE.get(frame.color_trc):
        raise SourceError(f"{path}: is a video of high dynamic range ({name}); convert it to SDR, as it was shown")


def _has_alpha(frame: Any) -> bool:
    return frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)


def _quarter_turned(frame: Any) -> bool:
    matrix = _display_matrix(frame)
    return bool(abs(matrix[0, 1]) > abs(matrix[0, 0]))


def _display_matrix(frame: Any) -> NDArray[np.int32]:
    """Return how a frame is to be turned and mirrored: (2, 2), by which (x, y) is multiplied from the left."""
    content = frame.side_data.get(SideData.DISPLAYMATRIX)
    if content is None:
        return np.eye(2, dtype=np.int32)
    return np.frombuffer(bytes(content), np.int32).reshape(3, 3)[:2, :2]


def _size(frame: Any, shape: float) -> tuple[int, int]:
    """Return the (width, height) of a frame as it is shown."""
    width, height = max(1, round(frame.width * shape)), frame.height
    return (height, width) if _quarter_turned(frame) else (width, height)


def _picture(frame: Any, shape: float) -> Image.Image:
    """Return a decoded frame in RGB, upright and with square pixels."""
    high = frame.width >= HD_WIDTH or frame.height > SD_HEIGHT
    guessed = high and frame.colorspace == UNSPECIFIED_MATRIX and not frame.format.is_rgb
    matrix = Colorspace.ITU709 if guessed else None
    if _has_alpha(frame):
        pixels = frame.to_ndarray(format="rgba", src_colorspace=matrix)
        pixels = laid_on_background(pixels) if pixels[..., 3].min() < 255 else pixels[..., :3]
    else:
        pixels = frame.to_ndarray(format="rgb24", src_colorspace=matrix)
    picture = Image.fromarray(_upright(pixels, frame))
    size = _size(frame, shape)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)


def _upright(pixels: NDArray[np.uint8], frame: Any) -> NDArray[np.uint8]:
    """Return pixels, (height, width, 3), turned by quarters and mirrored as their frame asks for."""
    (a, b), (c, d) = _display_matrix(frame).tolist()
    if _quarter_turned(frame):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])
