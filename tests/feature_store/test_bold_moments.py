"""BOLD Moments: a small dataset whose values tell their address reads as declared, in every space and both releases."""

import re
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from core.clips import ClipConfig, write_clip
from core.errors import SourceError, SourceMissing
from core.files import read_json, write_json
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import (
    ANNOTATIONS,
    FSAVERAGE_VERTICES,
    FSLR_CORTEX,
    FSLR_VOXELS,
    GENERAL,
    GENERAL_VOXELS,
    MNI_VOXELS,
    PUBLISHED_SUBJECTS,
    ROI_VOXELS,
    ROIS,
    WINDOW_ROIS,
    WINDOW_VOXELS,
    Counts,
)

from .bold_moments_disk import (
    AFFINE,
    CELLS,
    REGIONS,
    SHAPE,
    SUBJECT,
    addresses,
    ceiling_path,
    dump,
    index_path,
    mask_image,
    pair,
    rest_path,
    roi_path,
    source,
    write_rest,
    write_rois,
)

SHARED = Path(__file__).parents[2].parent / "shared/data/bold-moments"


LISTING = SHARED / "ds005165_derivatives_sub-01_tree_with_sizes.txt"


MT = [*REGIONS["lMT"], *REGIONS["rMT"]]


CEILINGS = ["ncsnr_train_published", "ncsnr_test_published"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Regions only, as the cheapest download brings them."""
    write_rois(tmp_path)
    return tmp_path


def flat(split: str, columns: Any) -> np.ndarray:
    """Return the known values of some columns as (trial, voxel)."""
    known = addresses(split, columns)
    return known.reshape(-1, known.shape[-1])


def test_declared_voxels() -> None:
    assert sum(map(sum, ROI_VOXELS.values())) == 8335
    assert len(ROIS) == 46
    assert len(PUBLISHED_SUBJECTS) == len(MNI_VOXELS) == 10
    assert len(WINDOW_ROIS) == 22
    assert sum(FSLR_CORTEX) < FSLR_VOXELS
    counts = Counts()
    assert counts.stimuli("train")[::999] == ["0001", "1000"]
    assert counts.stimuli("test")[::101] == ["1001", "1102"]


def listed(pattern: str) -> dict[str, int]:
    """Return published sizes in bytes by what a pattern finds in the names."""
    if not LISTING.is_file():
        pytest.skip(f"{LISTING}: the published listing is not here")
    rows = [line.split() for line in LISTING.read_text().splitlines()]
    found = ((re.search(pattern, name), int(size.replace(",", ""))) for *_, size, name in rows)
    return {match[1]: size for match, size in found if match}


def test_declared_voxels_give_the_published_sizes() -> None:
    """A region's file holds 4,020 float64 and three indices of 8 bytes per voxel, and two volumes of a mask."""
    sizes = listed(r"versionB/MNI152/prepared_allvoxel_pkl/sub-01/sub-01_roi-(.+)_betas")
    voxels = {f"{side}{roi}": pair["lr".index(side)] for roi, pair in ROI_VOXELS.items() for side in "lr"}
    voxels |= {GENERAL: GENERAL_VOXELS, "WB": MNI_VOXELS["sub-01"]}
    assert set(sizes) == set(voxels)
    for roi, count in voxels.items():
        assert abs(sizes[roi] - (4_662_349 + 32_184 * count)) < 100, roi


def test_declared_voxels_give_the_published_sizes_of_spaces() -> None:
    """Betas are (1000, 3, V) and (102, 10, V) float64; a name takes 10 bytes, MNI152's mask image 2.33 MB."""
    volumes = {"MNI152": MNI_VOXELS["sub-01"], "fsLR32k": FSLR_VOXELS, "fsaverage": FSAVERAGE_VERTICES}
    for space, count in volumes.items():
        for split, trials, stimuli in (("train", 3000, 1000), ("test", 1020, 102)):
            sizes = listed(rf"versionB/{space}/GLM/sub-01/prepared_betas/(sub-01_organized_betas_task-{split}.*)")
            expected = trials * count * 8 + stimuli * 10 + 2_332_400 * (space == "MNI152")
            assert len(sizes) == (2 if space == "fsaverage" else 1)
            assert all(abs(size - expected) < 500 for size in sizes.values()), space
    for size in listed(r"fsLR32k/GLM/sub-01/prepared_betas/(sub-01_noiseceiling.*)").values():
        assert abs(size - 2 * 8 * FSLR_VOXELS) < 500


def test_declared_voxels_give_the_published_sizes_of_version_a() -> None:
    """A region's file holds 4,022 float64 per voxel; whole numbers of voxels above 255 take four bytes more."""
    sizes = listed(r"TRavg56789/sub-01/(.+)_TRavg-56789_allvoxel")
    assert set(sizes) == {*WINDOW_ROIS, "WB"} == {*WINDOW_VOXELS["sub-01"], "WB"}
    for roi, count in WINDOW_VOXELS["sub-01"].items():
        assert sizes[roi] == 384 + 32_176 * count + 4 * (count > 255), roi


def test_responses(root: Path) -> None:
    recording = source(root).responses(SUBJECT)
    assert list(recording.voxels) == ["roi", "index", "hemisphere"]
    assert list(recording.voxels["roi"]) == ["lMT"] * 2 + ["rMT"] * 3
    assert list(recording.voxels["index"]) == [0, 1, 0, 1, 2]
    assert list(recording.voxels["hemisphere"]) == list("llrrr")
    assert recording.attributes == {"space": "MNI152"}
    train, test = (np.asarray(recording.values[split][slice(None)]) for split in ("train", "test"))
    assert (train.shape, test.shape, train.dtype) == ((12, 5), (10, 5), np.float32)
    for row, trial in recording.trials["test"].iterrows():
        address = (int(trial["stimulus"]) - 5) * 100 + trial["repetition"] * 10
        np.testing.assert_array_equal(test[int(str(row))], [address + column for column in MT])
    assert list(recording.trials["train"]["stimulus"][:4]) == ["0001", "0001", "0001", "0002"]


def test_regions_without_a_side(everything: Path) -> None:
    reader = source(everything, rois=["rMT", "BMDgeneral", "WB"])
    recording = reader.responses(SUBJECT)
    columns = [*REGIONS["rMT"], *REGIONS["BMDgeneral"], *range(10)]
    np.testing.assert_array_equal(recording.values["train"][0:12], flat("train", columns))
    assert list(recording.voxels["roi"]) == ["rMT"] * 3 + ["BMDgeneral"] * 3 + ["WB"] * 10
    assert "".join(recording.voxels["hemisphere"]) == "rrr" + "lrr" + "lllllrrrrr"
    np.testing.assert_allclose(recording.voxels[CEILINGS[0]], np.asarray(columns) / 10, rtol=1e-6)


def test_places_and_ceilings_of_regions(everything: Path) -> None:
    reader = source(everything)
    recording = reader.responses(SUBJECT)
    ijk = np.stack(np.unravel_index(CELLS[MT], SHAPE), axis=1)
    np.testing.assert_array_equal(recording.voxels[list("ijk")], ijk)
    np.testing.assert_allclose(recording.voxels[list("xyz")], nib.affines.apply_affine(AFFINE, ijk))
    np.testing.assert_allclose(recording.voxels[CEILINGS[0]], np.asarray(MT) / 10, rtol=1e-6)
    np.testing.assert_allclose(recording.voxels[CEILINGS[1]], np.asarray(MT) / 20, rtol=1e-6)
    assert {recording.voxels[name].dtype.name for name in [*"xyz", *CEILINGS]} == {"float32"}
    assert recording.attributes == {"space": "MNI152", "affine": AFFINE.tolist()}
    files = [path.name for path in reader.response_files(SUBJECT)]
    assert files[2:4] == ["ROI-lMT_indices.pkl", "ROI-rMT_indices.pkl"]
    assert "sub-03_noiseceiling_task-train_n-3.pkl" in files
    assert "sub-03_noiseceiling_task-test_n-1.pkl" in files


def test_places_need_every_region_and_are_no_duty(everything: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    index_path(copy, "rMT").unlink()
    reader = source(copy)
    assert len(reader.response_files(SUBJECT)) == 2
    assert list(reader.responses(SUBJECT).voxels) == ["roi", "index", "hemisphere"]
    only_left = source(copy, rois=["lMT"])
    ceiling_path(copy, "MNI152", "test").unlink()
    assert set(only_left.responses(SUBJECT).voxels) & set(CEILINGS) == {CEILINGS[0]}


def test_an_index_may_count_the_masks_voxels(everything: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(everything, tmp_path / "copy")
    before = source(copy).responses(SUBJECT).voxels
    ijk = np.stack(np.unravel_index(CELLS[REGIONS["lMT"]], SHAPE), axis=1)
    dump(index_path(copy), [ijk, np.asarray(REGIONS["lMT"]), mask_image()])
    assert source(copy).responses(SUBJECT).voxels.equals(before)


def test_missing_values_are_kept(root: Path) -> None:
    betas = pair(REGIONS["lMT"])
    betas["train_data_allvoxel"][1, 2, 0] = np.nan
    dump(roi_path(root), betas)
    train = np.asarray(source(root).responses(SUBJECT).values["train"][slice(None)])
    assert np.argwhere(np.isnan(train)).tolist() == [[5, 0]]


def test_rest_is_read_where_a_simulation_wrote_it(tmp_path: Path) -> None:
    write_rest(tmp_path)
    reader = source(tmp_path)
    rest = reader.responses(SUBJECT).unlabelled
    assert rest is not None
    np.testing.assert_array_equal(rest[0:4], -(np.arange(4)[:, None] * 10 + np.asarray(MT)))
    assert [path.name[7:] for path in reader.response_files(SUBJECT)[2:]] == [
        "roi-lMT_rest_normalized.pkl",
        "roi-rMT_rest_normalized.pkl",
    ]
    only_right = source(tmp_path, rois=["rMT"])
    right = only_right.responses(SUBJECT).unlabelled
    assert right is not None
    assert right.shape == (4, 3)
    assert rest_path(tmp_path, "lMT") not in only_right.response_files(SUBJECT)


def test_the_published_dataset_has_no_rest(root: Path, tmp_path: Path) -> None:
    assert source(root).responses(SUBJECT).unlabelled is None
    write_rest(tmp_path)
    assert source(tmp_path, rois=["lMT", "WB"]).responses(SUBJECT).unlabelled is None, "WB is no region of its own"


def test_stimuli_and_files(root: Path) -> None:
    reader = source(root)
    stimuli = reader.stimuli()
    assert list(stimuli["stimulus"]) == ["0001", "0002", "0003", "0004", "0005", "0006"]
    assert list(stimuli["split"]) == ["train"] * 4 + ["test"] * 2
    assert stimuli["caption"][5] == ["caption 6"]
    assert len(reader.stimulus_files()) == 7
    assert [path.name[7:14] for path in reader.response_files(SUBJECT)] == ["roi-lMT", "roi-rMT"]
    assert reader.target("clip") is None


def test_clip(root: Path) -> None:
    shade = np.full((4, 64, 64, 3), 128, dtype=np.uint8)
    write_clip(root / "stimuli/test/0005.mp4", shade, 2, min_side=64)
    clip = source(root).clip("0005", ClipConfig(frames=2, height=8, width=8, window_s=2))
    assert clip is not None
    assert clip.shape == (2, 8, 8, 3)
    assert abs(int(clip.mean()) - 128) <= 3
    with pytest.raises(SourceError, match="stimulus '0007': not one of this dataset's"):
        source(root).clip("0007", ClipConfig())


def test_clips_elsewhere_or_nowhere(root: Path) -> None:
    (root / "stimuli").rename(root / "elsewhere")
    assert len(source(root, stimuli="elsewhere").stimulus_files()) == 7
    assert source(root).stimulus_files() == [root / ANNOTATIONS]
    with pytest.raises(SourceMissing, match=r"OpenNeuro does not hold the clips; .* set source.stimuli"):
        source(root).clip("0001", ClipConfig())


def test_rois() -> None:
    def chosen(*names: str) -> tuple[str, ...]:
        return BoldMomentsConfig(path=".", rois=list(names)).build(Path.cwd()).rois

    assert chosen("lEBA", "V1v", "rEBA", "EBA") == ("lEBA", "lV1v", "rV1v", "rEBA")
    assert BoldMomentsConfig(path=".").build(Path.cwd()).rois == ROIS
    with pytest.raises(ValidationError, match="at least 1 item"):
        chosen()
    with pytest.raises(SourceError, match="no ROI 'V1w' in BOLD Moments; did you mean 'V1v'"):
        chosen("V1w")


def test_absent_folder_and_subjects(root: Path) -> None:
    with pytest.raises(SourceMissing, match="nowhere: no such folder; expected BOLD Moments"):
        source(root / "nowhere")
    with pytest.raises(SourceMissing, match="sub-04: no such subject; found sub-03"):
        _ = source(root, subjects=[3, 4]).subjects
    for responses in ("rois", "MNI152", "fsLR32k"):
        with pytest.raises(SourceMissing, match="sub-04: no such subject"):
            source(root, responses=responses, rois=None).responses("sub-04")
        with pytest.raises(SourceMissing, match="no subject; expected folders sub-01"):
            _ = source(root / "stimuli", responses=responses, rois=None).subjects
    with pytest.raises(SourceMissing, match="sub-04: no such folder; download it, or fix source.trs"):
        source(root, responses="windows", rois=None).responses("sub-04")
    assert source(root, subjects=[3]).subjects == ["sub-03"]


def test_subjects_of_each_kind(everything: Path) -> None:
    for responses in ("rois", "MNI152", "fsLR32k", "fsaverage", "windows"):
        assert source(everything, responses=responses, rois=None).subjects == ["sub-03"]


def test_published_counts_hold_the_voxels_too(root: Path) -> None:
    """With the published counts a file of another number of voxels is refused."""
    wrong = {"train_data_allvoxel": np.zeros((1000, 3, 1)), "test_data_allvoxel": np.zeros((102, 10, 1))}
    dump(roi_path(root), wrong)
    with pytest.raises(SourceError, match=r"has shape \(1000, 3, 1\) of float64, expected \(1000, 3, 38\)"):
        source(root, rois=["lMT"], counts=Counts()).responses(SUBJECT)


def test_published_annotations(tmp_path: Path) -> None:
    release = SHARED / "annotations-early-release.json"
    if not release.exists():
        pytest.skip(f"{release}: the published annotations are not here")
    notes = read_json(release)
    newer = {stimulus: {**note, "THINGS": {"label": ["dog"]}} for stimulus, note in notes.items()}
    for published in (notes, newer):
        write_json(tmp_path / ANNOTATIONS, published)
        stimuli = BoldMomentsConfig(path=".").build(tmp_path).stimuli()
        assert list(stimuli["split"]) == ["train"] * 1000 + ["test"] * 102
        assert stimuli["caption"].map(len).eq(5).all()
        assert stimuli["caption"][0][0] == "A duck is swimming in a lake searching for food"


def test_no_subject_at_all_is_no_choice() -> None:
    with pytest.raises(ValidationError, match="subjects\n.*at least 1 item"):
        BoldMomentsConfig(path=".", subjects=[])
