"""Controls that know a part, in whole studies: time and nuisance of trials, another brain, what is missing and why."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.checkout import project_root as home_folder
from core.errors import ConfigError
from core.files import read_json
from evaluation.statistics.scores import CATEGORY, NUISANCE, OTHER_BRAIN, TIME_ONLY
from feature_store import Store
from studies.decoding.control_predictions import beside_the_brain, global_signal, other_brain
from studies.decoding.render import RoleArrays
from studies.reconstruction.score import Partial
from studies.study import load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import Looped, loop, write_study
from .routes_source import make_stores


def with_columns(source: Path, subject: str = "sub-01", **columns: object) -> None:
    file = source / subject / "trials.csv"
    pd.read_csv(file).assign(**columns).to_csv(file, index=False)


def test_unknown_controls_are_refused_at_load(home: Path, arrays_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.controls: unknown control 'stil'; did you mean 'still'"):
        load_study(write_study(home, arrays_folder, evaluation={"controls": ["stil"]}))


def test_no_control_is_computed_where_none_is_wanted(home: Path, arrays_folder: Path) -> None:
    study = load_study(write_study(home, arrays_folder, evaluation={"controls": []}))
    make_stores(study)
    scored = read_json(home_folder() / fit(study).folder / "scores.json")["targets"]["z"]
    assert not {CATEGORY, NUISANCE} & set(scored["rows"])
    assert scored["notes"] == []


def test_residuals_of_what_clips_show_are_a_space_of_the_report(looped: Looped) -> None:
    metrics = read_json(looped.folder / "metrics.json")
    for row in ("reconstruction", "oracle", CATEGORY):
        assert "pixels_residual.two_way" in metrics["rows"][row]
    assert metrics["rows"]["oracle"]["pixels_residual.two_way"]["value"] == 1
    ours = metrics["rows"]["reconstruction"]["pixels_residual.correlation"]["value"]
    assert 0.5 < ours < metrics["rows"]["oracle"]["pixels_residual.correlation"]["value"]
    assert metrics["comparisons"]["shuffled_brain"]["pixels_residual.two_way"]["p"] < 0.05


def test_training_scores_controls_with_paired_tests(looped: Looped) -> None:
    scored = read_json(home_folder() / fit(looped.study).folder / "scores.json")["targets"]["z"]
    assert {CATEGORY, NUISANCE} <= set(scored["rows"])
    assert scored["rows"][CATEGORY]["pixels.two_way"]["chance"] == 0.5
    compared = scored["comparisons"][NUISANCE]["pixels_centred.correlation"]
    assert compared["value"] > 0
    assert compared["p"] < 0.05
    assert scored["notes"][0].startswith("no time_only")


def test_time_and_motion_of_trials_are_read_where_a_source_has_them(
    home: Path, arrays_folder: Path, rng: np.random.Generator
) -> None:
    trials = pd.read_csv(arrays_folder / "sub-01" / "trials.csv")
    run, onset = np.arange(len(trials)) // 24, np.arange(len(trials)) % 24 * 4.0
    moved = rng.normal(size=len(trials))
    with_columns(arrays_folder, run=run, onset_s=onset, framewise_displacement=moved)
    study = load_study(write_study(home, arrays_folder))
    store = make_stores(study)
    responses = store.responses("sub-01")
    test = [f"s{index:03d}" for index in range(40, 48)]
    training = {f"s{index:03d}" for index in range(39)}
    known = beside_the_brain(responses, store.target("pixels"), training, test, study.evaluation.controls)
    assert known.notes == []
    assert known.test == test
    assert set(known.training) == training
    trains, tests = known.features[TIME_ONLY]
    assert (len(trains), len(tests)) == (39, 8)
    runs = [set(run[trials["stimulus_id"] == name]) for name in test]
    shares = [set(np.flatnonzero(row[:4])) for row in tests]
    assert shares == runs, "a test stimulus has the runs of its own trials"
    trains, tests = known.features[NUISANCE]
    raw = np.array([moved[trials["stimulus_id"] == name].mean() for name in known.training])
    np.testing.assert_allclose(trains[:, 1], (raw - raw.mean()) / raw.std(), rtol=1e-6)
    values, _ = responses.values("train")
    np.testing.assert_allclose(global_signal(responses, "train")[:, 0], values.mean(axis=1), atol=1e-5)
    rows = read_json(home_folder() / fit(study).folder / "scores.json")["targets"]["z"]["rows"]
    assert rows[TIME_ONLY]["pixels.two_way"]["value"] < rows["ridge"]["pixels.two_way"]["value"]


def test_a_run_without_onsets_is_a_note_and_nan_voxels_are_passed_over(home: Path, arrays_folder: Path) -> None:
    file = arrays_folder / "sub-01" / "responses.npy"
    values = np.load(file)
    values[:, 0] = np.nan
    np.save(file, values)
    with_columns(arrays_folder, run=1)
    study = load_study(write_study(home, arrays_folder))
    store = make_stores(study)
    responses = store.responses("sub-01")
    known = beside_the_brain(responses, store.target("pixels"), {"s000", "s001"}, ["s040"], [TIME_ONLY, NUISANCE])
    assert known.notes[0] == "time_only knows the run alone: onsets are not known, or not of every trial"
    read, _ = responses.values("train")
    np.testing.assert_allclose(global_signal(responses, "train")[:, 0], np.nanmean(read, axis=1), atol=1e-5)


def test_controls_of_targets_go_through_the_generator_only_where_a_study_asks() -> None:
    roles: dict[str, RoleArrays] = {row: {"z": np.zeros((1, 2))} for row in (CATEGORY, NUISANCE, OTHER_BRAIN)}
    assert Partial(roles).direct == [CATEGORY, NUISANCE], "another brain's predictions are rendered like one's own"
    assert Partial(roles, render=True).direct == []


def parcels(folder: Path, rng: np.random.Generator, *, named: bool) -> Path:
    """Two people whose 60 parcels respond alike, each with a name of its own or not."""
    source = write_arrays(folder, rng, subjects=("sub-01", "sub-02"))
    (source / "sub-02" / "trials.csv").write_bytes((source / "sub-01" / "trials.csv").read_bytes())
    responses = np.load(source / "sub-01" / "responses.npy")
    np.save(source / "sub-02" / "responses.npy", responses * np.float32(1.001))
    for subject in ("sub-01", "sub-02"):
        table = pd.DataFrame({"roi": [f"parcel {index}" if named else "V1" for index in range(60)]})
        table.to_csv(source / subject / "voxels.csv", index=False)
    return source


def test_another_brain_predicts_where_columns_correspond(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = parcels(tmp_path / "people", rng, named=True)
    study = load_study(write_study(home, source, evaluation={"controls": ["other_brain"]}))
    metrics = read_json(home_folder() / loop(study).folder / "metrics.json")
    assert "other_brain is sub-02's model on the responses of sub-01" in metrics["notes"]
    ours, theirs = (metrics["rows"][row]["pixels.correlation"]["value"] for row in ("reconstruction", OTHER_BRAIN))
    assert theirs == pytest.approx(ours, abs=1e-3), "the same brain twice, but for the scale"
    store = Store(study.store)
    assert other_brain(store, "sub-02", ["sub-01", "sub-02"])[0] == "sub-01"
    folder = home_folder() / fit(study).folder
    scored = read_json(folder / "scores.json")["targets"]["z"]
    assert OTHER_BRAIN in scored["comparisons"]
    assert OTHER_BRAIN in scored["controls"]["ridge"]


def test_brains_whose_columns_do_not_correspond_are_named(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = parcels(tmp_path / "people", rng, named=False)
    study = load_study(write_study(home, source, evaluation={"controls": ["other_brain"]}))
    store = make_stores(study)
    other, note = other_brain(store, "sub-01", ["sub-01", "sub-02"])
    assert other is None
    assert note.startswith("no other_brain: the columns of sub-01 have no names of their own")
    assert other_brain(store, "sub-01", ["sub-01"])[1] == "no other_brain: the models know no other subject"
