"""Bring your own data: read as described, refused in one line where it is not as described."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from core.clips import ClipConfig
from core.errors import SourceError
from feature_store.schema import fault_of_columns
from feature_store.sources.arrays import Arrays, ArraysConfig
from feature_store.sources.base import stays_inside

from .faults.arrays import edit, file


def test_a_folder_is_read_as_it_is_described(arrays_folder: Path) -> None:
    source = ArraysConfig(path=arrays_folder.name).build(arrays_folder.parent)
    assert source.subjects == ["sub-01"]
    stimuli = source.stimuli()
    assert stimuli["split"].value_counts().to_dict() == {"train": 40, "test": 8}
    recording = source.responses("sub-01")
    raw = np.load(arrays_folder / "sub-01" / "responses.npy")
    trials = pd.read_csv(arrays_folder / "sub-01" / "trials.csv")
    test = trials["stimulus_id"].isin(stimuli.loc[stimuli["split"] == "test", "stimulus"]).to_numpy()
    assert np.array_equal(recording.values["test"][0:16], raw[test])
    assert np.array_equal(recording.values["train"][3:7], raw[~test][3:7])
    assert list(recording.trials["test"]["stimulus"]) == list(trials["stimulus_id"][test])
    assert set(recording.voxels["roi"]) == {"V1", "V2"}
    clip = source.clip("s000", ClipConfig(frames=3, height=6, width=6))
    assert clip is not None
    assert clip.shape == (3, 6, 6, 3)
    assert source.target("patches").shape == (48, 36)
    assert source.target("absent") is None


def test_responses_to_no_stimulus_are_optional(arrays_folder: Path) -> None:
    source = Arrays(arrays_folder)
    assert source.responses("sub-01").unlabelled is None
    before = source.response_files("sub-01")
    rest = np.arange(300, dtype=np.int16).reshape(5, 60)
    np.save(arrays_folder / "sub-01" / "unlabelled.npy", rest)
    unlabelled = source.responses("sub-01").unlabelled
    assert unlabelled is not None
    assert np.array_equal(unlabelled[0:5], rest)
    assert set(source.response_files("sub-01")) - set(before) == {arrays_folder / "sub-01" / "unlabelled.npy"}


def test_an_absent_folder_or_subject_is_named(arrays_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere: no such folder; set source\.path"):
        _ = Arrays(tmp_path / "nowhere").subjects
    with pytest.raises(SourceError, match="sub-02: has no responses.npy; did you mean 'sub-01'"):
        _ = Arrays(arrays_folder, ["sub-02"]).subjects


def test_empty_files_and_captions_are_allowed(arrays_folder: Path) -> None:
    edit("stimuli.csv", lambda t: t.assign(file="", caption=""))(arrays_folder)
    source = Arrays(arrays_folder)
    assert source.clip("s000", ClipConfig()) is None
    assert source.stimuli()["caption"].tolist() == [[]] * 48
    assert source.stimulus_files() == [arrays_folder / "stimuli.csv", arrays_folder / "targets" / "patches.npy"]


def test_no_subject_at_all_is_no_choice() -> None:
    with pytest.raises(ValidationError, match="subjects\n.*at least 1 item"):
        ArraysConfig(path="x", subjects=[])


def test_voxels_numbers_are_numbers(arrays_folder: Path) -> None:
    rest = 58
    columns = {
        "x": [1.5, "n/a", *[0] * rest],
        "ncsnr_train_published": [0.5, "", *[1] * rest],
        "i": [3, 0, *[9] * rest],
    }
    edit("sub-01/voxels.csv", lambda t: t.assign(**columns, note=7))(arrays_folder)
    voxels = Arrays(arrays_folder).responses("sub-01").voxels
    assert [voxels[name].dtype for name in ("x", "ncsnr_train_published", "i")] == [np.float64, np.float64, np.int64]
    np.testing.assert_array_equal(
        voxels[["x", "ncsnr_train_published", "i"]].head(2), [[1.5, 0.5, 3], [np.nan, np.nan, 0]]
    )
    assert voxels["note"].tolist() == ["7"] * 60


def test_repetitions_may_be_written_with_a_point(arrays_folder: Path) -> None:
    before = Arrays(arrays_folder).responses("sub-01").trials["test"]
    edit("sub-01/trials.csv", lambda t: t.astype({"repetition": float}))(arrays_folder)
    after = Arrays(arrays_folder).responses("sub-01").trials["test"]
    pd.testing.assert_frame_equal(after, before)
    assert after["repetition"].dtype == np.int64


def test_files_of_one_split_may_be_shared_and_lie_deeper(arrays_folder: Path) -> None:
    file("./s000.png", "s001")(arrays_folder)
    (arrays_folder / "stimuli/deeper").mkdir()
    (arrays_folder / "stimuli/s002.png").rename(arrays_folder / "stimuli/deeper/s002..png")
    file("deeper/s002..png", "s002")(arrays_folder)
    source = Arrays(arrays_folder)
    assert all(path.is_file() for path in source.stimulus_files())
    assert source.clip("s002", ClipConfig(frames=1, height=6, width=6)) is not None


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("a.mp4", True),
        ("a/b..c.mp4", True),
        ("a\\b.mp4", True),
        ("", True),
        ("..", False),
        ("a/..", False),
        ("a\\..\\b", False),
        ("/a", False),
        ("\\a", False),
        ("c:\\a", False),
        ("c:a", False),
        ("//host/share/a", False),
    ],
)
def test_names_that_lead_out_of_a_folder(name: str, inside: bool) -> None:
    assert stays_inside(name) is inside


def test_a_store_keeps_columns_whose_names_can_name_folders() -> None:
    assert fault_of_columns(["roi", "x", "ncsnr_train", "onset s", "a.b-c"]) is None
    for names, message in (
        (["a", "a"], "the column 'a' is there twice"),
        (["c"], "the column 'c' has a name that the store keeps for itself"),
        ([""], "the column '' cannot name a folder"),
        (["a\n"], "the column 'a\n' cannot name a folder"),
    ):
        assert str(fault_of_columns(names)).startswith(message)
