"""Simulated subjects: voxels in BOLD Moments' regions that respond to clips, with noise as fMRI has it.

A voxel rectifies and compresses what drives it; each trial adds noise, partly the voxel's own, partly shared along
smooth patterns over the cortex; then betas are z-scored by the training trials, as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from feature_store.sources.bold_moments import ROI_VOXELS, ROIS
from simulation.config import SimulationConfig
from simulation.features import Fields, Floats, blur, dense_features, light_drive, motion_drive, motion_energy, opponent
from simulation.world import SPLITS, Combination, Split

EARLY_FIELDS = {"V1v": 0.06, "V1d": 0.06, "V2v": 0.08, "V2d": 0.08, "V3v": 0.11, "V3d": 0.11, "hV4": 0.14}
"""Receptive field size of the regions driven by light and colour, in parts of the frame."""
MOTION = ("MT", "V3ab", "TOS", "STS")
VENTRAL = ("LOC", "FFA", "EBA", "PPA", "OFA", "RSC")

SHARES = {
    **{"V1v": 5, "V1d": 5, "V2v": 4, "V2d": 4, "V3v": 3, "V3d": 3, "hV4": 4},
    **{"MT": 4, "V3ab": 3, "TOS": 2, "STS": 2, "LOC": 8, "FFA": 3, "EBA": 4, "PPA": 3, "OFA": 2, "RSC": 3},
}
"""How a simulated cortex is shared out; regions not named get one share and hold noise only."""

SKEW = 8
"""Most voxels are noisy and few are good: ncsnr is the range times a uniform draw to this power."""
NOISE_RANK = 20
SMOOTHNESS = 0.15
"""Length over which shared noise varies, in parts of the simulated cortex."""


@dataclass(frozen=True)
class Seen:
    """What a subject is shown, as the features that may drive voxels; rows are the stimuli, training first."""

    light: Floats
    motion: Floats
    dense: Floats

    @classmethod
    def of(cls, clips: NDArray[np.uint8], combinations: Sequence[Combination], seed: int) -> "Seen":
        """Prepare clips (n, frame, side, side, 3) for any number of subjects."""
        light = blur(opponent(clips))
        return cls(light, motion_energy(light), dense_features(combinations, seed))


@dataclass(frozen=True)
class SimulatedSubject:
    """One subject's betas by region, as files hold them: (stimulus, repetition, voxel) float64 per split."""

    betas: dict[str, dict[Split, NDArray[np.float64]]]
    ncsnr: Floats
    """Signal sd over the noise sd of one trial, per voxel in the regions' order; 0 where a voxel holds noise only."""


def simulate_subject(seen: Seen, config: SimulationConfig, number: int) -> SimulatedSubject:
    """Simulate one subject; subjects differ in their voxels and noise, and share what is driven by the clips.

    Parameters
    ----------
    seen : the features of all stimuli
    number : int
        The subject's number, from 1.
    """
    rng = rng_for(config.seed, "subject", number)
    sizes = {roi: _size(roi, config.voxels, rng) for roi in ROIS}
    signal = np.concatenate([_responses(seen, roi, sizes[roi], rng) for roi in ROIS], axis=1)
    alive = signal.std(axis=0) > 0
    alive &= rng.random(len(alive)) >= config.silent
    low, high = config.ncsnr
    level = low + (high - low) * rng.random(len(alive)) ** SKEW
    ncsnr = np.where(alive, level, 0).astype(np.float32)
    mean, deviation = signal[: config.n_train].mean(axis=0), signal[: config.n_train].std(axis=0)
    signal = (signal - mean) / np.where(deviation > 0, deviation, 1) * ncsnr
    patterns = _smooth_patterns(sizes, rng)
    train = _trials(signal[: config.n_train], config.train_repeats, patterns, config.shared_noise, rng)
    test = _trials(signal[config.n_train :], config.test_repeats, patterns, config.shared_noise, rng)
    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    whole: dict[Split, NDArray[np.float64]] = {"train": (train - mean) / deviation, "test": (test - mean) / deviation}
    edges = np.cumsum([0, *sizes.values()])
    slices = {roi: slice(a, b) for roi, a, b in zip(ROIS, edges[:-1], edges[1:], strict=True)}
    return SimulatedSubject({roi: {s: whole[s][..., v] for s in SPLITS} for roi, v in slices.items()}, ncsnr)


