"""What a second run makes again: whatever its inputs, settings or code decide otherwise, and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from ..conftest import write_arrays
from ..studies.conftest import STUDY
from .conftest import CHECKOUT

PACKAGES = (
    "brain2video",
    "core",
    "evaluation",
    "feature_store",
    "materializers",
    "models",
    "pipelines",
    "simulation",
    "steps",
    "studies",
)
MAIN = """
import sys, core.environment
from brain2video.cli.app import main
sys.argv[0] = "brain2video"
try:
    main()
except SystemExit as end:
    if end.code:
        raise
"""
LOOK = """
import json
from zenml.client import Client
run = Client().list_pipeline_runs(sort_by="desc:created", size=1, hydrate=True).items[0]
print(json.dumps({name: step.run_metadata["up_to_date"] for name, step in run.steps.items()}))
"""
Again = Callable[..., set[str]]

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project's code, which is also the home of a study that has run once."""
    folder = tmp_path_factory.mktemp("copied") / "checkout"
    for package in PACKAGES:
        shutil.copytree(
            CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors")
        )
    source = write_arrays(folder / "recordings", np.random.default_rng(1), subjects=("sub-01", "sub-02"))
    (folder / "configs").mkdir()
    content = {**STUDY, "source": {"kind": "arrays", "path": str(source)}}
    (folder / "configs" / "small.yaml").write_text(yaml.safe_dump(content))
    program(folder, MAIN, "run", "-c", "configs/small.yaml")
    return folder


def program(folder: Path, code: str, *arguments: str) -> str:
    ours = ("ZENML_", "MLFLOW_", "DVC_", "AUTO_OPEN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {**kept, "BRAIN2VIDEO_HOME": str(folder), "HOME": str(folder.parent), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


@pytest.fixture
def again(copied: Path) -> Again:
    """Run the study again and return which steps worked."""

    def run(*arguments: str) -> set[str]:
        said = program(copied, MAIN + LOOK, "run", "-c", "configs/small.yaml", *arguments)
        states = json.loads(said.splitlines()[-1])
        assert {"responses:sub-01", "targets:pixels", "fit_models", "reconstruct_videos"} <= set(states)
        return {name for name, up_to_date in states.items() if not up_to_date}

    return run


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_no_step_works_where_a_comment_or_the_text_of_an_exception_is_all_that_changed(copied: Path) -> None:
    ridge = copied / "models" / "regressors" / "ridge.py"
    append(ridge, "\n# a thought\n")
    edit(ridge, "the targets hold NaN or infinity; extract them again", "a target is not finite; extract it again")
    edit(copied / "feature_store" / "sources" / "arrays.py", "no such", "there is no such")
    said = program(copied, MAIN, "run", "-c", "configs/small.yaml")
    assert re.search(r"0 of \d+ steps had work to do", said)
    assert "orchestration" in said
    for name in ("responses/sub-01", "responses/sub-02", "targets/pixels", "training", "reconstruction"):
        assert name in said, "what was checked is shown"


@pytest.mark.full
def test_an_edited_library_file_runs_what_depends_on_it(copied: Path, again: Again) -> None:
    append(copied / "feature_store" / "sources" / "arrays.py", "\nUNUSED = 1\n")
    readers = {"responses:sub-01", "responses:sub-02", "targets:pixels", "reconstruct_videos"}
    assert again() == readers, "a reconstruction reads the source's clips; no store changed, so no training follows"


def test_another_way_to_read_captions_makes_the_reconstruction_again(copied: Path, again: Again) -> None:
    edit(copied / "simulation" / "world.py", "caption.strip().lower()", "caption.strip().casefold()")
    assert again() == {"reconstruct_videos"}


def test_another_renderer_makes_training_and_what_follows_again(copied: Path, again: Again) -> None:
    append(copied / "studies" / "decoding" / "render.py", "\nUNUSED = 1\n")
    worked = again()
    assert {"fit_models", "register_models", "reconstruct_videos"} <= worked
    assert not {name for name in worked if ":" in name}


def test_a_store_that_is_gone_or_damaged_is_written_again_and_nothing_follows(copied: Path, again: Again) -> None:
    groups = copied / "data" / "small" / "features.zarr" / "responses"
    removed, damaged = (groups / name / "train" / "betas" / "c" / "0" / "0" for name in ("sub-01", "sub-02"))
    before = [chunk.read_bytes() for chunk in (removed, damaged)]
    shutil.rmtree(groups / "sub-01")
    damaged.write_bytes(before[1][:-9] + bytes([before[1][-9] ^ 1]) + before[1][-8:])
    assert again() == {"responses:sub-01", "responses:sub-02"}
    assert [chunk.read_bytes() for chunk in (removed, damaged)] == before


@pytest.mark.full
def test_another_setting_runs_what_it_decides(again: Again) -> None:
    worked = again("--set", "evaluation.permutations=7")
    assert {"fit_models", "reconstruct_videos"} <= worked
    assert not {name for name in worked if ":" in name}
    assert "fit_models" in again(), "the older run is the latest again"
    assert again() == set()
