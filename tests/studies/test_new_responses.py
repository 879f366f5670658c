"""Responses that were never stored: what is read out of a file, and each thing that is refused."""

import hashlib
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import studies.voxel_record
from core.errors import SourceError, SourceMissing, StoreError
from core.files import read_json, write_json
from feature_store import Responses, Store
from feature_store.sources.tables import read_csv
from feature_store.tables import decode_column, encode_column
from models.encoders.config import PcaConfig, StandardiseConfig
from models.encoders.pca import Pca
from models.encoders.rows import BrainRows
from models.encoders.standardise import Standardise
from studies.ingest import ingest
from studies.new_responses import NewResponses, read_responses
from studies.study import load_study
from studies.voxel_record import VoxelOrder, VoxelRecord, VoxelScale, record_voxels, voxel_scale, voxels_in

from ..conftest import write_arrays
from .conftest import write_study

GRID = (5, 6, 7)
AFFINE = np.array([[2.0, 0, 0, -8], [0, 2, 0, -10], [0, 0, 2, -6], [0, 0, 0, 1]])
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Known:
    """A store of one subject, 60 voxels on a grid, of which the encoder takes V1's 30, and what training recorded."""

    store: Store
    record: VoxelRecord
    group: Responses
    train: Floats

    @property
    def table(self) -> pd.DataFrame:
        return self.group.voxels

    @property
    def v1(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.table["roi"] == "V1")

    @property
    def new(self) -> Floats:
        """Six trials of V1."""
        return self.train[:6, self.v1]

    def image(self, path: Path, trials: Floats, affine: NDArray[Any] = AFFINE, grid: Any = GRID) -> Path:
        """Write trials (trial, 60) as an image of betas."""
        volume = np.zeros((*grid, len(trials)), np.float32)
        volume[tuple(self.table[list("ijk")].to_numpy().T)] = trials.T
        nibabel.save(nibabel.Nifti1Image(volume, affine), path)
        return path

    def mask(self, path: Path, voxels: NDArray[np.int64], affine: NDArray[Any] = AFFINE) -> Path:
        inside = np.zeros(GRID, np.uint8)
        inside[tuple(self.table[list("ijk")].to_numpy()[voxels].T)] = 1
        nibabel.save(nibabel.Nifti1Image(inside, affine), path)
        return path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder, rng = tmp_path_factory.mktemp("known"), np.random.default_rng(20240607)
    source = write_arrays(folder / "recordings", rng, clips=False)
    # As masks have it, region by region in C order, the regions between each other.
    ijk = np.stack(np.unravel_index(np.sort(rng.permutation(np.prod(GRID))[:60]), GRID), axis=1)
    first = np.sort(rng.permutation(60)[:30])
    ijk = np.concatenate([ijk[first], np.delete(ijk, first, axis=0)])
    roi = ["V1"] * 30 + ["V2"] * 20 + ["lV4+V2"] * 10
    table = pd.DataFrame({"roi": roi, **dict(zip("ijk", ijk.T, strict=True))})
    table.to_csv(source / "sub-01" / "voxels.csv", index=False)
    values = np.load(source / "sub-01" / "responses.npy")
    values[:, 7] = np.nan
    values[:, 40] = 1.0
    np.save(source / "sub-01" / "responses.npy", 3 + 2 * values)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "home").mkdir()
        patch.setenv("BRAIN2VIDEO_HOME", str(folder / "home"))
        study = load_study(write_study(folder / "home", source))
        ingest(study, "sub-01")
        store = Store(study.store)
    record = record_voxels(store, "sub-01", ["V1"]).model_copy(update={"affine": AFFINE.tolist(), "grid": list(GRID)})
    group = store.responses("sub-01")
    return Known(store, record, group, np.asarray(group.values("train")[0]))


def save(folder: Path, values: NDArray[Any], name: str = "new.npy") -> Path:
    np.save(folder / name, values)
    return folder / name


def read(known: Known, path: Path, **more: Any) -> NewResponses:
    return read_responses(path, "sub-01", more.pop("record", known.record), **more)


def has_note(made: NewResponses, pattern: str) -> bool:
    return any(re.search(pattern, note) for note in made.notes)


# The record


