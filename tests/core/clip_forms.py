"""Writes a clip of known frames in many forms: containers, codecs, orders, rates, depths, turns, edit lists."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HEIGHT, WIDTH = 48, 64
GREYS = (20, 43, 66, 90, 113, 136, 160, 183, 206, 230)
COLOURS = (
    (200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (200, 30, 200),
    (30, 200, 200), (110, 60, 20), (20, 110, 60), (60, 20, 110), (128, 128, 128),
)  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How a clip is written.

    Attributes
    ----------
    suffix, codec, pixels : container, encoder and pixel format; the codec is 'pillow' for pictures that move
    lossy : how far, of 255, a colour may be off
    reordered : B-frames between two others
    ticks : how many ticks of 1 / `rate` s each frame lasts, all 1 at a constant rate
    turn, mirror : quarters against the clock, and whether the picture is mirrored after that
    skip, keep : of an edit list: how many frames it leaves out at the start, and how many it shows; 0 for all
    delay : of an edit list: whether nothing is shown at first
    """

    suffix: str
    codec: str
    pixels: str = "yuv420p"
    lossy: int = 14
    reordered: int = 0
    rate: Fraction = Fraction(10)
    ticks: tuple[int, ...] = (1,) * 10
    turn: int = 0
    mirror: bool = False
    skip: int = 0
    keep: int = 0
    delay: bool = False
    colours: bool = False

    @property
    def edited(self) -> bool:
        """Whether an edit list is written."""
        return bool(self.skip or self.keep or self.delay)


