"""The whole loop on a tiny simulated world: BOLD Moments' layout, diffusers' models, captions, controls."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from core.checkout import project_root as home_folder
from core.errors import ModelError, SourceError
from core.files import read_json
from evaluation.config import WORDS_FOR_CONTROLS
from evaluation.statistics.scores import OTHER_BRAIN, ROWS, TIME_ONLY
from studies.reconstruction.provenance import read_provenance
from studies.reconstruction.reproduce import reproduce
from studies.stores.responses import simulate_source
from studies.stores.targets import extract
from studies.study import Study, load_study

from .conftest import loop

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
TINY = [
    "simulation.n_train=12",
    "simulation.n_test=4",
    "simulation.voxels=138",
    "source.counts={train: 12, test: 4}",
    "generator.steps=2",
    "generator.strength=0.5",
    "training.routes.mbm.encoder.pretraining.steps=4",
    "training.routes.mbm.encoder.alignment.steps=4",
]
ONE_ROUTE = "training.routes={ridge: {}}"


@pytest.fixture
def tiny(home: Path, small_models: Path) -> Study:
    shutil.copytree(small_models, home / "models" / "small_world")
    return load_study(CONFIG, TINY)


def test_the_simulated_loop_runs_through_every_room(tiny: Study) -> None:
    evaluation = tiny.evaluation.model_copy(update={"controls": WORDS_FOR_CONTROLS["all"]})
    tiny = tiny.model_copy(update={"evaluation": evaluation})
    simulate_source(tiny)
    made = loop(tiny)
    folder = home_folder() / made.folder
    metrics = read_json(folder / "metrics.json")
    assert set(metrics["rows"]) == set(ROWS) - {TIME_ONLY, OTHER_BRAIN}
    for row in (TIME_ONLY, OTHER_BRAIN, "low_level"):
        assert any(note.startswith(f"no {row}: ") for note in metrics["notes"]), "named with the reason"
    looked_at = {name.rpartition(".")[0] for name in metrics["rows"]["oracle"]}
    spaces = ["pixels", "frames", "latents", "latents_centred", "blip", "clip", "clip_frames", "text", "captions"]
    spaces += ["video_classes", "video_attributes", "caption_attributes", "caption_clip"]
    spaces += ["text_centred"]
    assert looked_at >= set(spaces), "everything that there is to look with is used"
    assert not [name for name in metrics["rows"]["prior"] if name.startswith("caption")], "it has no caption"
    captions = pd.read_csv(folder / "captions.csv")
    training = read_json(home_folder() / tiny.source.path / "derivatives/stimuli_metadata/annotations.json")
    known = {one["text_descriptions"][0] for one in training.values() if one["set"] == "train"}
    assert set(captions["nearest"]) <= known, "the baseline's captions are those of training stimuli"
    assert captions["decoded"].notna().all()
    assert list(captions["stimulus"].astype(str)) == ["13", "14", "15", "16"]
    manifest = read_json(folder / "manifest.json")
    assert manifest["generator_revision"] == tiny.generator.revision(home_folder())
    assert manifest["captioner_revision"] == tiny.captioner_of_b().revision(home_folder())
    video = next(folder.glob("videos/*15.mp4"))
    said = read_provenance(video)
    assert len(said.rendered_with) == 4
    assert said.caption == captions.set_index("stimulus")["decoded"].loc[15]
    again = reproduce(video)
    assert (again.identical, again.difference) == (True, ""), "the generator and the captioner make the same again"
    settings = home_folder() / "models" / "small_world" / "text_to_video" / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text() + " ")
    with pytest.raises(SourceError, match=r"was made with the generator's weights \w+, here is \w+; bring"):
        reproduce(video)


def test_states_condition_the_generator_where_the_text_encoder_makes_b(tiny: Study) -> None:
    text = "targets.blip={extractor: text, weights: models/small_world/text_to_video}"
    study = load_study(CONFIG, [*TINY, text, "generator.conditioning=states", "study=states", ONE_ROUTE])
    simulate_source(study)
    made = loop(study)
    captions = pd.read_csv(home_folder() / made.folder / "captions.csv")
    assert (captions["decoded"] == captions["nearest"]).all()


def test_what_must_come_first_is_named(tiny: Study) -> None:
    with pytest.raises(SourceError, match="bold-moments"):
        extract(tiny, "pixels")
    simulate_source(tiny)
    absent = load_study(CONFIG, [*TINY, "targets.latents.weights=models/small_world/none"])
    with pytest.raises(ModelError, match=r"none; the small world's models come with the project"):
        extract(absent, "latents")
    other = load_study(CONFIG, [*TINY, "simulation.seed=9"])
    with pytest.raises(SourceError):
        simulate_source(other)
