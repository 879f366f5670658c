"""What a request for BOLD Moments means, checked against the published listing; clips, against what was published."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.clips import write_clip
from core.errors import DownloadError, SourceError, SourceMissing
from feature_store.remote import Bucket, RemoteObject
from feature_store.sources.bold_moments.layout import BETAS, ROIS, TRS, Counts
from feature_store.sources.bold_moments.request import KINDS, Request, check_clips, request

from ..conftest import SHARED

LISTING = SHARED / "bold-moments" / "ds005165_derivatives_sub-01_tree_with_sizes.txt"
COUNTS = Counts(train=3, test=2)


class Listed(Bucket):
    """A bucket of which only a listing is known."""

    def __init__(self, keys: dict[str, int]) -> None:
        super().__init__("openneuro.org", "ds005165/", region="us-east-1")
        self.keys = keys

    def list_folder(self, folder: str, *, deep: bool = False) -> list[RemoteObject]:
        inside = {
            key: key.removeprefix(f"{folder}/") for key in self.keys if key.startswith(f"{folder}/" * bool(folder))
        }
        return [RemoteObject(key, self.keys[key], "") for key, rest in inside.items() if deep or "/" not in rest]


@pytest.fixture
def published() -> Listed:
    """The published files of sub-01; only the averaged windows were listed, the others stand beside them here."""
    if not LISTING.is_file():
        pytest.skip("the published listing of ../shared/data is not here")
    rows = [line.split()[-2:] for line in LISTING.read_text().splitlines()]
    keys = {key: int(size.replace(",", "")) for size, key in rows}
    average = {key: size for key, size in keys.items() if "TRavg56789" in key}
    for tr in TRS:
        keys |= {key.replace("avg56789", f"{tr}").replace("avg-56789", f"-{tr}"): n for key, n in average.items()}
    return Listed({**keys, "dataset_description.json": 1, "participants.tsv": 1, "CHANGES": 1})


def fetched(bucket: Bucket, *words: Any, **more: Any) -> dict[str, int]:
    return {item.key: item.size for item in bucket.find(request(["1"], *words, **more).wanted())}


def test_two_regions_of_a_subject_are_small(published: Listed) -> None:
    keys = fetched(published, ["EBA", "lV1v", "lEBA"])
    always = {"dataset_description.json", "participants.tsv", "derivatives/stimuli_metadata/annotations.json"}
    assert {*keys} == always | {BETAS.format(subject="sub-01", roi=roi) for roi in ("lEBA", "rEBA", "lV1v")}
    assert sum(fetched(published, ["lTOS"]).values()) < 7e6


def test_coordinates_bring_indices_ceilings_and_masks(published: Listed) -> None:
    more = {*fetched(published, ["MT", "WB"], coordinates=True)} - {*fetched(published, ["MT", "WB"])}
    glm = "derivatives/versionB/MNI152/GLM"
    expected = {f"{glm}/sub-01/ROIs/ROI-{roi}_indices.pkl" for roi in ("lMT", "rMT")}
    expected |= {f"{glm}/mask/{name}_space-MNI152.nii" for name in ("groupMask", "sub-01_mask-nonans")}
    tasks = ("train_n-1", "train_n-3", "test_n-1", "test_n-10")
    assert more == expected | {f"{glm}/sub-01/prepared_betas/sub-01_noiseceiling_task-{t}.pkl" for t in tasks}


@pytest.mark.parametrize(
    ("kind", "files", "gigabytes"),
    [
        ("rois", 46, 0.48),
        ("MNI152", 6 + 47 + 2, 3.7),
        ("fsLR32k", 6, 2.9),
        ("fsaverage", 12, 10.6),
        ("windows", 9 * 22, 2.4),
    ],
)
def test_every_kind_is_in_the_published_listing(published: Listed, kind: str, files: int, gigabytes: float) -> None:
    keys = fetched(published, [], [kind])
    assert len(keys) == files + 3
    assert sum(keys.values()) / 1e9 == pytest.approx(gigabytes, rel=0.05)


def test_all_is_all_of_it(published: Listed) -> None:
    every = {key for kind in KINDS for key in fetched(published, [], [kind], coordinates=True)}
    everything = {*fetched(published, everything=True)}
    assert every < everything
    assert sum(key.endswith(("_roi-WB_betas_normalized.pkl", "WB_TR-1_allvoxel.pkl")) for key in everything) == 2
    assert not any("/ses-" in key for key in everything), "what GLMsingle wrote is not responses"
    with pytest.raises(DownloadError, match="sub-02: no sub-02_roi-lMT_betas_normalized.pkl among 0 files there"):
        published.find(request(["2"], ["lMT"]).wanted())


def test_regions_narrow_what_goes_by_region() -> None:
    assert request(["1"], ["lMT"], ["fsLR32k"]).kinds == ("rois", "fsLR32k")
    assert request(["1"], ["lEBA", "WB"], ["windows"]).kinds == ("windows",)
    windows = dict([*request(["1"], ["EBA", "WB"], ["windows"]).wanted().items()][2:])
    assert [folder.split("/")[-2] for folder in windows] == [f"TR{tr}" for tr in TRS]
    assert all(names == ("EBA_*_allvoxel.pkl", "WB_*_allvoxel.pkl") for names in windows.values())
    assert request(["1", "sub-01", "03"], ["EBA"]) == Request(("sub-01", "sub-03"), ("rois",), ("lEBA", "rEBA"))
    assert len(request(everything=True).subjects) == 10
    assert len([*request(["1"], responses=["rois"]).wanted().values()][-1]) == len(ROIS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (([], ["EBA"]), "no subject is named: say --subject 1 .* or --all"),
        ((["1"],), "no responses are named: say --roi EBA .*--responses with one of rois, MNI152"),
        ((["11"], ["EBA"]), "--subject 11: no such subject; BOLD Moments has 1 to 10"),
        ((["²"], ["EBA"]), "--subject ²: no such subject"),
        ((["1"], ["EBB"]), "--roi EBB: no such region; did you mean 'EBA'"),
        ((["1"], [], ["fsLR"]), "--responses fsLR: no such responses; did you mean 'fsLR32k'"),
        ((["1"], ["MT"], ["windows"]), "--roi MT: has no windows; those that have are V1v, "),
    ],
)
def test_a_request_that_cannot_be_is_one_line(words: tuple[list[str], ...], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        request(*words).wanted()


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for stimulus in COUNTS.stimuli(split):  # type: ignore[arg-type]
            write_clip(tmp_path / split / f"{stimulus}.mp4", np.zeros((6, 16, 16, 3), np.uint8), 2.0, min_side=16)
    return tmp_path


def test_clips_as_published_have_no_finding(clips: Path) -> None:
    assert check_clips(clips, COUNTS) == []
    (clips / "train" / ".DS_Store").touch()
    assert check_clips(clips, COUNTS) == []


def test_clips_that_differ_are_named(clips: Path) -> None:
    (clips / "train" / "0001.mp4").unlink()
    (clips / "train" / "0002.mp4").write_bytes(b"no video")
    (clips / "test" / "0001.mp4").write_bytes(b"")
    write_clip(clips / "test" / "0005.mp4", np.zeros((9, 16, 16, 3), np.uint8), 2.0, min_side=16)
    said = "\n".join(check_clips(clips, COUNTS))
    assert f"{clips}/train/0001.mp4: no such clip (2 of 3 are there); copy it again" in said
    assert f"{clips}/train/0002.mp4: not a video that can be opened (1 such); copy it again" in said
    assert f"{clips}/test/0001.mp4: no clip of this split (1 such), expected 0004.mp4 to 0005.mp4; remove it" in said
    assert f"{clips}/test/0005.mp4: lasts 4.50 s, expected 2.5 to 3.5 s (1 such); copy it again" in said
    assert len(said.splitlines()) == 4
    assert "(0 of 1,000 are there)" in check_clips(clips.parent)[0]


def test_no_clips_say_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such folder; the clips are not on OpenNeuro: open https://boldmoments"):
        check_clips(tmp_path / "stimuli")
