"""A group's manifest: size and SHA-256 of every file, written last, so that a group with a manifest is complete."""

from pathlib import Path

from core.errors import StoreCorrupted, StoreMissing
from core.files import digest_file, read_json, write_json
from feature_store.schema import MANIFEST

Manifest = dict[str, dict[str, int | str]]
"""File (relative, POSIX) to ``{"size": bytes, "sha256": hex}``."""


def files_of(group: Path) -> list[Path]:
    """Return every file of a group but its manifest, sorted."""
    return sorted(path for path in group.rglob("*") if path.is_file() and path != group / MANIFEST)


def write_manifest(group: Path) -> None:
    """Write the manifest of a finished group."""
    rows = {
        path.relative_to(group).as_posix(): {"size": path.stat().st_size, "sha256": digest_file(path)}
        for path in files_of(group)
    }
    write_json(group / MANIFEST, {"files": rows, "schema": 1})


def read_manifest(group: Path) -> Manifest:
    """Read a group's manifest.

    Raises
    ------
    StoreMissing
        There is no such group, or it was never published.
    StoreCorrupted
        The manifest is not what this project writes.
    """
    path = group / MANIFEST
    if not path.is_file():
        raise StoreMissing(f"{group}: no such group in the store (it has no {MANIFEST}); {mend(group)}")
    try:
        manifest = read_json(path)
        if manifest["schema"] != 1 or not all({"size", "sha256"} == set(row) for row in manifest["files"].values()):
            raise KeyError("schema")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupted(f"{path}: is not a manifest of this project; {mend(group)}") from error
    files: Manifest = manifest["files"]
    return files


def digest_group(group: Path) -> str:
    """Return the digest of a published group: that of its manifest, which holds the digests of all the rest."""
    read_manifest(group)
    return digest_file(group / MANIFEST)


def mend(group: Path) -> str:
    """Return the advice that ends every message about a group that is not whole."""
    command = {"responses": "responses", "targets": "targets"}.get(group.parent.name, "run")
    option = {"responses": f" --subject {group.name}", "targets": f" --target {group.name}"}.get(group.parent.name, "")
    return f"run 'dvc checkout' or 'brain2video {command}{option}'"
