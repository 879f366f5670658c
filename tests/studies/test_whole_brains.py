"""Training takes no more memory for many subjects than for one, and gives the same whether anything fits or nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from core.checkout import project_root as home_folder
from core.files import digest_file, read_json
from feature_store import Store
from models.decoders import rows
from models.weights import tensor_file
from studies.decoding import training_data
from studies.runs import RECORD
from studies.study import Study, load_study
from studies.training.fit import fit, training_made_from

from ..conftest import write_arrays
from .conftest import STUDY
from .routes_source import make_stores

SCRIPT = Path(__file__).with_name("whole_brains.py")
CHECKOUT = Path(__file__).resolve().parents[2]
SUBJECTS, VOXELS, STIMULI = 5, 25_000, 120
ALLOWANCE_MB = 80
ROUTES: dict[str, Any] = {
    "ridge": {"encoder": {"kind": "standardise"}, "regressor": {"kind": "ridge"}},
    "pca": {"encoder": {"kind": "pca", "components": 60}, "regressor": {"kind": "ridge", "components": 10}},
}


def write_wide(folder: Path, rng: np.random.Generator, subjects: int, voxels: int, train: int) -> Path:
    """Write an `arrays` source with more target values than stimuli: a ridge then keeps its training rows."""
    names = tuple(f"sub-{number:02d}" for number in range(1, subjects + 1))
    write_arrays(folder, rng, train=train, test=12, repeats=2, voxels=voxels, clips=False, subjects=names)
    stimuli = len(pd.read_csv(folder / "stimuli.csv"))
    np.save(folder / "targets" / "wide.npy", rng.normal(size=(stimuli, 400)).astype(np.float32))
    return folder


def wide_study(home: Path, source: Path, routes: dict[str, Any], subjects: int | None = None) -> Path:
    """Write the study of all subjects, or of the first ones."""
    named = {} if subjects is None else {"subjects": [f"sub-{number:02d}" for number in range(1, subjects + 1)]}
    content = {
        **STUDY,
        "source": {"kind": "arrays", "path": str(source), **named},
        "targets": {"wide": {"extractor": "given"}},
        "roles": {"z": "wide"},
        "training": {"routes": routes},
    }
    path = home / "configs" / f"small-{subjects}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home with the stores of some subjects, and the source that they were made from."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "home").mkdir()
    source = write_wide(folder / "wide", np.random.default_rng(0), SUBJECTS, VOXELS, train=STIMULI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAIN2VIDEO_HOME", str(folder / "home"))
        make_stores(load_study(wide_study(folder / "home", source, ROUTES)))
    return folder / "home", source


def train_on_many(many: tuple[Path, Path], route: str, kept: int) -> Any:
    """Train on one subject and then, with a limit, on all."""
    home, source = many
    paths = [wide_study(home, source, {route: ROUTES[route]}, count) for count in (1, None)]
    environment = {
        **os.environ,
        "BRAIN2VIDEO_HOME": str(home),
        "PYTHONPATH": str(CHECKOUT),
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "100000",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
    shutil.rmtree(home / "outputs" / "small", ignore_errors=True)
    command = [sys.executable, str(SCRIPT), *map(str, paths), str(ALLOWANCE_MB), str(kept)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


@pytest.mark.servers
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by Linux's means")
@pytest.mark.parametrize("route", ["ridge", pytest.param("pca", marks=pytest.mark.full)])
def test_many_subjects_take_no_more_memory_than_one(many: tuple[Path, Path], route: str) -> None:
    assert SUBJECTS * VOXELS * STIMULI * 2 * 4 > 1.3e6 * ALLOWANCE_MB, "their responses alone would be too much"
    done = train_on_many(many, route, kept=2**20)
    assert done.returncode == 0, done.stderr


@pytest.mark.servers
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is limited by Linux's means")
def test_the_same_does_not_fit_into_memory_as_a_whole(many: tuple[Path, Path]) -> None:
    done = train_on_many(many, "ridge", kept=2**40)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize("repeats", ["mean", "single"])
def test_what_lies_on_disk_gives_the_same_to_the_last_bit(
    home: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, repeats: str
) -> None:
    source = write_wide(tmp_path / "wide", rng, 2, 60, train=40)
    routes = {"ridge": {**ROUTES["ridge"], "regressor": {"kind": "ridge", "repeats": repeats}}, "pca": ROUTES["pca"]}
    study = load_study(wide_study(home, source, routes))
    make_stores(study)
    within = digests(study)
    for module, name in (
        (training_data, "RESPONSES_BYTES"),
        (rows, "FEATURES_BYTES"),
        (tensor_file, "MEMORY_BYTES"),
    ):
        monkeypatch.setattr(module, name, 0)
    read = training_data.read_training_data(
        Store(study.store), ["sub-01"], list(study.roles.regressed().values()), align=study.roles.align
    ).brains["sub-01"]
    assert not isinstance(read.responses, np.ndarray)
    assert digests(study) == within


def digests(study: Study) -> dict[str, str]:
    """Train anew, and return the digests of what was trained."""
    made = fit(study)
    assert not made.fresh
    folder = home_folder() / made.folder
    found = {str(file.relative_to(folder)): digest_file(file) for file in folder.rglob("*.safetensors")}
    (folder / RECORD).unlink()  # so that it is not found again
    return found


def test_what_a_training_is_made_from_is_known_before_it(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    study = load_study(wide_study(home, write_wide(tmp_path / "wide", rng, 1, 20, train=20), {"ridge": {}}))
    store = make_stores(study)
    before = training_made_from(study, store, training_data.stored_subjects(store, None))
    made = fit(study)
    assert made.fingerprint == before["fingerprint"]
    assert read_json(home_folder() / made.folder / RECORD).items() >= before.items()
