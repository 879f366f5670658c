"""Reads a store: responses of a subject, targets of an extractor, and their join by stimulus.

Opening a group checks its metadata files against the manifest; every chunk is checked when it is first touched, so no
damaged byte is ever returned as data.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import nearest
from core.errors import StoreCorrupted, StoreError, StoreMissing
from core.files import read_json
from feature_store.chunks import ChunkedRows
from feature_store.manifest import mend, read_manifest
from feature_store.schema import CONTAINERS, ENCODING_VERSION, MANIFEST, STORE_NAME, Kind
from feature_store.sources.base import Split
from feature_store.tables import decode_column

Repeats = Literal["single", "mean"]


class Group:
    """One published group, its metadata checked against the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = read_manifest(path)
        self.digest = manifest.digest
        """Digest of the group's content, hence of all its bytes."""
        for name, row in manifest.files.items():
            if name.endswith("zarr.json"):
                self._check(name, str(row["sha256"]))
        self.attributes: dict[str, Any] = read_json(path / "zarr.json")["attributes"]
        version = self.attributes.get("encoding-version")
        if version != ENCODING_VERSION:
            raise StoreError(
                f"{path}: written in encoding version {version}; this program reads {ENCODING_VERSION}; "
                "upgrade brain2video"
            )

    def rows(self, name: str) -> ChunkedRows:
        """Return an array of the group."""
        if not (self.path / name / "zarr.json").is_file():
            raise StoreMissing(f"{self.path}: holds no array '{name}'; {mend(self.path)}")
        return ChunkedRows(self.path / name, mend(self.path))

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the group, its columns in the order they were written in."""
        attributes = read_json(self.path / name / "zarr.json")["attributes"]
        columns = {}
        for column in attributes["columns"]:
            values = self.rows(f"{name}/{column}")
            columns[column] = decode_column(values[:], values.attributes["encoding"])
        return pd.DataFrame(columns, index=range(attributes["rows"]))

    def _check(self, name: str, expected: str) -> None:
        path = self.path / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise StoreCorrupted(f"{path}: is missing or not as published; {mend(self.path)}")


class Responses(Group):
    """One subject's responses."""

    @property
    def subject(self) -> str:
        """The subject's name, for example ``"sub-01"``."""
        return self.path.name

    @cached_property
    def voxels(self) -> pd.DataFrame:
        """One row per voxel: roi and what else the source knows."""
        return self.table("voxels")

    def trials(self, split: Split) -> pd.DataFrame:
        """One row per trial: stimulus, repetition and what else the source knows."""
        return self.table(f"{split}/trials")

    def values(
        self, split: Split, *, rois: list[str] | None = None, repeats: Repeats = "single"
    ) -> tuple[NDArray[Any], list[str]]:
        """Return responses and the stimulus of each row.

        Parameters
        ----------
        split : "train" or "test"
        rois : list of str, optional
            Only the voxels of these ROIs.
        repeats : "single" or "mean"
            Every trial, or the mean over the repetitions of each stimulus, in the order of first presentation.

        Returns
        -------
        values : (trial or stimulus, voxel) or (…, time, voxel), float32
        stimuli : list of str, one per row
        """
        values = self.rows(f"{split}/betas")[:]
        stimuli = [str(name) for name in self.trials(split)["stimulus"]]
        if rois is not None:
            values = values[..., self._voxels_in(rois)]
        return (values, stimuli) if repeats == "single" else mean_over_repeats(values, stimuli)

    def _voxels_in(self, rois: list[str]) -> NDArray[np.bool_]:
        known = sorted(set(self.voxels["roi"]))
        for roi in rois:
            if roi not in known:
                raise StoreError(f"{self.path}: has no ROI '{roi}'{nearest(roi, known)}")
        return self.voxels["roi"].isin(rois).to_numpy()


class Targets(Group):
    """One extractor's targets."""

    def stimuli(self, split: Split) -> pd.DataFrame:
        """One row per stimulus: stimulus, caption and what else the source knows."""
        return self.table(f"{split}/stimuli")

    def values(self, split: Split) -> tuple[ChunkedRows, list[str]]:
        """Return targets (stimulus, …) and the stimulus of each row."""
        return self.rows(f"{split}/values"), [str(name) for name in self.stimuli(split)["stimulus"]]


@dataclass(frozen=True)
class Pairs:
    """Responses joined with targets by stimulus.

    Attributes
    ----------
    responses : (row, voxel) float32
    targets : (row, …)
    stimuli : the stimulus of each row
    dropped : how many response rows had no target, and how many targets no response
    """

    responses: NDArray[Any]
    targets: NDArray[Any]
    stimuli: list[str]
    dropped: dict[str, int]


class Store:
    """A feature store on disk; the entity is a stimulus seen by a subject, a feature view is one group.

    Parameters
    ----------
    path : Path or str
        The root, `features.zarr`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        root = self.path / "zarr.json"
        if not root.is_file():
            raise StoreMissing(f"{self.path}: no feature store; run 'dvc pull' or 'brain2video run' first")
        if root.read_bytes() != CONTAINERS["zarr.json"]:
            raise StoreCorrupted(f"{root}: is not as this project writes it; run 'git checkout {root}' or remove it")

    def names(self, kind: Kind) -> list[str]:
        """Return the published groups of a kind: subjects or targets."""
        return sorted(path.parent.name for path in (self.path / kind).glob(f"[!.]*/{MANIFEST}"))

    def responses(self, subject: str) -> Responses:
        """Open one subject's responses."""
        return Responses(self._group("responses", subject))

    def target(self, name: str) -> Targets:
        """Open one extractor's targets."""
        return Targets(self._group("targets", name))

    def pairs(
        self,
        subject: str,
        target: str,
        split: Split,
        *,
        rois: list[str] | None = None,
        repeats: Repeats = "mean",
    ) -> Pairs:
        """Join a subject's responses with targets by stimulus, never by position.

        Rows keep the order of the responses; those whose stimulus has no target are dropped and counted.
        """
        values, stimuli = self.responses(subject).values(split, rois=rois, repeats=repeats)
        wanted, names = self.target(target).values(split)
        position = {name: row for row, name in enumerate(names)}
        kept = np.array([row for row, name in enumerate(stimuli) if name in position], dtype=np.int64)
        chosen = [stimuli[row] for row in kept]
        dropped = {"responses": len(stimuli) - len(kept), "targets": len(names) - len(set(chosen))}
        if not len(kept):
            raise StoreError(
                f"{self.path}: no {split} stimulus of responses/{subject} is among targets/{target}; "
                "both must come from the same stimuli"
            )
        return Pairs(values[kept], wanted[np.array([position[name] for name in chosen])], chosen, dropped)

    def _group(self, kind: Kind, name: str) -> Path:
        path = self.path / kind / name
        if not (path / MANIFEST).is_file():
            known = nearest(name, self.names(kind))
            raise StoreMissing(f"{STORE_NAME}/{kind}/{name}: not in {self.path.parent}{known}; {mend(path)}")
        return path


def mean_over_repeats(values: NDArray[Any], stimuli: list[str]) -> tuple[NDArray[Any], list[str]]:
    """Average rows of the same stimulus, in float64, in the order of first appearance."""
    names = list(dict.fromkeys(stimuli))
    row_of = {name: row for row, name in enumerate(names)}
    index = np.array([row_of[name] for name in stimuli])
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    total = np.add.reduceat(values[order], starts, axis=0, dtype=np.float64)
    return (total / counts.reshape(-1, *(1 for _ in values.shape[1:]))).astype(values.dtype), names