@pytest.mark.parametrize("block", [1, 7 * 8 * 60, 2**26], ids=["one trial", "seven trials", "all at once"])
def test_statistics_by_blocks_are_numpys(known: Known, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(studies.voxel_record, "BLOCK_BYTES", block)
    scale = voxel_scale(known.group)
    rows = known.train.astype(np.float64)
    assert list(np.flatnonzero(~scale.kept)) == [7, 40]
    np.testing.assert_allclose(scale.mean[scale.kept], rows.mean(axis=0)[scale.kept], rtol=1e-12)
    np.testing.assert_allclose(scale.sd[scale.kept], rows.std(axis=0)[scale.kept], rtol=1e-12)


def test_a_record_says_how_many_voxels_there_are_and_on_which_scale(known: Known) -> None:
    record = record_voxels(known.store, "sub-01", None)
    rows = np.delete(known.train.astype(np.float64), [7, 40], axis=1)
    assert (record.voxels, record.stored_voxels, record.time_points, record.left_out) == (60, 60, None, 2)
    assert (record.trials, record.affine, record.described) == (80, None, {"source": "arrays"})
    assert record.sd.median == pytest.approx(np.median(rows.std(axis=0)))
    assert record.mean.high == pytest.approx(np.quantile(rows.mean(axis=0), 0.95))
    assert (record.centre, record.spread) == (pytest.approx(rows.mean()), pytest.approx(rows.std()))
    assert (known.record.voxels, known.record.stored_voxels, known.record.left_out) == (30, 60, 1)


def test_a_record_counts_the_trials_that_training_takes(known: Known) -> None:
    stimuli = sorted(set(known.group.view("train")[1]))[:10]
    record = record_voxels(known.store, "sub-01", None, stimuli)
    taken = known.train[[name in stimuli for name in known.group.view("train")[1]]].astype(np.float64)
    assert record.trials == len(taken) == 20
    assert record.spread == pytest.approx(np.delete(taken, [7, 40], axis=1).std())


def test_a_record_comes_back_from_json(known: Known, tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {"sub-01": known.record.model_dump(mode="json")})
    assert (tmp_path / "record.json").stat().st_size < 3000
    again = VoxelRecord.model_validate(read_json(tmp_path / "record.json")["sub-01"])
    assert again == known.record
    known.table.iloc[known.v1][::-1].to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match="the same voxels in another order"):
        read(known, save(tmp_path, known.new), record=again)


NAME = st.text("abVX019 +-_,\"'é", min_size=1, max_size=6).filter(lambda text: text.strip() == text)
WHOLE, MM = st.integers(0, 2**31 - 1), st.floats(-500, 500, width=32)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_table_and_its_csv_have_one_digest(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))

    def column(of: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(of, min_size=count, max_size=count))

    table = pd.DataFrame({"roi": column(NAME), "hemisphere": column(st.sampled_from(["l", "r", ""]))})
    table = table.assign(**{name: np.array(column(MM | st.just(np.nan)), np.float32) for name in "xyz"})
    if data.draw(st.booleans()):
        table = table.assign(**{name: np.array(column(WHOLE), np.int32) for name in "ijk"})
    file = tmp_path_factory.mktemp("csv") / "voxels.csv"
    table.assign(ncsnr_train=0.1).to_csv(file, index=False)
    order = VoxelOrder.of(table)
    stored = {name: decode_column(*encode_column(table[name])) for name in table}
    assert order == VoxelOrder.of(pd.DataFrame(stored))
    assert order == VoxelOrder.of(read_csv(file, []))
    assert order == VoxelOrder.of(
        pd.read_csv(file, dtype={"roi": str}, keep_default_na=False, na_values={"x": "", "y": "", "z": ""})
    )
    turned = VoxelOrder.of(table[::-1])
    assert turned.unordered == order.unordered
    assert (turned.digest == order.digest) == (
        table[::-1].reset_index(drop=True)[list(order.columns)].equals(table[list(order.columns)])
    )


def test_regions_are_chosen_as_the_store_does(known: Known) -> None:
    for rois in (["V1"], ["V2"], ["V4"], ["lV4", "V1"]):
        np.testing.assert_array_equal(voxels_in(known.table, rois, ""), np.arange(60)[known.group.voxels_in(rois)])
    with pytest.raises(SourceError, match=r"table: has no ROI 'V3'; did you mean 'V"):
        voxels_in(known.table, ["V3"], "table")


