"""The judge: that it learns to read what is there, repeats, survives the disk, and refuses what it does not know."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from core.files import digest_folder
from models.classifiers.attributes import AttributeClassifier
from zoo.corpus import JudgeConfig, train_judge

ATTRIBUTES = {"side": ("left", "right"), "colour": ("red", "green", "blue")}
QUICK = JudgeConfig(steps=60, batch=16, lr=5e-3)


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return clips with one half coloured, and (side, colour)."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(0, 2, n), rng.integers(0, 3, n)], axis=1)
    clips = rng.integers(0, 60, (n, 2, 16, 16, 3), dtype=np.uint8)
    for clip, (side, colour) in zip(clips, labels, strict=True):
        clip[:, :, 8 * side : 8 * side + 8, colour] += 150
    return clips, labels


@pytest.fixture(scope="module")
def judge() -> AttributeClassifier:
    return train_judge(QUICK, *draw(200, 0), ATTRIBUTES)


def test_it_reads_clips_it_has_not_seen(judge: AttributeClassifier):
    clips, labels = draw(60, 1)
    assert judge.accuracy(clips, labels) == {"side": 1.0, "colour": 1.0}
    wrong = labels.copy()
    wrong[:15, 1] = (wrong[:15, 1] + 1) % 3
    assert judge.accuracy(clips, wrong) == {"side": 1.0, "colour": 0.75}


def test_it_is_kept_and_loaded(judge: AttributeClassifier, tmp_path: Path):
    judge.save(tmp_path)
    loaded = AttributeClassifier.load(tmp_path)
    clips, _ = draw(40, 2)
    np.testing.assert_array_equal(loaded.read(clips), judge.read(clips))
    assert loaded.attributes == ATTRIBUTES
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


def test_equal_settings_give_equal_bytes(judge: AttributeClassifier, tmp_path: Path):
    for name, one in (("one", judge), ("two", train_judge(QUICK, *draw(200, 0), ATTRIBUTES))):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name)
    assert digest_folder(tmp_path / "one") == digest_folder(tmp_path / "two")


def test_what_it_does_not_know_is_one_line(judge: AttributeClassifier, tmp_path: Path):
    with pytest.raises(ModelError, match=r"expected clips uint8 \(n, 2, 16, 16, 3\), found uint8 \(3, 4, 16, 16, 3\)"):
        judge.read(np.zeros((3, 4, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(ModelError, match="holds no attribute classifier .*zoo train"):
        AttributeClassifier.load(tmp_path)
    judge.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="holds no attribute classifier"):
        AttributeClassifier.load(tmp_path)
    assert judge.read(np.zeros((0, 2, 16, 16, 3), dtype=np.uint8)).shape == (0, 2)
