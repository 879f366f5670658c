"""A simulated subject in BOLD Moments' true layout: every kind of responses is ingested by the same code."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from core.checkout import project_root as home_folder
from feature_store import Responses, Store, verify
from feature_store.sources.base import SPLITS
from feature_store.sources.bold_moments.layout import ROIS, ResponseKind
from studies.stores.responses import ingest, simulate_source
from studies.study import load_study

from .test_simulated import CONFIG, TINY

KINDS = get_args(ResponseKind)
WORLD = [*TINY, f"simulation.spaces=[{', '.join(KINDS)}]", "simulation.subjects=1", "source.subjects=[1]"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once; read only."""
    folder = tmp_path_factory.mktemp("world") / "bold-moments"
    simulate_source(load_study(CONFIG, [*WORLD, "simulation.annotations=newer"]), folder)
    return folder


def ingested(dataset: Path, kind: str, *settings: str) -> Responses:
    study = load_study(CONFIG, [*WORLD, f"source.responses={kind}", f"source.path={dataset}", *settings])
    reference = ingest(study, "sub-01")
    group, recording = Store(study.store).responses("sub-01"), study.source.build(home_folder()).responses("sub-01")
    for split in SPLITS:
        rows = recording.values[split]
        assert np.array_equal(group.values(split)[0], rows[0 : rows.shape[0]], equal_nan=True)
        assert reference.shapes[f"{split}/betas"] == list(rows.shape)
    assert list(verify(study.store)) == []
    assert ingest(study, "sub-01").fresh
    return group


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_ingested(home: Path, dataset: Path, kind: str) -> None:
    group = ingested(dataset, kind)
    voxels = group.voxels
    assert {"roi", "ncsnr_train", "ncsnr_test"} <= set(voxels)
    assert group.attributes["source"] == "bold_moments"
    assert voxels["ncsnr_train"].notna().mean() > 0.9
    values, stimuli = group.values("train", repeats="mean")
    assert values.ndim == (3 if kind == "windows" else 2)
    assert stimuli == [f"{number:04d}" for number in range(1, 13)]
    if kind == "windows":
        assert (values.shape[1], group.attributes["tr_s"]) == (9, 1.75)


@pytest.mark.parametrize("kind", ["MNI152", "fsLR32k", "fsaverage", "rois"])
def test_our_noise_ceilings_are_the_published_ones(home: Path, dataset: Path, kind: str) -> None:
    """The dataset's files and our estimate follow the same formula, from the same betas."""
    agreement = ingested(dataset, kind).attributes["noise_ceiling_agreement"]
    assert set(agreement) == set(SPLITS)
    for split in SPLITS:
        assert agreement[split]["correlation"] > 0.999
        assert abs(agreement[split]["median_difference"]) < 1e-3


def test_a_region_of_the_whole_space_is_that_regions_file(home: Path, dataset: Path) -> None:
    space, region = ingested(dataset, "MNI152"), ingested(dataset, "rois", "study=regions", "source.rois=[lV1v]")
    whole, _ = space.values("test", rois=["lV1v"])
    assert np.array_equal(whole, region.values("test")[0])
    columns = ["i", "j", "k", "x", "y", "z"]
    inside = space.voxels[space.voxels["roi"].map(lambda names: "lV1v" in names.split("+"))]
    assert np.allclose(inside[columns], region.voxels[columns])
    assert space.attributes["affine"] == region.attributes["affine"]
    known = set("+".join(space.voxels["roi"]).split("+"))
    assert set(ROIS) | {"BMDgeneral", "none"} >= known >= {"lV1v", "BMDgeneral", "none"}


@pytest.mark.parametrize("release", ["early", "newer"])
def test_both_releases_of_the_annotations_give_the_same_captions(home: Path, tmp_path: Path, release: str) -> None:
    study = load_study(CONFIG, [*TINY, "simulation.subjects=1", f"simulation.annotations={release}"])
    simulate_source(study, tmp_path / release)
    source = load_study(CONFIG, [*TINY, f"source.path={tmp_path / release}"]).source.build(home_folder())
    captions = source.stimuli()["caption"]
    assert captions.map(len).eq(5).all()
    assert all("background" in text for text in captions[0])
