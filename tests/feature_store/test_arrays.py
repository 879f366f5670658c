"""Bring your own data: read as described, refused in one line where it is not as described."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.clips import ClipConfig
from core.errors import SourceError
from feature_store.sources.arrays import Arrays, ArraysConfig

from .faults.arrays import edit


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
