"""A source whose target bends: a few causes, seen linearly by the voxels; what is to be predicted is their squares."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.checkout import project_root
from feature_store import Store
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study

from ..conftest import write_arrays
from ..models.nonlinear import TINY

MLP: dict[str, Any] = {"kind": "mlp", **TINY}
HARDLY_TRAINED: dict[str, Any] = {**MLP, "steps": 1, "lr": 1e-6}
MBM: dict[str, Any] = {
    "kind": "mbm",
    "patch": 4,
    "width": 8,
    "depth": 1,
    "heads": 2,
    "decoder_width": 8,
    "pretraining": {"steps": 12, "batch": 16, "validate_every": 4, "checkpoint_every": 2},
    "alignment": {"steps": 8, "batch": 8, "width": 4, "validate_every": 4, "checkpoint_every": 2},
}


def write_bent(folder: Path, rng: np.random.Generator, *, train: int = 160, test: int = 24, voxels: int = 12) -> Path:
    """Write an `arrays` source with the targets `bent` (squares and products) and `straight` (the causes)."""
    write_arrays(folder, rng, train=train, test=test, voxels=voxels, clips=False)
    names = pd.read_csv(folder / "stimuli.csv")["stimulus_id"]
    causes = rng.normal(size=(len(names), 3)).astype(np.float32)
    one, two, three = causes.T
    np.save(folder / "targets" / "bent.npy", np.stack([one**2, two * three, one * two, np.abs(three)], axis=1))
    np.save(folder / "targets" / "straight.npy", causes)
    trials = pd.read_csv(folder / "sub-01" / "trials.csv")["stimulus_id"]
    shown = causes[[int(name[1:]) for name in trials]]
    responses = shown @ rng.normal(size=(3, voxels)) + 0.1 * rng.normal(size=(len(shown), voxels))
    np.save(folder / "sub-01" / "responses.npy", responses.astype(np.float32))
    return folder


def make_stores(study: Study) -> Store:
    """Make a study's stores from its source."""
    for subject in study.source.build(project_root()).subjects:
        ingest(study, subject)
    for target in study.targets:
        extract(study, target)
    return Store(study.store)
