"""CLIP similarity and frame consistency against torchmetrics and scipy."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from torchmetrics import CosineSimilarity

from evaluation.metrics import metric
from evaluation.metrics.frames import unit_vectors
from evaluation.statistics.intervals import mean_interval

NAMES = ("similarity", "consistency_adjacent", "consistency_all")
CONSISTENCY = NAMES[1:]


@pytest.fixture
def clips(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.normal(0.3, 1.0, size=(5, 6, 32)).astype(np.float32)
    return (0.5 * truth + 0.3 * rng.normal(size=truth.shape)).astype(np.float32), truth


def test_similarity_is_torchmetrics_cosine_averaged_over_frames(clips):
    values = metric("similarity").per_stimulus(*clips)
    for value, prediction, truth in zip(values, *clips, strict=True):
        wanted = CosineSimilarity(reduction="mean")(torch.tensor(prediction), torch.tensor(truth))
        assert value == pytest.approx(float(wanted), abs=1e-6)
        by_frame = [1 - cosine(*frame) for frame in zip(prediction.astype(float), truth.astype(float), strict=True)]
        assert value == pytest.approx(np.mean(by_frame), abs=1e-12)


@pytest.mark.parametrize("name", CONSISTENCY)
@pytest.mark.parametrize("frames", [2, 6])
def test_consistency_is_scipys_cosine_over_pairs_of_frames(clips, name: str, frames: int):
    clips = clips[0][:, :frames].astype(float), clips[1][:, :frames]
    pairs = [(at, at + 1) for at in range(frames - 1)] if name.endswith("adjacent") else combinations(range(frames), 2)
    wanted = np.mean([[1 - cosine(clip[a], clip[b]) for clip in clips[0]] for a, b in pairs], axis=0)
    np.testing.assert_allclose(metric(name).per_stimulus(*clips), wanted, atol=1e-12)


@pytest.mark.parametrize("name", CONSISTENCY)
def test_consistency_rewards_a_still_picture_whatever_was_shown(clips, name: str):
    still = np.repeat(clips[0][:, :1], 6, axis=1)
    values = metric(name).per_stimulus(still, clips[1])
    np.testing.assert_allclose(values, 1.0, rtol=1e-12)
    assert (values <= 1.0).all()
    np.testing.assert_array_equal(metric(name).per_stimulus(still, -clips[1]), values)
    assert (metric(name).per_stimulus(clips[1], clips[1]) < 0.5).all()  # the oracle's row


def test_slow_drift_shows_between_all_pairs_alone():
    angles = np.linspace(0, np.pi / 2, 10)
    drifting = np.stack([np.cos(angles), np.sin(angles)], axis=1)[None]
    adjacent, every = (metric(name).per_stimulus(drifting, drifting)[0] for name in CONSISTENCY)
    assert adjacent > 0.98
    assert every < 0.85


def test_length_does_not_count_however_small_or_large(clips):
    wanted = [metric(name).per_stimulus(*clips) for name in NAMES]
    for scale in (1e-200, 1e200):
        scaled = clips[0].astype(float) * scale
        found = [metric(name).per_stimulus(scaled, clips[1]) for name in NAMES]
        np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert np.abs(unit_vectors(np.array([3.0, 4.0])) - [0.6, 0.8]).max() < 1e-15


def test_truth_earns_1_and_a_zero_vector_0(clips):
    values = metric("similarity").per_stimulus(clips[1], clips[1])
    np.testing.assert_allclose(values, 1.0, rtol=1e-12)
    assert (values <= 1.0).all()
    for name in NAMES:
        np.testing.assert_array_equal(metric(name).per_stimulus(np.zeros_like(clips[0]), clips[1]), 0.0)


def test_noise_is_similar_to_nothing(rng: np.random.Generator):
    prediction, truth = rng.normal(size=(2, 200, 3, 40))
    low, high = mean_interval(metric("similarity").per_stimulus(prediction, truth))
    assert low < 0 < high


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_prediction_that_is_not_finite_has_no_value_and_spoils_no_other(clips, name: str, broken: float):
    prediction = clips[0].copy()
    prediction[2, 3, 1] = broken
    values, wanted = metric(name).per_stimulus(prediction, clips[1]), metric(name).per_stimulus(*clips)
    assert np.isnan(values[2])
    np.testing.assert_array_equal(np.delete(values, 2), np.delete(wanted, 2))


@pytest.mark.parametrize("name", CONSISTENCY)
def test_a_single_frame_has_no_consistency(name: str):
    assert not metric(name).applies_to((4, 1, 8))
    with pytest.raises(ValueError, match="with 2 frames or more"):
        metric(name).per_stimulus(np.ones((4, 1, 8)), np.ones((4, 1, 8)))
    assert metric("similarity").applies_to((4, 1, 8))
