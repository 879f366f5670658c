"""The same ten frames, written in many forms, are read as the same ten frames, and counted as ten."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from core.clips import ClipConfig, probe_video, read_clip, read_frames
from tests.core.clip_forms import Form, drawn_form, expected, write_form

INSTANTS = 41
ROUNDED_S = 0.002
"""By how much a container may round the time of a frame: Matroska counts milliseconds."""


def check(folder: Path, form: Form) -> None:
    """Write a form and compare what is read, frame by frame and by time, with what was written."""
    folder.mkdir(exist_ok=True)
    path = write_form(folder, form)
    frames, starts, ends = expected(form)
    height, width = frames.shape[1:3]
    info = probe_video(path)
    assert (info.frames, info.height, info.width) == (len(frames), height, width)
    assert info.duration_s == pytest.approx(ends, abs=0.02 * ends + form.ticks[-1] / float(form.rate))
    read = np.stack(list(read_frames(path)))
    assert read.shape == frames.shape
    assert difference(read, frames) <= form.lossy
    clip = read_clip(path, ClipConfig(frames=INSTANTS, height=height, width=width, window_s=ends * 1.1))
    for place, instant in enumerate((np.arange(INSTANTS) + 0.5) * ends * 1.1 / INSTANTS):
        around = np.searchsorted(starts, [instant - ROUNDED_S, instant + ROUNDED_S], side="right") - 1
        assert any((clip[place] == read[max(0, index)]).all() for index in around), f"at {instant:.3f} s"


def difference(read: np.ndarray, frames: np.ndarray) -> float:
    """Return how far the middles of the four parts of any frame are off."""
    height, width = frames.shape[1:3]
    rows, columns = [height // 4, 3 * height // 4], [width // 4, 3 * width // 4]
    parts = [(read[:, row, column].astype(int) - frames[:, row, column]) for row in rows for column in columns]
    return float(np.abs(parts).max())


@pytest.mark.parametrize(
    "form",
    [
        Form(".avi", "libx264", reordered=2),
        Form(".avi", "mpeg4", reordered=1, rate=Fraction(25)),
        Form(".asf", "libx264", reordered=3),
        Form(".h264", "libx264", reordered=2),
        Form(".mpg", "mpeg2video", reordered=2, rate=Fraction(30000, 1001)),
        Form(".ts", "libx264", reordered=2, colours=True),
        Form(".mkv", "libx264", "yuv420p10le", reordered=2, ticks=(1, 3, 1, 4, 1, 1, 2, 1, 5, 1), turn=1),
        Form(".mp4", "libx264", "yuvj420p", reordered=2, skip=3, keep=5),
        Form(".mov", "libx264", reordered=0, skip=2, delay=True, turn=2, mirror=True),
        Form(".mp4", "libx265", reordered=2, delay=True, turn=3, colours=True),
        Form(".webm", "libvpx-vp9", ticks=(2, 1, 1, 1, 1, 4, 1, 1, 1, 1)),
        Form(".webp", "pillow", lossy=1, ticks=(2, 1, 1, 1, 1, 4, 1, 1, 1, 1), colours=True),
        Form(".png", "pillow", lossy=1, colours=True),
    ],
    ids=lambda form: f"{form.suffix[1:]}-{form.codec}",
)
def test_a_clip_is_read_as_it_was_written_in_whatever_form(tmp_path: Path, form: Form) -> None:
    check(tmp_path, form)


@pytest.mark.full
def test_two_hundred_drawn_forms_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng, failed = np.random.default_rng(0), []
    for number in range(200):
        form = drawn_form(rng)
        try:
            check(tmp_path / str(number), form)
        except Exception as error:
            failed.append(f"{number} {form}: {type(error).__name__} {str(error).splitlines()[0]}")
    assert not failed, "\n".join(failed)
