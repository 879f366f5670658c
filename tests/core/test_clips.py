"""Clips: read by time, written so that they read back, refused in one line."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core.clips import ClipConfig, read_clip, read_frames, read_metadata, write_clip
from core.errors import SourceError, SourceMissing


def coloured(frames: int, side: int = 32) -> np.ndarray:
    """Return frames of one grey each, from dark to light."""
    greys = np.linspace(20, 230, frames).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (frames, side, side, 3)).copy()


def test_a_clip_reads_back_as_written(tmp_path: Path) -> None:
    clip = coloured(8)
    write_clip(tmp_path / "a.mp4", clip, fps=8 / 3)
    read = read_clip(tmp_path / "a.mp4", ClipConfig(frames=8, height=32, width=32, window_s=3.0))
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - clip).max() <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path, rng: np.random.Generator) -> None:
    clip = rng.integers(0, 255, (4, 32, 32, 3), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, clip, fps=4, min_side=32)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_tags_read_back_and_give_the_same_bytes(tmp_path: Path) -> None:
    tags = {"title": "Ein Würfel, 立方体", "comment": '{"a":"' + "x" * 5000 + '"}'}
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, coloured(3), fps=2.0, metadata=tags)
    assert tags.items() <= read_metadata(tmp_path / "a.mp4").items()
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    write_clip(tmp_path / "plain.mp4", coloured(3), fps=2.0)
    assert "comment" not in read_metadata(tmp_path / "plain.mp4")
    tagged, plain = (np.stack(list(read_frames(tmp_path / name))) for name in ("a.mp4", "plain.mp4"))
    assert np.array_equal(tagged, plain), "tags do not touch the frames"


def test_tags_of_what_is_no_video_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name, error in (("text.mp4", SourceError), ("absent.mp4", SourceMissing)):
        for read in (read_metadata, lambda path: list(read_frames(path))):
            with pytest.raises(error, match=name) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)


def test_browsers_can_play_it(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", coloured(3, side=33), fps=2.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.width % 2 == stream.codec_context.height % 2 == 0
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index comes first, so that playing can start at once"


def test_frames_are_sampled_by_time_not_by_index(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", coloured(30), fps=10)
    whole = read_clip(tmp_path / "a.mp4", ClipConfig(frames=3, window_s=3.0))
    first_second = read_clip(tmp_path / "a.mp4", ClipConfig(frames=3, window_s=1.0))
    expected = coloured(30)[:, 0, 0, 0]
    assert np.abs(whole[:, 0, 0, 0].astype(int) - expected[[5, 15, 25]]).max() <= 3
    assert np.abs(first_second[:, 0, 0, 0].astype(int) - expected[[1, 5, 8]]).max() <= 3


def test_a_clip_shorter_than_the_window_holds_its_last_frame(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", coloured(2), fps=2)
    read = read_clip(tmp_path / "a.mp4", ClipConfig(frames=4, window_s=4.0))
    assert np.abs(read[1:].astype(int) - read[1]).max() == 0


def test_a_still_image_is_a_clip_of_one_frame_repeated(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    read = read_clip(tmp_path / "a.png", ClipConfig(frames=5))
    assert read.shape == (5, 32, 32, 3)
    assert (read == image).all()


def test_a_window_begins_where_it_is_asked_to(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", coloured(30), fps=10)
    read = read_clip(tmp_path / "a.mp4", ClipConfig(frames=2, start_s=1.0, window_s=1.0))
    assert np.abs(read[:, 0, 0, 0].astype(int) - coloured(30)[[12, 17], 0, 0, 0]).max() <= 3
    with pytest.raises(SourceError, match=r"last frame is at 2.9 s, the window begins at 4 s; fix clips.start_s"):
        read_clip(tmp_path / "a.mp4", ClipConfig(start_s=4.0))


def encode(path: Path, clip: np.ndarray, times: list[int], codec: str, pixels: str, **stream: object) -> None:
    """Write a clip with any codec, each frame at a time of its own in hundredths of a second."""
    with av.open(str(path), "w") as container:
        out = container.add_stream(codec, rate=25)
        out.height, out.width, out.pix_fmt = clip.shape[1], clip.shape[2], pixels
        out.codec_context.time_base = out.time_base = Fraction(1, 100)
        for name, value in stream.items():
            setattr(out.codec_context, name, value)
        for image, time in zip(clip, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(out.encode(frame))
        container.mux(out.encode())


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "tolerance"),
    [
        ("a.mkv", "libx264", "yuv444p10le", 4),
        ("a.avi", "mpeg4", "yuv420p", 12),
        ("a.webm", "libvpx-vp9", "yuv420p", 8),
        ("a.mov", "prores", "yuv422p10le", 6),
        ("a.gif", "gif", "rgb8", 8),
    ],
)
def test_every_form_is_read(tmp_path: Path, name: str, codec: str, pixels: str, tolerance: int) -> None:
    clip = coloured(10, side=64)
    encode(tmp_path / name, clip, list(range(0, 100, 10)), codec, pixels)
    read = read_clip(tmp_path / name, ClipConfig(frames=10, height=64, width=64, window_s=1.0))
    assert np.abs(read.mean(axis=(1, 2, 3)) - clip.mean(axis=(1, 2, 3))).max() <= tolerance


def test_frames_of_uneven_length_are_shown_for_as_long_as_they_last(tmp_path: Path) -> None:
    clip = coloured(4, side=64)
    encode(tmp_path / "a.mkv", clip, [0, 10, 20, 250], "libx264", "yuv420p")
    read = read_clip(tmp_path / "a.mkv", ClipConfig(frames=10, height=64, width=64, window_s=3.0))
    shown = np.abs(read[:, 0, 0, 0].astype(int)[:, None] - clip[:, 0, 0, 0]).argmin(axis=1)
    assert shown.tolist() == [1, 2, 2, 2, 2, 2, 2, 2, 3, 3]


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    clip = np.zeros((3, 64, 64, 3), np.uint8)
    clip[:, :, 32:] = 255
    encode(tmp_path / "a.mkv", clip, [0, 10, 20], "libx264", "yuv420p", sample_aspect_ratio=Fraction(2, 1))
    read = read_clip(tmp_path / "a.mkv", ClipConfig(frames=1, height=64, width=64, window_s=0.1, fit="pad"))[0]
    assert read[:12].max() < 40, "a wide picture has black above it"
    assert read[32, :24].max() < 40
    assert read[32, 40:].min() > 200


def test_pictures_of_other_proportions_are_distorted_cut_or_padded(tmp_path: Path) -> None:
    image = np.full((32, 96, 3), 255, np.uint8)
    image[:, :32] = (200, 0, 0)
    Image.fromarray(image).save(tmp_path / "a.png")
    stretch, crop, pad = (
        read_clip(tmp_path / "a.png", ClipConfig(frames=1, height=30, width=30, fit=fit))[0]
        for fit in ("stretch", "crop", "pad")
    )
    assert (stretch[:, :9] == (200, 0, 0)).all()
    assert (stretch[:, 11:] == 255).all()
    assert (crop == 255).all(), "the middle third is white"
    assert (pad[:9] == 0).all()
    assert (pad[12:18, 12:] == 255).all()


def test_images_are_turned_as_they_ask_to_be(tmp_path: Path, rng: np.random.Generator) -> None:
    image = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    read = read_clip(tmp_path / "a.png", ClipConfig(frames=1, height=16, width=16))[0]
    assert np.array_equal(read, np.rot90(np.asarray(image), -1))


def test_videos_are_turned_as_they_ask_to_be(shared_data: Path) -> None:
    """A telephone held upright: the file holds 568 × 320 and says that it is to be turned."""
    config = ClipConfig(frames=1, height=568, width=320, window_s=0.05)
    read = read_clip(shared_data / "clips" / "hard" / "video_90.mov", config)[0]
    with av.open(str(shared_data / "clips" / "hard" / "video_90.mov")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(read, np.rot90(stored, -1))
    upright = read_clip(shared_data / "clips" / "hard" / "video_0.mov", ClipConfig(frames=1, height=320, width=568))[0]
    assert upright.shape == (320, 568, 3)


def test_hard_clips_are_read_or_refused_in_one_line(shared_data: Path) -> None:
    for name in ("h265_video.mp4", "av1_video.mkv"):
        clip = read_clip(shared_data / "clips" / "hard" / name, ClipConfig(window_s=0.9))
        assert clip.std() > 5
    with pytest.raises(SourceError, match="corrupted.mp4: not a video that can be decoded") as caught:
        read_clip(shared_data / "clips" / "hard" / "corrupted.mp4", ClipConfig())
    assert "\n" not in str(caught.value)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such clip"):
        read_clip(tmp_path / "absent.mp4", ClipConfig())
    for name in ("broken.mp4", "broken.png", "empty.mp4"):
        (tmp_path / name).write_bytes(b"" if name == "empty.mp4" else b"not a clip at all")
        with pytest.raises(SourceError, match="can be decoded") as caught:
            read_clip(tmp_path / name, ClipConfig())
        assert "\n" not in str(caught.value)


def test_real_clips_are_read(shared_data: Path) -> None:
    config = ClipConfig(frames=6, height=48, width=64, window_s=1.5)
    for file in sorted((shared_data / "clips" / "asl").glob("*.mkv")):
        clip = read_clip(file, config)
        assert clip.shape == (6, 48, 64, 3)
        assert clip.std() > 10
        assert (clip[0] != clip[-1]).any()
