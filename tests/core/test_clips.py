"""Clips: read by time, written so that they read back, refused in one line."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core.clips import ClipConfig, read_clip, write_clip
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


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such clip"):
        read_clip(tmp_path / "absent.mp4", ClipConfig())
    for name in ("broken.mp4", "broken.png"):
        (tmp_path / name).write_bytes(b"not a clip at all")
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
