"""What can be known before the work is said before it: each kind of fault in one line, and nothing is made."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from core.errors import Brain2VideoError, ConfigError, RegistryError, SourceError
from models.registry.client import client, experiment, require_experiment
from models.registry.sets import model_name
from studies.checking.clips import look_at_clips
from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.status.check import check, require_ready
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import STUDY, Looped, write_study
from .routes_source import make_stores

GIVEN = {"extractor": "given", "file": "patches"}


def change(folder: Path, file: str, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    how(pd.read_csv(folder / file, keep_default_na=False)).to_csv(folder / file, index=False)


def problems(study: Study) -> list[str]:
    return [str(problem) for problem in check(study, "configs/small.yaml").problems]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("row", [3, 47])
def test_given_values_that_are_not_finite_are_refused_by_targets(
    home: Path, arrays_folder: Path, value: float, row: int
) -> None:
    file = arrays_folder / "targets" / "patches.npy"
    values = np.load(file).astype(np.float64)
    values[row, 5] = value
    np.save(file, values)
    study = load_study(write_study(home, arrays_folder, targets={"z": GIVEN}, roles={"z": "z"}))
    line = rf"targets/patches.npy: row {row} \(the first is 0\), stimulus 's{row:03d}', holds {re.escape(str(value))}"
    with pytest.raises(SourceError, match=line):
        extract(study, "z")
    assert not (study.store / "targets" / "z").exists()
    assert len([one for one in problems(study) if f"stimulus 's{row:03d}'" in one]) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((47, 3)), r"has the shape \(47, 3\); expected .* with 48 rows"),
        (np.zeros(48), r"has the shape \(48,\); expected \(stimulus, value, …\)"),
        (np.zeros((48, 0)), r"has the shape \(48, 0\); .* one value at least"),
        (np.full((48, 2), "a"), "holds <U1; expected real numbers"),
        (np.full((48, 2), None), "not a plain numpy array"),
        (np.zeros((48, 2), np.complex64), "holds complex64; expected real numbers"),
    ],
)
def test_given_files_of_another_form_are_refused_by_targets(
    home: Path, arrays_folder: Path, values: np.ndarray, message: str
) -> None:
    np.save(arrays_folder / "targets" / "patches.npy", values, allow_pickle=True)
    study = load_study(write_study(home, arrays_folder, targets={"z": GIVEN}, roles={"z": "z"}))
    with pytest.raises(SourceError, match=message):
        extract(study, "z")
    assert len(problems(study)) == 1


def test_a_given_file_stays_in_its_folder(home: Path, arrays_folder: Path) -> None:
    targets = {"z": {"extractor": "given", "file": "../sub-01/responses"}}
    study = load_study(write_study(home, arrays_folder, targets=targets, roles={"z": "z"}))
    with pytest.raises(SourceError, match="leads out of the folder targets/"):
        extract(study, "z")


@pytest.mark.parametrize(
    "name", ["captions", "pixels", "frames", "pixels_centred", "patches_centred", "patches_residual", "clip_frames"]
)
def test_a_target_whose_name_means_something_else_in_scores_is_refused_by_the_config(
    home: Path, arrays_folder: Path, name: str
) -> None:
    targets = {"image": STUDY["targets"]["pixels"], name: GIVEN}
    with pytest.raises(ConfigError, match=rf"targets\.{name}: in scores this name means something else .*; rename"):
        load_study(write_study(home, arrays_folder, targets=targets, roles={"z": "image", "b": name}))


def test_every_other_name_has_scores_of_its_own(home: Path, arrays_folder: Path) -> None:
    names = ("patches", "a-b", "z_2", "clip", "centred", "two_way")
    targets = {"pixels": STUDY["targets"]["pixels"], **dict.fromkeys(names, GIVEN)}
    study = load_study(write_study(home, arrays_folder, targets=targets))
    assert study.spaces == {name: name for name in targets}
    twice = {"large": STUDY["targets"]["pixels"], "small": STUDY["targets"]["pixels"] | {"height": 3}}
    study = load_study(write_study(home, arrays_folder, targets=twice, roles={"z": "large", "b": "small"}))
    assert study.spaces == {"large": "large", "small": "small"}, "two of one extractor are told apart"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"routes": {"mean_predictor": {}}}}, "routes.mean_predictor: is the name of a row of every"),
        ({"training": {"baselines": ["z"]}, "targets": {**STUDY["targets"], "z": GIVEN}}, "the name of the role 'z'"),
        ({"study": "evaluations"}, "study: 'evaluations' is the name of a folder"),
        ({"clips": STUDY["clips"] | {"frames": 3}, "targets": {"pixels": {"extractor": "pixels", "frames": 2}}}, "3 "),
        (
            {"targets": {**STUDY["targets"], "l": {"extractor": "latents", "weights": "w", "height": 8}}},
            "targets.l: reads clips of 8 × 8 × 32 .*, and clips gives 1 × 6 × 6; make them equal",
        ),
        (
            {"targets": {**STUDY["targets"], "c": {"extractor": "clip", "weights": "w"}}},
            "targets.c.frames: clips of 1 frames do not have 8 key frames",
        ),
        ({"evaluation": {"metrics": ["pixels.r2"]}}, "did you mean 'pixels_centred.r2'"),
        ({"evaluation": {"metrics": ["pixel.two_way"]}}, "the space 'pixel', which the study lacks; did you mean"),
    ],
)
def test_what_a_study_alone_shows_is_refused_when_it_is_read(
    home: Path, arrays_folder: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_study(write_study(home, arrays_folder, **changed))


@pytest.mark.parametrize("file", ["responses.npy", "unlabelled.npy"])
def test_responses_beyond_what_the_store_holds_are_refused_with_their_place(
    home: Path, arrays_folder: Path, study: Study, file: str
) -> None:
    values = np.load(arrays_folder / "sub-01" / "responses.npy").astype(np.float64)
    values[:, 4], values[1, 7] = np.inf, -1e39
    np.save(arrays_folder / "sub-01" / file, values)
    with pytest.raises(
        SourceError, match=r"sub-01, .* \d+ \(the first is 0\), voxel 7: holds -1e\+39, more than float32"
    ):
        ingest(study, "sub-01")
    assert not (study.store / "responses" / "sub-01").exists()


def test_half_a_production_set_of_two_trainings_and_a_judge_that_is_absent_are_found(
    home: Path, looped: Looped
) -> None:
    study = looped.study
    name, other = model_name(study.study, "encoder"), "20990101-000000-abcdef"
    found = resolve_production(study)
    judged = study.model_copy(update={"judges": study.judges.model_copy(update={"small_world": "models/none"})})
    assert ["judges.small_world: " in one for one in problems(judged)] == [True]
    connection = client()
    made = {}
    for part in study.parts:
        named = model_name(study.study, part)
        source = connection.get_model_version(named, str(found.versions[part]))
        tags = {**source.tags, "training_run": other}
        made[part] = connection.create_model_version(named, source.source, source.run_id, tags=tags).version
    connection.set_registered_model_alias(name, "production", made["encoder"])
    try:
        assert ["do not make one set" in one for one in problems(study)] == [True]
    finally:
        connection.set_registered_model_alias(name, "production", str(found.versions["encoder"]))
        for part, version in made.items():
            connection.delete_model_version(model_name(study.study, part), version)
    assert problems(study) == []


def two_subjects(tmp_path: Path, rng: np.random.Generator, **sizes: Any) -> Path:
    return write_arrays(tmp_path / "two", rng, voxels=10, subjects=("sub-01", "sub-02"), **sizes)


def drop(folder: Path, subject: str, kept: Callable[[pd.Series], Any]) -> None:
    """Drop a subject's trials of some stimuli."""
    trials = pd.read_csv(folder / subject / "trials.csv")
    chosen = kept(trials["stimulus_id"]).to_numpy()
    trials[chosen].to_csv(folder / subject / "trials.csv", index=False)
    np.save(folder / subject / "responses.npy", np.load(folder / subject / "responses.npy")[chosen])


