"""What a store may have wrong when it is read: damage by bits, by hand, or by half a copy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from feature_store import Store

from ..conftest import write_responses, write_targets
from . import Fault

GROUP = "data/features.zarr/responses/sub-01"
TARGET = "data/features.zarr/targets/latents"


def make(root: Path, seed: int = 6) -> None:
    rng = np.random.default_rng(seed)
    write_responses(
        root / "data/features.zarr",
        {"train": rng.normal(size=(12, 5)).astype("f4"), "test": rng.normal(size=(6, 5)).astype("f4")},
    )
    write_targets(
        root / "data/features.zarr",
        {"train": rng.normal(size=(4, 2, 3)).astype("f2"), "test": rng.normal(size=(3, 2, 3)).astype("f2")},
    )


def read(root: Path) -> None:
    """Read all that training would."""
    store = Store(root / "data/features.zarr")
    for split in ("train", "test"):
        store.pairs(["sub-01"], "latents", split, repeats="single")
    assert len(store.responses("sub-01").voxels) == 5


def flip(name: str, place: int = 0) -> Callable[[Path], object]:
    """Flip one bit of a file."""

    def apply(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        content[place] ^= 4
        (root / name).write_bytes(content)

    return apply


def cut(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-5])


def edit_metadata(root: Path) -> None:
    file = root / GROUP / "train/betas/zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = [11, 5]
    file.write_text(json.dumps(meta))


def swap(root: Path, one: str, other: str) -> None:
    """Exchange the chunks of two arrays, each of them sound."""
    first, second = (root / GROUP / split / "betas/c/0/0" for split in (one, other))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def older(root: Path) -> None:
    """Put a sound chunk of an earlier version into its place, as half a copy does."""
    make(root / "earlier", seed=7)
    shutil.copy(root / "earlier" / GROUP / "train/betas/c/0/0", root / GROUP / "train/betas/c/0/0")


def rename(root: Path) -> None:
    """Let one person's data lie under another's name."""
    (root / GROUP).rename(root / GROUP.replace("sub-01", "sub-02"))


def read_everybody(root: Path) -> None:
    store = Store(root / "data/features.zarr")
    for subject in store.names("responses"):
        store.responses(subject)


MEND = "run 'dvc checkout' or 'brain2video responses --subject sub-01 -c configs/data.yaml'"
CASES: list[tuple[str, Callable[[Path], object], str]] = [
    ("no store", lambda root: shutil.rmtree(root / "data"), "features.zarr: no feature store; run 'dvc pull'"),
    ("no root", lambda root: (root / "data/features.zarr/zarr.json").unlink(), "no feature store; run 'dvc pull'"),
    ("edited root", flip("data/features.zarr/zarr.json", 30), "not as this project writes it; run 'git checkout"),
    ("no group", lambda root: shutil.rmtree(root / GROUP), f"responses/sub-01: not in .*{MEND}"),
    ("no manifest", lambda root: (root / GROUP / "MANIFEST.json").unlink(), f"responses/sub-01: not in .*{MEND}"),
    ("edited manifest", flip(f"{GROUP}/MANIFEST.json", 60), f"MANIFEST.json: is not as this project wrote it; {MEND}"),
    (
        "manifest of spaces",
        lambda root: (root / GROUP / "MANIFEST.json").write_text(" "),
        "not as this project wrote it",
    ),
    ("edited metadata", edit_metadata, f"train/betas/zarr.json: is missing or not as published; {MEND}"),
    (
        "no metadata",
        lambda root: (root / GROUP / "voxels/zarr.json").unlink(),
        "voxels/zarr.json: is missing or not as",
    ),
    ("flipped bit", flip(f"{GROUP}/train/betas/c/0/0", 7), f"train/betas: chunk c/0/0 fails its checksum; {MEND}"),
    ("flipped checksum", flip(f"{GROUP}/test/betas/c/0/0", -1), "test/betas: chunk c/0/0 fails its checksum"),
    ("truncated chunk", cut(f"{GROUP}/train/betas/c/0/0"), "chunk c/0/0 has 239 bytes instead of 244; run 'dvc"),
    ("missing chunk", lambda root: (root / GROUP / "train/betas/c/0/0").unlink(), "chunk c/0/0 is missing; run 'dvc"),
    ("another chunk", lambda root: swap(root, "train", "test"), "c/0/0 (has|is not the chunk that was published)"),
    ("older chunk", lambda root: older(root), "chunk c/0/0 is not the chunk that was published; run 'dvc"),
    ("flipped target", flip(f"{TARGET}/train/values/c/0/0/0", 7), "c/0/0/0 fails its .*targets --target latents"),
    (
        "flipped name",
        flip(f"{GROUP}/train/trials/stimulus/c/0/0", 0),
        "trials/stimulus: chunk c/0/0 fails its checksum",
    ),
]
RENAMED = "sub-02: was written as subject 'sub-01' and lies as 'sub-02': a folder that was renamed or copied"
FAULTS = [
    *(Fault(f"store: {name}", make, spoil, read, message) for name, spoil, message in CASES),
    Fault("store: renamed", make, rename, read_everybody, RENAMED),
]
