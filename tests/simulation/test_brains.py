"""Simulated brains: what drives which region, how noisy a voxel is, and that clips can be decoded."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.linear_model import Ridge

from core.seeds import seed_for
from feature_store.sources.bold_moments.layout import ROIS
from simulation.brains import (
    Fields,
    MotionVoxels,
    Seen,
    SimulatedSubject,
    dense_features,
    motion_energy,
    opponent,
    simulate_subject,
)
from simulation.world import SPLITS, WORLDS, Combination, SimulationConfig, draw_jitter, render

CONFIG = SimulationConfig(n_train=300, n_test=40, voxels=1000)


@pytest.fixture(scope="module")
def shown() -> tuple[NDArray[np.uint8], list[Combination]]:
    world = WORLDS["easy"]
    combinations = [*world.draw("train", CONFIG.n_train, seed=0), *world.draw("test", CONFIG.n_test, seed=0)]
    return render(combinations, draw_jitter(len(combinations), seed_for(0), world.jitter), 8, 32, 32), combinations


@pytest.fixture(scope="module")
def seen(shown: tuple[NDArray[np.uint8], list[Combination]]) -> Seen:
    return Seen.of(*shown, CONFIG.seed)


@pytest.fixture(scope="module")
def subject(seen: Seen) -> SimulatedSubject:
    return simulate_subject(seen, CONFIG, 1)


def joined(subject: SimulatedSubject, split: Any, rois: tuple[str, ...] = ROIS) -> NDArray[np.float64]:
    return np.concatenate([subject.betas[roi][split] for roi in rois], axis=-1)


def test_shapes_and_normalisation(subject: SimulatedSubject) -> None:
    train, test = joined(subject, "train"), joined(subject, "test")
    assert train.shape[:2] == (CONFIG.n_train, CONFIG.train_repeats)
    assert test.shape == (CONFIG.n_test, CONFIG.test_repeats, train.shape[2])
    assert train.dtype == np.float64
    np.testing.assert_allclose(train.mean(axis=(0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=(0, 1)), 1, atol=1e-6)


def test_ncsnr_is_what_the_repeats_show(subject: SimulatedSubject) -> None:
    """The variance of the mean over repeats tells the signal's from the noise's, as in Allen et al. (2022)."""
    train = joined(subject, "train")
    alive = subject.ncsnr > 0
    noise = train.var(axis=1, ddof=1).mean(axis=0)
    measured = np.sqrt(np.maximum(train.var(axis=(0, 1)) - noise, 0) / noise)
    assert np.corrcoef(measured[alive], subject.ncsnr[alive])[0, 1] > 0.8
    assert subject.ncsnr[alive].min() >= CONFIG.ncsnr[0]
    assert subject.ncsnr.max() <= CONFIG.ncsnr[1]
    assert measured[~alive].mean() < 0.1
    assert abs(measured[alive] - subject.ncsnr[alive]).mean() < 0.1


def test_some_regions_hold_noise_only(subject: SimulatedSubject) -> None:
    sizes = [subject.betas[roi]["train"].shape[-1] for roi in ROIS]
    of_voxel = np.repeat(ROIS, sizes)
    assert not subject.ncsnr[np.isin(of_voxel, ["lBA2", "rPFt"])].any()
    assert (subject.ncsnr[of_voxel == "lV1v"] > 0).mean() > 0.5


def test_repeats_have_different_noise_shared_between_voxels(subject: SimulatedSubject) -> None:
    betas = joined(subject, "test")
    assert (betas[:, 0] != betas[:, 1]).all()
    noise = (betas - betas.mean(axis=1, keepdims=True)).reshape(-1, betas.shape[-1])
    spectrum = np.linalg.svd(noise, compute_uv=False) ** 2
    assert spectrum[:20].sum() / spectrum.sum() > CONFIG.shared_noise * 0.8


def test_subjects_differ(seen: Seen, subject: SimulatedSubject) -> None:
    other = simulate_subject(seen, CONFIG, 2)
    assert {roi: b["train"].shape for roi, b in other.betas.items()} != {
        roi: b["train"].shape for roi, b in subject.betas.items()
    }
    again = simulate_subject(seen, CONFIG, 1)
    for split in SPLITS:
        np.testing.assert_array_equal(joined(again, split), joined(subject, split))


def test_pixels_can_be_decoded_by_ridge(
    shown: tuple[NDArray[np.uint8], list[Combination]], subject: SimulatedSubject
) -> None:
    pixels = shown[0].reshape(len(shown[0]), 8, 8, 4, 8, 4, 3).mean(axis=(3, 5)).reshape(len(shown[0]), -1) / 255
    train, test = pixels[: CONFIG.n_train], pixels[CONFIG.n_train :]
    predicted = (
        Ridge(300).fit(joined(subject, "train").mean(axis=1), train).predict(joined(subject, "test").mean(axis=1))
    )
    n = len(test)
    similar = np.corrcoef(predicted, test)[:n, n:]
    own = np.diag(similar)
    two_way = (own[:, None] > similar).sum() / (n * (n - 1))
    by_mean = np.corrcoef(train.mean(axis=0), test)[0, 1:].mean()
    assert 0.88 < two_way < 0.995
    assert own.mean() > by_mean + 0.3


def test_motion_voxels_prefer_a_direction() -> None:
    words = {"shape": "square", "colour": "white", "size": "large", "texture": "plain", "background": "black"}
    pair = [Combination(motion=f"moving {way}", **words) for way in ("left", "right")]
    energy = motion_energy(opponent(render(pair, np.zeros((2, 4), dtype=np.float32), 8, 32, 32)))
    total = energy.sum(axis=(1, 2, 3))  # direction 0 is to the right, 4 to the left
    assert total[0, 4] > 5 * total[0, 0]
    assert total[1, 0] > 5 * total[1, 4]
    middle = Fields(*(np.full(50, value, dtype=np.float32) for value in (0.5, 0.5, 0.2)))
    drive = MotionVoxels.draw(middle, np.random.default_rng(0)).drive(energy)
    assert {bool(sign) for sign in drive[0] > drive[1]} == {True, False}


def test_still_clips_have_no_motion_energy() -> None:
    clips = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 1, 16, 16, 3), dtype=np.uint8), 4, axis=1)
    assert not motion_energy(opponent(clips)).any()


def test_receptive_fields_sum_to_one_and_peak_where_they_lie() -> None:
    place = Fields(np.asarray([0.25], np.float32), np.asarray([0.75], np.float32), np.asarray([0.1], np.float32))
    weights = place.weights(16).reshape(16, 16)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    row, column = np.unravel_index(weights.argmax(), weights.shape)
    assert (row in (11, 12), column in (3, 4)) == (True, True)


def test_no_dense_feature_is_one_attribute(shown: tuple[NDArray[np.uint8], list[Combination]]) -> None:
    combinations = shown[1]
    features = dense_features(combinations, 0)
    codes = np.stack([[c.shape == "circle", c.colour == "red", c.motion == "growing"] for c in combinations]).T
    assert np.abs(np.corrcoef(codes, features.T)[:3, 3:]).max() < 0.8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ncsnr": (0.5, 0.1)}, "0 < low ≤ high"),
        ({"n_train": 9990, "n_test": 48}, "at most 9999"),
        ({"rest": -1}, "rest\n.*greater than or equal to 0"),
        (
            {"rest": 5, "spaces": ("MNI152", "fsLR32k")},
            "rest is written by region: add rois to spaces, found MNI152, fs",
        ),
    ],
)
def test_config_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SimulationConfig(**wrong)
