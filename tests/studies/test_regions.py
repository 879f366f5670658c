"""Decoding by region finds where a planted signal lies, and says what it cannot do."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.checkout import project_root as home_folder
from core.errors import ConfigError
from core.files import read_json
from studies.regions.run import decode_regions
from studies.regions.scores import find_regions, outside, same_voxels
from studies.runs import RegionsRef
from studies.study import RegionsConfig, Study, load_study
from studies.training.fit import fit

from ..conftest import write_arrays
from .conftest import write_study
from .routes_source import make_stores

CORRELATION, TWO_WAY = "causes_centred.correlation", "causes_centred.two_way"
ROIS = ["lA"] * 7 + ["rA"] * 7 + ["B"] * 12 + ["B+C"] * 3
"""A carries what was seen, B and C are noise; C is too small."""


def write_planted(
    folder: Path, rng: np.random.Generator, rois: list[str] = ROIS, subjects: tuple[str, ...] = ("sub-01",)
) -> Path:
    """Write an `arrays` source in which the voxels of A alone respond to what is shown."""
    write_arrays(folder, rng, train=60, test=24, voxels=len(rois), clips=False, subjects=subjects)
    names = pd.read_csv(folder / "stimuli.csv")["stimulus_id"]
    causes = rng.normal(size=(len(names), 9)).astype(np.float32)
    np.save(folder / "targets" / "causes.npy", causes)
    carries = np.array(["A" in roi for roi in rois])
    for subject in subjects:
        shown = pd.read_csv(folder / subject / "trials.csv")["stimulus_id"]
        signal = causes[[int(name[1:]) for name in shown]] @ rng.normal(size=(9, len(rois)))
        responses = signal * carries + 0.8 * rng.normal(size=signal.shape)
        np.save(folder / subject / "responses.npy", responses.astype(np.float32))
        pd.DataFrame({"roi": rois}).to_csv(folder / subject / "voxels.csv", index=False)
    return folder


def study_of(home: Path, source: Path, **changed: Any) -> Study:
    content = {"targets": {"causes": {"extractor": "given"}}, "roles": {"z": "causes"}}
    return load_study(write_study(home, source, **content, **changed))


def report_of(made: RegionsRef) -> dict[str, Any]:
    content: dict[str, Any] = read_json(home_folder() / made.folder / "regions.json")
    return content


@pytest.fixture
def planted(home: Path, tmp_path: Path, rng: np.random.Generator) -> Study:
    study = study_of(home, write_planted(tmp_path / "planted", rng))
    make_stores(study)
    return study


def test_the_region_that_carries_the_signal_is_found_and_the_other_is_at_chance(planted: Study) -> None:
    report = report_of(decode_regions(planted))
    target = report["targets"]["z"]
    assert (target["target"], target["metrics"], report["n_test"]) == ("causes", [CORRELATION, TWO_WAY], 24)
    assert report["regions"] == {
        "A": {"names": ["lA", "rA"], "voxels": {"sub-01": 14}},
        "B": {"names": ["B"], "voxels": {"sub-01": 15}},
    }
    assert report["skipped"] == {"C": "fewer than 10 usable voxels in sub-01 (3)"}
    carries, noise = target["regions"]["A"], target["regions"]["B"]
    for metric, high, chance in ((CORRELATION, 0.7, 0.0), (TWO_WAY, 0.9, 0.5)):
        assert carries["alone"][metric]["value"] > high
        assert carries["alone"][metric]["chance"] == chance
        for at_chance in (noise["alone"], carries["without"]):
            low, top = at_chance[metric]["ci95"]
            assert low < chance < top
        assert carries["lost"][metric]["ci95"][0] > 0.25
        assert abs(noise["lost"][metric]["value"]) < 0.1
        everything = target["rows"]["all_voxels"][metric]["value"]
        lost = everything - carries["without"][metric]["value"]
        assert carries["lost"][metric]["value"] == pytest.approx(lost)


@pytest.mark.parametrize(
    "regressor", [{"kind": "ridge"}, {"kind": "ridge", "components": 5, "penalty_per": "target", "repeats": "single"}]
)
def test_a_region_alone_scores_as_a_training_on_its_voxels(
    home: Path, tmp_path: Path, rng: np.random.Generator, regressor: dict[str, Any]
) -> None:
    route = {"encoder": {"kind": "standardise", "reliability": 0.5}, "regressor": regressor}
    source = write_planted(tmp_path / "planted", rng, subjects=("sub-01", "sub-02"))
    study = study_of(home, source, training={"routes": {"chosen": route}})
    make_stores(study)
    target = report_of(decode_regions(study))["targets"]["z"]
    ours = {None: target["rows"]["all_voxels"], "A": target["regions"]["A"]["alone"]}
    ours["B"] = target["regions"]["B"]["alone"]
    for roi, scored in ours.items():
        training = study.training.model_copy(update={"rois": None if roi is None else [roi]})
        trained = fit(study.model_copy(update={"training": training}))
        rows = read_json(home_folder() / trained.folder / "scores.json")["targets"]["z"]["rows"]
        for metric in (CORRELATION, TWO_WAY):
            assert scored[metric]["value"] == pytest.approx(rows["chosen"][metric]["value"], abs=1e-3)
            assert scored[metric]["ci95"] == pytest.approx(rows["chosen"][metric]["ci95"], abs=1e-3)
        if roi is None:
            shuffled = target["rows"]["shuffled_brain"][CORRELATION]["value"]
            assert shuffled == pytest.approx(rows["shuffled_brain"][CORRELATION]["value"], abs=1e-3)


def test_a_voxel_that_comes_twice_leaves_with_its_region(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """As in BOLD Moments by region, where a voxel of two regions comes under either name."""
    source = write_planted(tmp_path / "planted", rng, ["A"] * 14 + ["B"] * 12 + ["D"] * 14)
    values = np.load(source / "sub-01" / "responses.npy")
    values[:, 26:] = values[:, :14]
    np.save(source / "sub-01" / "responses.npy", values)
    study = study_of(home, source)
    make_stores(study)
    regions = report_of(decode_regions(study))["targets"]["z"]["regions"]
    assert regions["D"]["alone"][CORRELATION]["value"] > 0.7
    assert regions["A"]["without"][CORRELATION]["value"] < 0.3
    assert regions["A"]["lost"][CORRELATION]["ci95"][0] > 0.25


def test_a_run_is_found_again_until_what_it_was_made_from_changes(planted: Study) -> None:
    made = decode_regions(planted)
    assert not made.fresh
    assert decode_regions(planted) == made.model_copy(update={"fresh": True})
    folder = home_folder() / made.folder
    assert (folder.parent / "latest").resolve() == folder.resolve()
    report = report_of(made)
    assert report["config"]["route"]["name"] == "ridge"
    assert {"schema", "fingerprint", "git_commit", "stores"} <= set(report)
    apart = planted.model_copy(update={"regions": RegionsConfig(sides="apart", fewest_voxels=5)})
    other = decode_regions(apart)
    assert other.run != made.run
    assert set(report_of(other)["regions"]) == {"lA", "rA", "B"}
    (folder / "regions.png").write_bytes(b"damaged")
    again = decode_regions(planted)
    assert not again.fresh
    assert report_of(again)["targets"] == report["targets"], "the same to the last digit"


def test_pictures_show_bars_and_where_there_are_coordinates_the_brain(planted: Study) -> None:
    made = decode_regions(planted)
    report = report_of(made)
    assert set(report["files"]) == {"regions.png"}
    assert report["brain"] == {
        "picture": None,
        "why": "the store has no coordinates (x, y, z) of the voxels of sub-01",
    }
    assert _looks_drawn(home_folder() / made.folder / "regions.png")

    folder = Path(planted.source.path) / "sub-01"
    places = np.random.default_rng(1).normal((0, -70, 5), 10, (len(ROIS), 3)).round(1)
    pd.read_csv(folder / "voxels.csv").assign(**dict(zip("xyz", places.T, strict=True))).to_csv(
        folder / "voxels.csv", index=False
    )
    make_stores(planted)
    made = decode_regions(planted)
    report = report_of(made)
    assert report["brain"]["picture"] == "brain.png"
    assert "the outline is MNI's, the voxels' space is unknown" in report["brain"]["why"]
    assert set(report["files"]) == {"regions.png", "brain.png"}
    assert _looks_drawn(home_folder() / made.folder / "brain.png")


def _looks_drawn(path: Path) -> bool:
    with Image.open(path) as image:
        image.load()
        colours = len(np.unique(np.asarray(image.convert("RGB").resize((120, 60))).reshape(-1, 3), axis=0))
        return image.format == "PNG" and image.width == 1200 and 200 < image.height < 2000 and colours > 20


def test_without_a_ridge_route_the_plain_one_is_taken_and_said(planted: Study) -> None:
    changed = planted.model_dump() | {"training": {"routes": {"pca": {"encoder": {"kind": "pca"}}}}}
    report = report_of(decode_regions(Study.model_validate(changed)))
    assert report["config"]["route"]["name"] is None
    assert report["notes"] == ["no route of the study is ridge on standardised voxels; decoded by the plain one"]


def test_subjects_whose_region_is_too_small_are_said(home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    source = write_planted(tmp_path / "planted", rng, subjects=("sub-01", "sub-02"))
    pd.DataFrame({"roi": ["lA"] * 4 + ["B"] * 25}).to_csv(source / "sub-02" / "voxels.csv", index=False)
    study = study_of(home, source)
    make_stores(study)
    report = report_of(decode_regions(study))
    assert report["regions"]["A"]["voxels"] == {"sub-01": 14}
    assert report["regions"]["B"]["voxels"] == {"sub-01": 15, "sub-02": 25}
    assert report["notes"] == ["A: fewer than 10 usable voxels in sub-02 (4)"]
    assert report["voxels"] == {"sub-01": 29, "sub-02": 29}


@pytest.mark.parametrize(("roi", "said"), [("none", "none is named"), ("brain", "all are of 'brain'")])
def test_a_whole_brain_without_regions_has_nothing_to_compare(
    home: Path, tmp_path: Path, rng: np.random.Generator, roi: str, said: str
) -> None:
    study = study_of(home, write_planted(tmp_path / "planted", rng, [roi] * 12))
    make_stores(study)
    made = decode_regions(study)
    assert (made.run, made.folder) == ("", "")
    assert f"no ROI that is a part of the brain among the voxels of sub-01 ({said})" in made.note
    assert "\n" not in made.note
    assert not (study.outputs / "regions").exists()


def test_regions_that_are_all_too_small_are_one_line(planted: Study) -> None:
    changed = planted.model_copy(update={"regions": RegionsConfig(fewest_voxels=100)})
    with pytest.raises(ConfigError, match=r"no ROI is left .*A: fewer than 100 usable voxels in sub-01 \(14\)"):
        decode_regions(changed)


def test_only_the_rois_of_the_training_are_decoded_from(planted: Study) -> None:
    training = planted.training.model_copy(update={"rois": ["A", "C"]})
    changed = planted.model_copy(update={"training": training, "regions": RegionsConfig(fewest_voxels=2)})
    report = report_of(decode_regions(changed))
    assert set(report["regions"]) == {"A", "C"}
    assert report["voxels"] == {"sub-01": 17}


def test_sides_are_joined_where_there_are_two_and_no_whole() -> None:
    config = RegionsConfig(fewest_voxels=1)
    rois = {"one": ["lA", "rA", "lB", "lC", "rC", "C", "right", "none"], "two": ["rB", "rA", "none", "left"]}
    found = {
        one.name: (one.names, {s: v.tolist() for s, v in one.voxels.items()}) for one in find_regions(config, rois).kept
    }
    assert found == {
        "A": (("lA", "rA"), {"one": [0, 1], "two": [1]}),
        "B": (("lB", "rB"), {"one": [2], "two": [0]}),
        "lC": (("lC",), {"one": [3]}),
        "rC": (("rC",), {"one": [4]}),
        "C": (("C",), {"one": [5]}),
        "right": (("right",), {"one": [6]}),
        "left": (("left",), {"two": [3]}),
    }
    apart = find_regions(RegionsConfig(fewest_voxels=1, sides="apart"), rois)
    assert [one.name for one in apart.kept] == ["lA", "rA", "lB", "lC", "rC", "C", "right", "rB", "left"]


def test_the_largest_regions_are_kept_in_the_order_of_the_store() -> None:
    rois = {"one": ["S"] * 2 + ["L"] * 5 + ["M"] * 3 + ["none"]}
    made = find_regions(RegionsConfig(fewest_voxels=1, most=2), rois)
    assert [one.name for one in made.kept] == ["L", "M"]
    assert made.skipped == {"S": "not among the 2 largest"}


def test_what_holds_every_voxel_of_a_subject_is_no_part() -> None:
    rois = {"one": ["lA", "rA"]}
    with pytest.raises(ConfigError, match="A: holds every voxel of one"):
        find_regions(RegionsConfig(fewest_voxels=1), rois)


def test_the_same_voxel_is_known_by_its_values(rng: np.random.Generator) -> None:
    features = rng.normal(size=(6, 4)).astype(np.float32)
    features[:, 3] = features[:, 1]
    same = same_voxels(features)
    assert same.tolist() == [0, 1, 2, 1]
    assert outside(np.array([1]), same).tolist() == [0, 2]
