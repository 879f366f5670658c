"""The small recordings that new users try: read by their sources, the same bytes each time, never over anything."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import SourceError
from core.files import digest_folder
from feature_store.sources.arrays import ArraysConfig
from feature_store.sources.base import Recording, Source, Split
from feature_store.sources.bids.dataset import BidsConfig
from simulation.brains import simulate_subject
from simulation.examples import Form, example_config, runs_of, write_example
from simulation.world import SimulationConfig
from simulation.write import seen_by_brains, shown
from studies.study import load_study

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FORMS: tuple[Form, ...] = ("arrays", "bids")


@pytest.fixture(scope="module")
def config() -> SimulationConfig:
    return example_config(3).model_copy(update={"n_train": 14, "n_test": 6, "voxels": 120})


@pytest.fixture(scope="module")
def examples(config: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("examples")
    return {form: write_example(form, folder / form, config) for form in FORMS}


def source_of(form: str, folder: Path) -> Source:
    """Return the source as the example study has it, elsewhere."""
    settings = load_study(CONFIGS / f"{form}_example.yaml", [f"source.path={folder}"]).source
    assert isinstance(settings, ArraysConfig | BidsConfig)
    return settings.build(folder)


def rows(recording: Recording, split: Split) -> np.ndarray:
    return np.asarray(recording.values[split][0 : recording.values[split].shape[0]])


@pytest.mark.parametrize("form", FORMS)
def test_the_example_study_reads_what_is_written(form: Form, examples: dict[str, Path]) -> None:
    source = source_of(form, examples[form])
    assert source.subjects == ["sub-01", "sub-02"]
    assert source.stimuli()["split"].tolist() == ["train"] * 14 + ["test"] * 6
    for subject in source.subjects:
        recording = source.responses(subject)
        assert rows(recording, "train").shape == (28, len(recording.voxels))
        assert rows(recording, "test").shape == (24, len(recording.voxels))
        assert {"run", "onset_s"} <= set(recording.trials["train"]), "so that statistics can respect time"
    clips = load_study(CONFIGS / f"{form}_example.yaml").clips
    clip = source.clip("0003", clips)
    assert clip is not None
    assert clip.shape == (8, 32, 32, 3)


def test_the_signal_of_the_runs_holds_the_betas_of_the_brains(
    config: SimulationConfig, examples: dict[str, Path]
) -> None:
    """What the GLM estimates of the images is what the arrays hold, but for the scanner's noise."""
    betas, estimated = (source_of(form, examples[form]).responses("sub-01") for form in FORMS)
    wanted = rows(betas, "train")
    key = ["stimulus", "repetition"]
    place = betas.trials["train"].reset_index(drop=True).reset_index().set_index(key)["index"]
    order = place.loc[pd.MultiIndex.from_frame(estimated.trials["train"][key])].to_numpy()
    found = rows(estimated, "train")
    assert found.shape == wanted.shape
    correlation = np.corrcoef(found.ravel(), wanted[order].ravel())[0, 1]
    assert correlation > 0.7
    wrong = np.corrcoef(found.ravel(), wanted[np.roll(order, 1)].ravel())[0, 1]
    assert abs(wrong) < 0.3
    subject = simulate_subject(seen_by_brains(config, *shown(config)), config, 1)
    assert wanted.shape[1] == len(subject.ncsnr)


def test_every_clip_is_shown_as_often_as_it_should_be(config: SimulationConfig) -> None:
    runs = list(runs_of(config, 1))
    trials = pd.concat([run.trials for run in runs if run.split == "train"])
    assert trials.groupby("stimulus").size().tolist() == [2] * 14
    assert not trials.duplicated(["stimulus", "repetition"]).any()
    for run in runs:
        onsets = np.sort(np.concatenate([run.trials["onset_s"], run.oddballs_s]))
        assert np.diff(onsets).tolist() == [6.0] * (len(onsets) - 1)
        assert run.length_s - onsets[-1] >= 20
    assert next(iter(runs_of(config, 2))).trials["stimulus"].tolist() != runs[0].trials["stimulus"].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_gives_the_same_bytes(
    form: Form, config: SimulationConfig, examples: dict[str, Path], tmp_path: Path
) -> None:
    assert digest_folder(write_example(form, tmp_path / "again", config)) == digest_folder(examples[form])
    other = config.model_copy(update={"seed": 4})
    assert digest_folder(write_example(form, tmp_path / "other", other)) != digest_folder(examples[form])


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_written_over(form: Form, config: SimulationConfig, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "notes.txt").write_text("mine")
    for taken in (own, own / "notes.txt"):
        with pytest.raises(SourceError, match="is not empty; name a folder that is empty or not there"):
            write_example(form, taken, config)
    assert [path.name for path in tmp_path.rglob("*")] == ["own", "notes.txt"]
    (tmp_path / "empty").mkdir()
    assert (write_example(form, tmp_path / "empty", config) / "stimuli").is_dir()
