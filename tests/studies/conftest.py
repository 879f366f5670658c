"""A study of the test's own arrays, decoded directly."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.runs import ReconstructionRef
from studies.study import Study, load_study
from studies.training.fit import fit
from zoo.corpus import JudgeConfig, train_judge
from zoo.settings import JUDGE, SmallWorldConfig, ZooConfig
from zoo.train import train_models

from ..conftest import use_home, write_arrays

if TYPE_CHECKING:
    from .known_responses import Known

STUDY: dict[str, Any] = {
    "study": "small",
    "clips": {"frames": 1, "height": 6, "width": 6, "window_s": 1.0},
    "targets": {"pixels": {"extractor": "pixels", "frames": 1, "height": 6, "width": 6, "channels": "grey"}},
    "roles": {"z": "pixels"},
}


def write_study(home: Path, source: Path, **changed: Any) -> Path:
    """Write a study's YAML into the test's home."""
    content = {**STUDY, "source": {"kind": "arrays", "path": str(source)}, **changed}
    path = home / "configs" / "small.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture
def study(home: Path, arrays_folder: Path) -> Study:
    return load_study(write_study(home, arrays_folder))


def loop(study: Study) -> ReconstructionRef:
    """Run a study from its recordings to its videos."""
    from .routes_source import make_stores

    make_stores(study)
    register_training(study, fit(study))
    promote_run(study)
    return reconstruct(study, resolve_production(study))


@dataclass(frozen=True)
class Looped:
    """A study that has run once, its reconstruction, and where the videos lie."""

    study: Study
    made: ReconstructionRef
    folder: Path


@pytest.fixture(scope="session")
def _looped(tmp_path_factory: pytest.TempPathFactory, quick_mlflow: None) -> tuple[Path, Looped]:
    folder = tmp_path_factory.mktemp("looped")
    home = folder / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        use_home(home, patch)
        study = load_study(write_study(home, write_arrays(folder / "recordings", np.random.default_rng(20240607))))
        made = loop(study)
        return home, Looped(study, made, home / made.folder)


@pytest.fixture
def looped(_looped: tuple[Path, Looped], monkeypatch: pytest.MonkeyPatch) -> Iterator[Looped]:
    """The study of `study`, run once for all tests, which read what is there; what they add is removed."""
    home, made = _looped
    use_home(home, monkeypatch)
    yield made
    for added in ("new", "reproduced"):
        shutil.rmtree(made.study.outputs / added, ignore_errors=True)


TINY_WORLD = SmallWorldConfig(
    world="easy", zoo=ZooConfig.tiny(), judge=JudgeConfig(clips=16, steps=2, batch=4), judged=6, blurred=0.2
)
"""Models that know nothing, made within seconds."""


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world's models, hardly trained, at the size of the demo's clips."""
    folder = tmp_path_factory.mktemp("zoo") / "small_world"
    train_models(TINY_WORLD.zoo, lambda n, seed: TINY_WORLD.draw("zoo", n, seed), folder)
    shown = TINY_WORLD.draw("zoo", TINY_WORLD.judge.clips, 0)
    train_judge(TINY_WORLD.judge, shown.clips, shown.labels, shown.attributes).save(folder / JUDGE)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> "Known":
    """Responses of 60 voxels at known places, stored, with the record that training keeps of them."""
    from .known_responses import make_known

    return make_known(tmp_path_factory.mktemp("known"))
