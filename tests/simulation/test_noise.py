"""Noise as fMRI has it: ceilings near the published, smooth over the cortex, partly a voxel's own; subjects differ."""

from itertools import pairwise

import numpy as np
import pytest

from feature_store.noise_ceiling import noise_ceiling
from feature_store.sources.bold_moments.layout import ROIS
from simulation.brains import Seen, SimulatedSubject, _places, _smooth_patterns, simulate_subject
from simulation.world import PUBLISHED_NCSNR, SimulationConfig, render
from simulation.write import shown

CONFIG = SimulationConfig(n_train=200, n_test=20, voxels=1500)
PUBLISHED_BEST = (60.8, 63.4)
"""Noise ceilings of one trial in the best published voxel, in percent; see `PUBLISHED_NCSNR`."""


@pytest.fixture(scope="module")
def seen() -> Seen:
    combinations, jitter = shown(CONFIG)
    return Seen.of(render(combinations, jitter, 8, 32, 32), combinations, CONFIG.seed)


@pytest.fixture(scope="module")
def first(seen: Seen) -> SimulatedSubject:
    """The first subject of the defaults."""
    return simulate_subject(seen, CONFIG, 1)


def correlations(subject: SimulatedSubject) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise correlations of pairs of voxels within regions, and of pairs between them."""
    betas = np.concatenate([subject.betas[roi]["test"] for roi in ROIS], axis=-1)
    noise = (betas - betas.mean(axis=1, keepdims=True)).reshape(-1, betas.shape[-1])
    found = np.corrcoef(noise.T)
    region = np.repeat(np.arange(len(ROIS)), [subject.betas[roi]["test"].shape[-1] for roi in ROIS])
    same, pairs = region[:, None] == region, np.triu(np.ones(found.shape, dtype=bool), 1)
    return found[same & pairs], found[~same & pairs]


def test_most_voxels_are_poor_and_the_best_nearly_as_good_as_published(first: SimulatedSubject) -> None:
    """The defaults: half of all voxels explain at most a few percent of three trials' mean, a tenth explain a third."""
    ncsnr = first.ncsnr
    assert 2 < np.median(noise_ceiling(ncsnr, 3)) < 6
    assert 25 < np.quantile(noise_ceiling(ncsnr, 3), 0.9) < 50
    assert 55 < np.quantile(noise_ceiling(ncsnr, 10), 0.9) < 80
    assert 40 < noise_ceiling(ncsnr, 1).max() < min(PUBLISHED_BEST)


def test_the_published_range_reaches_the_best_published_voxel(seen: Seen) -> None:
    ncsnr = simulate_subject(seen, CONFIG.model_copy(update={"ncsnr": PUBLISHED_NCSNR}), 1).ncsnr
    assert min(PUBLISHED_BEST) - 2 < noise_ceiling(ncsnr, 1).max() <= max(PUBLISHED_BEST)
    assert np.median(noise_ceiling(ncsnr, 3)) < 6


def test_neighbours_share_noise_and_far_voxels_do_not(seen: Seen, first: SimulatedSubject) -> None:
    within, between = correlations(first)
    assert CONFIG.shared_noise / 3 < within.mean() < CONFIG.shared_noise
    assert abs(between.mean()) < 0.03
    within, between = correlations(simulate_subject(seen, CONFIG.model_copy(update={"shared_noise": 0.0}), 1))
    assert abs(within.mean()) < 0.01
    assert abs(between.mean()) < 0.01


def test_shared_noise_fades_with_distance(rng: np.random.Generator) -> None:
    places = _places(dict.fromkeys(ROIS, 20), rng)
    patterns = _smooth_patterns(places, rng)
    np.testing.assert_allclose((patterns**2).sum(axis=0), 1, rtol=1e-5)
    distance = np.linalg.norm(places[:, None] - places, axis=-1)
    edges = [1e-9, 0.05, 0.1, 0.2, 0.3, 0.5]
    shared = [(patterns.T @ patterns)[(distance >= low) & (distance < high)].mean() for low, high in pairwise(edges)]
    assert shared == sorted(shared, reverse=True)
    assert shared[0] > 0.9
    assert abs(shared[-1]) < 0.2
    assert abs((patterns.T @ patterns)[distance > 0.5].mean()) < 0.05


def test_subjects_have_voxels_of_their_own(seen: Seen, first: SimulatedSubject) -> None:
    subjects = [first, *(simulate_subject(seen, CONFIG, number) for number in (2, 3, 4))]
    counts = [len(subject.ncsnr) for subject in subjects]
    assert len(set(counts)) == len(counts)
    for roi in ("lV1v", "rLOC"):
        sizes = [subject.betas[roi]["train"].shape[-1] for subject in subjects]
        assert len(set(sizes)) > 1
        assert max(sizes) <= 1.3 * min(sizes)
    first, second = (subject.betas["lV1v"]["train"][..., :10] for subject in subjects[:2])
    assert abs(np.corrcoef(first.reshape(-1, 10).T, second.reshape(-1, 10).T)[:10, 10:]).mean() < 0.2
