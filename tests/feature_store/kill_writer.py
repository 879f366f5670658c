"""Writes one group slowly, for a test that kills it.

It says "writing" once it begins, so that the moment of the kill falls into the work and not into imports.
"""

import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd

from feature_store import schema
from feature_store.writer import GroupWriter

ROWS, VOXELS, CHUNKS = 120, 500, 24
PAUSE_S = 0.01


def main(store: Path, fingerprint: str, told: Connection) -> None:
    """Write responses with both splits, tables and a column computed from what was written, as ingest does."""
    schema.CHUNK_BYTES = ROWS // CHUNKS * VOXELS * 4
    told.send("writing")  # the test waits for it
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint=fingerprint) as group:
        for split in ("train", "test"):

            def rows(start: int, stop: int, split: str = split) -> np.ndarray:
                time.sleep(PAUSE_S)
                rng = np.random.default_rng([start, len(split), len(fingerprint)])
                return rng.standard_normal((stop - start, VOXELS), dtype=np.float32)

            compression = "none" if split == "train" else "lz4"
            group.array(f"{split}/betas", (ROWS, VOXELS), "float32", rows, ("trial", "voxel"), compression=compression)
            names = [f"s{row % 40}" for row in range(ROWS)]
            group.table(f"{split}/trials", pd.DataFrame({"stimulus": names, "repetition": np.arange(ROWS) // 40}))
        level = group.rows("train/betas")[:].mean(axis=0)
        group.table("voxels", pd.DataFrame({"roi": ["V1"] * VOXELS, "level": level}))
        group.describe(level=float(level.mean()))
