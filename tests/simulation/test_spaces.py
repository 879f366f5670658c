"""Every part of the true layout is written, reads back through the source, and derives from the same voxels."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydantic import ValidationError

from core.errors import SourceError
from core.files import digest_folder, read_json
from feature_store.sources.base import Recording
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import (
    BETAS,
    GENERAL,
    GROUP_MASK,
    ROI_INDICES,
    ROIS,
    SUBJECT_MASK,
    WINDOW_ROIS,
)
from feature_store.sources.pickles import load_pickle
from simulation.spaces import (
    Anatomy,
    Volume,
    at_tr,
    haemodynamic,
    measured_ncsnr,
    noise_ceiling,
    place_regions,
    surface_columns,
    window_columns,
)
from simulation.world import SimulationConfig, Space
from simulation.write import _files, counts_of, simulate

SPACES: tuple[Space, ...] = ("rois", "MNI152", "fsLR32k", "fsaverage", "windows")


@pytest.fixture(scope="module")
def config(tiny: SimulationConfig) -> SimulationConfig:
    return tiny.model_copy(update={"spaces": SPACES, "annotations": "newer"})


@pytest.fixture(scope="module")
def everything(config: SimulationConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once and read only."""
    return simulate(config, tmp_path_factory.mktemp("simulated") / "everything")


def read(config: SimulationConfig, folder: Path, responses: str, subject: str = "sub-02", **settings: Any) -> Recording:
    source = BoldMomentsConfig(path=str(folder), responses=responses, counts=counts_of(config), **settings)  # type: ignore[arg-type]
    return source.build(Path("/")).responses(subject)


def rows(recording: Recording) -> np.ndarray:
    """Return both splits' rows, training first."""
    return np.concatenate([part[0 : part.shape[0]] for part in recording.values.values()])


@pytest.fixture(scope="module")
def anatomy(config: SimulationConfig, everything: Path) -> Anatomy:
    """The second subject's, from the sizes of its regions on disk."""
    counts = read(config, everything, "rois").voxels["roi"].value_counts()
    return place_regions(config, 2, {roi: int(counts[roi]) for roi in ROIS})


def test_every_file_is_there_and_no_other(config: SimulationConfig, everything: Path) -> None:
    there = {path.relative_to(everything).as_posix() for path in everything.rglob("*") if path.is_file()}
    assert there == {*_files(config), "dataset_description.json"}
    assert len(there) > 2 * (46 + 2 + 47 + 6 + 6 + 12 + 230)


def test_same_config_same_bytes(config: SimulationConfig, everything: Path, tmp_path: Path) -> None:
    assert digest_folder(simulate(config, tmp_path / "again")) == digest_folder(everything)


def test_more_spaces_leave_the_regions_as_they_were(dataset: Path, everything: Path) -> None:
    for roi in ROIS:
        name = BETAS.format(subject="sub-02", roi=roi)
        assert (everything / name).read_bytes() == (dataset / name).read_bytes()


def test_defaults_are_described_as_before(
    tiny: SimulationConfig, config: SimulationConfig, dataset: Path, everything: Path
) -> None:
    made_by = read_json(dataset / "dataset_description.json")["SimulatedBy"]["Config"]
    assert {"spaces", "annotations"}.isdisjoint(made_by)
    assert read_json(everything / "dataset_description.json")["SimulatedBy"]["Config"]["spaces"] == list(SPACES)
    with pytest.raises(SourceError, match=r"holds a simulation with spaces = \['rois'\], expected \['rois', 'MNI152'"):
        simulate(config, dataset)


def test_a_region_is_the_volume_at_its_indices(config: SimulationConfig, everything: Path) -> None:
    volume, regions = read(config, everything, "MNI152"), read(config, everything, "rois", rois=["EBA", GENERAL])
    at = {cell: column for column, cell in enumerate(volume.voxels[list("ijk")].itertuples(index=False, name=None))}
    columns = [at[cell] for cell in regions.voxels[list("ijk")].itertuples(index=False, name=None)]
    np.testing.assert_array_equal(rows(regions), rows(volume)[:, columns])
    for name in ("hemisphere", "x", "ncsnr_train_published", "ncsnr_test_published"):
        assert list(regions.voxels[name]) == list(volume.voxels[name].iloc[columns])
    assert all(
        roi in whole.split("+")
        for roi, whole in zip(regions.voxels["roi"], volume.voxels["roi"].iloc[columns], strict=True)
    )


