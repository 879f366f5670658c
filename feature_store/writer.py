"""Writes one group of a store: staged outside the root, resumed chunk by chunk after a kill, published by one rename.

The protocol: a staging folder named after the group and its fingerprint; those of other fingerprints are wiped; a chunk
counts as done when its size and its CRC-32C are right, so no journal can fall out of step; then the manifest, fsync,
rename. Chunks are laid out as zarr itself would, and zarr opens them. Others may make and write the chunks of an array,
see `HandOut`; the lock, metadata, tables, manifest and the rename stay with the writer.
"""

import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from core.errors import Brain2VideoError, NoSpace, NotAllowed, StoreError
from core.files import disk_explained, exclusive, fsync_path, publish_folder, remove_folder, require_space, write_bytes
from core.progress import report
from feature_store.chunks import (
    ArrayChunks,
    ChunkFiles,
    Compression,
    RowBlock,
    RowsWithSummary,
    Stretch,
    Written,
    compressors,
    encoder_of,
    write_stretch,
)
from feature_store.manifest import read_manifest, verify, write_manifest
from feature_store.rows import ChunkedRows
from feature_store.schema import CONTAINERS, MANIFEST, chunk_rows, encode_column, fault_of_columns, group_attributes


class HandOut(Protocol):
    """Has workers process items, all of it picklable; `core.executors.Executor.run` does."""

    def __call__(
        self,
        function: Callable[[Stretch], Written],
        items: Sequence[Stretch],
        what: str,
        *,
        shared: Path,
        listener: Callable[[Stretch, str, int, int, str], None],
    ) -> Generator[tuple[Stretch, Written]]:
        """Yield every item with its result, as they come; `shared` is a folder that the workers must see."""
        ...


def ensure_root(store: Path) -> None:
    """Write the metadata files above the groups where they are absent; see `schema.CONTAINERS`."""
    for name, content in CONTAINERS.items():
        if not (store / name).is_file():
            write_bytes(store / name, content)


def staging_of(store: Path) -> Path:
    """Return the folder in which groups are built: beside the store's real place, as a rename leaves no filesystem."""
    return store.resolve().parent / ".staging"


def is_published(group: Path, fingerprint: str) -> bool:
    """Return whether a group was made from exactly this, every byte of it as published."""
    try:
        return read_manifest(group).fingerprint == fingerprint and not any(verify(group))
    except StoreError:
        return False


