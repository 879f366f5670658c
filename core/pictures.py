"""Still and moving pictures that Pillow reads, as a viewer shows them: upright, 8 bits deep, on one background.

Pillow itself would cut deep pixels off at 255, show the colours that hide under transparent pixels, and take the first
frame of a moving PNG or WebP for all of it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from core.errors import SourceError
from core.media import Media, laid_on_background

SHORTEST_MS, DEFAULT_MS = 10, 100
"""A frame of a moving picture that asks for no more than `SHORTEST_MS` is shown for `DEFAULT_MS`, as browsers do."""

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
"""How the names of still images end; a file is read as what its first bytes say it is, whatever its name."""
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What PNG, JPEG, BMP and TIFF begin with."""
OPENED = {"PNG", "JPEG", "MPO", "BMP", "DIB", "TIFF", "WEBP", "AVIF"}
MOVING = {"PNG", "WEBP", "AVIF"}
"""Forms whose further pictures are frames; those of a JPEG are previews, those of a TIFF pages."""
REDUCED = 1
"""The bit of a TIFF page's subfile type that marks a smaller copy of another page."""
SUBFILE, BITS, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 262, 339
"""Tags of TIFF."""
SIGNED, WHITE_IS_ZERO = 2, 0

WIDENED = {"1": 255, "L;2": 85, "L;4": 17}
"""By what Pillow multiplies the grey samples of a PNG that has fewer than 8 bits."""


def is_picture(start: bytes) -> bool:
    """Return whether a file that begins with these bytes, 32 at least, is one for `opened_picture`."""
    webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    avif = start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis")
    return start.startswith(SIGNATURES) or webp or avif


@contextmanager
def opened_picture(path: Path) -> Iterator[Media]:
    """Open a PNG, JPEG, BMP, TIFF, WebP or AVIF, moving or not.

    Raises `SourceError`, in one line, where it is damaged or its pixels cannot be shown without a decision that is not
    ours: floating point outside 0 to 1, negative numbers, several pages.
    """
    with _explained(path):
        _require_whole(path)
        with Image.open(path) as image:
            if image.format not in OPENED:
                raise SourceError(f"{path}: is of the form {image.format}; convert it to PNG")
            count = getattr(image, "n_frames", 1)
            if image.format == "TIFF" and count > 1:
                _require_one_page(image, count, path)
            if image.format in MOVING and count > 1:
                yield _moving(image, count, path)
            else:
                yield _still(image, path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it repairs or of large pictures; it raises where it cannot read.
            warnings.simplefilter("ignore")
            yield
    except SourceError:
        raise
    except Exception as error:  # damaged files raise whatever their decoder ran into: SyntaxError, struct.error, …
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = reason.replace(str(path), path.name)
        raise SourceError(f"{path}: not an image that can be decoded ({reason}); replace the file") from error


def _require_whole(path: Path) -> None:
    """Compare the checksums of a PNG, which Pillow reads past where it decodes."""
    with Image.open(path) as image:
        if image.format == "PNG":
            image.verify()


def _require_one_page(image: Any, count: int, path: Path) -> None:
    pages = 0
    for place in range(count):
        image.seek(place)
        pages += not image.tag_v2.get(SUBFILE, 0) & REDUCED
    image.seek(0)
    if pages > 1:
        raise SourceError(f"{path}: holds {pages} pages, which have no times; save one page, or a video")


def _still(image: Any, path: Path) -> Media:
    picture, transparent = flattened(image, path)

    def pictures(places: Sequence[int]) -> Iterator[Image.Image]:
        yield from (picture for _ in places)

    return Media([0.0], None, picture.size, transparent, pictures)


def _moving(image: Any, count: int, path: Path) -> Media:
    """Return a moving picture; its frames are decoded once for their times, and again where they are asked for."""
    begin = 1 if getattr(image, "default_image", False) else 0  # shown only where a PNG cannot move
    lengths = []
    for place in range(begin, count):
        image.seek(place)
        image.load()
        length = float(image.info.get("duration") or 0)
        lengths.append(length if length > SHORTEST_MS else DEFAULT_MS)
    ends = np.cumsum(lengths) / 1000
    image.seek(begin)
    first, transparent = flattened(image, path)

    def pictures(places: Sequence[int]) -> Iterator[Image.Image]:
        with _explained(path):
            for place in places:
                image.seek(begin + place)
                yield flattened(image, path)[0]

    return Media([0.0, *ends[:-1].tolist()], float(ends[-1]), first.size, transparent, pictures)


def flattened(image: Any, path: Path) -> tuple[Image.Image, bool]:
    """Return a picture of Pillow's in RGB, upright, on `BACKGROUND`, and whether it has transparent pixels.

    Pixels of more than 8 bits are scaled by the depth of their form. Profiles of colour (ICC) are not applied.
    """
    if image.format == "PNG" and "transparency" in image.info and image.tile:
        image.info["transparency"] = _scaled_key(image.info["transparency"], str(image.tile[0][3]))
    image.load()
    if _is_deep(image):
        image = _shallow(image, path)
    image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image.convert("RGB"), False
    pixels = np.asarray(image.convert("RGBA"))
    if pixels[..., 3].min() == 255:
        return image.convert("RGB"), False
    return Image.fromarray(laid_on_background(pixels)), True


def _scaled_key(key: Any, samples: str) -> Any:
    """Return the value of a PNG that is transparent, in the 8 bits that Pillow keeps of its other samples."""
    if isinstance(key, tuple):
        return tuple(value >> 8 for value in key) if "16" in samples else key
    return key * WIDENED.get(samples, 1) if isinstance(key, int) else key


def _is_deep(image: Any) -> bool:
    signed = getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    return image.mode in ("F", "I") or image.mode.startswith("I;16") or (image.mode == "L" and signed)


def _shallow(image: Any, path: Path) -> Image.Image:
    """Return a grey picture of 12, 16 or 32 bits, of signed numbers or floating point, with 8 bits."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    grey = _from_floats(values, path) if image.mode == "F" else _from_integers(values, tags, path)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    picture = Image.fromarray(grey)
    if isinstance(key := image.info.get("transparency"), int):
        alpha = np.where(values == key, 0, 255).astype(np.uint8)
        picture = Image.merge("LA", (picture, Image.fromarray(alpha)))
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation is not None and image.format != "TIFF":  # Pillow turns a TIFF as it loads it
        picture.getexif()[ExifTags.Base.Orientation] = orientation
    return picture


def _from_floats(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):
        raise SourceError(
            f"{path}: its values run from {low:g} to {high:g}; floating point is read from 0 (black) to 1 (white): "
            "scale it and save it again"
        )
    grey: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
    return grey


def _from_integers(values: NDArray[Any], tags: Mapping[int, Any], path: Path) -> NDArray[np.uint8]:
    bits = int(tags.get(BITS, (16,))[0])
    signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    if bits == 8:
        values = values.view(np.int8)
    elif bits == 32 and not signed:
        values = values.view(np.uint32)
    bits, low, high = bits - signed, int(values.min()), int(values.max())
    if low < 0:
        raise SourceError(f"{path}: its values run from {low} to {high}; 0 is black: save it without negative ones")
    grey: NDArray[np.uint8] = ((values.astype(np.int64) << 8) >> bits).astype(np.uint8)
    if high and not grey.any():
        raise SourceError(
            f"{path}: its values run from {low} to {high} of {2**bits - 1}, which is all black; scale them to the "
            "depth of the file and save it again"
        )
    return grey
