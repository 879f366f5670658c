"""Ingest: what the store says of voxels, what is refused, and how it is laid down; pictures of what was written."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core import code
from core.checkout import project_root as home_folder
from core.errors import SourceError
from core.progress import listening
from feature_store import Store, verify
from studies.stores.responses import ingest, simulate_source
from studies.stores.targets import extract
from studies.study import Study, load_study

from ..conftest import write_arrays
from .conftest import write_study
from .test_simulated import CONFIG, TINY


def responses_of(folder: Path) -> np.ndarray:
    return np.load(folder / "sub-01" / "responses.npy")


def test_every_voxel_has_its_noise_ceiling(study: Study) -> None:
    reference = ingest(study, "sub-01")
    group = Store(study.store).responses("sub-01")
    assert list(group.voxels.columns) == ["roi", "ncsnr_train", "ncsnr_test"]
    assert (group.voxels["ncsnr_train"] > 1).mean() > 0.9, "the fake brain's noise is small"
    values, stimuli = group.values("train")
    rows = pd.DataFrame(np.asarray(values)).groupby(stimuli)
    noise = rows.var(ddof=1).mean()
    expected = np.sqrt(np.maximum(np.asarray(values, "f8").var(axis=0) - noise, 0) / noise)
    np.testing.assert_allclose(group.voxels["ncsnr_train"], expected, rtol=1e-3)
    assert reference.attributes["nan_voxels"] == {"train": 0, "test": 0}
    assert reference.attributes["noise_ceiling_agreement"] == {}
    assert reference.dvc_state == "not under version control"


def test_missing_values_are_kept_counted_and_reported(study: Study, arrays_folder: Path) -> None:
    responses = responses_of(arrays_folder)
    responses[3, 5], responses[:, 7] = np.nan, np.nan
    np.save(arrays_folder / "sub-01" / "responses.npy", responses)
    said: list[str] = []
    with listening(lambda what, done, total, note: said.append(what)):
        reference = ingest(study, "sub-01")
    counts = reference.attributes["nan_voxels"]
    assert counts["train"] + counts["test"] == 3, "voxel 5 in one split, voxel 7 in both"
    assert any("of 60 voxels hold NaN in train, kept as they are" in line for line in said)
    values, _ = Store(study.store).responses("sub-01").values("train")
    assert np.isnan(values).any(axis=0).sum() == counts["train"]
    assert np.isnan(Store(study.store).responses("sub-01").voxels["ncsnr_train"][7])


def test_a_region_without_any_value_is_refused(study: Study, arrays_folder: Path) -> None:
    responses = responses_of(arrays_folder)
    responses[:, 30:] = np.nan
    np.save(arrays_folder / "sub-01" / "responses.npy", responses)
    with pytest.raises(SourceError, match="sub-01: no voxel of V2 holds a finite value in train; check the recordings"):
        ingest(study, "sub-01")
    assert not [path for path in study.folder.rglob("*") if path.is_file()], "nothing half-written is left"


def test_responses_to_no_stimulus_are_ingested(study: Study, arrays_folder: Path, rng: np.random.Generator) -> None:
    without = ingest(study, "sub-01")
    assert set(without.shapes) == {"train/betas", "test/betas"}
    rest = rng.normal(size=(9, 60))
    rest[2, 4] = np.nan
    np.save(arrays_folder / "sub-01" / "unlabelled.npy", rest)
    reference = ingest(study, "sub-01")
    assert (reference.fresh, reference.digest == without.digest) == (False, False)
    assert reference.shapes["unlabelled/betas"] == [9, 60]
    assert reference.attributes["nan_voxels"] == {"train": 0, "test": 0, "unlabelled": 1}
    group = Store(study.store).responses("sub-01")
    assert np.array_equal(group.unlabelled(), rest.astype("f4"), equal_nan=True)
    assert np.array_equal(group.unlabelled(["V2"]), rest[:, 30:].astype("f4"))
    assert list(verify(study.store)) == []
    assert ingest(study, "sub-01").fresh
    (arrays_folder / "sub-01" / "unlabelled.npy").unlink()
    assert ingest(study, "sub-01").digest == without.digest, "without them, the group is as it was"


def test_simulated_rest_is_ingested(home: Path) -> None:
    study = load_study(CONFIG, [*TINY, "simulation.rest=20"])
    simulate_source(study)
    for subject in ("sub-01", "sub-02"):
        reference = ingest(study, subject)
        voxels = len(Store(study.store).responses(subject).voxels)
        assert reference.shapes == {
            "train/betas": [36, voxels],
            "test/betas": [40, voxels],
            "unlabelled/betas": [20, voxels],
        }
        assert ingest(study, subject).fresh
    assert Store(study.store).responses("sub-01").unlabelled(["EBA"]).std() == pytest.approx(1, abs=0.3)


def test_a_region_without_any_value_at_rest_is_refused(study: Study, arrays_folder: Path) -> None:
    rest = np.ones((4, 60))
    rest[:, 30:] = np.nan
    np.save(arrays_folder / "sub-01" / "unlabelled.npy", rest)
    with pytest.raises(SourceError, match="sub-01: no voxel of V2 holds a finite value in unlabelled; check the rec"):
        ingest(study, "sub-01")


def test_a_region_is_whole_where_its_overlap_with_another_is_lost(study: Study, arrays_folder: Path) -> None:
    """One voxel without a value lies in two regions, both of which have others."""
    voxels = pd.DataFrame({"roi": ["V1"] * 29 + ["V1+V2"] + ["V2"] * 30})
    voxels.to_csv(arrays_folder / "sub-01" / "voxels.csv", index=False)
    responses = responses_of(arrays_folder)
    responses[:, 29] = np.nan
    np.save(arrays_folder / "sub-01" / "responses.npy", responses)
    assert ingest(study, "sub-01").attributes["nan_voxels"] == {"train": 1, "test": 1}


def test_a_regions_name_may_hold_any_sign(study: Study, arrays_folder: Path) -> None:
    pd.DataFrame({"roi": ["$V_1", "a$b^"] * 30}).to_csv(arrays_folder / "sub-01" / "voxels.csv", index=False)
    assert (home_folder() / ingest(study, "sub-01").pictures[0]).is_file()


def test_the_code_that_writes_is_part_of_what_a_group_is_made_from(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(study, "sub-01")
    assert ingest(study, "sub-01").fresh
    read = code._read

    def edited(name: str) -> code._Module:
        module = read(name)
        return replace(module, tree="edited") if name == "studies.stores.ingestion" else module

    monkeypatch.setattr(code, "_read", edited)
    assert not ingest(study, "sub-01").fresh


def test_compressed_windows_are_the_same_values(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_arrays(tmp_path / "windows", rng)
    windows = np.round(1000 + 5 * np.repeat(responses_of(source)[:, None], 6, axis=1)).astype("f4")
    np.save(source / "sub-01" / "responses.npy", windows)
    np.save(source / "sub-01" / "unlabelled.npy", windows[:7] + 1)
    plain = load_study(write_study(home, source))
    digest = ingest(plain, "sub-01").digest
    values = np.array(Store(plain.store).responses("sub-01").values("test")[0])
    small = load_study(write_study(home, source), ["storage.compression=lz4"])
    again = ingest(small, "sub-01")
    assert (again.fresh, again.digest == digest) == (False, False)
    assert np.array_equal(Store(small.store).responses("sub-01").values("test")[0], values)
    assert values.shape[1:] == (6, 60)
    assert np.array_equal(Store(small.store).responses("sub-01").unlabelled(), windows[:7] + 1)
    assert ingest(small, "sub-01").fresh
    assert list(verify(small.store)) == []


def test_pictures_show_what_was_written(study: Study) -> None:
    chart, sheet = ingest(study, "sub-01").pictures[0], extract(study, "pixels").pictures[0]
    for picture in (chart, sheet):
        with Image.open(home_folder() / picture) as image:
            assert min(image.size) > 100
            assert len(np.unique(np.asarray(image))) > 10
    before = (home_folder() / chart).stat().st_mtime_ns
    assert ingest(study, "sub-01").pictures == [chart]
    assert (home_folder() / chart).stat().st_mtime_ns == before, "drawn once"
    (home_folder() / chart).unlink()
    assert (home_folder() / ingest(study, "sub-01").pictures[0]).is_file(), "a lost picture is drawn again"
