"""Holds a store's bytes against its manifests; every fault is a finding with the command that mends it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import StoreCorrupted, StoreMissing
from core.files import digest_file
from core.progress import report
from feature_store.groups import Group
from feature_store.manifest import files_of, mend, read_manifest
from feature_store.schema import CONTAINERS, MANIFEST, STORE_NAME


@dataclass(frozen=True)
class Finding:
    """One fault: where it is, what is wrong, and the command that mends it."""

    path: Path
    fault: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}; {self.mend}"


def verify(path: Path | str) -> Iterator[Finding]:
    """Yield one finding per fault of a store, or of one of its groups.

    Parameters
    ----------
    path : Path or str
        `features.zarr`, or a group below it. A store with no group at all is a finding too.
    """
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
        yield Finding(group, f"has no usable {MANIFEST} ({type(error).__name__})", mend(group))
        return
    there = {path.relative_to(group).as_posix(): path for path in files_of(group)}
    sound = True
    for name in sorted(manifest.keys() | there.keys()):
        fault = _fault_of(there.get(name), manifest.get(name))
        if fault:
            yield Finding(group / name, fault, mend(group))
            sound = False
    if sound:
        try:
            Group(group)
        except StoreCorrupted as error:
            yield Finding(group, str(error).removeprefix(f"{group}: ").rpartition("; ")[0], mend(group))


def _fault_of(path: Path | None, row: dict[str, Any] | None) -> str | None:
    if row is None:
        return "is not in the manifest"
    if path is None:
        return "is missing"
    size = path.stat().st_size
    if size != row["size"]:
        return f"has {size} bytes instead of {row['size']}"
    return None if digest_file(path) == row["sha256"] else "differs from its published digest"
