"""Bring your own data: read as described, refused in one line where it is not as described."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.clips import ClipConfig
from core.errors import SourceError
from feature_store.sources.arrays import Arrays, ArraysConfig


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


def edit(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(pd.read_csv(folder / name)).to_csv(folder / name, index=False)

    return apply


def save(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, values)


def with_row(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    return pd.concat([table, pd.DataFrame([{**table.iloc[0].to_dict(), **values}])])


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("no table", lambda f: (f / "stimuli.csv").unlink(), "stimuli.csv: no such table"),
    ("no column", edit("stimuli.csv", lambda t: t.rename(columns={"split": "spilt"})), "'split'; did you mean 'spilt'"),
    ("split", edit("stimuli.csv", lambda t: t.assign(split="val")), "has the split 'val'; expected train or test"),
    ("both", edit("stimuli.csv", lambda t: with_row(t, split="test")), "'s000' is in training and in test"),
    ("twice", edit("stimuli.csv", lambda t: with_row(t)), "'s000' is listed twice in train"),
    ("name", edit("stimuli.csv", lambda t: t.replace("s000", "../s000")), "'../s000' cannot name a file"),
    (
        "file",
        edit("stimuli.csv", lambda t: t.replace("s047.png", "s000.png")),
        "the file 's000.png' is in training and",
    ),
    ("no test", edit("stimuli.csv", lambda t: t.assign(split="train")), "no stimulus has the split 'test'"),
    ("no responses", lambda f: (f / "sub-01/responses.npy").unlink(), "no subject; expected a folder such as sub-01"),
    ("counts", save("sub-01/responses.npy", np.zeros((5, 3))), r"shape \(5, 3\) and trials.csv 96 rows"),
    ("text", save("sub-01/responses.npy", np.array(["a"] * 96)), "expected real numbers"),
    ("pickle", save("sub-01/responses.npy", np.array([{}] * 96)), "not a plain numpy array"),
    ("garbage", lambda f: (f / "sub-01/responses.npy").write_bytes(b"x"), "not a plain numpy array"),
    ("unknown", edit("sub-01/trials.csv", lambda t: t.replace("s000", "s00")), "'s00' is not in the stimulus table"),
    ("repeat", edit("sub-01/trials.csv", lambda t: t.assign(repetition=0)), "has repetition 0 twice"),
    ("number", edit("sub-01/trials.csv", lambda t: t.assign(repetition="x")), "repetition 'x' is not a whole number"),
    ("voxels", edit("sub-01/voxels.csv", lambda t: t.head(2)), "has 2 rows; responses.npy has 60 voxels"),
    ("binary csv", lambda f: (f / "stimuli.csv").write_bytes(b"\xff\xfe\x00"), "not a CSV table"),
]


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line(arrays_folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(arrays_folder)
    source = Arrays(arrays_folder)
    with pytest.raises(SourceError, match=message) as caught:
        _ = source.stimuli(), [source.responses(subject) for subject in source.subjects]
    assert "\n" not in str(caught.value)


def test_an_absent_folder_or_subject_is_named(arrays_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere: no such folder; set source\.path"):
        _ = Arrays(tmp_path / "nowhere").subjects
    with pytest.raises(SourceError, match="sub-02: has no responses.npy; did you mean 'sub-01'"):
        _ = Arrays(arrays_folder, ["sub-02"]).subjects


def test_embeddings_of_another_length_are_refused(arrays_folder: Path) -> None:
    np.save(arrays_folder / "targets" / "patches.npy", np.zeros((3, 2)))
    with pytest.raises(SourceError, match=r"shape \(3, 2\); expected 48 rows"):
        Arrays(arrays_folder).target("patches")


def test_empty_files_and_captions_are_allowed(arrays_folder: Path) -> None:
    edit("stimuli.csv", lambda t: t.assign(file="", caption=""))(arrays_folder)
    source = Arrays(arrays_folder)
    assert source.clip("s000", ClipConfig()) is None
    assert source.stimuli()["caption"].tolist() == [[]] * 48
    assert source.stimulus_files() == [arrays_folder / "stimuli.csv", arrays_folder / "targets" / "patches.npy"]
