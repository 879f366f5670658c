"""Chunks, files and bytes of every group of a store, before it is written.

Chunks follow `feature_store.schema.chunk_rows` and are counted as they are stored: whole, the last one padded, four
bytes of CRC-32C behind each. Values and tables are therefore exact wherever their shapes are; metadata files differ by
some bytes with the length of names and numbers in them and are counted at the mean of what stores hold.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feature_store.schema import CRC_BYTES, UNLABELLED, chunk_rows, encode_column
from feature_store.sources.base import SPLITS, RecordingShape
from studies.planning.facts import StudyFacts

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""By target, the shape of one stimulus's values, and their type."""

ARRAY_BYTES, NODE_BYTES, MANIFEST_BYTES = 620, 185, 162
"""Mean bytes of an array's `zarr.json`, of a group's, and of a file's row in `MANIFEST.json`, in the demo's stores."""


@dataclass(frozen=True)
class GroupSize:
    """What one group of the store takes.

    Attributes
    ----------
    name : for example ``"responses/sub-01"``
    shapes : of betas or values, by their names in the group
    chunks : chunk files of values and columns
    files : with the metadata of every array and node, and the manifest
    stored : bytes of values and tables; exact, or the most there will be where the study compresses them
    size : all bytes; those of metadata files and of the manifest about
    state : what `brain2video status` shows of it, where that is known
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    chunks: int
    files: int
    stored: int
    size: int
    state: str = ""


def array_size(shape: tuple[int, ...], dtype: str | np.dtype) -> tuple[int, int]:
    """Return an array's chunk files and their bytes, uncompressed, padding and CRC included."""
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    step = chunk_rows(shape[0], max(1, row))
    chunks = math.ceil(shape[0] / step)
    return chunks, chunks * (step * row + CRC_BYTES)


def _group(
    name: str, values: dict[str, tuple[int, ...]], dtype: str, tables: Iterable[pd.DataFrame], nodes: int
) -> GroupSize:
    """Return what values and the columns of the tables beside them take; each column is an array.

    Parameters
    ----------
    nodes : groups and tables, each with a metadata file
    """
    columns = [encode_column(table[column])[0] for table in tables for column in table.columns]
    arrays = [array_size(shape, dtype) for shape in values.values()]
    arrays += [array_size(column.shape, column.dtype) for column in columns]
    chunks, stored = (sum(counts) for counts in zip(*arrays, strict=True))
    files = chunks + len(arrays) + nodes + 1
    size = stored + len(arrays) * ARRAY_BYTES + nodes * NODE_BYTES + files * MANIFEST_BYTES
    return GroupSize(name, values, chunks, files, stored, size)


def responses_size(subject: RecordingShape) -> GroupSize:
    """Return what one subject's responses take; where the study compresses them, the most they will."""
    tail = (subject.voxels,) if subject.times is None else (subject.times, subject.voxels)
    values = {f"{split}/betas": (subject.rows(split), *tail) for split in SPLITS}
    if subject.unlabelled:
        values[UNLABELLED] = (subject.unlabelled, *tail)
    measured = pd.DataFrame({f"ncsnr_{split}": np.zeros(subject.voxels, np.float32) for split in SPLITS})
    tables = [*subject.trials.values(), subject.table, measured]
    return _group(f"responses/{subject.subject}", values, "float32", tables, 7 if subject.unlabelled else 6)


def targets_size(target: str, stimuli: pd.DataFrame, shape: tuple[int, ...], dtype: str) -> GroupSize:
    """Return what one target takes; `stimuli` are those of both splits."""
    named = [name for name in ("stimulus", "caption", "group") if name in stimuli]
    tables = {split: stimuli.loc[stimuli["split"] == split, named] for split in SPLITS}
    values = {f"{split}/values": (len(table), *shape) for split, table in tables.items()}
    return _group(f"targets/{target}", values, dtype, tables.values(), 5)


def group_sizes(facts: StudyFacts, shapes: Shapes) -> list[GroupSize]:
    """Return every group that a study writes, the subjects' first, in their order."""
    targets = (targets_size(name, facts.stimuli, shape, dtype) for name, (shape, dtype) in shapes.items())
    return [*map(responses_size, facts.subjects), *targets]
