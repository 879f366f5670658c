"""Digests of what results are made from: each file is read once, however many results it enters."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from core.files import digest_file, digest_json, read_json, write_json
from core.progress import report

SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within one tick of its file system's clock."""
SCHEMA = 2


class DigestCache:
    """The SHA-256 of files, read again only where a file's size, times or inode differ.

    The cache lasts as long as the process. Nothing that this project wrote is checked by it: results are read whole.
    `expected` is how many files are about to be read, for the progress.
    """

    def __init__(self) -> None:
        self._files: dict[str, list[Any]] = {}
        self._unsettled: set[str] = set()
        self._unread: dict[Path, int] | None = None
        self.expected = self._done = 0

    def digest(self, file: Path) -> str:
        """Return a file's digest, remembered or computed; nothing inside `looking` where it is not remembered."""
        stamp = _stamp(file)
        *before, digest = self._files.get(str(file), [None])
        if before == stamp and isinstance(digest, str):
            return digest
        if self._unread is not None:
            self._unread[file] = stamp[0]
            return ""
        if time.time_ns() - max(stamp[1:3]) <= SETTLED_NS:
            self._unsettled.add(str(file))
        digest = digest_file(file)
        self._files[str(file)] = [*stamp, digest]
        if self.expected:
            self._done += 1
            report("hashing inputs", min(self._done, self.expected), self.expected)
        return digest

    def digest_files(self, root: Path, paths: Sequence[Path]) -> str:
        """Return one digest over files' names relative to `root`, sizes and contents; as `core.files.digest_files`."""
        rows = [
            (path.relative_to(root).as_posix(), path.stat().st_size, self.digest(path)) for path in sorted(set(paths))
        ]
        return digest_json(rows)

    def digest_folder(self, folder: Path) -> str:
        """Return one digest over every file below a folder; as `core.files.digest_folder`."""
        return self.digest_files(folder, [path for path in folder.rglob("*") if path.is_file()])

    @contextmanager
    def looking(self) -> Iterator[dict[Path, int]]:
        """Read nothing inside the block; yield the files that would have to be read, with their sizes in bytes."""
        self._unread = {}
        try:
            yield self._unread
        finally:
            self._unread = None

    @contextmanager
    def remembering(self, path: Path) -> Iterator[dict[str, Any]]:
        """Know inside the block what a file keeps from earlier blocks, and add to it what the block reads.

        Yields a dictionary of other things to remember, which JSON can hold. Results are never made by what was
        remembered: outside the block it is forgotten again. A file that is damaged, or of another version, counts as
        empty; one that cannot be written costs time only.
        """
        content = _remembered(path)
        before, mine = digest_json(content), self._files
        self._files = {**content.get("files", {}), **mine}
        notes: dict[str, Any] = content.get("notes", {})
        try:
            yield notes
            settled = {name: entry for name, entry in self._files.items() if name not in self._unsettled}
            content = {"files": settled, "notes": notes, "schema": SCHEMA}
            if digest_json(content) != before:
                with suppress(OSError):
                    write_json(path, {**content, "sha256": digest_json(content)})
        finally:
            self._files, self.expected, self._done = mine, 0, 0


INPUTS = DigestCache()
"""What this process has read of recordings, stimuli and weights."""


def _stamp(file: Path) -> list[int]:
    """Return what changes when a file does: also the inode's time, which no copy that preserves times can set back."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _remembered(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        whole = content.pop("sha256") == digest_json(content) and content["schema"] == SCHEMA
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(content) if whole else {}
