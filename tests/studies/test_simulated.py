"""The whole loop on a tiny simulated world: BOLD Moments' layout, diffusers' models, captions, controls."""

from pathlib import Path

import pandas as pd
import pytest

from core.errors import ModelError, SourceError
from core.files import read_json
from models.generator.config import ZooConfig
from studies.extract import extract
from studies.home import home as home_folder
from studies.simulate import simulate_source
from studies.study import Study, load_study
from studies.train_zoo import train_zoo

from .test_loop import ROWS, loop

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
TINY = [
    "simulation.n_train=12",
    "simulation.n_test=4",
    "simulation.voxels=138",
    "source.counts={train: 12, test: 4}",
    "generator.steps=4",
    "generator.strength=0.5",
]


@pytest.fixture
def tiny(home: Path) -> Study:
    return load_study(CONFIG, TINY).model_copy(update={"zoo": ZooConfig.tiny()})


def test_the_simulated_loop_runs_through_every_room(tiny: Study) -> None:
    simulate_source(tiny)
    weights = train_zoo(tiny)
    stamp = (weights / "made_from.json").read_bytes()
    made = loop(tiny)
    folder = home_folder() / made.folder
    metrics = read_json(folder / "metrics.json")
    assert set(metrics["rows"]) == ROWS
    assert {"pixels.two_way", "latents.two_way", "frames.ssim"} <= set(metrics["rows"]["oracle"])
    captions = pd.read_csv(folder / "captions.csv")
    training = read_json(home_folder() / tiny.source.path / "derivatives/stimuli_metadata/annotations.json")
    known = {one["text_descriptions"][0] for one in training.values() if one["set"] == "train"}
    assert set(captions["decoded"]) <= known, "captions are those of training stimuli"
    assert list(captions["stimulus"].astype(str)) == ["13", "14", "15", "16"]
    manifest = read_json(folder / "manifest.json")
    assert manifest["generator_revision"] == tiny.generator.revision(home_folder())
    train_zoo(tiny)
    assert (weights / "made_from.json").read_bytes() == stamp, "the zoo is trained once"


def test_what_must_come_first_is_named(tiny: Study) -> None:
    with pytest.raises(SourceError, match="bold-moments"):
        extract(tiny, "pixels")
    simulate_source(tiny)
    with pytest.raises(ModelError, match="run 'brain2video train-zoo'"):
        extract(tiny, "latents")
    weights = home_folder() / "data" / "theirs"
    weights.mkdir(parents=True)
    (weights / "precious.safetensors").write_text("x")
    with pytest.raises(ModelError, match="was not trained here, which is never replaced"):
        train_zoo(load_study(CONFIG, [*TINY, "generator.weights=data/theirs"]))
    assert (weights / "precious.safetensors").is_file()
    for above in ("data/..", "''", "data"):
        with pytest.raises(ModelError, match="never replaced"):
            train_zoo(load_study(CONFIG, [*TINY, f"generator.weights={above}"]))
    other = load_study(CONFIG, [*TINY, "simulation.seed=9"])
    with pytest.raises(SourceError):
        simulate_source(other)