class GroupWriter:
    """Writes a group; use it as a context manager, which publishes on success.

    A block that is interrupted, or for which the disk has no space, leaves the staging folder behind, so that the next
    run with the same fingerprint resumes; one that ends in a user's mistake leaves nothing. The published group is
    untouched either way. A second writer of the same group is refused.

    Parameters
    ----------
    store : the root, `features.zarr`
    name : the group's path below it, for example ``"responses/sub-01"``
    encoding_type : for example ``"responses"``; the reader is chosen by it
    fingerprint : digest of everything the group is made from: inputs, parameters, code
    attributes : more attributes of the group; JSON, without time stamps or absolute paths
    """

    def __init__(self, store: Path, name: str, *, encoding_type: str, fingerprint: str, **attributes: Any) -> None:
        self.target = store / name
        self._family = name.replace("/", "-")
        self.staging = staging_of(store) / f"{self._family}@{fingerprint[:16]}"
        self._attributes = group_attributes(encoding_type, **attributes)
        self._fingerprint = fingerprint
        self._store = store

    def __enter__(self) -> "GroupWriter":
        busy = StoreError(f"{self.target}: another run is writing this group; wait for it, or end it")
        with disk_explained(self.target), ExitStack() as locks:
            self.staging.parent.mkdir(parents=True, exist_ok=True)
            locks.enter_context(exclusive(self.staging.with_name(f".{self._family}.lock"), busy))
            self._resume_or_wipe()
            self.staging.mkdir(exist_ok=True)
            self._zarr = zarr.open_group(self.staging, mode="a", zarr_format=3)
            self._zarr.attrs.put(self._attributes)
            self._locks = locks.pop_all()
        self._described: set[str] = set()
        self._files = ChunkFiles()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        with disk_explained(self.target), self._locks:
            if error is not None:
                self._files.close()
                if isinstance(error, Brain2VideoError) and not isinstance(error, NoSpace | NotAllowed):
                    self._discard()
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
        on_summary: Callable[[Any], None] | None = None,
        hand_out: HandOut | None = None,
        **attrs: Any,
    ) -> None:
        """Write an array in whole chunks, asking `rows(start, stop)` only for chunks that are not yet there.

        Parameters
        ----------
        name : path within the group, for example ``"train/betas"``
        shape : of the whole; the first axis is the one that is chunked
        dtype : numpy's name, for example ``"float32"``
        dimensions : the axes' names
        on_summary : called with the summary of every chunk, of those that are there already too; see `RowsWithSummary`
        hand_out : has others make the rows and write the chunks; `rows` is then picklable, and one that is asked for
            again returns the same. The bytes are those that this process would write.
        """
        self._describe_parents(name)
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        step = chunk_rows(shape[0], max(1, row_bytes))
        chunks = ArrayChunks(self.staging / name, shape, dtype, step, compression)
        self._zarr.require_array(
            name,
            shape=shape,
            dtype=dtype,
            chunks=(step, *shape[1:]),
            compressors=compressors(compression, np.dtype(dtype).itemsize),
            fill_value=chunks.fill,
            dimension_names=list(dimensions),
            attributes=dict(sorted(attrs.items())),
            config={"write_empty_chunks": True},
        )
        missing = {stretch for stretch in chunks.stretches() if not chunks.is_whole(stretch)}
        require_space(self.staging, len(missing) * chunks.chunk_bytes)
        what = f"writing {self.target.name}/{name}"
        if hand_out is None:
            self._write(chunks, rows, missing, what, on_summary)
        else:
            self._hand_out(chunks, rows, what, on_summary, hand_out)

    def _write(
        self,
        chunks: ArrayChunks,
        rows: RowBlock,
        missing: set[Stretch],
        what: str,
        on_summary: Callable[[Any], None] | None,
    ) -> None:
        """Write the missing chunks, one after another."""
        encode = encoder_of(chunks.compression)
        for stretch in chunks.stretches():
            if stretch in missing:
                self._files.write(chunks.path(stretch), chunks.encoded(rows, stretch, encode))
                if chunks.step < chunks.shape[0]:
                    report(what, stretch.stop, chunks.shape[0])
            if on_summary is not None and isinstance(rows, RowsWithSummary):
                on_summary(rows.summary(*stretch))

    def _hand_out(
        self,
        chunks: ArrayChunks,
        rows: RowBlock,
        what: str,
        on_summary: Callable[[Any], None] | None,
        hand_out: HandOut,
    ) -> None:
        """Have every chunk written by others; one that is there already is only checked."""
        stretches, done = chunks.stretches(), dict[Stretch, int]()
        for stretch in stretches:  # workers make no folders, so that a late one restores nothing that was removed
            chunks.path(stretch).parent.mkdir(parents=True, exist_ok=True)

        def listener(stretch: Stretch, saying: str, count: int, total: int, note: str) -> None:
            if total != chunks.shape[0]:
                report(saying, count, total, note)
            elif stretch.start <= count < stretch.stop:  # the rows' own reports count the rows of the whole array
                done[stretch] = count - stretch.start
                report(what, sum(done.values()), total, note)

        write = partial(write_stretch, chunks, rows)
        written = hand_out(write, stretches, what, shared=self.staging, listener=listener)
        with closing(written) as coming:
            for stretch, chunk in coming:
                path = chunks.path(stretch)
                if not path.is_file():
                    raise StoreError(f"{path}: was written by a worker that does not share this folder; share it")
                self._files.digests[path] = chunk.digest
                if on_summary is not None:
                    on_summary(chunk.summary)
                done[stretch] = stretch.stop - stretch.start
                report(what, sum(done.values()), chunks.shape[0])

    def rows(self, name: str) -> ChunkedRows:
        """Return an array that this block has written, to compute from it what is written next."""
        self._files.finish()
        return ChunkedRows(self.staging / name, "run again")

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table as a group of columns; see `feature_store.schema`."""
        if fault := fault_of_columns(list(table.columns)):
            raise StoreError(f"{self.target}/{name}: {fault}")
        self._describe_parents(name)
        group = self._zarr.require_group(name)
        group.attrs.put(group_attributes("table", columns=list(table.columns), rows=len(table)))
        self._described.add(name)
        for column in table.columns:
            values, encoding = encode_column(table[column])
            dims, rows = ("row", "byte")[: values.ndim], partial(_rows_of, values)
            self.array(f"{name}/{column}", values.shape, values.dtype.name, rows, dims, encoding=encoding)

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

    def _resume_or_wipe(self) -> None:
        for other in self.staging.parent.glob(f"{self._family}@*"):
            if other != self.staging:
                remove_folder(other)
        # Only of chunks is it known whether they are whole; the small files are written again.
        self._sweep("*.partial", "zarr.json", MANIFEST)

    def _sweep(self, *patterns: str) -> None:
        for pattern in patterns:
            for leftover in self.staging.rglob(pattern):
                leftover.unlink(missing_ok=True)

    def _discard(self) -> None:
        """Remove the staging folder; it is moved first, so that a worker that still writes finds nothing there."""
        gone = self.staging.with_name(f".{self.staging.name}.{uuid.uuid4().hex}")
        self.staging.rename(gone)
        remove_folder(gone)

    def _publish(self) -> None:
        self._files.finish()
        self._files.close()
        self._sweep("*.partial")  # of a worker that was taken for dead and is not
        write_manifest(self.staging, self._fingerprint, self._files.digests)
        settle = [path for path in self.staging.rglob("*") if path.is_dir() or path.name == "zarr.json"]
        with ThreadPoolExecutor(max_workers=8) as threads:  # together they wait once for the disk, not each in turn
            list(threads.map(fsync_path, settle))
        ensure_root(self._store)
        publish_folder(self.staging, self.target)


def _rows_of(values: NDArray[Any], start: int, stop: int) -> NDArray[Any]:
    return values[start:stop]
