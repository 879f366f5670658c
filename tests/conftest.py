"""What tests of several rooms share: a home of their own, a small fake brain with a known answer, the real data."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from .mlflow_databases import quick_mlflow  # noqa: F401 - a fixture
from .servers import bucket, mariadb, postgres, sqlite_server, team_server, tracking  # noqa: F401 - fixtures

# ZenML reads its settings when it is first imported, by whichever test; never the user's own.
os.environ["ZENML_CONFIG_PATH"] = tempfile.mkdtemp(prefix="zenml-")
os.environ["ZENML_ANALYTICS_OPT_IN"] = "false"
os.environ["ZENML_LOGGING_VERBOSITY"] = "CRITICAL"

TESTS = Path(__file__).resolve().parent
SERVERS = {"browser", "bucket", "mariadb", "postgres", "s3", "sqlite_server", "team_server", "tracking", "zenml_server"}
"""Fixtures that start a server or a browser; tests that start one by themselves, or processes, are marked `servers`."""
SLOW = ("pipelines", "studies", "models")
"""Folders of the longest tests, which come first, so that processes that share the files end at the same time."""
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses a server, so that none can be forgotten, and put the longest files first."""
    place = {name: position for position, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.relative_to(TESTS).parts[0], len(SLOW)))
    for item in items:
        if isinstance(item, pytest.Function) and SERVERS & set(item.fixturenames):
            item.add_marker(pytest.mark.servers)


@pytest.fixture
def rng() -> np.random.Generator:
    """The one source of random numbers."""
    return np.random.default_rng(20240607)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_mlflow: None) -> Path:  # noqa: F811
    """A checkout of the test's own: stores, outputs and the MLflow database lie there."""
    folder = tmp_path / "home"
    folder.mkdir()
    use_home(folder, monkeypatch)
    return folder


def use_home(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let all that this process does happen in a checkout."""
    patch.setenv("BRAIN2VIDEO_HOME", str(folder))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow/store/mlflow.db")
    patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    patch.delenv("DVC_STAGE", raising=False)


@pytest.fixture
def shared_data() -> Path:
    """Real recordings and clips, where they are."""
    if not SHARED.is_dir():
        pytest.skip("the real data of ../shared/data is not here")
    return SHARED


@pytest.fixture
def arrays_folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """An `arrays` source whose voxels are noisy mixtures of what the images show, so that decoding must work."""
    return write_arrays(tmp_path / "recordings", rng)


def write_arrays(
    folder: Path,
    rng: np.random.Generator,
    *,
    train: int = 40,
    test: int = 8,
    repeats: int = 2,
    voxels: int = 60,
    clips: bool = True,
    subjects: tuple[str, ...] = ("sub-01",),
) -> Path:
    """Write such a source: grey images of 6 × 6 patches, `repeats` trials each, in shuffled order."""
    (folder / "stimuli").mkdir(parents=True)
    names = [f"s{index:03d}" for index in range(train + test)]
    images = rng.uniform(0, 255, (len(names), 6, 6)).astype(np.uint8)
    for name, image in zip(names, images, strict=True):
        if clips:
            Image.fromarray(image).save(folder / "stimuli" / f"{name}.png")
    pd.DataFrame(
        {
            "stimulus_id": names,
            "split": ["train"] * train + ["test"] * test,
            "file": [f"{name}.png" if clips else "" for name in names],
            "caption": [f"picture {name}" for name in names],
        }
    ).to_csv(folder / "stimuli.csv", index=False)
    flat = images.reshape(len(names), -1) / 255
    for subject in subjects:
        (folder / subject).mkdir()
        signal = (flat - flat.mean(0)) @ rng.normal(size=(36, voxels))
        order = rng.permutation(np.tile(np.arange(len(names)), repeats))
        responses = signal[order] + 0.3 * rng.normal(size=(len(order), voxels))
        np.save(folder / subject / "responses.npy", responses.astype(np.float32))
        trials = pd.DataFrame({"stimulus_id": [names[i] for i in order]})
        trials["repetition"] = trials.groupby("stimulus_id").cumcount()
        trials.to_csv(folder / subject / "trials.csv", index=False)
        rois = ["V1"] * (voxels // 2) + ["V2"] * (voxels - voxels // 2)
        pd.DataFrame({"roi": rois}).to_csv(folder / subject / "voxels.csv", index=False)
    (folder / "targets").mkdir()
    np.save(folder / "targets" / "patches.npy", flat.astype(np.float32))
    return folder
