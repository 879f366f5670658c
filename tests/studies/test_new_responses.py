"""Responses that were never stored are read in every form, and checked against what training recorded."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from core.errors import SourceError, SourceMissing
from feature_store import Store
from studies.decoding.voxel_record import record_voxels
from studies.reconstruction.checks import NewFile, read_responses
from studies.stores.responses import ingest
from studies.study import load_study

from ..conftest import write_arrays
from .conftest import write_study
from .known_responses import AFFINE, GRID, Known, has_note, read, save, scale_of

# What is read


def test_an_array_is_read_with_what_could_not_be_checked(known: Known, tmp_path: Path) -> None:
    file = save(tmp_path, known.new.astype(np.float64))
    made = read(known, file)
    assert (made.subject, made.names[:2], made.values.dtype) == ("sub-01", ["trial-0001", "trial-0002"], np.float32)
    np.testing.assert_array_equal(made.values, known.new)
    assert made.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert has_note(made, "no voxels.csv beside new.npy: the order of voxels cannot be checked")
    assert has_note(made, "no trials.csv beside new.npy: trials are numbered")
    assert has_note(made, "1 voxels hold NaN or infinity, no more than training left out")
    assert has_note(made, "scale was checked for all voxels together")
    assert made.notes == read(known, file).notes


def test_a_folder_with_its_tables_leaves_nothing_unchecked(known: Known, tmp_path: Path) -> None:
    save(tmp_path, known.new, "responses.npy")
    known.table.iloc[known.v1].to_csv(tmp_path / "voxels.csv", index=False)
    pd.DataFrame({"stimulus_id": ["a", "b", "a", "b", "c", ""]}).to_csv(tmp_path / "trials.csv", index=False)
    made = read(known, tmp_path, scale=scale_of(known.group, ["V1"]), table=known.table)
    assert made.names == ["a", "b", "a", "b", "c", "trial-0006"]
    assert made.notes == ["1 voxels hold NaN or infinity, which training left out"]


def test_tables_may_lie_elsewhere(known: Known, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pd.DataFrame({"stimulus_id": list("abcdef")}).to_csv(tmp_path / "other" / "mine.csv", index=False)
    known.table.iloc[known.v1].to_csv(tmp_path / "other" / "places.csv", index=False)
    places, mine = tmp_path / "other" / "places.csv", tmp_path / "other" / "mine.csv"
    made = read(known, save(tmp_path, known.new), voxels=places, trials=mine)
    assert made.names == list("abcdef")
    assert not has_note(made, "beside")
    with pytest.raises(SourceMissing, match=r"nothing\.csv: no such table"):
        read(known, tmp_path / "new.npy", trials=tmp_path / "nothing.csv")


@pytest.mark.parametrize("by", ["store", "csv"])
def test_regions_are_chosen_out_of_a_file_of_all_voxels(known: Known, tmp_path: Path, by: str) -> None:
    file = save(tmp_path, known.train[:6])
    if by == "csv":
        known.table.to_csv(tmp_path / "voxels.csv", index=False)
    made = read(known, file, table=known.table if by == "store" else None)
    np.testing.assert_array_equal(made.values, known.new)


def test_windows_are_read_as_windows(known: Known, tmp_path: Path) -> None:
    record = known.record.model_copy(update={"time_points": 4})
    windows = known.train[:24].reshape(6, 4, 60)
    made = read(known, save(tmp_path, windows), record=record, table=known.table)
    np.testing.assert_array_equal(made.values, windows[..., known.v1])
    for shape, match in (
        ((6, 3, 30), r"has 3 time points, expected \(trial, 4 time points, voxel\).*cut windows as for training"),
        ((4, 30), r"has the shape \(4, 30\), expected .*save one trial as values\[None\]"),
        ((6, 30, 4), "its axes are turned round"),
    ):
        with pytest.raises(SourceError, match=match):
            read(known, save(tmp_path, np.ones(shape)), record=record)


def test_whole_numbers_and_odd_trials(known: Known, tmp_path: Path) -> None:
    values = np.nan_to_num(known.new * 1).round().astype(np.int16)
    values[2], values[4] = 0, values[1]
    made = read(known, save(tmp_path, values))
    assert made.values.dtype == np.float32
    assert has_note(made, r"trials zero throughout: 1, first 3 \(trial-0003\)")
    assert has_note(made, r"trials the same as an earlier one, value by value: 1, first 5 \(trial-0005\)")


# Images


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_image_is_read_at_the_tables_places(known: Known, tmp_path: Path, suffix: str) -> None:
    trials = np.nan_to_num(known.train[:6])
    file = known.image(tmp_path / f"betas{suffix}", trials)
    made = read(known, file, table=known.table)
    np.testing.assert_array_equal(made.values, trials[:, known.v1])
    assert not has_note(made, "order|space")
    known.table.to_csv(tmp_path / "voxels.csv", index=False)
    np.testing.assert_array_equal(read(known, file).values, made.values)


def test_a_volume_is_one_trial(known: Known, tmp_path: Path) -> None:
    file = known.image(tmp_path / "beta.nii", np.nan_to_num(known.train[:1]))
    image = nibabel.load(file)
    nibabel.save(image.slicer[..., 0], tmp_path / "volume.nii")
    made = read(known, tmp_path / "volume.nii", table=known.table)
    assert made.values.shape == (1, 30)
    np.testing.assert_array_equal(made.values, read(known, file, table=known.table).values)


def test_a_mask_gives_its_voxels_in_c_order(known: Known, tmp_path: Path) -> None:
    trials = np.nan_to_num(known.train[:6])
    file, mask = known.image(tmp_path / "betas.nii.gz", trials), known.mask(tmp_path / "mask.nii.gz", known.v1)
    made = read(known, file, mask=mask)
    np.testing.assert_array_equal(made.values, trials[:, known.v1])
    assert has_note(made, "mask.nii.gz lacks roi: the order was checked by i, j, k")
    other = known.mask(tmp_path / "other.nii", np.append(known.v1[1:], 50))
    with pytest.raises(SourceError, match=r"other\.nii: other voxels than in training \(.*differ"):
        read(known, file, mask=other, table=known.table)


def test_a_mask_in_another_order_than_the_stores_is_refused(known: Known, tmp_path: Path) -> None:
    """The store has its voxels region by region, a mask of all of them in C order."""
    file = known.image(tmp_path / "betas.nii", np.nan_to_num(known.train[:6]))
    mask = known.mask(tmp_path / "mask.nii", np.arange(60))
    with pytest.raises(SourceError, match=r"mask\.nii: the same voxels in another order: first difference at row \d+"):
        read(known, file, mask=mask, table=known.table)


def test_an_image_of_another_grid_is_refused(known: Known, tmp_path: Path) -> None:
    trials = np.nan_to_num(known.train[:6])
    moved = AFFINE + np.diag([0.5, 0, 0, 0])
    with pytest.raises(SourceError, match="its affine is not that of training"):
        read(known, known.image(tmp_path / "a.nii", trials, moved), table=known.table)
    with pytest.raises(SourceError, match=r"has \(5, 6, 9\) voxels, expected \(5, 6, 7\) as in training; resample it"):
        read(known, known.image(tmp_path / "b.nii", trials, grid=(5, 6, 9)), table=known.table)
    file = known.image(tmp_path / "c.nii", trials)
    with pytest.raises(SourceError, match=r"its affine is not that of mask\.nii"):
        read(known, file, mask=known.mask(tmp_path / "mask.nii", known.v1, moved))
    bare = known.record.model_copy(update={"affine": None, "grid": None})
    assert has_note(read(known, file, record=bare, table=known.table), "training recorded no affine")
    small = tmp_path / "small.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 2), np.float32), AFFINE), small)
    with pytest.raises(SourceError, match=r"has \(2, 2, 2\) voxels, and the table's lie outside"):
        read(known, small, record=bare, table=known.table)


def test_other_images_are_refused(known: Known, tmp_path: Path) -> None:
    def image(values: NDArray[Any]) -> Path:
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), tmp_path / "x.nii")
        return tmp_path / "x.nii"

    with pytest.raises(SourceError, match=r"where its voxels lie is not known; give the study's mask"):
        read(known, image(np.ones(GRID, np.float32)))
    with pytest.raises(SourceError, match=r"holds complex64, expected real numbers"):
        read(known, image(np.ones(GRID, np.complex64)), table=known.table)
    with pytest.raises(SourceError, match=r"has the shape \(5, 6, 7, 2, 2\); expected \(x, y, z, trial\)"):
        read(known, image(np.ones((*GRID, 2, 2), np.float32)), table=known.table)
    windows = known.record.model_copy(update={"time_points": 4})
    with pytest.raises(SourceError, match=r"windows of BOLD are not read from images; save \(trial, time, voxel\)"):
        read(known, image(np.ones(GRID, np.float32)), record=windows, table=known.table)
    (tmp_path / "no.nii").write_bytes(b"no image")
    with pytest.raises(SourceError, match="not a NIfTI file"):
        read(known, tmp_path / "no.nii", table=known.table)
    whole = known.image(tmp_path / "cut.nii.gz", np.nan_to_num(known.train[:6]))
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(SourceError, match="cut short or damaged"):
        read(known, whole, table=known.table)
    with pytest.raises(SourceError, match=r"a mask \(mask\.nii\) is for NIfTI images"):
        read(known, save(tmp_path, known.new), mask=known.mask(tmp_path / "mask.nii", known.v1))


# A real brain


def test_a_real_image_is_read_as_its_voxels_were_stored(home: Path, shared_data: Path, tmp_path: Path) -> None:
    """Volumes of real BOLD stand for betas: two runs are training, a third is new."""
    folder = shared_data / "haxby2001" / "sub001"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    runs = [folder / "BOLD" / f"task001_run00{number}" / "bold_25mm.nii.gz" for number in (1, 2, 3)]
    mask = folder / "masks" / "25mm" / "gray.nii.gz"
    ijk = np.argwhere(np.asarray(nibabel.load(mask).dataobj) != 0)
    series = [np.asarray(nibabel.load(run).dataobj)[tuple(ijk.T)].T for run in runs]
    subject = write_arrays(tmp_path / "haxby", np.random.default_rng(0), train=121, test=121, repeats=1) / "sub-01"
    np.save(subject / "responses.npy", np.concatenate(series[:2]).astype(np.float32))
    stimuli = [f"s{index:03d}" for index in range(242)]
    pd.DataFrame({"stimulus_id": stimuli, "repetition": 0}).to_csv(subject / "trials.csv", index=False)
    table = pd.DataFrame({"roi": "gray", **dict(zip("ijk", ijk.T, strict=True))})
    table.to_csv(subject / "voxels.csv", index=False)
    study = load_study(write_study(home, subject.parent))
    ingest(study, "sub-01")
    store = Store(study.store)
    affine = nibabel.load(runs[0]).affine.tolist()
    record = record_voxels(store, "sub-01", None).model_copy(update={"affine": affine})
    group = store.responses("sub-01")
    for named, table in (({"mask": mask}, None), ({}, group.voxels)):
        file = NewFile(path=runs[2], **named)
        made = read_responses(file, "sub-01", record, scale=scale_of(group), table=table)
        np.testing.assert_array_equal(made.values, series[2])
    scores = (series[2] - series[2].mean(axis=0)) / series[2].std(axis=0)
    with pytest.raises(SourceError, match=r"values of .* ± 1 where training had .*; likely z-scores"):
        read_responses(NewFile(path=save(tmp_path, np.nan_to_num(scores))), "sub-01", record)
