"""Two processes train one study: one run, the loss curve of one process, and batches that can be shared out."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import ModelError
from core.files import read_json
from models.training.workers import mine
from studies.fit import fit
from studies.home import home as home_folder
from studies.study import load_study

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import HARDLY_TRAINED, MBM, make_stores

CHECKOUT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def torchrun(config: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    """Fit a study with two processes."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    chosen = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, *launch, "-m", "studies.fit_together", "-c", str(config), *chosen]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def config(home: Path, tmp_path: Path, rng: np.random.Generator) -> Path:
    """A study of 20 voxels, which are whole patches of 4, so that every row has as many masked voxels as any other."""
    source = write_arrays(tmp_path / "recordings", rng, train=24, voxels=20)
    short = {**HARDLY_TRAINED, "steps": 6, "dropout": 0.0}
    named = {"mbm": {"encoder": {**MBM, "alignment": None}, "regressor": short}}
    made = write_study(home, source, training={"routes": named})
    make_stores(load_study(made))
    return made


def test_each_process_takes_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for index, rows in ((0, [0, 2, 4]), (1, [1, 3, 5])):
        one = SimpleNamespace(num_processes=2, process_index=index)
        monkeypatch.setattr("models.training.workers.workers", lambda one=one: one)
        assert mine(np.arange(6)).tolist() == rows
    with pytest.raises(ModelError, match="a batch of 5 rows over 2 processes; make it a multiple of them"):
        mine(np.arange(5))


def test_two_processes_train_as_one_does(config: Path) -> None:
    study = load_study(config)
    alone = fit(study)
    curves = read_json(home_folder() / alone.folder / "curves.json")
    scores = read_json(home_folder() / alone.folder / "scores.json")
    shutil.rmtree(study.outputs)

    done = torchrun(config)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "masked brain modelling" in line]
    assert [line.partition(":")[0] for line in told] == ["mbm selection encoder", "mbm encoder"], "one process speaks"
    assert told[1].startswith("mbm encoder: masked brain modelling: 12 by 2 processes loss")
    assert "destroy_process_group" not in done.stderr
    runs = study.outputs / "training"
    (folder,) = runs.glob("[0-9]*")
    assert {path.name for path in runs.iterdir()} == {folder.name, "latest"}, "one run, and nothing unfinished"
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {*read_json(folder / "training.json")["files"], "training.json"}
    together = read_json(folder / "curves.json")
    stages = {f"mbm/{part}{stage}" for part in ("", "selection/") for stage in ("encoder/mbm", "z/perceptron")}
    assert set(together) == set(curves) == stages
    for stage, history in curves.items():
        assert together[stage]["losses"] == pytest.approx(history["losses"], abs=1e-4), stage
        assert np.allclose(together[stage]["validation"], history["validation"], atol=1e-4)
    rows = read_json(folder / "scores.json")["targets"]["z"]["rows"]
    expected = scores["targets"]["z"]["rows"]
    assert rows["mbm"]["pixels.two_way"]["value"] == pytest.approx(expected["mbm"]["pixels.two_way"]["value"], abs=0.02)
    again = fit(study)
    assert (again.fresh, again.run) == (True, folder.name), "one process finds what two have made"


def test_a_batch_that_cannot_be_shared_out_is_one_line(config: Path) -> None:
    done = torchrun(config, "training.routes.mbm.encoder.pretraining.batch=31")
    assert done.returncode != 0
    expected = "error: training: a batch of 31 rows over 2 processes; make it a multiple of them"
    assert expected in done.stderr.splitlines()
    runs = load_study(config).outputs / "training"
    assert not [path for path in runs.glob("*") if path.name != "latest"], "nothing is kept"