@pytest.mark.parametrize("kind", ["standardise", "pca"])
def test_an_encoders_own_scale_is_that_of_the_store(known: Known, kind: str) -> None:
    rows = {"sub-01": BrainRows(known.train, known.group.view("train")[1])}
    fitted = Standardise.fit(StandardiseConfig(), rows) if kind == "standardise" else Pca.fit(PcaConfig(), rows)
    scale, expected = VoxelScale.of_encoder(fitted, "sub-01"), voxel_scale(known.group)
    assert scale is not None
    np.testing.assert_array_equal(scale.kept, expected.kept)
    np.testing.assert_allclose(scale.sd[scale.kept], expected.sd[scale.kept], rtol=1e-5)
    told, read_again = (
        record_voxels(known.store, "sub-01", None, scale=scale),
        record_voxels(known.store, "sub-01", None),
    )
    assert told.spread == pytest.approx(read_again.spread, rel=1e-6)
    assert (
        told.model_copy(update={name: getattr(read_again, name) for name in ("mean", "sd", "centre", "spread")})
        == read_again
    )
    assert VoxelScale.of_encoder(fitted, "sub-02") is None
    assert VoxelScale.of_encoder(object(), "sub-01") is None


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
    made = read(known, tmp_path, scale=voxel_scale(known.group, ["V1"]), table=known.table)
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


# Files that are refused


def test_what_is_not_there_is_missing(known: Known, tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=r"new\.npy: no such file; name a \.npy file"):
        read(known, tmp_path / "new.npy")
    with pytest.raises(SourceMissing, match=r"responses\.npy: no such file; name the file itself"):
        read(known, tmp_path)
    (tmp_path / "sub-01").mkdir()
    save(tmp_path / "sub-01", known.new, "responses.npy")
    with pytest.raises(SourceMissing, match=r"name a subject's folder, such as .*sub-01"):
        read(known, tmp_path)


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".pt", ".npz"])
def test_what_can_run_code_is_not_opened(known: Known, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"new{suffix}"
    file.write_bytes(pickle.dumps(known.new))
    with pytest.raises(
        SourceError, match=f"a {re.escape(suffix)} file can run code, is not read; save with numpy.save"
    ):
        read(known, file)


def test_an_unknown_kind_of_file_is_refused(known: Known, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("1,2\n")
    with pytest.raises(SourceError, match=r"a '\.csv' file, expected \.npy or \.nii or \.nii\.gz"):
        read(known, tmp_path / "new.csv")


def test_arrays_of_anything_but_numbers_are_refused(known: Known, tmp_path: Path) -> None:
    file = tmp_path / "new.npy"
    for content in (np.array([{}, 1], object), np.array([[None]], object)):
        np.save(file, content, allow_pickle=True)
        with pytest.raises(SourceError, match="it holds pickled objects, which can run code"):
            read(known, file)
    file.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(SourceError, match="it holds pickled objects, which can run code"):
        read(known, file)
    np.savez(tmp_path / "a.npz", known.new)
    with pytest.raises(SourceError, match=r"an archive of arrays \(\.npz\), expected one array"):
        read(known, (tmp_path / "a.npz").rename(file))
    for values in (known.new > 0, known.new.astype(np.complex64), known.new.astype(str), np.zeros(3, "M8[s]")):
        with pytest.raises(SourceError, match=r"holds .*, expected real numbers; save float32"):
            read(known, save(tmp_path, values))


@settings(max_examples=60, deadline=None)
@given(
    header=st.binary(max_size=60) | st.text("{}()[]'descr: ,<f4\"\n", max_size=60).map(str.encode), start=st.booleans()
)
def test_a_broken_array_is_refused_in_one_line(
    known: Known, tmp_path_factory: pytest.TempPathFactory, header: bytes, start: bool
) -> None:
    file = tmp_path_factory.mktemp("broken") / "new.npy"
    file.write_bytes((b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") if start else b"") + header)
    with pytest.raises(SourceError) as caught:
        read(known, file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((30,), r"has the shape \(30,\), expected \(trial, voxel\) of 30 voxels as in training; save one trial as"),
        ((), r"has the shape \(\), .*save it with these axes"),
        ((6, 2, 30), r"has the shape \(6, 2, 30\), .*average over time points"),
        ((0, 30), r"has the shape \(0, 30\) and holds no value"),
        ((6, 31), r"has the shape \(6, 31\), .*give the same voxels in the same order"),
        ((30, 6), r"has the shape \(30, 6\), .*its axes are turned round: save it transposed"),
        ((60, 6), r"its axes are turned round"),
        ((6, 60), r"has all 60 voxels of the store, expected the 30 of V1; give these alone, a voxels\.csv"),
    ],
)
def test_another_shape_is_refused(known: Known, tmp_path: Path, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(SourceError, match=match):
        read(known, save(tmp_path, np.ones(shape, np.float32)))


# Their tables


def test_voxels_in_another_order_are_refused(known: Known, tmp_path: Path) -> None:
    file, mine = save(tmp_path, known.new), known.table.iloc[known.v1].reset_index(drop=True)
    swapped = mine.iloc[[*range(20), 21, 20, *range(22, 30)]]
    swapped.to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"voxels\.csv: the same voxels in another order; bring them"):
        read(known, file)
    with pytest.raises(SourceError, match=r"the same voxels in another order: first difference at row 21, found .* = "):
        read(known, file, table=known.table)
    swapped[["i", "j"]].to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"the same voxels in another order: first difference at row 21, found"):
        read(known, file, table=known.table)
    mine.assign(roi=["V2", *mine["roi"][1:]]).to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"other voxels than in training \(roi differs\); give the voxels"):
        read(known, file)
    with pytest.raises(SourceError, match=r"\(roi differs: first difference at row 1, found roi = V2, expected V1\)"):
        read(known, file, table=known.table)
    mine.iloc[:-1].to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"lists 29 voxels and new\.npy has 30"):
        read(known, file)


