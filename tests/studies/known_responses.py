"""A store whose voxels are known, and files of responses that fit it, for tests of new responses."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from feature_store import Responses, Store
from studies.decoding.voxel_record import VoxelRecord, VoxelScale, record_voxels
from studies.reconstruction.checks import NewFile, NewResponses, read_responses
from studies.stores.responses import ingest
from studies.study import load_study

from ..conftest import write_arrays
from .conftest import write_study

GRID = (5, 6, 7)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2, 0, -10], [0, 0, 2, -6], [0, 0, 0, 1]])
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """A store of one subject, 60 voxels on a grid, of which the encoder takes V1's 30, and what training recorded."""

    store: Store
    record: VoxelRecord
    group: Responses
    train: Floats

    @property
    def table(self) -> pd.DataFrame:
        return self.group.voxels

    @property
    def v1(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.table["roi"] == "V1")

    @property
    def new(self) -> Floats:
        """Six trials of V1."""
        return self.train[:6, self.v1]

    def image(self, path: Path, trials: Floats, affine: NDArray[Any] = AFFINE, grid: Any = GRID) -> Path:
        """Write trials (trial, 60) as an image of betas."""
        volume = np.zeros((*grid, len(trials)), np.float32)
        volume[tuple(self.table[list("ijk")].to_numpy().T)] = trials.T
        nibabel.save(nibabel.Nifti1Image(volume, affine), path)
        return path

    def mask(self, path: Path, voxels: NDArray[np.int64], affine: NDArray[Any] = AFFINE) -> Path:
        inside = np.zeros(GRID, np.uint8)
        inside[tuple(self.table[list("ijk")].to_numpy()[voxels].T)] = 1
        nibabel.save(nibabel.Nifti1Image(inside, affine), path)
        return path


def make_known(folder: Path) -> Known:
    """Record and ingest them, in a home of their own."""
    rng = np.random.default_rng(20240607)
    source = write_arrays(folder / "recordings", rng, clips=False)
    # As masks have it, region by region in C order, the regions between each other.
    ijk = np.stack(np.unravel_index(np.sort(rng.permutation(np.prod(GRID))[:60]), GRID), axis=1)
    first = np.sort(rng.permutation(60)[:30])
    ijk = np.concatenate([ijk[first], np.delete(ijk, first, axis=0)])
    roi = ["V1"] * 30 + ["V2"] * 20 + ["lV4+V2"] * 10
    table = pd.DataFrame({"roi": roi, **dict(zip("ijk", ijk.T, strict=True))})
    table.to_csv(source / "sub-01" / "voxels.csv", index=False)
    values = np.load(source / "sub-01" / "responses.npy")
    values[:, 7] = np.nan
    values[:, 40] = 1.0
    np.save(source / "sub-01" / "responses.npy", 3 + 2 * values)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "home").mkdir()
        patch.setenv("BRAIN2VIDEO_HOME", str(folder / "home"))
        study = load_study(write_study(folder / "home", source))
        ingest(study, "sub-01")
        store = Store(study.store)
    record = record_voxels(store, "sub-01", ["V1"]).model_copy(update={"affine": AFFINE.tolist(), "grid": list(GRID)})
    group = store.responses("sub-01")
    return Known(store, record, group, np.asarray(group.values("train")[0]))


def scale_of(group: Responses, rois: list[str] | None = None) -> VoxelScale:
    """Every voxel's scale over the training trials, by NumPy; a window's time points are averaged first."""
    values = np.asarray(group.values("train", rois=rois)[0], np.float64)
    rows = values.mean(axis=1) if values.ndim == 3 else values
    mean, sd = rows.mean(axis=0), rows.std(axis=0)
    return VoxelScale(mean, sd, np.isfinite(sd) & (sd > 1e-8))


def save(folder: Path, values: NDArray[Any], name: str = "new.npy") -> Path:
    np.save(folder / name, values)
    return folder / name


def read(known: Known, path: Path, **more: Any) -> NewResponses:
    named = {name: more.pop(name) for name in ("voxels", "trials", "mask", "check_scale") if name in more}
    file = NewFile.model_validate({"path": path, **named})
    return read_responses(file, "sub-01", more.pop("record", known.record), **more)


def has_note(made: NewResponses, pattern: str) -> bool:
    return any(re.search(pattern, note) for note in made.notes)
