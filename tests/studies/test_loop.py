"""The loop as plain functions: recordings to stores, to models, to the registry, to videos with scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.checkout import project_root as home_folder
from core.errors import ConfigError, RegistryError, SourceError, StoreCorrupted, StoreError
from core.files import read_json
from evaluation.statistics.scores import CATEGORY, NUISANCE, PARTIAL, PRIOR, ROWS
from feature_store import verify
from studies.reconstruction.run import reconstruct
from studies.registry.production import resolve_production
from studies.registry.promote import promote_run
from studies.registry.register import register_training
from studies.status.status import production_status, runs_status, stores_status
from studies.stores.responses import ingest
from studies.stores.targets import extract
from studies.study import Study, load_study
from studies.training.fit import fit

from ..conftest import use_home, write_arrays
from .conftest import Looped, loop, write_study
from .routes_source import make_stores


def test_the_loop_reconstructs_what_was_seen(looped: Looped) -> None:
    made, folder = looped.made, looped.folder
    metrics = read_json(folder / "metrics.json")
    assert metrics["schema"] == 1
    assert (metrics["study"], metrics["run"], metrics["n_test"]) == ("small", made.run, 8)
    assert set(metrics["rows"]) == set(ROWS) - {PRIOR, *PARTIAL} | {CATEGORY, NUISANCE}
    two_way = {row: entries["pixels.two_way"] for row, entries in metrics["rows"].items()}
    assert set(two_way["oracle"]) == {"value", "ci95", "chance", "higher_is_better"}
    assert two_way["reconstruction"]["ci95"][0] > two_way["mean_predictor"]["ci95"][1]
    assert two_way["reconstruction"]["ci95"][0] > two_way["shuffled_brain"]["ci95"][1]
    assert two_way["reconstruction"]["value"] <= two_way["oracle"]["value"] == 1
    assert two_way["reconstruction"]["value"] > 0.9, "the fake brain mixes the pixels linearly"
    assert two_way["mean_predictor"]["value"] == pytest.approx(0.5)
    assert {path.name for path in (folder / "videos").iterdir()} == {f"s{index:03d}.mp4" for index in range(40, 48)}
    assert list(pd.read_csv(folder / "captions.csv")["seen"]) == [f"picture s{index:03d}" for index in range(40, 48)]
    assert (folder.parent / "latest").resolve() == folder
    manifest = read_json(folder / "manifest.json")
    assert manifest["models"]["versions"] == {"encoder": 1, "regressor-z": 1}
    assert set(manifest["files"]) >= {"metrics.json", "gallery.html", "captions.csv", "videos/s040.mp4"}
    assert "s040" in (folder / "gallery.html").read_text()
    assert str(home_folder()) not in json.dumps(manifest), "a manifest is the same wherever it was made"


def test_a_second_run_finds_everything_as_it_was(looped: Looped) -> None:
    study, first = looped.study, looped.made
    assert ingest(study, "sub-01").fresh
    assert extract(study, "pixels").fresh
    training = fit(study)
    assert training.fresh
    assert register_training(study, training).versions == {"encoder": 1, "regressor-z": 1}
    again = reconstruct(study, resolve_production(study))
    assert again == first.model_copy(update={"fresh": True})


def test_going_back_to_an_older_config_goes_back_to_its_runs(study: Study) -> None:
    """The newest run is not always the right one: A, then B, then A again."""
    first = loop(study)
    other = study.model_copy(update={"seed": 1})
    loop(other)
    training = fit(study)
    assert training.fresh
    assert runs_status(study)[0].state == training.run
    registered = register_training(study, training)
    assert registered.versions["encoder"] == 1
    promote_run(study, registered.run)
    assert reconstruct(study, resolve_production(study)).run == first.run
    assert runs_status(study)[1].state == first.run


def test_what_is_gone_is_made_again_and_what_changed_is_made_anew(study: Study, arrays_folder: Path) -> None:
    first = loop(study)
    group = study.store / "responses" / "sub-01"
    digest = ingest(study, "sub-01").digest
    (group / "MANIFEST.json").unlink()
    again = ingest(study, "sub-01")
    assert (again.fresh, again.digest) == (False, digest)
    (home_folder() / first.folder / "videos" / "s040.mp4").unlink()
    assert not reconstruct(study, resolve_production(study)).fresh
    responses = np.load(arrays_folder / "sub-01" / "responses.npy")
    np.save(arrays_folder / "sub-01" / "responses.npy", responses + 1)
    assert not ingest(study, "sub-01").fresh
    assert not fit(study).fresh


def test_the_same_study_gives_the_same_bytes(
    looped: Looped, arrays_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = looped.folder
    content = {path.name: path.read_bytes() for path in (first / "videos").iterdir()}
    metrics = read_json(first / "metrics.json")["rows"]
    other = tmp_path / "other"
    other.mkdir()
    use_home(other, monkeypatch)
    second = other / loop(load_study(write_study(other, arrays_folder))).folder
    assert {path.name: path.read_bytes() for path in (second / "videos").iterdir()} == content
    assert read_json(second / "metrics.json")["rows"] == metrics


def test_several_subjects_share_one_set(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_arrays(tmp_path / "two", rng, subjects=("sub-01", "sub-02"))
    study = load_study(write_study(home, source))
    loop(study)
    other = study.model_copy(update={"reconstruction": study.reconstruction.model_copy(update={"subject": "sub-02"})})
    made = reconstruct(other, resolve_production(other))
    assert read_json(home_folder() / made.folder / "metrics.json")["subject"] == "sub-02"
    unknown = study.model_copy(update={"reconstruction": study.reconstruction.model_copy(update={"subject": "sub-3"})})
    with pytest.raises(ConfigError, match="knows no 'sub-3'; did you mean 'sub-0"):
        reconstruct(unknown, resolve_production(unknown))


def test_a_study_of_embeddings_only_is_scored_and_renders_nothing(
    home: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    source = write_arrays(tmp_path / "no-clips", rng, clips=False)
    targets = {"patches": {"extractor": "given"}}
    study = load_study(write_study(home, source, targets=targets, roles={"b": "patches"}))
    made = loop(study)
    assert made.run == ""
    assert made.note == "small: nothing to render: roles.z is not given, so there is no target that becomes a video"
    scores = read_json(study.outputs / "training" / "latest" / "scores.json")
    rows = scores["targets"]["b"]["rows"]
    assert set(rows) == {"ridge", "category", "nuisance", "mean_predictor", "shuffled_brain", "noise_ceiling"}
    assert rows["ridge"]["patches.two_way"]["value"] > 0.9
    as_z = load_study(write_study(home, source, targets=targets, roles={"z": "patches"}))
    assert "of the extractor 'given', which nothing decodes to a video" in loop(as_z).note


def test_clips_and_captions_that_are_missing_are_named(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_arrays(tmp_path / "no-clips", rng, clips=False)
    study = load_study(write_study(home, source))
    with pytest.raises(SourceError, match="stimulus 's000' has no clip, which this target needs"):
        extract(study, "pixels")
    assert not [path for path in study.folder.rglob("*") if path.is_file()]
    given = load_study(write_study(home, source, targets={"absent": {"extractor": "given"}}, roles={"z": "absent"}))
    with pytest.raises(SourceError, match="targets/absent.npy: the source has no such embeddings"):
        extract(given, "absent")


def test_a_test_clip_that_is_also_in_training_is_refused(study: Study, arrays_folder: Path) -> None:
    pictures = arrays_folder / "stimuli"
    (pictures / "s045.png").write_bytes((pictures / "s003.png").read_bytes())
    with pytest.raises(SourceError, match=r"'s045' \(test\) shows the same pixels as 's003' \(train\)"):
        extract(study, "pixels")
    assert not [path for path in study.folder.rglob("*") if path.is_file()], "nothing half-written is left"


def test_models_trained_on_other_data_are_refused(study: Study, arrays_folder: Path) -> None:
    """A stimulus moved from training to test after training would be scored by a model that was fitted on it."""
    loop(study)
    table = pd.read_csv(arrays_folder / "stimuli.csv")
    table.loc[0, "split"] = "test"
    table.to_csv(arrays_folder / "stimuli.csv", index=False)
    make_stores(study)
    with pytest.raises(RegistryError, match="saw responses/sub-01 as .* the store holds .*; run 'brain2video train'"):
        reconstruct(study, resolve_production(study))


def test_training_needs_the_stores_only(study: Study, arrays_folder: Path) -> None:
    make_stores(study)
    shutil.rmtree(arrays_folder)
    assert not fit(study).fresh


def test_the_advised_command_mends_a_damaged_group(study: Study) -> None:
    make_stores(study)
    for name in ("train/betas/c/0/0", "train/betas/zarr.json", "MANIFEST.json"):
        path = study.store / "responses" / "sub-01" / name
        path.write_bytes(path.read_bytes()[:-1])
        assert list(verify(study.store))
        assert not ingest(study, "sub-01").fresh
        assert not list(verify(study.store))


def test_damaged_records_of_old_runs_are_passed_over(study: Study) -> None:
    loop(study)
    (study.outputs / "training" / "latest" / "scores.json").write_text("")
    (study.outputs / "latest" / "manifest.json").write_text("{")
    assert not fit(study).fresh
    assert not reconstruct(study, resolve_production(study)).fresh


def test_subjects_are_averaged_by_stimulus(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """Each subject saw the stimuli in an order of its own."""
    source = write_arrays(tmp_path / "two", rng, subjects=("sub-01", "sub-02"))
    study = load_study(write_study(home, source), ["evaluation.folds=4", "evaluation.fold_repeats=1"])
    make_stores(study)
    both = read_json(home_folder() / fit(study).folder / "scores.json")
    assert both["cross_validation"]["targets"]["z"]["rows"]["reconstruction"]["pixels.two_way"]["value"] > 0.9
    trials = pd.read_csv(source / "sub-02" / "trials.csv")
    keep = (trials["stimulus_id"] != "s047").to_numpy()
    trials[keep].to_csv(source / "sub-02" / "trials.csv", index=False)
    np.save(source / "sub-02" / "responses.npy", np.load(source / "sub-02" / "responses.npy")[keep])
    make_stores(study)
    with pytest.raises(StoreError, match="sub-01 and sub-02 saw different test stimuli .1 differ, such as 's047'"):
        fit(study)


def test_cross_validation_stands_beside_the_test_scores(study: Study) -> None:
    folded = study.model_copy(
        update={"evaluation": study.evaluation.model_copy(update={"folds": 4, "fold_repeats": 2})}
    )
    made = loop(folded)
    metrics = read_json(home_folder() / made.folder / "metrics.json")
    validated = metrics["cross_validation"]
    assert (validated["folds"], validated["repeats"], validated["n"]) == (4, 2, 48)
    rows = validated["targets"]["z"]["rows"]
    assert set(rows) == {"reconstruction", "mean_predictor", "shuffled_brain", "oracle"}
    assert rows["reconstruction"]["pixels.two_way"]["value"] > 0.9
    assert rows["shuffled_brain"]["pixels.two_way"]["value"] == pytest.approx(0.5, abs=0.08)
    too_many = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"folds": 40})})
    with pytest.raises(ConfigError, match="40 folds of 48 stimuli; use at most 24"):
        fit(too_many)


def test_nothing_in_production_is_one_line(study: Study) -> None:
    make_stores(study)
    register_training(study, fit(study))
    with pytest.raises(RegistryError, match="has the alias 'production'; run 'brain2video promote'"):
        resolve_production(study)
    assert production_status(study)[0].state == "none"


def test_training_never_reads_damaged_bytes(study: Study) -> None:
    make_stores(study)
    chunk = study.store / "responses" / "sub-01" / "train" / "betas" / "c" / "0" / "0"
    damaged = bytearray(chunk.read_bytes())
    damaged[100] ^= 4
    chunk.write_bytes(damaged)
    assert [finding.path for finding in verify(study.store)] == [chunk]
    with pytest.raises(StoreCorrupted, match="fails its checksum; run 'dvc checkout'"):
        fit(study)
    assert not (study.outputs / "training").exists() or not list((study.outputs / "training").glob("[0-9]*"))


def test_status_says_what_is_there(study: Study) -> None:
    assert [line.state for line in stores_status(study)] == ["not made", "not made"]
    assert [line.state for line in runs_status(study)] == ["none", "none"]
    made = loop(study)
    lines = stores_status(study)
    assert [(line.what, line.state, line.level) for line in lines] == [
        ("responses/sub-01", "fresh", "good"),
        ("targets/pixels", "fresh", "good"),
    ]
    assert all(line.detail.startswith("not under version control, ") for line in lines)
    assert runs_status(study)[1].state == made.run
    assert [line.state for line in production_status(study)] == ["encoder v1, regressor-z v1"]
