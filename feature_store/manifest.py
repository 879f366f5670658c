"""A group's manifest: size and SHA-256 of every file, written last, so that a group with a manifest is complete."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StoreCorrupted, StoreMissing
from core.files import digest_file, digest_json, json_bytes, write_json
from feature_store.schema import CRC_BYTES, MANIFEST

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """What a published group holds and what it was made from.

    Attributes
    ----------
    files : file (relative, POSIX) to ``{"size": bytes, "sha256": hex}``, of a chunk also ``"crc32c"``: the four bytes
        that it ends with, by which a reader knows that it is the chunk that was published, and not another sound one
    fingerprint : digest of inputs, settings and code
    """

    files: dict[str, dict[str, Any]]
    fingerprint: str

    @property
    def digest(self) -> str:
        """Digest of the group's content: equal content has equal digests, whatever it was made from."""
        return digest_json(self.files)


def files_of(group: Path) -> list[Path]:
    """Return every file of a group but its manifest, sorted."""
    return sorted(path for path in group.rglob("*") if path.is_file() and path != group / MANIFEST)


def write_manifest(group: Path, fingerprint: str, known: Mapping[Path, str]) -> None:
    """Write the manifest of a finished group; `known` are the digests of files that need not be read for it."""
    files = {path.relative_to(group).as_posix(): _row(path, known.get(path)) for path in files_of(group)}
    content = {"files": files, "fingerprint": fingerprint, "schema": SCHEMA}
    write_json(group / MANIFEST, {**content, "sha256": digest_json(content)})


def _row(path: Path, digest: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"size": path.stat().st_size, "sha256": digest or digest_file(path)}
    if is_chunk(path.parent.as_posix()):
        with path.open("rb") as file:
            file.seek(-CRC_BYTES, os.SEEK_END)
            row["crc32c"] = file.read().hex()
    return row


def is_chunk(folder: str) -> bool:
    """Say whether files in a folder, given as a POSIX path, are chunks of an array: they lie below its ``c``."""
    return re.search(r"/c(/[0-9]+)*$", folder) is not None


def read_manifest(group: Path) -> Manifest:
    """Read a group's manifest.

    Raises
    ------
    StoreMissing
        There is no such group, or it was never published.
    StoreCorrupted
        The manifest is not as it was written.
    """
    path = group / MANIFEST
    if not path.is_file():
        raise StoreMissing(f"{group}: no such group in the store (it has no {MANIFEST}); {mend(group)}")
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        as_written = json_bytes(content)
        told = content.pop("sha256")
        if raw != as_written or told != digest_json(content) or content["schema"] != SCHEMA:
            raise ValueError("its digest")
        return Manifest(content["files"], content["fingerprint"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupted(f"{path}: is not as this project wrote it; {mend(group)}") from error


def mend(group: Path) -> str:
    """Return the advice that ends every message about a group that is not whole."""
    kind, name, parents = group.parent.name, group.name, group.absolute().parents
    study = parents[2].name if len(parents) > 2 else "NAME"
    option = {"responses": f"responses --subject {name}", "targets": f"targets --target {name}"}.get(kind, "run")
    return f"run 'dvc checkout' or 'brain2video {option} -c configs/{study}.yaml'"