def test_regions_chosen_from_the_volume_are_the_regions(config: SimulationConfig, everything: Path) -> None:
    chosen, regions = (read(config, everything, kind, rois=["V1v", "rLOC"]) for kind in ("MNI152", "rois"))
    np.testing.assert_array_equal(rows(chosen), rows(regions))
    assert list(chosen.voxels["roi"]) == list(regions.voxels["roi"])


def test_whole_brain_is_the_volume(config: SimulationConfig, everything: Path) -> None:
    whole, volume = read(config, everything, "rois", rois=["WB"]), read(config, everything, "MNI152")
    np.testing.assert_array_equal(rows(whole), rows(volume))
    assert whole.voxels[list("ijkxyz")].equals(volume.voxels[list("ijkxyz")])


def test_masks(config: SimulationConfig, everything: Path) -> None:
    subjects = [nib.load(everything / SUBJECT_MASK.format(subject=f"sub-0{n}")) for n in (1, 2)]
    masks = [image.get_fdata() > 0 for image in subjects]
    group = nib.load(everything / GROUP_MASK)
    assert (masks[0] != masks[1]).any()
    np.testing.assert_array_equal(group.get_fdata() > 0, masks[0] & masks[1])
    volume = read(config, everything, "MNI152")
    assert len(volume.voxels) == masks[1].sum() < masks[1].size
    np.testing.assert_array_equal(volume.attributes["affine"], subjects[1].affine)
    assert nib.orientations.aff2axcodes(group.affine) == ("R", "A", "S")


def test_regions_lie_on_their_side_in_the_group_mask(config: SimulationConfig, everything: Path) -> None:
    group = nib.load(everything / GROUP_MASK).get_fdata() > 0
    for roi in ROIS:
        ijk, index, image = load_pickle(everything / ROI_INDICES.format(subject="sub-01", roi=roi))
        np.testing.assert_array_equal(np.stack(np.unravel_index(index, group.shape), axis=1), ijk)
        assert group[tuple(ijk.T)].all()
        np.testing.assert_array_equal(image.voxels(everything) > 0, group)
        x = ijk @ image.affine[0, :3] + image.affine[0, 3]
        assert (x < 0).all() if roi[0] == "l" else (x > 0).all()


def test_noise_ceilings_are_those_of_the_betas(config: SimulationConfig, everything: Path) -> None:
    for space in ("MNI152", "fsLR32k", "fsaverage"):
        recording = read(config, everything, space)
        for split, repeats in (("train", 3), ("test", 4)):
            part = recording.values[split]  # type: ignore[index]
            betas = part[0 : part.shape[0]].reshape(-1, repeats, part.shape[1]).astype(np.float64)
            noise = np.mean([np.var(one, axis=0, ddof=1) for one in betas], axis=0)
            total = np.var(betas.reshape(-1, betas.shape[2]), axis=0)
            expected = np.sqrt(np.clip(total - noise, 0, None)) / np.sqrt(noise)
            np.testing.assert_allclose(recording.voxels[f"ncsnr_{split}_published"], expected, atol=1e-3)
    folder = everything / "derivatives/versionB/MNI152/GLM/sub-01/prepared_betas"
    assert sorted(path.name[20:] for path in folder.glob("*noiseceiling*")) == [
        f"task-{kind}.pkl" for kind in ("test_n-1", "test_n-4", "train_n-1", "train_n-3")
    ]
    for n in (1, 4):
        ncsnr, percent, _ = load_pickle(folder / f"sub-01_noiseceiling_task-test_n-{n}.pkl")
        np.testing.assert_allclose(percent, 100 * ncsnr**2 / (ncsnr**2 + 1 / n))


def test_ncsnr_of_known_noise(config: SimulationConfig) -> None:
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((4000, 1, 3)) * [0, 0.5, 2]
    betas = 3 * (signal + rng.standard_normal((4000, 3, 3)))
    np.testing.assert_allclose(measured_ncsnr(betas), [0, 0.5, 2], atol=0.1)
    assert not measured_ncsnr(betas[:, :1]).any()
    np.testing.assert_allclose(noise_ceiling(np.asarray([1.0]), 3), 75)


def test_surfaces_resample_the_volume(config: SimulationConfig, everything: Path, anatomy: Anatomy) -> None:
    volume = read(config, everything, "MNI152")
    for space in ("fsLR32k", "fsaverage"):
        columns = surface_columns(config, 2, anatomy, space)
        surface = read(config, everything, space)
        np.testing.assert_array_equal(rows(surface), rows(volume)[:, columns])
    assert list(surface.voxels["hemisphere"]) == list(volume.voxels["hemisphere"].iloc[columns])