@pytest.mark.parametrize(
    ("subject", "kept", "message"),
    [
        ("sub-02", lambda names: names != "s047", r"saw different test stimuli \(1 differ, such as 's047'\)"),
        ("sub-01", lambda names: (names < "s040") | (names == "s040"), "sub-01: saw 1 test stimulus; at least 2"),
        ("sub-02", lambda names: names > "s038", "sub-02: saw 1 training stimulus; at least 2 are needed to train on"),
    ],
)
def test_trials_that_cannot_be_scored_are_found_before_fitting(
    home: Path, tmp_path: Path, rng: np.random.Generator, subject: str, kept: Any, message: str
) -> None:
    folder = two_subjects(tmp_path, rng)
    drop(folder, subject, kept)
    study = load_study(write_study(home, folder))
    with pytest.raises(Brain2VideoError, match=message):
        require_ready(study)
    make_stores(study)
    with pytest.raises(Brain2VideoError, match=message):
        fit(study)
    assert not (study.outputs / "training").exists()


def test_check_lists_every_problem_and_not_the_first_alone(
    home: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = two_subjects(tmp_path, rng)
    drop(folder, "sub-02", lambda names: names != "s047")
    file = folder / "targets" / "patches.npy"
    np.save(file, np.load(file) * np.nan)
    (folder / "stimuli" / "s000.png").write_bytes(b"no picture")
    change(folder, "stimuli.csv", lambda table: table.assign(file=table["file"].mask(table.index == 5, "")))
    study = load_study(
        write_study(
            home,
            folder,
            targets={**STUDY["targets"], "patches": {"extractor": "given"}, "gone": {"extractor": "given"}},
            training={"rois": ["V9"], "routes": {"a": {}, "b": {}}},
            evaluation={"folds": 40},
            reconstruction={"subject": "sub-03"},
        )
    )
    found = problems(study)
    wanted = ("differ, such as", "stimulus 's000', holds nan", "s000.png", "such as 's005'", "V9", "folds", "sub-03")
    for words in (*wanted, "targets/gone.npy"):
        assert any(words in line for line in found), (words, found)
    assert all("\n" not in line for line in found)
    with pytest.raises(Brain2VideoError, match=r"\(and \d more: 'brain2video check' lists all\)"):
        require_ready(study)
    assert not study.folder.exists(), "nothing is made"
    assert not study.outputs.exists()


def test_check_shows_what_will_be_used(study: Study) -> None:
    checked = check(study, "configs/small.yaml")
    assert checked.problems == []
    facts = dict(checked.facts)
    assert facts["sub-01"] == "40 training stimuli shown 2 ×, 8 test stimuli shown 2 ×, 60 voxels"
    assert facts["split"] == "40 stimuli for training, 8 for test, as the dataset has it"
    assert facts["clips"] == "48: 6 × 6, still pictures"
    assert facts["clips are read at"] == "1 frames of 6 × 6 over 1 s"
    assert facts["target pixels"] == "pixels, 1 × 1 × 6 × 6 a stimulus (z)"
    assert facts["rendered by"] == "z is decoded directly, without a generator"
    assert facts["registry"] == "none yet; the first training makes it"
    assert not (study.folder / "features.zarr").exists()


def test_a_source_that_is_not_here_is_one_problem_unless_its_stores_are(
    home: Path, arrays_folder: Path, study: Study
) -> None:
    make_stores(study)
    shutil.rmtree(arrays_folder)
    checked = check(study, "configs/small.yaml")
    assert (checked.problems, len(checked.notes)) == ([], 1)
    shutil.rmtree(study.store)
    assert len(problems(study)) == 1


def test_clips_that_end_before_the_window_are_named(tmp_path: Path, study: Study) -> None:
    from core.clips import write_clip

    write_clip(tmp_path / "short.mp4", np.zeros((10, 256, 256, 3), np.uint8), fps=10.0)
    clips, faults = look_at_clips([tmp_path / "short.mp4", tmp_path / "table.csv"], study.clips)
    assert (str(clips), faults) == ("1: 256 × 256, 10 frames a second, 1 s", [])
    late = study.clips.model_copy(update={"start_s": 2.0})
    assert "is 1 s long, and clips.start_s is 2" in str(look_at_clips([tmp_path / "short.mp4"], late)[1][0])


def test_a_deleted_experiment_is_found_before_the_work_with_the_command_that_restores_it(
    home: Path, looped: Looped, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = looped.study
    identifier = experiment(study.study)
    connection: MlflowClient = client()
    connection.delete_experiment(identifier)
    command = f"mlflow experiments restore --experiment-id {identifier}"
    try:
        with pytest.raises(RegistryError, match=command):
            require_experiment(study.study)
        with pytest.raises(RegistryError, match=command):
            require_ready(study)
        changed = study.model_copy(update={"seed": 1})
        monkeypatch.setattr("studies.reconstruction.run.render_and_score", None)  # nothing is rendered
        with pytest.raises(Brain2VideoError, match=command):
            reconstruct(changed, resolve_production(changed))
    finally:
        connection.restore_experiment(identifier)
    require_ready(study)
