"""Reads a store: a subject's responses, an extractor's targets, and their join by stimulus.

Opening a group checks its metadata files against the manifest; every chunk is checked when it is first touched, so no
damaged byte is ever returned as data. Responses and targets are joined by stimulus, never by position: what a feature
store calls historical features.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import nearest
from core.errors import StoreCorrupted, StoreError, StoreMissing
from core.files import digest_file, digest_json, read_json
from core.subjects import is_group, members_of
from feature_store.manifest import fault_of_name, how_to_restore, read_manifest
from feature_store.rows import ChunkedRows, Columns, RowView, Values, group_by_name, loaded
from feature_store.schema import CONTAINERS, MANIFEST, STORE_NAME, UNLABELLED, Kind, decode_column, reader_of, reads
from feature_store.side_by_side import SideBySide, common_trials
from feature_store.sources.base import ROI_SEPARATOR, Split

if TYPE_CHECKING:
    import xarray


def voxels_in(regions: Iterable[object], rois: Sequence[str], where: object) -> NDArray[np.int64]:
    """Return the positions of the voxels that lie in some ROIs, ascending.

    Parameters
    ----------
    regions : one a voxel, joined by `ROI_SEPARATOR` where it has several
    rois : names; one that is no region means its two sides, `EBA` for `lEBA` and `rEBA`
    where : what the regions were read from, for messages

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
OF_ONE_BRAIN = ("affine", "grid")
"""Attributes that do not describe several brains' voxels."""


class Group:
    """One published group, its metadata checked against the manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        manifest = read_manifest(path)
        self._files = manifest.files
        self.digest = manifest.digest
        """Digest of the group's content, hence of all its bytes."""
        for name, row in manifest.files.items():
            file = path / name
            if name.endswith("zarr.json") and not (file.is_file() and digest_file(file) == row["sha256"]):
                raise StoreCorrupted(f"{file}: is missing or not as published; {how_to_restore(path)}")
        self.attributes: dict[str, Any] = read_json(path / "zarr.json")["attributes"]
        if fault := fault_of_name(path, self.attributes):
            raise StoreCorrupted(f"{path}: {fault}; give it its name back, or {how_to_restore(path)}")

    def rows(self, name: str) -> ChunkedRows:
        """Return an array of the group."""
        if not (self.path / name / "zarr.json").is_file():
            raise StoreMissing(f"{self.path}: holds no array '{name}'; {how_to_restore(self.path)}")
        chunks = {file: row["crc32c"] for file, row in self._files.items() if "crc32c" in row}
        published = {file.removeprefix(f"{name}/"): crc for file, crc in chunks.items() if file.startswith(f"{name}/")}
        return ChunkedRows(self.path / name, how_to_restore(self.path), published)

    def has(self, name: str) -> bool:
        """Return whether the group was published with an array of that name."""
        return f"{name}/zarr.json" in self._files

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of the group, its columns in the order they were written in."""
        if not (self.path / name / "zarr.json").is_file():
            raise StoreMissing(f"{self.path}: holds no table '{name}'; {how_to_restore(self.path)}")
        table: pd.DataFrame = reader_of(self.path / name)(self, name)
        return table


@reads("table", "1")
def read_table(group: Group, name: str) -> pd.DataFrame:
    """Read a table stored as one array per column."""
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
        rois : only the voxels of these ROIs, in the store's order; a name without a side means both
        repeats : every trial, or the mean over the repetitions of each stimulus, in the order of first presentation

        Returns
        -------
        values : (trial or stimulus, voxel) or (…, time, voxel), float32
            An array in memory (read-only where it is a mapped file), or a view of the files where it would not fit; see
            `rows.loaded`.
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
        """Return responses to no stimulus, such as rest, or None where the subject has none; see `values`.

        They are (row, voxel) or (row, time, voxel), float32, in memory or a view of the files where they would not fit.
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
        """Return the voxels of some ROIs, as the function does: a slice where they lie side by side."""
        voxels = voxels_in(self.voxels["roi"], rois, self.path)
        return slice(int(voxels[0]), int(voxels[-1]) + 1) if np.ptp(voxels) == len(voxels) - 1 else voxels

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


