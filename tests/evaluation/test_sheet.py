"""Contact sheets: where the frames lie, what the GIF holds and how large it may be."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from evaluation.report.sheet import GUTTER, MARGIN, animated_sheet, contact_sheet, sheet_png


@pytest.fixture
def clips():
    """Four clips of three frames in plain colours: each frame says which clip and time it is."""
    colours = np.arange(12, dtype=np.uint8).reshape(4, 3, 1, 1, 1) * 20
    return np.broadcast_to(colours, (4, 3, 8, 8, 3)).copy()


def test_the_middle_frame_stands_above_its_reconstruction(clips):
    sheet = contact_sheet(clips, 255 - clips, columns=2, side=32)
    assert sheet.getpixel((GUTTER, MARGIN)) == (20, 20, 20)
    assert sheet.getpixel((GUTTER, MARGIN + 32 + 4)) == (235, 235, 235)
    assert sheet.getpixel((GUTTER + 32 + 8, MARGIN)) == (80, 80, 80)
    assert sheet.getpixel((GUTTER, MARGIN + 2 * 32 + 4 + MARGIN)) == (140, 140, 140)


def test_several_frames_a_clip(clips):
    sheet = contact_sheet(clips, clips, frames=3, side=32)
    row = [sheet.getpixel((GUTTER + k * 33, MARGIN))[0] for k in range(3)]
    assert row == [0, 20, 40]


def test_captions_make_room_for_themselves(clips):
    captions = [("a very long caption that wraps and wraps " * 5, "short")] * 4
    plain, written = contact_sheet(clips, clips), contact_sheet(clips, clips, captions=captions)
    assert written.height > plain.height
    assert written.width == plain.width
    with Image.open(BytesIO(sheet_png(written))) as image:
        assert (image.format, image.size) == ("PNG", written.size)


def test_the_animation_keeps_pace_and_time(clips):
    with Image.open(BytesIO(animated_sheet(clips, clips[:, :1], fps=4, side=32))) as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (3, 250, 0)
        first = gif.convert("RGB").getpixel((GUTTER, MARGIN))
        gif.seek(2)
        last, held = (gif.convert("RGB").getpixel((GUTTER, y)) for y in (MARGIN, MARGIN + 36))
    assert abs(first[0] - 0) <= 4
    assert abs(last[0] - 40) <= 4
    assert abs(held[0] - 0) <= 4  # a still holds while the clip above it plays


def test_the_animation_shrinks_to_its_allowance():
    noisy = np.random.default_rng(0).integers(0, 256, size=(2, 4, 16, 16, 3), dtype=np.uint8)
    large = animated_sheet(noisy, noisy, fps=8 / 3, side=64)
    allowed = len(large) // 3
    small = animated_sheet(noisy, noisy, fps=8 / 3, side=64, max_bytes=allowed)
    assert len(small) <= allowed
    with Image.open(BytesIO(large)) as before, Image.open(BytesIO(small)) as after:
        assert after.n_frames * after.info["duration"] == pytest.approx(before.n_frames * before.info["duration"], 0.05)
    with pytest.raises(ValueError, match="show fewer clips"):
        animated_sheet(noisy, noisy, fps=8 / 3, side=64, max_bytes=1000)


def test_what_does_not_fit_is_refused(clips):
    with pytest.raises(ValueError, match="4 seen and 3 reconstructed"):
        contact_sheet(clips, clips[:3])
    with pytest.raises(ValueError, match="1 captions for 4 clips"):
        contact_sheet(clips, clips, captions=[("a", "b")])
