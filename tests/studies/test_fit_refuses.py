"""What recordings and settings may hold and a training cannot use: left out where it can be, else told in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.checkout import project_root as home_folder
from core.errors import Brain2VideoError, ConfigError, ModelError
from core.files import read_json
from feature_store import Store
from models.decoders.build import load_encoder
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import HARDLY_TRAINED, MBM, MLP, make_stores

MLP_ALONE: dict[str, Any] = {"mlp": {"regressor": {**MLP, "steps": 20}}}
SHORT_MBM: dict[str, Any] = {"encoder": {**MBM, "alignment": None}}


def study_of(home: Path, source: Path, named: dict[str, Any], **training: Any) -> Study:
    return load_study(write_study(home, source, training={"routes": named, **training}))


def damage(source: Path, split: str, *, rows: Any, voxels: Any, value: float) -> None:
    """Overwrite some voxels of some trials of a split."""
    table = pd.read_csv(source / "stimuli.csv").set_index("stimulus_id")["split"]
    trials = pd.read_csv(source / "sub-01" / "trials.csv")["stimulus_id"].map(table)
    responses = np.load(source / "sub-01" / "responses.npy")
    chosen = np.flatnonzero(trials == split)[rows]
    responses[np.ix_(np.atleast_1d(chosen), np.arange(responses.shape[1])[voxels])] = value
    np.save(source / "sub-01" / "responses.npy", responses)


def left_of(study: Study) -> list[str]:
    """What lies where trainings are kept, by name, digits of digests aside."""
    runs = study.outputs / "training"
    return sorted(path.name.partition("-")[0] for path in runs.iterdir()) if runs.exists() else []


@pytest.mark.parametrize("named", [{"ridge": {}}, MLP_ALONE, {"mbm": SHORT_MBM}])
def test_voxels_that_are_constant_or_nan_somewhere_are_left_out(
    home: Path, arrays_folder: Path, named: dict[str, Any]
) -> None:
    damage(arrays_folder, "train", rows=slice(5), voxels=slice(0, 3), value=float("nan"))
    damage(arrays_folder, "train", rows=slice(None), voxels=slice(3, 7), value=2.5)
    study = study_of(home, arrays_folder, named)
    store = make_stores(study)
    values, _ = store.responses("sub-01").values("train")
    assert int(np.isnan(np.asarray(values)).sum()) == 15, "the store keeps what was recorded"
    made = fit(study)
    folder = home_folder() / made.folder
    encoder = load_encoder(folder / "encoder")
    betas = encoder.encode("sub-01", np.asarray(values))
    assert betas.shape[1] == 53 + (16 if "mbm" in named else 0)
    rows = read_json(folder / "scores.json")["targets"]["z"]["rows"]
    assert rows[next(iter(named))]["pixels.two_way"]["value"] > (0.9 if "ridge" in named else 0.5)


def test_a_trial_without_any_response_is_one_line(home: Path, arrays_folder: Path) -> None:
    damage(arrays_folder, "train", rows=[7], voxels=slice(None), value=float("nan"))
    study = study_of(home, arrays_folder, {"ridge": {}})
    make_stores(study)
    with pytest.raises(ModelError, match="sub-01: no voxel of 60 varies in training; check the source's responses"):
        fit(study)
    assert not left_of(study)


@pytest.mark.parametrize("named", [{"ridge": {}}, {"mbm": SHORT_MBM}])
def test_voxels_that_are_nan_in_the_test_set_alone_are_one_line(
    home: Path, arrays_folder: Path, named: dict[str, Any]
) -> None:
    damage(arrays_folder, "test", rows=[3], voxels=slice(2, 4), value=float("nan"))
    study = study_of(home, arrays_folder, named)
    make_stores(study)
    with pytest.raises(ModelError, match="sub-01: 2 voxels hold NaN that had none in training; remove or fill them"):
        fit(study)
    assert not left_of(study), "it is found before anything is fitted"


@pytest.mark.parametrize(
    ("train", "named", "more", "message"),
    [
        (2, {"ridge": {}}, {}, "ridge: 2 training stimuli; at least 3 are needed to choose a penalty"),
        (3, MLP_ALONE, {}, "perceptron for pixels: 3 training stimuli; at least 4 are needed to hold some out"),
        (9, {"a": {}, "b": {}}, {}, r"selection.validation: 0.15 of 9 training stimuli is 1; .* at least 2: hold out"),
        (9, {"a": {}, "b": {}}, {"selection": {"criterion": "two_way"}}, "0.15 of 9 training stimuli is 1;"),
        (4, {"a": {}, "b": {}}, {"selection": {"validation": 0.49}}, "ridge: 2 training stimuli; at least 3 are need"),
        (40, {"a": {}, "b": {}}, {"stimuli": 5}, "selection.validation: 0.15 of 5 training stimuli is 1;"),
    ],
)
def test_too_few_stimuli_are_one_line(
    home: Path, tmp_path: Path, rng: np.random.Generator, train: int, named: Any, more: Any, message: str
) -> None:
    source = write_arrays(tmp_path / "few", rng, train=train, voxels=10)
    study = study_of(home, source, named, **more)
    make_stores(study)
    with pytest.raises(Brain2VideoError, match=message) as raised:
        fit(study)
    assert "\n" not in str(raised.value)
    assert not left_of(study)


def test_folds_that_leave_too_little_to_choose_on_are_one_line(
    home: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_arrays(tmp_path / "few", rng, train=12, test=2, voxels=10)
    study = load_study(
        write_study(home, source, training={"routes": {"a": {}, "b": {}}}, evaluation={"folds": 2, "fold_repeats": 1})
    )
    make_stores(study)
    with pytest.raises(ConfigError, match="0.15 of 7 training stimuli is 1; routes are compared on at least 2"):
        fit(study)


def test_a_training_that_diverges_is_one_line_and_its_last_checkpoint_stays(home: Path, arrays_folder: Path) -> None:
    wild = {**MLP, "steps": 20, "lr": 1e30, "checkpoint_every": 1, "clip": None}
    study = study_of(home, arrays_folder, {"ridge": {}, "mlp": {"regressor": wild}})
    make_stores(study)
    with pytest.raises(ModelError, match=r"mlp selection z: perceptron for pixels: the loss is not a number") as raised:
        fit(study)
    message = str(raised.value)
    assert "\n" not in message
    assert "at step 1; the checkpoint of step 1 is unchanged; check the data, lower lr, or set clip" in message
    assert left_of(study) == [".unfinished"], "checkpoints are kept, a half-written run is not"
    (kept,) = (study.outputs / "training").rglob("*.pt")
    assert kept.relative_to(study.outputs / "training").parts[1:] == ("mlp", "selection", "z", "perceptron.pt")
    tame = study_of(home, arrays_folder, {"ridge": {}, "mlp": {"regressor": HARDLY_TRAINED}})
    assert not fit(tame).fresh


def test_stores_of_other_times_are_one_line(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_arrays(tmp_path / "two", rng, voxels=20, subjects=("sub-01", "sub-02"))
    responses = np.load(source / "sub-02" / "responses.npy")
    np.save(source / "sub-02" / "responses.npy", np.stack([responses, responses], axis=1))
    study = study_of(home, source, {"mbm": SHORT_MBM})
    assert Store(make_stores(study).path).names("responses") == ["sub-01", "sub-02"]
    with pytest.raises(ModelError, match=r"mbm: subjects with \[1, 2\] time points; one network needs one number"):
        fit(study)
