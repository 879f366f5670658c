"""Contact sheets: clips above their reconstructions, as one image or as an animation."""

import textwrap
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.clips import Clip

PAPER, INK, ACCENT = (255, 255, 255), (27, 29, 33), (11, 98, 168)
GAP, MARGIN, FONT_SIZE, LEADING, CAPTION_LINES = 4, 12, 12, 15, 3
GUTTER = 100
Clips = Sequence[Clip] | Clip
"""Clips (n, frame, height, width, 3), uint8."""


def contact_sheet(
    seen: Clips,
    reconstructed: Clips,
    *,
    captions: Sequence[tuple[str, str]] | None = None,
    columns: int = 6,
    frames: int = 1,
    side: int = 112,
    labels: tuple[str, str] = ("seen", "reconstructed"),
) -> Image.Image:
    """Draw every clip above its reconstruction.

    Parameters
    ----------
    seen, reconstructed : clips, shape (n, frame, height, width, 3), uint8
    captions : (true, decoded) below each pair, at most three lines each
    columns : pairs side by side before a new line begins
    frames : how many are shown of each clip, evenly spaced; 1 shows the middle one
    side : approximate pixels of a frame's longer side; small frames are enlarged by whole pixels
    labels : names of the upper and the lower row

    Raises
    ------
    ValueError
        There is no clip, or the numbers of clips or captions differ.
    """
    _check(seen, reconstructed, captions)
    pairs = [
        (_strip(one, frames, side), _strip(other, frames, side)) for one, other in zip(seen, reconstructed, strict=True)
    ]
    return _draw(pairs, captions, columns, labels)


def sheet_png(sheet: Image.Image) -> bytes:
    """Return a sheet as PNG."""
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def animated_sheet(
    seen: Clips,
    reconstructed: Clips,
    *,
    fps: float,
    captions: Sequence[tuple[str, str]] | None = None,
    columns: int = 5,
    side: int = 112,
    max_bytes: int = 500_000,
) -> bytes:
    """Draw the sheet as a looping GIF in which the pairs play in step.

    Frames are made smaller, then every second one is dropped, until the file fits `max_bytes`; the speed stays. For
    the other parameters see `contact_sheet`.

    Raises
    ------
    ValueError
        As `contact_sheet`, or no size fits `max_bytes`: show fewer clips.
    """
    _check(seen, reconstructed, captions)
    clips = list(zip(seen, reconstructed, strict=True))
    length = max(len(clip) for pair in clips for clip in pair)
    for step, scale in ((1, 1.0), (1, 0.75), (2, 0.75), (2, 0.5), (4, 0.5)):
        times = range(0, length, step)
        pairs = ([(_frame(a, time, side * scale), _frame(b, time, side * scale)) for a, b in clips] for time in times)
        data = _gif([_draw(pair, captions, columns) for pair in pairs], step / fps)
        if len(data) <= max_bytes:
            return data
    raise ValueError(
        f"{len(seen)} clips take {len(data):,} bytes as GIF; expected at most {max_bytes:,}; show fewer clips"
    )


def _check(seen: Clips, reconstructed: Clips, captions: Sequence[tuple[str, str]] | None) -> None:
    if len(seen) == 0 or len(seen) != len(reconstructed):
        raise ValueError(
            f"{len(seen)} seen and {len(reconstructed)} reconstructed clips; expected equal numbers, 1 or more"
        )
    if captions is not None and len(captions) != len(seen):
        raise ValueError(f"{len(captions)} captions for {len(seen)} clips; expected one pair each")


def _zoomed(image: Clip, side: float) -> Image.Image:
    """Scale a frame (height, width, 3) to about `side` pixels: up by whole pixels, down smoothly."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    factor = float(max(1, round(factor))) if factor >= 1 else factor
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS)


def _frame(clip: Clip, time: int, side: float) -> Image.Image:
    return _zoomed(clip[min(time, len(clip) - 1)], side)


def _strip(clip: Clip, frames: int, side: float) -> Image.Image:
    """Return evenly spaced frames of a clip side by side."""
    centres = ((np.arange(frames) + 0.5) * len(clip) / frames).astype(int)
    shown = [_frame(clip, int(time), side) for time in centres]
    strip = Image.new("RGB", (sum(image.width + 1 for image in shown) - 1, shown[0].height), PAPER)
    left = 0
    for image in shown:
        strip.paste(image, (left, 0))
        left += image.width + 1
    return strip


def _draw(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    captions: Sequence[tuple[str, str]] | None,
    columns: int,
    labels: tuple[str, str] = ("seen", "reconstructed"),
) -> Image.Image:
    """Lay out pairs in lines, with the rows' names at the left and captions below."""
    columns = min(columns, len(pairs))
    width = max(image.width for pair in pairs for image in pair)
    height = max(image.height for pair in pairs for image in pair)
    words = [(_wrapped(true, width), _wrapped(decoded, width)) for true, decoded in captions or []]
    below = [LEADING * max((len(pair[row]) for pair in words), default=0) for row in (0, 1)]
    block = 2 * height + GAP + sum(below) + (2 * GAP if words else 0) + MARGIN
    lines = -(-len(pairs) // columns)
    size = GUTTER + columns * (width + 2 * GAP) + GAP, lines * block + MARGIN
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for line in range(lines):
        _write_sides(pen, MARGIN + line * block, height, labels)
    for k, pair in enumerate(pairs):
        left, top = GUTTER + (k % columns) * (width + 2 * GAP), MARGIN + (k // columns) * block
        for row, image in enumerate(pair):
            sheet.paste(image, (left, top + row * (height + GAP)))
            if words:
                place = left, top + 2 * height + (2 + row) * GAP + row * below[0]
                pen.text(place, "\n".join(words[k][row]), fill=(INK, ACCENT)[row], font=_font(), spacing=3)
    return sheet


def _write_sides(pen: ImageDraw.ImageDraw, top: int, height: int, labels: tuple[str, str]) -> None:
    for row, (text, colour) in enumerate(zip(labels, (INK, ACCENT), strict=True)):
        middle = top + row * (height + GAP) + height // 2
        pen.text((GUTTER - 8, middle), text, fill=colour, font=_font(), anchor="rm")


def _wrapped(text: str, width: int) -> list[str]:
    characters = max(8, int(width / _font().getlength("n")))
    return textwrap.wrap(text, characters, max_lines=CAPTION_LINES, placeholder="…")


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(FONT_SIZE)


def _gif(sheets: Sequence[Image.Image], frame_s: float) -> bytes:
    """Encode with one palette for all frames and no dithering: noise between frames is what makes a GIF large."""
    together = Image.fromarray(np.concatenate([np.asarray(sheet) for sheet in sheets]))
    palette = together.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    flat = [sheet.quantize(palette=palette, dither=Image.Dither.NONE) for sheet in sheets]
    buffer = BytesIO()
    # GIF counts in hundredths of a second, and browsers slow anything below two of them down.
    duration_ms = 10 * max(2, round(100 * frame_s))
    flat[0].save(buffer, "GIF", save_all=True, append_images=flat[1:], duration=duration_ms, loop=0, optimize=False)
    return buffer.getvalue()
