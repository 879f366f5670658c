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


def make(root: Path) -> None:
    rng = np.random.default_rng(6)
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
    ("flipped target", flip(f"{TARGET}/train/values/c/0/0/0", 7), "c/0/0/0 fails its .*targets --target latents"),
    (
        "flipped name",
        flip(f"{GROUP}/train/trials/stimulus/c/0/0", 0),
        "trials/stimulus: chunk c/0/0 fails its checksum",
    ),
]
FAULTS = [Fault(f"store: {name}", make, spoil, read, message) for name, spoil, message in CASES]