def test_windows_are_betas_spread_over_time(config: SimulationConfig, everything: Path, anatomy: Anatomy) -> None:
    volume = rows(read(config, everything, "MNI152"))
    windows = read(config, everything, "windows", rois=["LOC", "WB"])
    values = rows(windows)
    loc = window_columns(anatomy, "LOC")
    np.testing.assert_array_equal(values[:, :, : len(loc)], values[:, :, len(loc) :][:, :, loc])
    height = [np.polyfit(volume.ravel(), values[:, time, len(loc) :].ravel(), 1)[0] for time in range(9)]
    np.testing.assert_allclose(height, [haemodynamic((tr - 0.5) * 1.75) for tr in range(1, 10)], atol=0.02)
    assert np.argmax(height) in (2, 3)
    assert height[0] < 0.1
    assert read(config, everything, "windows").voxels["roi"].unique().tolist() == list(WINDOW_ROIS)


def test_the_average_of_windows(config: SimulationConfig, everything: Path) -> None:
    folder = everything / "derivatives/versionA/MNI152/prepared_data/prepared_allvoxel_pkl"
    parts = [load_pickle(folder / f"TR{tr}/sub-01/V1v_TR-{tr}_allvoxel.pkl") for tr in range(5, 10)]
    mean = load_pickle(folder / "TRavg56789/sub-01/V1v_TRavg-56789_allvoxel.pkl")
    for key, values in mean.items():
        np.testing.assert_allclose(values, np.mean([part[key] for part in parts], axis=0))


def test_noise_of_windows_is_fresh_at_each_tr(config: SimulationConfig) -> None:
    still = {"train": np.zeros((3, 2, 4)), "test": np.zeros((2, 2, 4))}
    first, second = (at_tr(config, 1, still, tr)["train"] for tr in (1, 2))  # type: ignore[arg-type]
    assert (first != second).all()


def test_newer_annotations(config: SimulationConfig, dataset: Path, everything: Path) -> None:
    """Ids lie where their labels lie, and what the source takes is the same in both releases."""
    notes = read_json(everything / "derivatives/stimuli_metadata/annotations.json")
    for note in notes.values():
        assert {"MiT_url", "MiT_filename", "THINGS_uniqueID", "PLACES365_classID", "MiT_classID"} <= set(note)
        assert [len(label) for label in note["objects"]] == [len(ids) for ids in note["THINGS_uniqueID"]] == [3] * 5
        assert len(note["scenes"]) == len(note["PLACES365_classID"]) == len(note["actions"]) == 5
    tables = [
        BoldMomentsConfig(path=str(folder), counts=counts_of(config)).build(Path("/")).stimuli()
        for folder in (dataset, everything)
    ]
    assert tables[0].equals(tables[1])


def test_published_fields_are_the_newer_ones(shared_data: Path, everything: Path) -> None:
    path = shared_data / "bold-moments/ds005165/derivatives/stimuli_metadata/annotations_fieldnames.json"
    if not path.is_file():
        pytest.skip(f"{path}: the published field names are not here")
    note = read_json(everything / "derivatives/stimuli_metadata/annotations.json")["0001"]
    assert set(note) == {*read_json(path), "attributes"}


def test_one_space_alone(tiny: SimulationConfig, config: SimulationConfig, everything: Path, tmp_path: Path) -> None:
    alone = tiny.model_copy(update={"spaces": ("fsLR32k",)})
    folder = simulate(alone, tmp_path / "alone")
    assert not (folder / "derivatives/versionB/MNI152").exists()
    np.testing.assert_array_equal(rows(read(alone, folder, "fsLR32k")), rows(read(config, everything, "fsLR32k")))


@pytest.mark.parametrize("voxels", [46, 138, 1500, 20_000])
def test_the_volume_holds_all_regions(voxels: int) -> None:
    config = SimulationConfig(voxels=voxels)
    volume = Volume.of(config)
    assert volume.inner.sum() / 2 >= 0.55 * voxels + 46
    assert volume.affine[0, 3] == -3.0 * (volume.shape[0] - 1) / 2


def test_spaces_are_named_once() -> None:
    with pytest.raises(ValidationError, match="spaces must name each kind once, found rois, rois"):
        SimulationConfig(spaces=("rois", "rois"))
    with pytest.raises(ValidationError, match="at least 1"):
        SimulationConfig(spaces=())
