"""A study of the test's own arrays, decoded directly."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.study import Study, load_study
from studies.training.fit import fit
from zoo.judge import JudgeConfig, train_judge
from zoo.settings import JUDGE, SmallWorldConfig, ZooConfig
from zoo.train import train_models

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


@pytest.fixture
def promoted(study: Study) -> Study:
    """The same with its stores, and a set in production."""
    from .routes_source import make_stores

    make_stores(study)
    register_training(study, fit(study))
    promote_run(study)
    return study


TINY_WORLD = SmallWorldConfig(
    world="easy", zoo=ZooConfig.tiny(), judge=JudgeConfig(clips=16, steps=2, batch=4), judged=12, blurred=0.2
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
