"""A small published store."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_store.writer import GroupWriter

STIMULI = {"train": ["a", "b", "c", "d"], "test": ["x", "y", "z"]}


def write_responses(store: Path, betas: dict[str, np.ndarray], fingerprint: str = "f") -> None:
    with GroupWriter(store, "responses/sub-01", encoding_type="responses", fingerprint=fingerprint) as group:
        for split, names in STIMULI.items():
            repeats = len(betas[split]) // len(names)
            trials = pd.DataFrame({"stimulus": names * repeats, "repetition": np.repeat(range(repeats), len(names))})
            values = betas[split]
            group.array(f"{split}/betas", values.shape, "float32", lambda a, b, v=values: v[a:b], ("trial", "voxel"))
            group.table(f"{split}/trials", trials)
        group.table("voxels", pd.DataFrame({"roi": ["V1"] * 3 + ["V2"] * 2, "x": [0.5, 1, 2, 3, 4]}))


def write_targets(store: Path, values: dict[str, np.ndarray]) -> None:
    with GroupWriter(store, "targets/latents", encoding_type="targets", fingerprint="t") as group:
        for split, names in STIMULI.items():
            v = values[split]
            group.array(f"{split}/values", v.shape, "float16", lambda a, b, v=v: v[a:b], ("stimulus", "frame", "x"))
            # other order than the responses', so that joining by position would be seen
            captions = [[f"a {name}", "ünïcode"] for name in reversed(names)]
            group.table(f"{split}/stimuli", pd.DataFrame({"stimulus": list(reversed(names)), "caption": captions}))


@pytest.fixture
def betas(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"train": rng.normal(size=(12, 5)).astype("f4"), "test": rng.normal(size=(6, 5)).astype("f4")}


@pytest.fixture
def latents(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"train": rng.normal(size=(4, 2, 3)).astype("f2"), "test": rng.normal(size=(3, 2, 3)).astype("f2")}


@pytest.fixture
def store(tmp_path: Path, betas: dict[str, np.ndarray], latents: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "data" / "features.zarr"
    write_responses(path, betas)
    write_targets(path, latents)
    return path
