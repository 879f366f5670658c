"""Files that an encoder cannot take are refused in one line that says why."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import SourceError, SourceMissing, StoreError
from studies.decoding.voxel_record import VoxelScale

from .known_responses import Known, has_note, read, save, scale_of

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


def test_values_on_a_surface_are_refused_by_name(known: Known, tmp_path: Path) -> None:
    (tmp_path / "new.dscalar.nii").write_bytes(b"")
    with pytest.raises(SourceError, match=r"a CIFTI file, which is not read; save its values as \.npy"):
        read(known, tmp_path / "new.dscalar.nii")


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
    scale = scale_of(known.group, ["V1"]) if with_scale else None
    values = known.new.copy()
    values[2:4, 5] = value
    count = 1 if with_scale else 2
    match = rf"NaN or infinity in {2 if with_scale else 6} of 6 trials and {count} of 30 voxels beside the 1 that"
    with pytest.raises(SourceError, match=match):
        read(known, save(tmp_path, values), scale=scale)
    if with_scale:
        with pytest.raises(SourceError, match="first in trial 3, voxel 6; correct or fill them"):
            read(known, save(tmp_path, values), scale=scale)
    with pytest.raises(SourceError, match="NaN or infinity"):
        read(known, save(tmp_path, np.nan_to_num(known.new).astype(np.float64) + 1e300 * (known.new == known.new)))


def test_as_many_nan_elsewhere_are_found_with_the_scale(known: Known, tmp_path: Path) -> None:
    values = np.nan_to_num(known.new)
    values[:, 9] = np.nan
    file = save(tmp_path, values)
    assert has_note(read(known, file), "no more than training left out, maybe others")
    with pytest.raises(SourceError, match="NaN or infinity in 6 of 6 trials and 1 of 30 voxels"):
        read(known, file, scale=scale_of(known.group, ["V1"]))


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
    scale = scale_of(known.group, ["V1"]) if with_scale else None
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
    read(known, file, scale=scale_of(known.group, ["V1"]) if with_scale else None)


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
