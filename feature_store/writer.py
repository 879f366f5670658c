"""Writes one group of a store: staged outside the root, resumed chunk by chunk after a kill, published by one rename.

The protocol: a staging folder named after the group and its fingerprint; those of other fingerprints are wiped; a chunk
counts as done when its size and its CRC-32C are right, so no journal can fall out of step; then the manifest, fsync,
rename. Chunks are laid out as zarr itself would, and zarr opens them.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from core.errors import Brain2VideoError, NoSpace, NotAllowed, StoreError
from core.files import disk_explained, exclusive, fsync_path, publish_folder, remove_folder, require_space, write_bytes
from core.progress import report
from feature_store.chunk_files import ChunkFiles, chunk_is_whole
from feature_store.chunks import ChunkedRows
from feature_store.codecs import Compression, compressors, encoder_of
from feature_store.manifest import read_manifest, write_manifest
from feature_store.schema import CONTAINERS, CRC_BYTES, MANIFEST, chunk_rows, group_attributes
from feature_store.tables import check_columns, encode_column
from feature_store.verification import verify

RowBlock = Callable[[int, int], NDArray[Any]]
"""Returns rows start to stop of an array that is being written."""


def ensure_root(store: Path) -> None:
    """Write the metadata files above the groups where they are absent; see `schema.CONTAINERS`."""
    for name, content in CONTAINERS.items():
        if not (store / name).is_file():
            write_bytes(store / name, content)


def is_published(group: Path, fingerprint: str) -> bool:
    """Say whether a group stands as it was made from exactly this, every byte of it as published."""
    try:
        return read_manifest(group).fingerprint == fingerprint and not any(verify(group))
    except StoreError:
        return False


class GroupWriter:
    """Writes a group; use it as a context manager, which publishes on success.

    A block that is interrupted, or for which the disk has no room, leaves the staging folder behind, so that the next
    run with the same fingerprint resumes; one that ends in a user's mistake leaves nothing. The published group is
    untouched either way. A second writer of the same group is refused.

    Parameters
    ----------
    store : Path
        The root, `features.zarr`.
    name : str
        The group's path below it, for example ``"responses/sub-01"``.
    encoding_type : str
        For example ``"responses"``; the reader is chosen by it.
    fingerprint : str
        Digest of everything the group is made from: inputs, parameters, code.
    attributes : more attributes of the group; JSON, without time stamps or absolute paths.
    """

    def __init__(self, store: Path, name: str, *, encoding_type: str, fingerprint: str, **attributes: Any) -> None:
        self.target = store / name
        self._family = name.replace("/", "-")
        # Beside the store's real place: a rename does not leave a filesystem.
        self.staging = store.resolve().parent / ".staging" / f"{self._family}@{fingerprint[:16]}"
        self._attributes = group_attributes(encoding_type, **attributes)
        self._fingerprint = fingerprint
        self._store = store

    def __enter__(self) -> "GroupWriter":
        busy = StoreError(f"{self.target}: another run is writing this group; wait for it, or end it")
        with disk_explained(self.target), ExitStack() as held:
            self.staging.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(self.staging.with_name(f".{self._family}.lock"), busy))
            self._resume_or_wipe()
            self.staging.mkdir(exist_ok=True)
            self._zarr = zarr.open_group(self.staging, mode="a", zarr_format=3)
            self._zarr.attrs.put(self._attributes)
            self._held = held.pop_all()
        self._described: set[str] = set()
        self._files = ChunkFiles()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with disk_explained(self.target), self._held:
            if error is not None:
                self._files.close()
                if isinstance(error, Brain2VideoError) and not isinstance(error, NoSpace | NotAllowed):
                    shutil.rmtree(self.staging)
                raise error
            self._publish()

    def array(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        rows: RowBlock,
        dimensions: tuple[str, ...],
        *,
        compression: Compression = "none",
        **attrs: Any,
    ) -> None:
        """Write an array in whole chunks, asking `rows(start, stop)` only for chunks that are not yet there.

        Parameters
        ----------
        name : str
            Path within the group, for example ``"train/betas"``.
        shape : tuple of int
            Full shape; the first axis is the one that is chunked.
        dtype : str
            numpy's name, for example ``"float32"``.
        rows : callable
            ``rows(start, stop)`` returns those rows.
        dimensions : tuple of str
            The axes' names.
        compression : "none", "lz4" or "zstd"
            See `feature_store.codecs`.
        """
        self._describe_parents(name)
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        step = chunk_rows(shape[0], max(1, row_bytes))
        fill = np.nan if np.dtype(dtype).kind == "f" else 0
        self._zarr.require_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=(step, *shape[1:]),
            compressors=compressors(compression, np.dtype(dtype).itemsize),
            fill_value=fill,
            dimension_names=list(dimensions),
            attributes=dict(sorted(attrs.items())),
            config={"write_empty_chunks": True},
        )
        stored = step * row_bytes + CRC_BYTES if compression == "none" else None
        encode = encoder_of(compression)
        missing = list(self._missing_chunks(name, shape, step, stored))
        require_space(self.staging, len(missing) * step * row_bytes)
        for start, path in missing:
            stop = min(start + step, shape[0])
            block = np.asarray(rows(start, stop), dtype=dtype)
            if stop - start < step:  # Zarr stores the last chunk padded
                block = np.concatenate([block, np.full((step - (stop - start), *shape[1:]), fill, block.dtype)])
            self._files.write(path, block, encode)
            if step < shape[0]:
                report(f"writing {self.target.name}/{name}", stop, shape[0])

    def rows(self, name: str) -> ChunkedRows:
        """Return an array that this block has written, to compute from it what is written next."""
        self._files.finish()
        return ChunkedRows(self.staging / name, "run again")

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as a group of columns; see `feature_store.tables`."""
        check_columns(list(table.columns), f"{self.target}/{name}")
        self._describe_parents(name)
        group = self._zarr.require_group(name)
        group.attrs.put(group_attributes("table", columns=list(table.columns), rows=len(table)))
        self._described.add(name)
        for column in table.columns:
            values, encoding = encode_column(table[column])
            dims = ("row", "byte")[: values.ndim]
            whole = _slices_of(values)
            self.array(f"{name}/{column}", values.shape, values.dtype.name, whole, dims, encoding=encoding)

    def describe(self, **attributes: Any) -> None:
        """Add attributes to the group that are known only once its arrays are written."""
        self._attributes = dict(sorted({**self._attributes, **attributes}.items()))
        self._zarr.attrs.put(self._attributes)

    def _describe_parents(self, name: str) -> None:
        """Give the groups that an array's path runs through an encoding of their own."""
        for parent in (path.as_posix() for path in PurePosixPath(name).parents if path.name):
            if parent not in self._described:
                self._zarr.require_group(parent).attrs.put(group_attributes("split"))
                self._described.add(parent)

    def _missing_chunks(
        self, name: str, shape: tuple[int, ...], step: int, stored: int | None
    ) -> Iterator[tuple[int, Path]]:
        for index, start in enumerate(range(0, shape[0], step)):
            path = self.staging / name / "c" / "/".join([str(index), *("0" for _ in shape[1:])])
            if not chunk_is_whole(path, stored):
                yield start, path

    def _resume_or_wipe(self) -> None:
        for other in self.staging.parent.glob(f"{self._family}@*"):
            if other != self.staging:
                remove_folder(other)
        # Only chunks tell by themselves whether they are whole; the small files are written again.
        for pattern in ("*.partial", "zarr.json", MANIFEST):
            for leftover in self.staging.rglob(pattern):
                leftover.unlink()

    def _publish(self) -> None:
        self._files.finish()
        self._files.close()
        write_manifest(self.staging, self._fingerprint, self._files.digests)
        settle = [path for path in self.staging.rglob("*") if path.is_dir() or path.name == "zarr.json"]
        with ThreadPoolExecutor(max_workers=8) as threads:  # together they wait once for the disk, not each in turn
            list(threads.map(fsync_path, settle))
        ensure_root(self._store)
        publish_folder(self.staging, self.target)


def _slices_of(values: NDArray[Any]) -> RowBlock:
    return lambda start, stop: values[start:stop]
