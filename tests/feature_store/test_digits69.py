"""The digits: the disk against what the dataset declares, and other files refused."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from core.clips import ClipConfig
from core.errors import SourceError
from feature_store.sources.digits69 import Digits69


def content(**changed: object) -> dict[str, object]:
    made: dict[str, object] = {}
    for suffix, rows in (("Trn", 90), ("Test", 10)):
        made[f"fmri{suffix}"] = np.zeros((rows, 3092))
        made[f"stim{suffix}"] = np.zeros((rows, 784), np.uint8)
        made[f"label{suffix}"] = np.ones((rows, 1), np.uint8)
    return {**made, **changed}


def test_the_real_file_holds_what_the_class_declares(shared_data: Path) -> None:
    source = Digits69(shared_data / "digits69" / "digit69_28x28.mat")
    stimuli = source.stimuli()
    assert stimuli.groupby(["split", "group"]).size().to_dict() == {
        ("test", "nine"): 5,
        ("test", "six"): 5,
        ("train", "nine"): 45,
        ("train", "six"): 45,
    }
    recording = source.responses("sub-01")
    assert recording.values["train"].shape == (90, 3092)
    assert recording.values["test"].shape == (10, 3092)
    clip = source.clip("train-000", ClipConfig(frames=2, height=28, width=28))
    assert clip.shape == (2, 28, 28, 3)
    assert (clip[0] == clip[1]).all()
    # upright: a six has more ink in its lower half, a nine in its upper
    for name, group in zip(stimuli["stimulus"], stimuli["group"], strict=True):
        ink = source.clip(name, ClipConfig(frames=1, height=28, width=28))[0, :, :, 0].astype(float).sum(axis=1)
        lower = ink[14:].sum() > ink[:14].sum()
        assert lower == (group == "six") or abs(ink[14:].sum() - ink[:14].sum()) < 0.3 * ink.sum()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fmriTrn": np.zeros((90, 5))}, r"fmriTrn has the shape \(90, 5\); expected \(90, 3092\)"),
        ({"stimTest": np.zeros((9, 784))}, r"stimTest has the shape \(9, 784\); expected \(10, 784\)"),
        ({"labelTrn": np.full((90, 1), 7)}, "label 7 is neither 1"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    scipy.io.savemat(tmp_path / "x.mat", content(**changed))
    source = Digits69(tmp_path / "x.mat")
    with pytest.raises(SourceError, match=message):
        _ = source.stimuli(), source.responses("sub-01"), source.clip("test-000", ClipConfig())


def test_an_absent_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file; set source\.path to digit69_28x28\.mat"):
        Digits69(tmp_path / "absent.mat").stimuli()
    (tmp_path / "broken.mat").write_bytes(b"nothing" * 100)
    with pytest.raises(SourceError, match="not a MATLAB file"):
        Digits69(tmp_path / "broken.mat").stimuli()
    scipy.io.savemat(tmp_path / "x.mat", content())
    with pytest.raises(SourceError, match="holds sub-01 only, 'sub-02' was asked for"):
        Digits69(tmp_path / "x.mat").responses("sub-02")
