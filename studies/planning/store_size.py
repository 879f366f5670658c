"""What a store will take on disk before it is written: chunks, files and bytes of every group.

Chunks follow `feature_store.schema.chunk_rows` and are counted as they are stored: whole, the last one padded, four
bytes of CRC-32C behind each. Values and tables are therefore exact wherever their shapes are; metadata files differ by
some bytes with the length of names and numbers in them and are counted at the mean of what stores hold.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feature_store.schema import CRC_BYTES, UNLABELLED, chunk_rows, encode_column
from feature_store.sources.base import SPLITS
from studies.planning.facts import StudyFacts, SubjectFacts

ARRAY_BYTES, NODE_BYTES, MANIFEST_BYTES = 620, 185, 162
"""Mean bytes of an array's `zarr.json`, of a group's, and of a file's row in `MANIFEST.json`, in the demo's stores."""


@dataclass(frozen=True)
class ArraySize:
    """One array of a group.

    Attributes
    ----------
    name : within the group, for example ``"train/betas"``
    shape : the full shape; the first axis is chunked
    dtype : numpy's name
    chunks : files that hold its values
    size : their bytes, padding and CRC included
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    chunks: int
    size: int


@dataclass(frozen=True)
class GroupSize:
    """One group of the store.

    Attributes
    ----------
    name : for example ``"responses/sub-01"``
    values : betas or targets; bytes are exact, or the most there will be where the study compresses them
    columns : of the tables beside them
    nodes : groups and tables, each with a metadata file
    """

    name: str
    values: tuple[ArraySize, ...]
    columns: tuple[ArraySize, ...]
    nodes: int

    @property
    def chunks(self) -> int:
        """Chunk files of values and columns."""
        return sum(one.chunks for one in (*self.values, *self.columns))

    @property
    def files(self) -> int:
        """All files: chunks, the metadata of every array and node, and the manifest."""
        return self.chunks + len(self.values) + len(self.columns) + self.nodes + 1

    @property
    def stored(self) -> int:
        """Bytes of values and tables."""
        return sum(one.size for one in (*self.values, *self.columns))

    @property
    def metadata(self) -> int:
        """Bytes of metadata files and manifest, about."""
        arrays = len(self.values) + len(self.columns)
        return arrays * ARRAY_BYTES + self.nodes * NODE_BYTES + self.files * MANIFEST_BYTES

    @property
    def size(self) -> int:
        """All bytes."""
        return self.stored + self.metadata


def array_size(name: str, shape: tuple[int, ...], dtype: str) -> ArraySize:
    """Return what an array takes, uncompressed."""
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    step = chunk_rows(shape[0], max(1, row))
    chunks = math.ceil(shape[0] / step)
    return ArraySize(name, shape, dtype, chunks, chunks * (step * row + CRC_BYTES))


def table_sizes(name: str, table: pd.DataFrame) -> list[ArraySize]:
    """Return what a table's columns take; each is an array."""
    made = []
    for column in table.columns:
        values, _ = encode_column(table[column])
        made.append(array_size(f"{name}/{column}", values.shape, values.dtype.name))
    return made


def responses_size(subject: SubjectFacts) -> GroupSize:
    """Return what one subject's responses take; where the study compresses them, the most they will."""
    tail = (subject.voxels,) if subject.times is None else (subject.times, subject.voxels)
    values = [array_size(f"{split}/betas", (subject.rows(split), *tail), "float32") for split in SPLITS]
    if subject.unlabelled:
        values.append(array_size(UNLABELLED, (subject.unlabelled, *tail), "float32"))
    columns = [one for split in SPLITS for one in table_sizes(f"{split}/trials", subject.trials[split])]
    measured = pd.DataFrame({f"ncsnr_{split}": np.zeros(subject.voxels, np.float32) for split in SPLITS})
    columns += table_sizes("voxels", pd.concat([subject.table, measured], axis=1))
    return GroupSize(f"responses/{subject.name}", tuple(values), tuple(columns), 7 if subject.unlabelled else 6)


def targets_size(target: str, stimuli: pd.DataFrame, shape: tuple[int, ...], dtype: str) -> GroupSize:
    """Return what one target takes; `stimuli` are those of both splits."""
    values, columns = [], []
    named = [name for name in ("stimulus", "caption", "group") if name in stimuli]
    for split in SPLITS:
        here = stimuli[stimuli["split"] == split]
        values.append(array_size(f"{split}/values", (len(here), *shape), dtype))
        columns += table_sizes(f"{split}/stimuli", here[named])
    return GroupSize(f"targets/{target}", tuple(values), tuple(columns), 5)


def group_sizes(facts: StudyFacts, shapes: Mapping[str, tuple[tuple[int, ...], str]]) -> list[GroupSize]:
    """Return every group that a study writes.

    Parameters
    ----------
    facts : StudyFacts
    shapes : by target, the shape of one stimulus's values and their type
    """
    return [
        *(responses_size(subject) for subject in facts.subjects),
        *(targets_size(target, facts.stimuli, shape, dtype) for target, (shape, dtype) in shapes.items()),
    ]
