"""BOLD Moments in whole spaces and as windows per TR: each reads as declared, lazily, with little memory."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from core.errors import SourceError, SourceMissing
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import (
    ANNOTATIONS,
    FSLR_VOXELS,
    GROUP_MASK,
    SUBJECT_MASK,
    WINDOW_ROIS,
    Counts,
)

from .bold_moments_disk import (
    AFFINE,
    CELLS,
    SHAPE,
    SUBJECT,
    SURFACES,
    addresses,
    dump,
    mask_image,
    names,
    source,
    space_path,
    window_path,
    write_rois,
    write_windows,
)

CEILINGS = ["ncsnr_train_published", "ncsnr_test_published"]


def flat(split: str, columns: Any) -> np.ndarray:
    """Return the known values of some columns as (trial, voxel)."""
    known = addresses(split, columns)
    return known.reshape(-1, known.shape[-1])


def test_a_volume(everything: Path) -> None:
    reader = source(everything, responses="MNI152", rois=None)
    recording = reader.responses(SUBJECT)
    for split in ("train", "test"):
        rows = recording.values[split]
        assert rows.shape == flat(split, range(10)).shape
        np.testing.assert_array_equal(rows[0 : rows.shape[0]], flat(split, range(10)))
    named = {1: "lMT", 3: "lMT+BMDgeneral", 5: "rMT+BMDgeneral", 7: "rMT", 8: "rMT", 9: "BMDgeneral"}
    assert list(recording.voxels["roi"]) == [named.get(column, "none") for column in range(10)]
    assert "".join(recording.voxels["hemisphere"]) == "lllllrrrrr"
    np.testing.assert_array_equal(recording.voxels[list("ijk")], np.stack(np.unravel_index(CELLS, SHAPE), axis=1))
    np.testing.assert_allclose(recording.voxels[CEILINGS[1]], np.arange(10) / 20, rtol=1e-6)
    assert recording.attributes == {"space": "MNI152", "affine": AFFINE.tolist()}
    files = reader.response_files(SUBJECT)
    assert files[:2] == [space_path(everything, "MNI152", split) for split in ("train", "test")]
    assert {path.relative_to(everything).as_posix() for path in files} >= {
        GROUP_MASK,
        SUBJECT_MASK.format(subject=SUBJECT),
    }
    assert len(files) == 2 + 2 + 3 + 2


def test_regions_of_a_volume(everything: Path) -> None:
    """Region by region, each voxel once, in the order asked for."""
    recording = source(everything, responses="MNI152", rois=["BMDgeneral", "MT"]).responses(SUBJECT)
    columns = [3, 5, 9, 1, 7, 8]
    np.testing.assert_array_equal(recording.values["train"][0:12], flat("train", columns))
    np.testing.assert_array_equal(recording.values["test"][3:9], flat("test", columns)[3:9])
    assert list(recording.voxels["roi"]) == ["BMDgeneral+lMT", "BMDgeneral+rMT", "BMDgeneral", "lMT", "rMT", "rMT"]
    np.testing.assert_allclose(recording.voxels[CEILINGS[0]], np.asarray(columns) / 10, rtol=1e-6)


@pytest.mark.parametrize("held", ["none", "another", "in a file"])
def test_a_volume_whose_image_does_not_fit_is_placed_by_the_subjects_mask(
    everything: Path, tmp_path: Path, held: str
) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    images = {"none": [], "another": [mask_image(CELLS[:7])], "in a file": [nib.load(copy / GROUP_MASK)]}
    for split in ("train", "test"):
        dump(space_path(copy, "MNI152", split), (addresses(split, range(10)), names(split), *images[held]))  # type: ignore[arg-type]
    voxels = source(copy, responses="MNI152").responses(SUBJECT).voxels
    assert voxels.equals(source(everything, responses="MNI152").responses(SUBJECT).voxels)


@pytest.mark.parametrize("space", SURFACES)
def test_surfaces(everything: Path, space: str) -> None:
    reader = source(everything, responses=space, rois=None)
    recording = reader.responses(SUBJECT)
    columns = np.concatenate([np.asarray(part) for part in SURFACES[space]])
    for split in ("train", "test"):
        rows = recording.values[split]
        np.testing.assert_array_equal(rows[0 : rows.shape[0]], flat(split, columns))
    assert set(recording.voxels["roi"]) == {"none"}
    np.testing.assert_allclose(recording.voxels[CEILINGS[0]], columns / 10, rtol=1e-6)
    assert recording.attributes == {"space": space}
    assert len(reader.response_files(SUBJECT)) == 4 * len(SURFACES[space])
    if space == "fsaverage":
        assert "".join(recording.voxels["hemisphere"]) == "lllrrrr"


def test_grayordinates_have_a_side_where_they_are_all_there(tmp_path: Path) -> None:
    """Left cortex, right cortex and the rest, as the HCP's standard has them; only the published number says so."""
    write_rois(tmp_path)
    counts = Counts(train=1, test=1, train_repeats=1, test_repeats=1)
    for split, stimulus in (("train", "vid0001"), ("test", "vid0002")):
        dump(space_path(tmp_path, "fsLR32k", split), (np.ones((1, 1, FSLR_VOXELS)), [stimulus]))
    recording = source(tmp_path, responses="fsLR32k", rois=None, counts=counts).responses(SUBJECT)
    assert recording.voxels["hemisphere"].value_counts().to_dict() == {"l": 29_696, "r": 29_716, "": 31_870}
    assert list(recording.voxels["hemisphere"][[29_695, 29_696, 59_412]]) == ["l", "r", ""]