class GroupResponses(Responses):
    """The responses of several subjects to the stimuli that all of them saw, read as those of one.

    A row holds the voxels of all members, one after another; see `feature_store.side_by_side.common_trials` for what a
    trial is. Recordings without a stimulus are not of one moment, so a group has none.

    Raises
    ------
    StoreError
        The members have no stimulus in common, or windows of different lengths.
    """

    def __init__(self, name: str, members: Sequence[Responses]) -> None:  # its files are its members'
        self.path = members[0].path.parent / name
        self._members = {member.subject: member for member in members}
        self.digest = digest_json({subject: member.digest for subject, member in self._members.items()})
        first, *others = (member.attributes for member in members)
        same = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
        self.attributes = {key: value for key, value in same.items() if key not in OF_ONE_BRAIN}

    @cached_property
    def voxels(self) -> pd.DataFrame:
        """One row per voxel of every member, with the member's name in the column `subject`."""
        tables = [member.voxels.assign(subject=subject) for subject, member in self._members.items()]
        return pd.concat(tables, ignore_index=True)

    def trials(self, split: Split) -> pd.DataFrame:
        """One row per trial: stimulus, repetition and what all members' trials agree in."""
        return self._common(split)[0]

    def view(
        self, split: Split, *, rois: list[str] | None = None, repeats: Repeats = "single"
    ) -> tuple[RowView, list[str]]:
        """Return what `values` returns, but read nothing yet."""
        trials, rows = self._common(split)
        stimuli = [str(name) for name in trials["stimulus"]]
        order, counts, names = group_by_name(stimuli)
        parts = []
        for subject, member in self._members.items():
            own = rows[subject]
            if repeats == "mean":
                ends = np.cumsum(counts)
                own = [np.concatenate([own[row] for row in order[end - count : end]])
                       for count, end in zip(counts, ends, strict=True)]  # fmt: skip
            columns = slice(None) if rois is None else member.voxels_in(rois)
            lengths = np.array([len(positions) for positions in own])
            averaged = None if (lengths == 1).all() else lengths
            parts.append(RowView(member.rows(f"{split}/betas"), np.concatenate(own), columns, averaged))
        return SideBySide(parts, self.path), stimuli if repeats == "single" else names

    def unlabelled_view(self, rois: list[str] | None = None) -> RowView | None:
        """Return None: what members did without a stimulus did not happen together."""
        del rois
        return None

    def has(self, name: str) -> bool:
        """Return False: a group has no array of its own."""
        del name
        return False

    def _common(self, split: Split) -> tuple[pd.DataFrame, dict[str, list[NDArray[np.int64]]]]:
        if split not in self._known:
            tables = {subject: member.trials(split) for subject, member in self._members.items()}
            self._known[split] = common_trials(tables, self.path)
        return self._known[split]

    @cached_property
    def _known(self) -> dict[Split, tuple[pd.DataFrame, dict[str, list[NDArray[np.int64]]]]]:
        return {}


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


@dataclass(frozen=True)
class SubjectPairs:
    """One subject's responses with the targets of what was seen.

    Attributes
    ----------
    responses : (row, voxel) or (row, time, voxel) float32
    targets : (row, …)
    ids : one row per row of both: stimulus, and repetition where single trials were asked for
    dropped : how many response rows had no target, and how many targets no response

    Both are arrays in memory, or views of the mapped files where they would not fit; see `rows.loaded`.
    """

    responses: Values
    targets: Values
    ids: pd.DataFrame
    dropped: dict[str, int]

    @cached_property
    def stimuli(self) -> list[str]:
        """The stimulus of each row."""
        return [str(name) for name in self.ids["stimulus"]]

    def __len__(self) -> int:
        return len(self.ids)


