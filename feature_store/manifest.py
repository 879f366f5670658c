"""A group's manifest, and checking a store's bytes against it.

A manifest holds size and SHA-256 of every file of a group. It is written last, so that a group with a manifest is
complete.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StoreCorrupted, StoreMissing
from core.files import digest_file, digest_json, json_bytes, read_json, write_json
from core.progress import report
from feature_store.schema import CONTAINERS, CRC_BYTES, MANIFEST, STORE_NAME

SCHEMA = 1
NAMED_BY = {"responses": "subject", "targets": "target"}
"""The attribute that holds a group's own name, by the group's encoding type."""


@dataclass(frozen=True)
class Manifest:
    """What a published group holds and its provenance.

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
        """Digest of the group's content: equal content has equal digests, from whichever inputs it was made."""
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
    """Return whether files in a folder, given as a POSIX path, are chunks of an array: they lie below its ``c``."""
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
        raise StoreMissing(f"{group}: no such group in the store (it has no {MANIFEST}); {how_to_restore(group)}")
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        as_written = json_bytes(content)
        digest = content.pop("sha256")
        if raw != as_written or digest != digest_json(content) or content["schema"] != SCHEMA:
            raise ValueError("its digest")
        return Manifest(content["files"], content["fingerprint"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupted(f"{path}: is not as this project wrote it; {how_to_restore(group)}") from error


def how_to_restore(group: Path) -> str:
    """Return the advice that ends every message about a group that is not whole."""
    kind, name, parents = group.parent.name, group.name, group.absolute().parents
    study = parents[2].name if len(parents) > 2 else "NAME"
    option = {"responses": f"responses --subject {name}", "targets": f"targets --target {name}"}.get(kind, "run")
    return f"run 'dvc checkout' or 'brain2video {option} -c configs/{study}.yaml'"


def fault_of_name(group: Path, attributes: Mapping[str, Any]) -> str | None:
    """Return what is wrong where a group's folder has another name than the group was written under, else None."""
    attribute = NAMED_BY.get(str(attributes.get("encoding-type")), "")
    name = attributes.get(attribute, group.name)
    if name == group.name:
        return None
    return f"was written as {attribute} '{name}' and lies as '{group.name}': a folder that was renamed or copied"


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, what is wrong, and the command that restores it."""

    path: Path
    fault: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}; {self.remedy}"


def verify(path: Path | str) -> Iterator[Finding]:
    """Yield one finding per fault of a store, or of one of its groups; a store with no group is a finding too."""
    root = Path(path)
    if root.name != STORE_NAME and ((root / MANIFEST).is_file() or root.parent.name in ("responses", "targets")):
        yield from _verify_group(root)
        return
    if root.name != STORE_NAME and not _is_root(root):
        yield Finding(root, f"is no feature store and no group of one; expected …/{STORE_NAME}", "name that folder")
        return
    yield from _verify_containers(root)
    groups = sorted(folder for kind in ("responses", "targets") for folder in (root / kind).glob("[!.]*/"))
    if not groups:
        yield Finding(root, "holds no responses and no targets", "run 'dvc pull' or 'brain2video run'")
    for done, group in enumerate(groups, start=1):
        yield from _verify_group(group)
        report("verifying", done, len(groups))


def _is_root(folder: Path) -> bool:
    file = folder / "zarr.json"
    return file.is_file() and file.read_bytes() == CONTAINERS["zarr.json"]


def _verify_containers(root: Path) -> Iterator[Finding]:
    for name, content in CONTAINERS.items():
        path = root / name
        if not path.is_file():
            yield Finding(path, "is missing", f"run 'git checkout {path}' or 'brain2video run'")
        elif path.read_bytes() != content:
            yield Finding(path, "is not as this project writes it", f"run 'git checkout {path}' or remove it and run")


def _verify_group(group: Path) -> Iterator[Finding]:
    try:
        manifest = read_manifest(group).files
    except (StoreMissing, StoreCorrupted) as error:
        yield Finding(group, f"has no usable {MANIFEST} ({type(error).__name__})", how_to_restore(group))
        return
    there = {path.relative_to(group).as_posix(): path for path in files_of(group)}
    sound = True
    for name in sorted(manifest.keys() | there.keys()):
        if fault := _fault_of(there.get(name), manifest.get(name)):
            yield Finding(group / name, fault, how_to_restore(group))
            sound = False
    if sound and (fault := fault_of_name(group, read_json(group / "zarr.json")["attributes"])):
        yield Finding(group, fault, how_to_restore(group))


def _fault_of(path: Path | None, row: dict[str, Any] | None) -> str | None:
    if row is None:
        return "is not in the manifest"
    if path is None:
        return "is missing"
    size = path.stat().st_size
    if size != row["size"]:
        return f"has {size} bytes instead of {row['size']}"
    return None if digest_file(path) == row["sha256"] else "differs from its published digest"
