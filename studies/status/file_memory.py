"""Digests of files, remembered as long as the files lie as they lay: a second look does not read gigabytes again.

Only `brain2video status` trusts them; they are kept in `.state/status/` of the checkout.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.checkout import project_root
from core.errors import ModelError
from core.files import digest_file, digest_json, read_json, write_json
from core.progress import report
from models.extractors.settings import ExtractorConfig, GivenConfig, PixelsConfig
from models.weights import locate

SETTLED_NS = 2_000_000_000
"""A file that changed so shortly before it was hashed may change again within one tick of its file system's clock."""
MEMORY_SCHEMA = 1

VAE, TEXT = locate.files_of(locate.VAE), locate.files_of(locate.TEXT)
OF_WEIGHTS: dict[str, Sequence[str]] = {"latents": VAE, "text": TEXT, "clip": locate.VISION, "blip": locate.VISION}
"""Which files of a model an extractor's revision covers, to tell how much is to be hashed."""


class Memory:
    """Digests of files as they lay when they were last read, and what the store's groups were made from.

    Parameters
    ----------
    path : Path
        The file that keeps them; damaged, or of another version, it counts as empty.

    Attributes
    ----------
    expected : how many files are about to be hashed, for whoever watches
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = _remembered(path)
        self._before = digest_json(content)
        self._files: dict[str, list[Any]] = content.get("files", {})
        self._revisions: dict[str, list[Any]] = content.get("revisions", {})
        self.made_from: dict[str, dict[str, Any]] = content.get("made_from", {})
        self._unsettled: set[str] = set()
        self.expected = self._done = 0

    def save(self, fingerprints: set[str]) -> None:
        """Keep what is known, and of what groups were made from only these fingerprints; unwritable, it is let go."""
        made_from = {name: parts for name, parts in self.made_from.items() if name in fingerprints}
        files = {name: entry for name, entry in self._files.items() if name not in self._unsettled}
        content = {"files": files, "revisions": self._revisions, "made_from": made_from, "schema": MEMORY_SCHEMA}
        if digest_json(content) != self._before:
            with suppress(OSError):
                write_json(self._path, {**content, "sha256": digest_json(content)})

    def known(self, file: Path) -> str | None:
        """Return a file's digest where it lies as it lay when it was hashed."""
        *stamp, digest = self._files.get(str(file), [None])
        return digest if stamp == _stamp(file) else None

    def digest(self, file: Path) -> str:
        """Return a file's digest, remembered or computed."""
        known = self.known(file)
        if known is not None:
            return known
        stamp = _stamp(file)
        digest = digest_file(file)
        self._files[str(file)] = [*stamp, digest]
        if not _is_settled(stamp):
            self._unsettled.add(str(file))
        self._done += 1
        report("hashing what the store is made from", self._done, max(self._done, self.expected))
        return digest

    def known_revision(self, config: ExtractorConfig) -> str | None:
        """Return what a target's `revision` says, where its weights lie as they lay when they were hashed."""
        folder = _weights_of(config)
        if folder is None:
            return config.revision(project_root())
        signature, revision = self._revisions.get(config.model_dump_json(), ["", None])
        return revision if signature == _signature(folder) else None

    def revision(self, config: ExtractorConfig) -> str:
        """Return what a target's `revision` says of its weights, remembered or computed."""
        known, folder = self.known_revision(config), _weights_of(config)
        if known is not None or folder is None:
            return known or ""
        settled = all(_is_settled(_stamp(file)) for file in folder.rglob("*"))
        signature, revision = _signature(folder), config.revision(project_root())
        if settled:
            self._revisions[config.model_dump_json()] = [signature, revision]
        return revision


class Glance:
    """Answers from memory alone, and notes what would have to be hashed.

    Attributes
    ----------
    unknown : path to size in bytes
    weights : which of these are a model's
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.unknown: dict[Path, int] = {}
        self.weights: list[Path] = []

    def digest(self, file: Path) -> str:
        """Return a file's digest, or nothing where it is not remembered."""
        known = self._memory.known(file)
        if known is None:
            self.unknown[file] = file.stat().st_size
        return known or ""

    def revision(self, config: ExtractorConfig) -> str:
        """Return what a target's `revision` says, or nothing where it is not remembered."""
        known, folder = self._memory.known_revision(config), _weights_of(config)
        if known is None and folder is not None:
            kinds = OF_WEIGHTS.get(config.extractor, ["**/*"])
            self.weights = [file for kind in kinds for file in folder.glob(kind)]
            self.unknown |= {file: file.stat().st_size for file in self.weights}
        return known or ""


def _remembered(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
        whole = content.pop("sha256") == digest_json(content) and content["schema"] == MEMORY_SCHEMA
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(content) if whole else {}


def _stamp(file: Path) -> list[int]:
    """Return what changes when a file does: also the inode's time, which no copy that preserves times can set back."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _is_settled(stamp: list[int]) -> bool:
    _, modified, changed, _ = stamp
    return time.time_ns() - max(modified, changed) > SETTLED_NS


def _signature(folder: Path) -> str:
    return digest_json([(file.relative_to(folder).as_posix(), _stamp(file)) for file in sorted(folder.rglob("*"))])


def _weights_of(config: ExtractorConfig) -> Path | None:
    """Return the folder of a target's weights, None where it has none; a look at a store never fetches any.

    Raises
    ------
    ModelError
        They lie in no folder of this checkout.
    """
    if isinstance(config, GivenConfig | PixelsConfig):
        return None
    for folder in ((project_root() / config.weights).resolve(), project_root() / locate.DOWNLOADED / config.weights):
        if folder.is_dir():
            return folder.resolve()
    raise ModelError(f"weights '{config.weights}': in no folder of this checkout; run 'brain2video download weights'")
