"""Whether recordings are copies: of two subjects, or of one, the same bytes would be counted as two measurements."""

from pathlib import Path

from core.digests import INPUTS
from core.errors import SourceError
from feature_store.sources.base import Source

ENDS = 1 << 16
"""Bytes at either end of a file that are compared before files of one size are read whole."""


def check_copies(source: Source, subject: str) -> None:
    """Raise `SourceError` where one of a subject's recordings holds the same bytes as another one of the dataset.

    Only files whose sizes and ends are equal are read whole.
    """
    mine = source.recordings(subject)
    others = [(name, path) for name in source.subjects if name != subject for path in _recordings(source, name)]
    sizes = {path: path.stat().st_size for path in (*mine, *(path for _, path in others)) if path.is_file()}
    for position, path in enumerate(mine):
        for name, other in ((subject, one) for one in mine[:position]):
            if _alike(path, other, sizes):
                raise SourceError(
                    f"{path}: holds the same bytes as {other.name}: {name} would have one recording twice; remove one"
                )
        for name, other in others:
            if _alike(path, other, sizes):
                raise SourceError(
                    f"{path}: holds the same bytes as {other}: {subject} and {name} would be one person's recordings; "
                    "fetch the right ones, or name one of the two in source.subjects"
                )


def _recordings(source: Source, subject: str) -> list[Path]:
    try:
        return source.recordings(subject)
    except SourceError:  # what is wrong with another subject is reported by its own ingest
        return []


def _alike(path: Path, other: Path, sizes: dict[Path, int]) -> bool:
    if path not in sizes or other not in sizes or sizes[path] != sizes[other]:
        return False
    return _ends(path, sizes[path]) == _ends(other, sizes[other]) and INPUTS.digest(path) == INPUTS.digest(other)


def _ends(path: Path, size: int) -> tuple[bytes, bytes]:
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return head, file.read(ENDS)