class Pairs(Mapping[str, SubjectPairs]):
    """The join of several subjects, by subject: their voxels differ, so their rows do not stack."""

    def __init__(self, parts: dict[str, SubjectPairs]) -> None:
        self._parts = parts

    def __getitem__(self, subject: str) -> SubjectPairs:
        return self._parts[subject]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def ids(self) -> pd.DataFrame:
        """One row per row of all subjects, one after another: subject, stimulus, repetition."""
        tables = [part.ids.assign(subject=subject) for subject, part in self.items()]
        together = pd.concat(tables, ignore_index=True)
        return together[["subject", *(name for name in together if name != "subject")]]

    @property
    def dropped(self) -> pd.DataFrame:
        """Per subject, how many response rows had no target and how many targets no response."""
        return pd.DataFrame({subject: part.dropped for subject, part in self.items()}).T


def join(responses: Responses, target: Targets, split: Split, rois: list[str] | None, repeats: Repeats) -> SubjectPairs:
    """Join one subject's responses with one target by stimulus.

    Rows keep the order of the responses; those whose stimulus has no target are dropped and counted.

    Raises
    ------
    StoreError
        Not one stimulus is in both.
    """
    view, stimuli = responses.view(split, rois=rois, repeats=repeats)
    wanted, names = target.values(split)
    position = {name: row for row, name in enumerate(names)}
    kept = np.array([row for row, name in enumerate(stimuli) if name in position], dtype=np.int64)
    if not len(kept):
        raise StoreError(
            f"{responses.path.parents[1]}: no {split} stimulus of responses/{responses.subject} is among "
            f"targets/{target.path.name}; both must come from the same stimuli"
        )
    chosen = [stimuli[row] for row in kept]
    ids = pd.DataFrame({"stimulus": chosen})
    if repeats == "single":
        ids["repetition"] = responses.trials(split)["repetition"].to_numpy()[kept]
    rows = RowView(wanted, np.array([position[name] for name in chosen], dtype=np.int64))
    dropped = {"responses": len(stimuli) - len(kept), "targets": len(names) - len(set(chosen))}
    return SubjectPairs(loaded(view.select(kept)), loaded(rows), ids, dropped)


class Store:
    """A feature store on disk, `features.zarr`: the entity is a stimulus seen by a subject, a view one group."""

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
        """Open one subject's responses, or those of a group (`core.subjects.group_of`), read as one subject's."""
        if is_group(subject):
            return GroupResponses(subject, [self.responses(member) for member in members_of(subject)])
        group = self._open("responses", subject)
        assert isinstance(group, Responses)
        return group

    def target(self, name: str) -> Targets:
        """Open one extractor's targets."""
        group = self._open("targets", name)
        assert isinstance(group, Targets)
        return group

    def pairs(
        self,
        subjects: Sequence[str],
        target: str,
        split: Split,
        *,
        rois: list[str] | None = None,
        repeats: Repeats = "mean",
    ) -> Pairs:
        """Join subjects' responses with a target by stimulus, never by position.

        Rows keep the order of the responses, with their ids, and what was dropped is counted.

        Parameters
        ----------
        subjects, target : for example ``["sub-01", "sub-02"]`` and ``"latents"``
        rois, repeats : as in `Responses.values`

        Raises
        ------
        StoreMissing, StoreCorrupted, StoreError
            A group is absent or damaged, a ROI is unknown, or no stimulus is in both groups.
        """
        wanted = self.target(target)
        return Pairs({subject: join(self.responses(subject), wanted, split, rois, repeats) for subject in subjects})

    def _open(self, kind: Kind, name: str) -> Group:
        path = self.path / kind / name
        if not (path / MANIFEST).is_file():
            known = nearest(name, self.names(kind))
            raise StoreMissing(f"{STORE_NAME}/{kind}/{name}: not in {self.path.parent}{known}; {how_to_restore(path)}")
        group = open_group(path)
        if group.attributes["encoding-type"] != kind:
            raise StoreError(
                f"{path}: holds {group.attributes['encoding-type']}, expected {kind}; {how_to_restore(path)}"
            )
        return group
