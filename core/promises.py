"""How many bytes a container's header promises, by which a file that was cut short is known."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

RIFF_SLACK = 16
"""Bytes by which writers of AVI are known to count too many: headers, padding."""
EBML, SEGMENT = 0x1A45DFA3, 0x18538067
"""Matroska's header, and the element that holds all the rest."""
ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx", b"uuid", b"meta"}
"""Boxes of MP4 and MOV that a file may begin with."""


def bytes_promised(path: Path) -> int | None:
    """Return how long an AVI, MP4, MOV, Matroska, WebM or GIF must be at least; None where the file promises nothing.

    A GIF promises a trailer: one that ends without it must be one byte longer than it is.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] == b"RIFF" and start[8:] == b"AVI ":
            (length,) = struct.unpack("<I", start[4:8])
            return None if length in (0, 2**32 - 1) else 8 + length - RIFF_SLACK
        if start[4:8] in ISO_BOXES:
            return max(_box_ends(file, size), default=None)
        if start[:4] == EBML.to_bytes(4, "big"):
            return _end_of_segment(file)
        if start[:4] == b"GIF8":
            return size + (not _has_trailer(file))
    return None


def _box_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where each box at the top of an MP4 ends; the last one may end beyond the file."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1 and len(wide := file.read(8)) == 8:
            (length,) = struct.unpack(">Q", wide)
        # A length of 0 means up to the file's end; what is no box is a writer's padding.
        if length < 8 or not kind.isalnum():
            return
        place += length
        yield place


def _end_of_segment(file: BinaryIO) -> int | None:
    file.seek(0)
    place = 0
    for expected in (EBML, SEGMENT):
        file.seek(place)
        head = file.read(12)
        if len(head) < 12 or int.from_bytes(head[:4], "big") != expected or not head[4]:
            return None
        width = 9 - head[4].bit_length()
        length = int.from_bytes(head[4 : 4 + width], "big") & (1 << 7 * width) - 1
        if length == (1 << 7 * width) - 1:
            return None  # a live recording, whose length was not known
        place += 4 + width + length
    return place


def _has_trailer(file: BinaryIO) -> bool:
    """Return whether a GIF's blocks reach its trailer."""
    file.seek(10)
    flags = file.read(3)
    _skip_table(file, flags[:1])
    while kind := file.read(1):
        if kind == b"\x3b":
            return True
        if kind == b"\x21":
            file.seek(1, os.SEEK_CUR)
        elif kind == b"\x2c":
            _skip_table(file, file.read(9)[8:])
            file.seek(1, os.SEEK_CUR)
        else:
            return True  # not as the form defines it: for the decoder to judge
        while length := file.read(1)[:1]:
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    return False


def _skip_table(file: BinaryIO, flags: bytes) -> None:
    """Skip the table of colours that flags announce."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)