def frames_of(form: Form) -> Pixels:
    """Return ten frames (10, height, width, 3): a colour or grey of its own each, a bright and a dark corner."""
    fills = COLOURS if form.colours else [(grey,) * 3 for grey in GREYS]
    clip = np.empty((10, HEIGHT, WIDTH, 3), np.uint8)
    clip[:] = np.array(fills, np.uint8)[:, None, None]
    clip[:, : HEIGHT // 2, WIDTH // 2 :] = 225
    clip[:, HEIGHT // 2 :, : WIDTH // 2] = 25
    return clip


def expected(form: Form) -> tuple[Pixels, list[float], float]:
    """Return what a player shows: the frames, when each appears, in seconds from the first, and until when."""
    stop = form.skip + (form.keep or 10 - form.skip)
    clip = np.rot90(frames_of(form)[form.skip : stop], form.turn, axes=(1, 2))
    starts = np.concatenate([[0], np.cumsum(form.ticks)]) / float(form.rate)
    shown = starts[form.skip : stop + 1] - starts[form.skip]
    return clip[:, :, ::-1] if form.mirror else clip, shown[:-1].tolist(), float(shown[-1])


def write_form(folder: Path, form: Form) -> Path:
    """Write the clip; return its file."""
    path = folder / f"clip{form.suffix}"
    if form.codec == "pillow":
        _write_moving(path, form)
        return path
    options = {"movflags": "use_metadata_tags"} if form.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(form.codec, rate=form.rate, options=_options(form))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, form.pixels
        stream.codec_context.max_b_frames = form.reordered
        stream.codec_context.time_base = 1 / form.rate
        stream.codec_context.thread_count = 1
        if form.turn or form.mirror:
            stream.set_display_rotation(90 * form.turn, hflip=form.mirror)
        starts = [0, *np.cumsum(form.ticks).tolist()]
        for start, length, pixels in zip(starts, form.ticks, frames_of(form), strict=False):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base, frame.duration = start, 1 / form.rate, length
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if form.edited:
        _write_edits(path, form)
    return path


def _options(form: Form) -> dict[str, str]:
    order = {"bf": str(form.reordered)}
    return {
        "libx264": {"crf": "10", "preset": "veryfast", "x264-params": f"bframes={form.reordered}:b-adapt=0"},
        "libx265": {"crf": "10", "preset": "ultrafast", "x265-params": f"bframes={form.reordered}:log-level=none"},
        "libvpx": {"crf": "6", "b": "2M", "deadline": "realtime"},
        "libvpx-vp9": {"crf": "12", "b": "0", "deadline": "realtime", "cpu-used": "8"},
        "mpeg4": {"qmin": "2", "qmax": "3", **order},
        "mpeg2video": {"qmin": "2", "qmax": "3", **order},
        "mjpeg": {"qmin": "2", "qmax": "2"},
    }.get(form.codec, {})


def _write_moving(path: Path, form: Form) -> None:
    first, *others = (Image.fromarray(pixels) for pixels in frames_of(form))
    lengths = [round(1000 * ticks / form.rate) for ticks in form.ticks]
    lossless = {"lossless": True} if form.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=others, duration=lengths, loop=0, **lossless)


def _write_edits(path: Path, form: Form) -> None:
    """Replace the edit list of an MP4 whose index is its last box."""
    content = bytearray(path.read_bytes())
    scale_of_movie, scale = _timescale(content, b"mvhd"), _timescale(content, b"mdhd")
    _, _, lasts = expected(form)
    begin = sum(form.ticks[: form.skip]) / form.rate
    # Rounded down: a tick too many would show the next frame.
    edits = [(int(lasts * scale_of_movie), _media_time(content) + round(begin * scale))]
    if form.delay:
        edits.insert(0, (scale_of_movie // 2, -1))
    box = struct.pack(">II", 0, len(edits)) + b"".join(struct.pack(">Iihh", *edit, 1, 0) for edit in edits)
    box = struct.pack(">I4s", len(box) + 8, b"elst") + box
    box = struct.pack(">I4s", len(box) + 8, b"edts") + box
    start = content.index(b"edts") - 4
    (length,) = struct.unpack_from(">I", content, start)
    content[start : start + length] = box
    for parent in (b"moov", b"trak"):
        place = content.rindex(parent, 0, start) - 4
        (old,) = struct.unpack_from(">I", content, place)
        struct.pack_into(">I", content, place, old + len(box) - length)
    path.write_bytes(content)


def _timescale(content: bytearray, box: bytes) -> int:
    place = content.index(box) + 4
    assert content[place] == 0, "version 0, with times of 32 bits"
    return int(struct.unpack_from(">I", content, place + 12)[0])


def _media_time(content: bytearray) -> int:
    return int(struct.unpack_from(">i", content, content.index(b"elst") + 4 + 8 + 4)[0])


RATES = (Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001))
KINDS = (
    Form(".mp4", "libx264"), Form(".mov", "libx264"), Form(".mkv", "libx264"), Form(".avi", "libx264"),
    Form(".ts", "libx264"), Form(".flv", "libx264"), Form(".asf", "libx264"), Form(".h264", "libx264"),
    Form(".mp4", "libx265"), Form(".mkv", "libx265"), Form(".mp4", "mpeg4"), Form(".avi", "mpeg4"),
    Form(".mkv", "mpeg4"), Form(".mpg", "mpeg2video"), Form(".ts", "mpeg2video"), Form(".webm", "libvpx"),
    Form(".webm", "libvpx-vp9"), Form(".mkv", "ffv1"), Form(".avi", "ffv1"), Form(".mov", "prores_ks", "yuv422p10le"),
    Form(".avi", "mjpeg", "yuvj420p"), Form(".mov", "qtrle", "rgb24", lossy=1), Form(".mkv", "libx264rgb", "rgb24"),
    Form(".gif", "pillow", lossy=3), Form(".webp", "pillow", lossy=1), Form(".png", "pillow", lossy=1),
)  # fmt: skip
REORDERING = {"libx264", "libx265", "mpeg4", "mpeg2video"}
UNEVEN = {".mp4", ".mov", ".mkv", ".webm", ".webp", ".png", ".gif"}
TURNED = {".mp4", ".mov", ".mkv"}
DEEP = {"libx264": ("yuv420p10le", "yuv444p10le", "yuvj420p", "yuv422p"), "libx265": ("yuv420p10le",)}


def drawn_form(rng: np.random.Generator) -> Form:
    """Draw a form that its container and codec can have."""
    kind = KINDS[rng.integers(len(KINDS))]
    own: dict[str, object] = {"colours": bool(rng.integers(2))}
    fixed_rates = kind.codec in ("mpeg2video", "mpeg4")
    own["rate"] = rng.choice(np.array(RATES)) if fixed_rates else Fraction(int(rng.integers(4, 31)))
    if kind.codec == "pillow":
        own["rate"] = Fraction(100, int(rng.integers(3, 30)))  # GIF counts hundredths of a second
    if kind.codec in REORDERING:
        own["reordered"] = int(rng.integers(4))
    if kind.suffix in UNEVEN and kind.codec != "mpeg4" and rng.random() < 0.4:
        own["ticks"] = tuple(int(length) for length in rng.integers(1, 5, 10))
    if kind.codec in DEEP and rng.random() < 0.4:
        own["pixels"] = str(rng.choice(DEEP[kind.codec]))
    if kind.suffix in TURNED and rng.random() < 0.5:
        own.update(turn=int(rng.integers(4)), mirror=bool(rng.integers(2)))
    if kind.suffix in (".mp4", ".mov") and "ticks" not in own and rng.random() < 0.5:
        skip = int(rng.integers(5))
        own.update(skip=skip, keep=int(rng.integers(2, 10 - skip)), delay=bool(rng.integers(2)))
    return Form(**{**vars(kind), **own})
