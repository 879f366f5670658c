"""Stimuli of the kinds that were read wrongly: each gives the pixels that a player shows, or one line."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core.clips import ClipConfig, probe_video, read_clip, read_frames, write_clip
from core.errors import SourceError
from core.media import BACKGROUND
from tests.core.clip_forms import GREYS

SIDE = 32
ONE = ClipConfig(frames=1, height=SIDE, width=SIDE, window_s=0.1)


def grey_clip(frames: int, side: int = 64) -> np.ndarray:
    greys = np.linspace(20, 230, frames).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 20, (frames, side, side, 3), dtype=np.uint8)
    return noise + greys[:, None, None, None]


def write(path: Path, clip: np.ndarray, codec: str, pixels: str = "yuv420p", **options: str) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], pixels
        for place, image in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if clip.shape[-1] == 4 else "rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 10)
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode())


def refusal(path: Path) -> str:
    """Return the one line with which reading and probing refuse a file; the file is named in it."""
    with pytest.raises(SourceError) as caught:
        read_clip(path, ClipConfig(frames=20, window_s=20.0))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_stamps_in_decoding_order_do_not_decide_what_is_shown(tmp_path: Path) -> None:
    clip = np.broadcast_to(np.array(GREYS, np.uint8)[:, None, None, None], (10, 64, 64, 3)).copy()
    write(tmp_path / "a.avi", clip, "libx264", bf="2")
    read = read_clip(tmp_path / "a.avi", ClipConfig(frames=10, height=64, width=64, window_s=1.0))
    assert np.abs(read[:, 32, 32, 0].astype(int) - GREYS).max() <= 2


def test_a_cut_mp4_is_refused_with_the_frames_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", grey_clip(60), "libx264", g="10")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: len(content) * 6 // 10])
    assert " cut short: its header promises 60 frames, 3" in refusal(tmp_path / "a.mp4")
    with pytest.raises(SourceError, match="header promises 60 frames"):
        probe_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "codec", "promise"),
    [
        ("a.mov", "libx264", "bytes"),
        ("a.avi", "mjpeg", "30 frames"),
        ("a.mkv", "libx264", "bytes"),
        ("a.webm", "libvpx-vp9", "bytes"),
        ("a.gif", "gif", "bytes"),
        ("a.png", "apng", ""),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_what_is_cut_short_is_refused_where_the_form_promises_a_length(
    tmp_path: Path, name: str, codec: str, promise: str, share: float
) -> None:
    path = tmp_path / name
    if codec == "apng":
        first, *others = map(Image.fromarray, grey_clip(30))
        first.save(path, save_all=True, append_images=others)
    else:
        write(path, grey_clip(30), codec, {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p"))
    assert probe_video(path).frames == 30
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    said = refusal(path)
    assert promise in said
    with pytest.raises(SourceError):
        probe_video(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "libx265"), ("a.webm", "libvpx-vp9")]
)
def test_damage_in_the_middle_is_refused_and_not_shown_as_grey(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    write(path, grey_clip(30), codec)
    assert len(list(read_frames(path))) == 30
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][15]
        place, end = packet.pos + packet.size // 3, packet.pos + packet.size
    content = bytearray(path.read_bytes())
    content[place:end] = bytes(end - place)
    path.write_bytes(content)
    assert "can be decoded" in refusal(path)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png(path: Path, pixels: np.ndarray, depth: int, colour: int, key: bytes = b"") -> None:
    """Write a PNG of any depth, which Pillow cannot; pixels are (height, width) or (height, width, channel)."""
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, 0)
    keys = chunk(b"tRNS", key) if key else b""
    body = chunk(b"IHDR", header) + keys + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def write_tiff(path: Path, values: np.ndarray, *, white_is_zero: bool = False) -> None:
    """Write a grey TIFF of any type of number."""
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 8 * values.dtype.itemsize), (259, 1), (262, int(not white_is_zero))]
    tags += [(273, 8), (277, 1), (278, height), (279, values.nbytes), (339, kind)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes() + directory)


RAMP = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None], SIDE, axis=0)


def grey_read(path: Path) -> np.ndarray:
    read = read_clip(path, ONE)[0]
    assert (read == read[..., :1]).all()
    return read[..., 0]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int16", "int32", "float32"])
def test_deep_greys_of_a_tiff_are_scaled_by_their_depth(tmp_path: Path, dtype: str) -> None:
    depth = {"uint16": 8, "uint32": 24, "int16": 7, "int32": 23}.get(dtype)
    values = RAMP.astype(dtype) / np.float32(255) if depth is None else (RAMP.astype("int64") << depth).astype(dtype)
    write_tiff(tmp_path / "a.tif", values)
    assert (grey_read(tmp_path / "a.tif") == RAMP).all()


def test_deep_greys_of_a_png_are_scaled_as_deep_colours_are(tmp_path: Path) -> None:
    deep = RAMP.astype(np.uint16) * 256 + 77
    write_png(tmp_path / "grey.png", deep, 16, 0)
    write_png(tmp_path / "colour.png", np.repeat(deep[..., None], 3, axis=2), 16, 2)
    assert (grey_read(tmp_path / "grey.png") == RAMP).all()
    assert (grey_read(tmp_path / "colour.png") == RAMP).all()
    write_tiff(tmp_path / "white.tif", 65535 - deep, white_is_zero=True)
    assert (grey_read(tmp_path / "white.tif") == RAMP).all()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (RAMP.astype(np.float32), "from 0 to 248"),
        (RAMP.astype(np.float32) / 255 - 0.5, "from -0.5 to"),
        (np.where(RAMP == 0, np.nan, 0.5).astype(np.float32), "from nan"),
        (RAMP.astype(np.int32) - 5, "from -5 to 243"),
        (RAMP.astype(np.int32), "from 0 to 248 of 2147483647"),
    ],
)
def test_values_that_have_no_depth_are_refused_with_their_range(tmp_path: Path, values: np.ndarray, found: str) -> None:
    write_tiff(tmp_path / "a.tif", values)
    assert found in refusal(tmp_path / "a.tif")


def rgba() -> np.ndarray:
    """Return a picture whose left half is transparent over a hidden red, and whose right half is a blue."""
    pixels = np.empty((64, 64, 4), np.uint8)
    pixels[:, :32] = (200, 0, 0, 0)
    pixels[:, 32:] = (0, 40, 180, 255)
    return pixels


@pytest.mark.parametrize(
    "name",
    ["a.png", "palette.png", "key.png", "a.webp", "moving.webp", "moving.png", "a.tif", "a.gif", "a.webm", "a.mov"],
)
def test_transparent_pixels_show_the_background_in_every_form(tmp_path: Path, name: str) -> None:
    path, pixels = tmp_path / name, rgba()
    picture = Image.fromarray(pixels)
    if name == "palette.png":
        picture.quantize(4).save(path)
    elif name == "key.png":
        write_png(path, pixels[..., :3], 8, 2, struct.pack(">HHH", 200, 0, 0))
    elif name.startswith("moving"):
        picture.save(path, save_all=True, append_images=[Image.fromarray(pixels // 2 * 2)] * 2, duration=100)
    elif name == "a.webm":
        write(path, np.stack([pixels] * 3), "libvpx-vp9", "yuva420p", crf="5", b="0")
    elif name == "a.mov":
        write(path, np.stack([pixels] * 3), "qtrle", "argb")
    else:
        picture.save(path, **({"lossless": True} if name == "a.webp" else {}))
    read = read_clip(path, ClipConfig(frames=1, height=64, width=64, window_s=0.1))[0].astype(int)
    assert np.abs(read[8:56, 4:26] - BACKGROUND).max() <= 6
    assert np.abs(read[8:56, 38:60] - (0, 40, 180)).max() <= 6
    assert probe_video(path).transparent


def test_pictures_without_transparency_are_not_said_to_have_any(tmp_path: Path) -> None:
    for name in ("a.png", "a.webp", "a.gif"):
        Image.fromarray(rgba()[..., :3]).convert("RGBA").save(tmp_path / name)
        assert not probe_video(tmp_path / name).transparent


@pytest.mark.parametrize("damage", ["name", "checksum", "cut", "header"])
def test_a_damaged_picture_is_one_line_with_its_name(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(grey_clip(1)[0]).save(path)
    content = bytearray(path.read_bytes())
    data = content.index(b"IDAT")
    if damage == "name":
        content[data : data + 4] = b"I\x00AT"
    elif damage == "checksum":
        content[data + 40] ^= 0xFF
    elif damage == "header":
        content[18:20] = b"\xff\xff"
    path.write_bytes(content[:-60] if damage == "cut" else content)
    assert "not an image that can be decoded" in refusal(path)
    with pytest.raises(SourceError, match=r"a\.png: not an image"):
        probe_video(path)


def test_a_moving_webp_and_png_move_whatever_the_form_says_of_still_ones(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (SIDE, SIDE), (grey,) * 3) for grey in GREYS)
    for name in ("a.webp", "a.png"):
        lossless = {"lossless": True} if name == "a.webp" else {}
        first.save(tmp_path / name, save_all=True, append_images=others, duration=100, **lossless)
        read = read_clip(tmp_path / name, ClipConfig(frames=10, height=SIDE, width=SIDE, window_s=1.0))
        assert read[:, 0, 0, 0].tolist() == list(GREYS)
        assert (probe_video(tmp_path / name).frames, probe_video(tmp_path / name).duration_s) == (10, 1.0)
    first.save(tmp_path / "b.png", save_all=True, append_images=others, duration=100, default_image=True)
    assert probe_video(tmp_path / "b.png").frames == 9, "the picture for viewers that cannot move it is not a frame"


def test_a_file_is_what_its_bytes_say_whatever_its_name(tmp_path: Path) -> None:
    clip = grey_clip(10)
    Image.fromarray(clip[3]).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    assert (next(read_frames(tmp_path / "a.mp4")) == clip[3]).all()
    write_clip(tmp_path / "b.mp4", clip, fps=10)
    (tmp_path / "b.mp4").rename(tmp_path / "b.png")
    assert probe_video(tmp_path / "b.png").frames == 10


def test_pages_sound_and_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    pages = [Image.fromarray(image) for image in grey_clip(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert "holds 3 pages" in refusal(tmp_path / "a.tif")
    (tmp_path / "empty.mp4").touch()
    assert "empty" in refusal(tmp_path / "empty.mp4")
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    assert "holds no video, only audio" in refusal(tmp_path / "a.wav")


def test_a_large_video_without_a_colour_matrix_has_that_of_hd(tmp_path: Path) -> None:
    seen = {}
    for name, width, matrix in (("sd", 64, None), ("hd", 1280, None), ("tagged", 64, 1)):
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
            if matrix:
                stream.codec_context.colorspace = matrix
            frame = av.VideoFrame(width, 64, "yuv420p")
            for plane, value in zip(frame.planes, (100, 90, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        seen[name] = next(read_frames(tmp_path / f"{name}.mkv"))[8, 8].astype(int)
    assert np.abs(seen["hd"] - seen["tagged"]).max() <= 2
    assert np.abs(seen["hd"] - seen["sd"]).max() > 8


def test_a_file_too_large_to_keep_is_read_twice_and_shows_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.mp4", grey_clip(10), "libx264", bf="2")
    kept = np.stack(list(read_frames(tmp_path / "a.mp4")))
    monkeypatch.setattr("core.videos.KEPT", 0)
    assert (np.stack(list(read_frames(tmp_path / "a.mp4"))) == kept).all()
