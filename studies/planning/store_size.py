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
from feature_store.sources.base import SPLITS, RecordingShape
from models.encoders.settings import MbmConfig, PcaConfig
from models.regressors.settings import RidgeConfig
from studies.planning.facts import StudyFacts
from studies.study import RouteConfig, Study

Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""By target, the shape of one stimulus's values, and their type."""

ARRAY_BYTES, NODE_BYTES, MANIFEST_BYTES = 620, 185, 162
"""Mean bytes of an array's `zarr.json`, of a group's, and of a file's row in `MANIFEST.json`, in the demo's stores."""


@dataclass(frozen=True)
class ArraySize:
    """One array of a group, such as ``"train/betas"``: its chunk files, and their bytes, padding and CRC included."""

    name: str
    shape: tuple[int, ...]
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
    def size(self) -> int:
        """All bytes; those of metadata files and of the manifest about."""
        arrays = len(self.values) + len(self.columns)
        return self.stored + arrays * ARRAY_BYTES + self.nodes * NODE_BYTES + self.files * MANIFEST_BYTES


def array_size(name: str, shape: tuple[int, ...], dtype: str) -> ArraySize:
    """Return what an array takes, uncompressed."""
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    step = chunk_rows(shape[0], max(1, row))
    chunks = math.ceil(shape[0] / step)
    return ArraySize(name, shape, chunks, chunks * (step * row + CRC_BYTES))


def table_sizes(name: str, table: pd.DataFrame) -> list[ArraySize]:
    """Return what a table's columns take; each is an array."""
    encoded = {column: encode_column(table[column])[0] for column in table.columns}
    return [array_size(f"{name}/{column}", values.shape, values.dtype.name) for column, values in encoded.items()]


def responses_size(subject: RecordingShape) -> GroupSize:
    """Return what one subject's responses take; where the study compresses them, the most they will."""
    tail = (subject.voxels,) if subject.times is None else (subject.times, subject.voxels)
    values = [array_size(f"{split}/betas", (subject.rows(split), *tail), "float32") for split in SPLITS]
    if subject.unlabelled:
        values.append(array_size(UNLABELLED, (subject.unlabelled, *tail), "float32"))
    columns = [one for split in SPLITS for one in table_sizes(f"{split}/trials", subject.trials[split])]
    measured = pd.DataFrame({f"ncsnr_{split}": np.zeros(subject.voxels, np.float32) for split in SPLITS})
    columns += table_sizes("voxels", pd.concat([subject.table, measured], axis=1))
    return GroupSize(f"responses/{subject.subject}", tuple(values), tuple(columns), 7 if subject.unlabelled else 6)


def targets_size(target: str, stimuli: pd.DataFrame, shape: tuple[int, ...], dtype: str) -> GroupSize:
    """Return what one target takes; `stimuli` are those of both splits."""
    values, columns = [], []
    named = [name for name in ("stimulus", "caption", "group") if name in stimuli]
    for split in SPLITS:
        here = stimuli[stimuli["split"] == split]
        values.append(array_size(f"{split}/values", (len(here), *shape), dtype))
        columns += table_sizes(f"{split}/stimuli", here[named])
    return GroupSize(f"targets/{target}", tuple(values), tuple(columns), 5)


def group_sizes(facts: StudyFacts, shapes: Shapes) -> list[GroupSize]:
    """Return every group that a study writes."""
    return [
        *(responses_size(subject) for subject in facts.subjects),
        *(targets_size(target, facts.stimuli, shape, dtype) for target, (shape, dtype) in shapes.items()),
    ]


def parts_size(study: Study, route: RouteConfig, facts: StudyFacts, shapes: Shapes) -> int:
    """Return the bytes of a route's encoder and regressors for all subjects, headers not counted."""
    values = _shared_encoder(route) + sum(count * _encoder(route, one) for one, count in facts.alike)
    config, stimuli = route.regressor, facts.count("train")
    for target in study.roles.regressed().values():
        shape = shapes[target][0]
        outputs, kept = math.prod(shape), components_of(route, facts, shape)
        if config.components is not None:
            values += (kept + 1) * outputs + kept
        if not isinstance(config, RidgeConfig):
            values += config.hidden * (config.hidden + (1 if config.kind == "mlp" else 2) * kept + 5)  # hints, biases
        for one, count in facts.alike:
            features = features_of(route, one)
            network = 0 if isinstance(config, RidgeConfig) else features * config.hidden
            rows = stimuli if config.repeats == "mean" else one.rows("train")
            primal = features * kept <= rows * (features + kept)
            ridge = features + (features * kept if primal else rows * (features + kept))
            values += count * (network + (0 if config.kind == "mlp" else ridge))
    return 4 * values


def components_of(route: RouteConfig, facts: StudyFacts, shape: tuple[int, ...]) -> int:
    """Return how many values of a target a regressor predicts, at most: all, or components."""
    components, outputs, stimuli = route.regressor.components, math.prod(shape), facts.count("train")
    if components is None:
        return outputs
    return min(outputs, stimuli, components if isinstance(components, int) else stimuli)


def features_of(route: RouteConfig, subject: RecordingShape) -> int:
    """Return how many features an encoder hands to the regressors."""
    voxels, encoder = subject.voxels * (subject.times or 1), route.encoder
    if isinstance(encoder, PcaConfig):
        return min(encoder.components, voxels)
    if isinstance(encoder, MbmConfig):
        return 2 * encoder.width + (voxels if encoder.hands_on == "both" else 0)
    return voxels


def _shared_encoder(route: RouteConfig) -> int:
    config = route.encoder
    if not isinstance(config, MbmConfig):
        return 0
    block = 4 + 2 * config.ratio
    return int(config.depth * block * config.width**2 + config.decoder_depth * 8 * config.decoder_width**2)


def _encoder(route: RouteConfig, subject: RecordingShape) -> int:
    config, voxels = route.encoder, subject.voxels * (subject.times or 1)
    if isinstance(config, PcaConfig):
        return voxels * (config.components + 3)
    return voxels * (3 + (config.width + config.decoder_width if isinstance(config, MbmConfig) else 0))