def test_windows(everything: Path) -> None:
    reader = source(everything, responses="windows", rois=["EBA", "V1v"], trs=[3, 4, 9])
    recording = reader.responses(SUBJECT)
    for split in ("train", "test"):
        known = flat(split, [2, 3, 4, 0, 1])
        rows = recording.values[split]
        assert rows.shape == (len(known), 3, 5)
        for time, tr in enumerate((3, 4, 9)):
            np.testing.assert_array_equal(rows[0 : len(known)][:, time], known + 1000 * tr)
    assert list(recording.voxels["roi"]) == ["EBA"] * 3 + ["V1v"] * 2
    assert recording.attributes == {"space": "MNI152", "tr_s": 1.75, "trs": [3, 4, 9]}
    assert [path.parts[-3] for path in reader.response_files(SUBJECT)] == ["TR3", "TR4", "TR9"] * 2


def test_windows_larger_than_memory_are_gathered_on_disk(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> np.ndarray:
        rows = source(everything, responses="windows", rois=["EBA", "V1v"]).responses(SUBJECT).values["train"]
        block = rows[2:9]
        whole = block if block.base is None else block.base
        assert isinstance(whole, np.memmap) == (free < 1000)
        return np.array(block)

    free = 10**12
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": free})())
    in_memory = train()
    free = 100
    assert np.array_equal(train(), in_memory)


def test_windows_are_nine_trs_of_22_regions(everything: Path) -> None:
    config = BoldMomentsConfig(path=".", responses="windows")
    assert (config.trs, config.build(everything).rois) == ([1, 2, 3, 4, 5, 6, 7, 8, 9], WINDOW_ROIS)
    for trs in ([], [0, 1], [2, 1], [1, 1], [10]):
        with pytest.raises(ValidationError, match="trs must be ascending numbers within 1 to 9"):
            BoldMomentsConfig(path=".", trs=trs)


@pytest.mark.parametrize("responses", ["MNI152", "fsaverage", "windows"])
@pytest.mark.parametrize("rows", [slice(2, 7), slice(None, None, 3), slice(-2, None), slice(7, 2, -2), slice(4, 4)])
def test_any_slice_of_rows(everything: Path, responses: str, rows: slice) -> None:
    rois = ["EBA", "V1v"] if responses == "windows" else None
    values = source(everything, responses=responses, rois=rois).responses(SUBJECT).values["train"]
    np.testing.assert_array_equal(values[rows], values[0 : values.shape[0]][rows])


def test_test_rows_are_read_when_asked_for(everything: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    recording = source(copy, responses="fsLR32k", rois=None).responses(SUBJECT)
    known = recording.values["test"].shape
    space_path(copy, "fsLR32k", "test").unlink()
    assert recording.values["test"].shape == known == (10, 6)
    with pytest.raises(SourceMissing, match="task-test_normalized.pkl: no such file"):
        recording.values["test"][0:1]


MEASURE = """
import pathlib, sys, tracemalloc
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import Counts
counts = Counts(train=200, test=190, train_repeats=3, test_repeats=3)
source = BoldMomentsConfig(path=".", responses=sys.argv[2], counts=counts).build(pathlib.Path(sys.argv[1]))
tracemalloc.start()
values = source.responses("sub-03").values
for split in ("train", "test"):
    rows = values.pop(split)
    for start in range(0, rows.shape[0], 6):
        rows[start : start + 6]
    del rows
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("space", SURFACES)
def test_reading_takes_little_more_memory_than_the_largest_file(tmp_path: Path, space: str) -> None:
    """Neither both splits nor both hemispheres ever lie in memory as they are stored."""
    (tmp_path / ANNOTATIONS).parent.mkdir(parents=True)
    sizes = []
    for hemisphere in ("left", "right") if space == "fsaverage" else (None,):
        for split, stimuli in (("train", range(1, 201)), ("test", range(201, 391))):
            path = space_path(tmp_path, space, split, hemisphere)
            dump(path, (np.ones((len(stimuli), 3, 13_000)), [f"vid{number:04d}" for number in stimuli]))
            sizes.append(path.stat().st_size)
    assert max(sizes) > 60e6
    command = [sys.executable, "-c", MEASURE, str(tmp_path), space]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert int(done.stdout) < 1.6 * max(sizes)


def test_missing_values_of_a_space_are_kept(everything: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    betas = addresses("train", range(6))
    betas[0, 1, 4] = betas[:, :, 2] = np.nan
    dump(space_path(copy, "fsLR32k"), (betas, names("train")))
    train = source(copy, responses="fsLR32k", rois=None).responses(SUBJECT).values["train"][0:12]
    assert np.isnan(train[:, 2]).all()
    assert np.argwhere(np.isnan(np.delete(train, 2, axis=1))).tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("responses", "hemisphere", "voxels"),
    [("MNI152", None, 108_366), ("fsLR32k", None, 91_282), ("fsaverage", "left", 163_842)],
)
def test_published_counts_hold_the_spaces_too(
    everything: Path, tmp_path: Path, responses: str, hemisphere: str | None, voxels: int
) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    dump(space_path(copy, responses, "train", hemisphere), (np.zeros((1000, 3, 1)), []))
    with pytest.raises(SourceError, match=rf"shape \(1000, 3, 1\) of float64, expected \(1000, 3, {voxels}\)"):
        source(copy, responses=responses, rois=None, counts=Counts()).responses(SUBJECT)


def test_published_counts_hold_version_a_too(tmp_path: Path) -> None:
    """Voxels of version A are declared for the first subject only."""
    write_windows(tmp_path)
    first = window_path(tmp_path, 1)
    dump(first, {"train_data_allvoxel": np.zeros((1000, 3, 1)), "test_data_allvoxel": np.zeros((102, 10, 1))})
    settings: dict[str, Any] = {"responses": "windows", "rois": ["EBA"], "counts": Counts()}
    assert source(tmp_path, **settings).responses(SUBJECT).values["train"].shape == (3000, 9, 1)
    shutil.copytree(first.parents[2], tmp_path / "all")
    for tr in range(1, 10):
        folder = window_path(tmp_path, tr).parent
        folder.rename(folder.with_name("sub-01"))
    with pytest.raises(SourceError, match=r"expected \(1000, 3, 536\)"):
        source(tmp_path, **settings).responses("sub-01")