def test_a_file_of_all_voxels_in_another_order_is_refused(known: Known, tmp_path: Path) -> None:
    file = save(tmp_path, known.train[:6, ::-1])
    known.table[::-1].to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"the same voxels in another order: first difference at row 1, found"):
        read(known, file, table=known.table)
    with pytest.raises(SourceError, match=r"the same voxels in another order; bring them"):
        read(known, file)
    known.table.assign(roi=["V1"] * 31 + ["V2"] * 29).to_csv(tmp_path / "voxels.csv", index=False)
    with pytest.raises(SourceError, match=r"31 voxels lie in V1, expected 30 as in training"):
        read(known, file)


def test_what_a_table_of_voxels_cannot_tell_is_noted(known: Known, tmp_path: Path) -> None:
    file, mine = save(tmp_path, known.new), known.table.iloc[known.v1]
    mine[["roi"]].to_csv(tmp_path / "voxels.csv", index=False)
    made = read(known, file)
    assert has_note(made, r"voxels.csv lacks i, j, k: the order was checked by roi alone")
    assert has_note(made, r"voxels of the same roi cannot be told apart, nor can their order")
    pd.DataFrame({"name": range(30)}).to_csv(tmp_path / "voxels.csv", index=False)
    assert has_note(
        read(known, file), "voxels.csv has none of the columns .*roi: the order of voxels cannot be checked"
    )


def test_another_stores_table_is_refused(known: Known, tmp_path: Path) -> None:
    file = save(tmp_path, known.new)
    for other in (known.table.iloc[:-1], known.table[::-1], known.table.assign(k=0)):
        with pytest.raises(StoreError, match=r"sub-01: the store's table has other voxels .* run 'dvc checkout'"):
            read(known, file, table=other)


def test_a_table_of_trials_must_fit(known: Known, tmp_path: Path) -> None:
    file = save(tmp_path, known.new)
    pd.DataFrame({"stimulus_id": ["a", "b"]}).to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(SourceError, match=r"trials\.csv: has 2 rows and new\.npy 6 trials; name one stimulus a trial"):
        read(known, file)
    pd.DataFrame({"stimulus_id": ["../a", *"bcdef"]}).to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(SourceError, match=r"stimulus '\.\./a' cannot name a file"):
        read(known, file)
    pd.DataFrame({"stimulus": list("abcdef")}).to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(SourceError, match=r"lacks the column 'stimulus_id'; did you mean"):
        read(known, file)


# Their values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("with_scale", [False, True])
def test_values_that_are_not_finite_are_refused(known: Known, tmp_path: Path, value: float, with_scale: bool) -> None:
    scale = voxel_scale(known.group, ["V1"]) if with_scale else None
    values = known.new.copy()
    values[2:4, 5] = value
    count = 1 if with_scale else 2
    match = rf"NaN or infinity in {2 if with_scale else 6} of 6 trials and {count} of 30 voxels beside the 1 that"
    with pytest.raises(SourceError, match=match):
        read(known, save(tmp_path, values), scale=scale)
    if with_scale:
        with pytest.raises(SourceError, match="first in trial 3, voxel 6; mend or fill them"):
            read(known, save(tmp_path, values), scale=scale)
    with pytest.raises(SourceError, match="NaN or infinity"):
        read(known, save(tmp_path, np.nan_to_num(known.new).astype(np.float64) + 1e300 * (known.new == known.new)))