def _size(roi: str, voxels: int, rng: np.random.Generator) -> int:
    """Return a region's voxel count in one subject, within a tenth of its share."""
    shares = {name: SHARES.get(name, 1) for name in ROI_VOXELS}
    mean = voxels * shares[roi[1:]] / sum(shares.values()) / 2
    return max(1, round(mean * rng.uniform(0.9, 1.1)))


def _responses(seen: Seen, roi: str, voxels: int, rng: np.random.Generator) -> Floats:
    """Return the noiseless responses of a region's voxels: (n, voxel), zero where the region ignores the clips."""
    side, name = roi[0], roi[1:]
    if name in EARLY_FIELDS:
        fields = _fields(side, name, voxels, EARLY_FIELDS[name], rng)
        return _rectify(light_drive(seen.light, fields, rng), rng)
    if name in MOTION:
        return _rectify(motion_drive(seen.motion, _fields(side, name, voxels, 0.2, rng), rng), rng)
    if name in VENTRAL:
        readout = rng.normal(size=(seen.dense.shape[1], voxels)).astype(np.float32)
        return _rectify(seen.dense @ readout, rng)
    return np.zeros((len(seen.dense), voxels), dtype=np.float32)


def _fields(side: str, name: str, voxels: int, size: float, rng: np.random.Generator) -> Fields:
    """Place receptive fields: the left hemisphere sees the right half, ventral regions (…v) the upper half."""
    x = rng.uniform(0, 0.55, voxels)
    y = rng.uniform(0, 0.55, voxels) if name[-1] in "vd" else rng.uniform(0, 1, voxels)
    x = 1 - x if side == "l" else x
    y = 1 - y if name.endswith("d") else y
    spread = size * np.exp(rng.normal(0, 0.2, voxels))
    return Fields(x.astype(np.float32), y.astype(np.float32), spread.astype(np.float32))


def _rectify(drive: Floats, rng: np.random.Generator) -> Floats:
    """Cut off below a threshold and compress: ``max(z - θ, 0) ** 0.7`` for standardised drive z, θ near -1."""
    deviation = drive.std(axis=0)
    z = (drive - drive.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    threshold = rng.uniform(-1.5, -0.5, drive.shape[1])
    return np.asarray(np.maximum(z - threshold, 0) ** 0.7, dtype=np.float32)


def _smooth_patterns(sizes: dict[str, int], rng: np.random.Generator) -> Floats:
    """Return `NOISE_RANK` patterns (rank, voxel) that vary smoothly over a cortex where regions are clusters."""
    centres = np.repeat(rng.uniform(0, 1, (len(sizes), 3)), list(sizes.values()), axis=0)
    places = centres + rng.normal(0, 0.08, centres.shape)
    waves = rng.normal(0, 1 / SMOOTHNESS, (3, NOISE_RANK))
    patterns = np.cos(places @ waves + rng.uniform(0, 2 * np.pi, NOISE_RANK)).T
    return np.asarray(patterns / np.sqrt((patterns**2).sum(axis=0)), dtype=np.float32)


def _trials(
    signal: Floats, repeats: int, patterns: Floats, shared: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Repeat each stimulus's response with fresh noise of unit variance: (stimulus, repetition, voxel)."""
    shape = (len(signal), repeats, signal.shape[1])
    own = rng.standard_normal(shape, dtype=np.float32)
    common = rng.standard_normal((*shape[:2], len(patterns)), dtype=np.float32) @ patterns
    noise = np.sqrt(1 - shared) * own + np.sqrt(shared) * common
    return np.asarray(signal[:, None] + noise, dtype=np.float64)
