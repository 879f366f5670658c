"""Same inputs, same bytes, whatever the number of threads: targets, trainings, videos and scores."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from core.files import digest_folder
from core.threads import LIBRARY_VARIABLES, VARIABLE
from studies.stores.targets import extract
from studies.study import load_study

from ..conftest import use_home, write_arrays
from .conftest import write_study
from .test_fan_out import CHECKOUT, small_world
from .test_simulated import CONFIG, ONE_ROUTE, TINY

COUNTS = (1, 2, 4)


def made_by(count: int, home: Path, *arguments: str) -> dict[str, str]:
    """Return the digests of what a process makes whose libraries are told to use so many threads."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != VARIABLE},
        **dict.fromkeys(LIBRARY_VARIABLES, str(count)),
        "BRAIN2VIDEO_HOME": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow/store/mlflow.db",
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [sys.executable, "-m", "tests.studies.threads_worker", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    digests: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    assert digests
    return digests


def test_targets_have_the_same_bytes_whatever_the_number_of_threads(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, before, digests = small_world(home), torch.get_num_threads(), []
    try:
        for count in COUNTS:
            monkeypatch.setenv(VARIABLE, str(count))
            torch.set_num_threads(count)
            for target in study.targets:
                extract(study, target)
            assert torch.get_num_threads() == count
            digests.append(digest_folder(study.store / "targets"))
            shutil.rmtree(study.store / "targets")
    finally:
        torch.set_num_threads(before)
    assert digests == digests[:1] * len(COUNTS)


def test_the_number_of_threads_that_a_fit_computes_with_is_a_setting() -> None:
    study = load_study(CONFIG)
    assert study.training.threads == 1
    assert load_study(CONFIG, ["training.threads=8"]).training.threads == 8


@pytest.mark.full
def test_a_process_with_more_threads_makes_the_same_targets(home: Path) -> None:
    small_world(home)
    made = [made_by(count, home, "targets", str(CONFIG), *TINY) for count in COUNTS if forget(home, "data/demo/*.zarr")]
    assert made == made[:1] * len(COUNTS)


@pytest.mark.full
def test_a_process_with_more_threads_trains_the_same_models(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, made = write_arrays(tmp_path / "recordings", rng, train=400, test=40, repeats=1, voxels=900), []
    routes = {
        "ridge": {},
        "pca": {"encoder": {"kind": "pca", "components": 100}},
        "mlp": {"regressor": {"kind": "mlp", "steps": 60}},
    }
    for count in COUNTS:
        home = tmp_path / f"home-{count}"
        home.mkdir()
        use_home(home, monkeypatch)
        config = write_study(home, source, training={"routes": routes})
        made.append(made_by(count, home, "training", str(config)))
    assert made == made[:1] * len(COUNTS)


@pytest.mark.full
def test_a_process_with_more_threads_renders_the_same_videos_with_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["generator.batch=2", "generator.steps=6", ONE_ROUTE]
    made = []
    for count in COUNTS[:2]:
        home = tmp_path / f"home-{count}"
        home.mkdir()
        use_home(home, monkeypatch)
        small_world(home)
        made.append(made_by(count, home, "videos", str(CONFIG), *TINY, *more))
    assert made[0] == made[1]


def forget(home: Path, made: str) -> bool:
    """Remove what a process made before."""
    for path in home.glob(made):
        shutil.rmtree(path)
    return True