def test_as_many_nan_elsewhere_are_found_with_the_scale(known: Known, tmp_path: Path) -> None:
    values = np.nan_to_num(known.new)
    values[:, 9] = np.nan
    file = save(tmp_path, values)
    assert has_note(read(known, file), "no more than training left out, maybe others")
    with pytest.raises(SourceError, match="NaN or infinity in 6 of 6 trials and 1 of 30 voxels"):
        read(known, file, scale=voxel_scale(known.group, ["V1"]))


def test_a_constant_file_is_refused(known: Known, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="every value is 0; give the file that holds the responses"):
        read(known, save(tmp_path, np.zeros((6, 30))))


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("trials", [1, 6])
@pytest.mark.parametrize(
    ("factor", "offset", "sign"),
    [
        (1000, 0, "percent signal change or values that were not normalised"),
        (0.001, 0, "z-scores"),
        (1, 1000, "raw BOLD"),
    ],
)
def test_another_scale_is_refused(
    known: Known, tmp_path: Path, with_scale: bool, trials: int, factor: float, offset: float, sign: str
) -> None:
    scale = voxel_scale(known.group, ["V1"]) if with_scale else None
    mean = np.nan_to_num(known.train[:, known.v1].mean(axis=0))
    values = (np.nan_to_num(known.new[:trials]) - mean) * factor + offset
    values += mean if factor < 1 and with_scale else 0
    file = save(tmp_path, values)
    with pytest.raises(
        SourceError, match=rf"values of .* ± .* where training had .* likely {sign}.*--any-scale"
    ) as caught:
        read(known, file, scale=scale)
    assert "\n" not in str(caught.value)
    made = read(known, file, scale=scale, check_scale=False)
    assert has_note(made, "the scale was not checked, as asked")


@pytest.mark.parametrize("factor", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("with_scale", [False, True])
def test_the_same_scale_more_or_less_is_taken(known: Known, tmp_path: Path, factor: float, with_scale: bool) -> None:
    mean = known.train[:, known.v1].mean(axis=0)
    file = save(tmp_path, (known.new - mean) * factor + mean)
    read(known, file, scale=voxel_scale(known.group, ["V1"]) if with_scale else None)


def test_voxels_in_another_order_are_told_by_their_scale(known: Known, tmp_path: Path) -> None:
    """Raw values: each voxel varies little about a mean of its own."""
    means, rng = np.linspace(500, 1500, 30), np.random.default_rng(1)
    rows, scale = means + 10 * rng.normal(size=(6, 30)), VoxelScale(means, np.full(30, 10.0), np.ones(30, bool))
    record = known.record.model_copy(update={"centre": means.mean(), "spread": float(np.hypot(means.std(), 10))})
    made = read(known, save(tmp_path, rows), record=record, scale=scale)
    assert len(made.names) == 6
    with pytest.raises(SourceError, match="likely voxels in another order, or those of another subject"):
        read(known, save(tmp_path, rows[:, ::-1]), record=record, scale=scale)
    with pytest.raises(SourceError, match="likely z-scores or fractions, where training had"):
        read(known, save(tmp_path, rng.normal(size=(6, 30))), record=record, scale=scale)


def test_few_values_have_no_scale(known: Known, tmp_path: Path) -> None:
    record = known.record.model_copy(update={"voxels": 2})
    assert has_note(read(known, save(tmp_path, [[1, 9000]]), record=record), "holds 2 values, too few to check")


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
    for more in ({"mask": mask}, {"table": group.voxels}):
        made = read_responses(runs[2], "sub-01", record, scale=voxel_scale(group), **more)
        np.testing.assert_array_equal(made.values, series[2])
    scores = (series[2] - series[2].mean(axis=0)) / series[2].std(axis=0)
    with pytest.raises(SourceError, match=r"values of .* ± 1 where training had .*; likely z-scores"):
        read_responses(save(tmp_path, np.nan_to_num(scores)), "sub-01", record)
