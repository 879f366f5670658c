"""Chooses voxels by the regions that a table names for each.

The published groups of a store: a subject's responses and an extractor's targets.

Opening a group checks its metadata files against the manifest; every chunk is checked when it is first touched, so no
damaged byte is ever returned as data.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import nearest
from core.errors import StoreCorrupted, StoreError, StoreMissing
from core.files import read_json
from feature_store.chunks.rows import ChunkedRows, Columns
from feature_store.columns import decode_column
from feature_store.manifest import mend, read_manifest
from feature_store.schema import UNLABELLED, reader_of, reads
from feature_store.sources.base import ROI_SEPARATOR, Split
from feature_store.views import RowView, Values, group_by_name, loaded

if TYPE_CHECKING:
    import xarray


def voxels_in(regions: Iterable[object], rois: Sequence[str], where: object) -> NDArray[np.int64]:
    """Return the positions of the voxels that lie in some ROIs, ascending.

    Parameters
    ----------
    regions : one a voxel, joined by `ROI_SEPARATOR` where it has several
    rois : names; one that is no region stands for its two sides, `EBA` for `lEBA` and `rEBA`
    where : whence the regions come, for messages

    Raises
    ------
    StoreError
        No ROI is named, or no voxel lies in one; the nearest known name is shown.
    """
    if not rois:
        raise StoreError(f"{where}: no ROI is named; name at least one, or leave 'rois' out for all voxels")
    of_voxels = [set(str(names).split(ROI_SEPARATOR)) for names in regions]
    known = sorted(set().union(*of_voxels))
    wanted: set[str] = set()
    for roi in rois:
        named = [roi] if roi in known else [name for name in (f"l{roi}", f"r{roi}") if name in known]
        if not named:
            raise StoreError(f"{where}: has no ROI '{roi}'{nearest(roi, known)}")
        wanted.update(named)
    return np.flatnonzero([not names.isdisjoint(wanted) for names in of_voxels])


Repeats = Literal["single", "mean"]
NAMED_BY = {"responses": "subject", "targets": "target"}
"""The attribute in which a group says for whom or what it was written."""


class Group:
    """One published group, its metadata checked against the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = read_manifest(path)
        self._files = manifest.files
        self.digest = manifest.digest
        """Digest of the group's content, hence of all its bytes."""
        for name, row in manifest.files.items():
            if name.endswith("zarr.json"):
                self._check(name, str(row["sha256"]))
        self.attributes: dict[str, Any] = read_json(path / "zarr.json")["attributes"]
        self._check_name()

    def rows(self, name: str) -> ChunkedRows:
        """Return an array of the group."""
        if not (self.path / name / "zarr.json").is_file():
            raise StoreMissing(f"{self.path}: holds no array '{name}'; {mend(self.path)}")
        start = f"{name}/"
        published = {
            file.removeprefix(start): row["crc32c"]
            for file, row in self._files.items()
            if file.startswith(start) and "crc32c" in row
        }
        return ChunkedRows(self.path / name, mend(self.path), published)

    def has(self, name: str) -> bool:
        """Say whether the group was published with an array of that name."""
        return f"{name}/zarr.json" in self._files

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the group, its columns in the order they were written in."""
        if not (self.path / name / "zarr.json").is_file():
            raise StoreMissing(f"{self.path}: holds no table '{name}'; {mend(self.path)}")
        table: pd.DataFrame = reader_of(self.path / name)(self, name)
        return table

    def _check_name(self) -> None:
        attribute = NAMED_BY.get(str(self.attributes.get("encoding-type")), "")
        told = self.attributes.get(attribute, self.path.name)
        if told != self.path.name:
            raise StoreCorrupted(
                f"{self.path}: was written as {attribute} '{told}' and lies as '{self.path.name}': a folder that was "
                f"renamed or copied; give it its name back, or {mend(self.path)}"
            )

    def _check(self, name: str, expected: str) -> None:
        path = self.path / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise StoreCorrupted(f"{path}: is missing or not as published; {mend(self.path)}")


@reads("table", "1")
def read_table(group: Group, name: str) -> pd.DataFrame:
    """Read a table laid out as one array per column."""
    attributes = read_json(group.path / name / "zarr.json")["attributes"]
    columns = {}
    for column in attributes["columns"]:
        values = group.rows(f"{name}/{column}")
        columns[column] = decode_column(values[:], values.attributes["encoding"])
    return pd.DataFrame(columns, index=range(attributes["rows"]))


@reads("responses", "1")
class Responses(Group):
    """One subject's responses."""

    @property
    def subject(self) -> str:
        """The subject's name, for example ``"sub-01"``."""
        return self.path.name

    @cached_property
    def voxels(self) -> pd.DataFrame:
        """One row per voxel: roi, ncsnr_train, ncsnr_test and what else the source knows; see docs/formats.md."""
        return self.table("voxels")

    def trials(self, split: Split) -> pd.DataFrame:
        """One row per trial: stimulus, repetition and what else the source knows."""
        return self.table(f"{split}/trials")

    def values(
        self, split: Split, *, rois: list[str] | None = None, repeats: Repeats = "single"
    ) -> tuple[Values, list[str]]:
        """Return responses and the stimulus of each row.

        Parameters
        ----------
        split : "train" or "test"
        rois : list of str, optional
            Only the voxels of these ROIs, in the store's order; a name without a side means both.
        repeats : "single" or "mean"
            Every trial, or the mean over the repetitions of each stimulus, in the order of first presentation.

        Returns
        -------
        values : (trial or stimulus, voxel) or (…, time, voxel), float32
            An array in memory (read-only where it is a mapped file), or a view of the files where it would not fit; see
            `views.loaded`.
        stimuli : list of str, one per row
        """
        view, stimuli = self.view(split, rois=rois, repeats=repeats)
        return loaded(view), stimuli

    def view(
        self, split: Split, *, rois: list[str] | None = None, repeats: Repeats = "single"
    ) -> tuple[RowView, list[str]]:
        """Return what `values` returns, but read nothing yet."""
        rows, stimuli = self.rows(f"{split}/betas"), [str(name) for name in self.trials(split)["stimulus"]]
        columns = slice(None) if rois is None else self.voxels_in(rois)
        if repeats == "single":
            return RowView(rows, np.arange(len(rows)), columns), stimuli
        order, counts, names = group_by_name(stimuli)
        return RowView(rows, order, columns, counts), names

    def unlabelled(self, rois: list[str] | None = None) -> Values | None:
        """Return responses to no stimulus, such as rest, or None where the subject has none.

        Parameters
        ----------
        rois : list of str, optional
            Only the voxels of these ROIs, as in `values`.

        Returns
        -------
        (row, voxel) or (row, time, voxel), float32
            In memory, or a view of the files where it would not fit; see `views.loaded`.
        """
        view = self.unlabelled_view(rois)
        return None if view is None else loaded(view)

    def unlabelled_view(self, rois: list[str] | None = None) -> RowView | None:
        """Return what `unlabelled` returns, but read nothing yet."""
        if not self.has(UNLABELLED):
            return None
        rows, columns = self.rows(UNLABELLED), slice(None) if rois is None else self.voxels_in(rois)
        return RowView(rows, np.arange(len(rows)), columns)

    def voxels_in(self, rois: list[str]) -> Columns:
        """Return the voxels of some ROIs: a slice where they lie side by side, else their positions.

        Raises
        ------
        StoreError
            No voxel lies in a ROI of that name; the nearest known name is shown.
        """
        found = voxels_in(self.voxels["roi"], rois, self.path)
        return slice(int(found[0]), int(found[-1]) + 1) if np.ptp(found) == len(found) - 1 else found

    def to_xarray(self, split: Split) -> "xarray.DataArray":
        """Return responses as an xarray with trials and voxels as coordinates, read when it is used.

        Needs the extra ``brain2video[analysis]``. Chunks are read by zarr, which checks their CRC too.
        """
        import xarray

        opened = xarray.open_zarr(self.path / split, consolidated=False, chunks=None)
        trial = {name: ("trial", column.to_numpy()) for name, column in self.trials(split).items() if name != "trial"}
        voxel = {name: ("voxel", column.to_numpy()) for name, column in self.voxels.items() if name != "voxel"}
        return opened["betas"].assign_coords({**trial, **voxel}).assign_attrs(self.attributes)


@reads("targets", "1")
class Targets(Group):
    """One extractor's targets."""

    def stimuli(self, split: Split) -> pd.DataFrame:
        """One row per stimulus: stimulus, caption and what else the source knows."""
        return self.table(f"{split}/stimuli")

    def values(self, split: Split) -> tuple[ChunkedRows, list[str]]:
        """Return targets (stimulus, …), read when they are indexed, and the stimulus of each row."""
        return self.rows(f"{split}/values"), [str(name) for name in self.stimuli(split)["stimulus"]]


def open_group(path: Path) -> Group:
    """Open a published group with the reader of its encoding.

    Raises
    ------
    StoreMissing, StoreCorrupted, StoreError
        It was never published, is not as published, or is of an encoding that this program does not read.
    """
    Group(path)  # what the encoding is read from must be as published
    group: Group = reader_of(path)(path)
    return group
