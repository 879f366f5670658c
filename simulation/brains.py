"""Simulated subjects: voxels in BOLD Moments' regions that respond to clips, with noise as fMRI has it.

A voxel rectifies and compresses what drives it; each trial adds noise, partly the voxel's own, partly shared along
smooth patterns over the cortex; then betas are z-scored by the training trials, as published. At rest, the same voxels
re-enact mixtures of what was never shown.

What drives voxels is local light and colour, motion energy and dense features of the clips' attributes. Nothing here
knows any video model's latents: brains driven by what is later decoded would make the result circular.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from feature_store.sources.bold_moments.layout import ROI_VOXELS, ROIS
from simulation.world import ATTRIBUTES, SPLITS, Combination, SimulationConfig, Split

Floats = NDArray[np.float32]

OPPONENT = np.asarray([[0.30, 0.59, 0.11], [0.70, -0.70, 0.0], [0.35, 0.35, -0.70]], dtype=np.float32)
"""RGB to luminance, red against green, yellow against blue."""

DENSE = 256
"""Width of the dense features through which attributes reach ventral voxels."""
BEND = 1.2
"""How far each layer is from linear: the sine's argument has this standard deviation."""


@dataclass(frozen=True)
class Fields:
    """Receptive fields of some voxels, in parts of the frame: centres x and y in 0 to 1, standard deviations `size`."""

    x: Floats
    y: Floats
    size: Floats

    def weights(self, side: int) -> Floats:
        """Return Gaussian weights over a square frame, each summing to one: shape (voxel, side · side)."""
        at = (np.arange(side, dtype=np.float32) + 0.5) / side
        across = np.exp(-(((at - self.x[:, None]) / self.size[:, None]) ** 2) / 2)
        down = np.exp(-(((at - self.y[:, None]) / self.size[:, None]) ** 2) / 2)
        maps = (down[:, :, None] * across[:, None, :]).reshape(len(self.x), -1)
        return np.asarray(maps / maps.sum(axis=1, keepdims=True), dtype=np.float32)


def opponent(clips: NDArray[np.uint8]) -> Floats:
    """Turn clips (n, frame, height, width, 3) into opponent channels of the same shape, about -1 to 1."""
    return np.asarray(clips.astype(np.float32) / 255 @ OPPONENT.T, dtype=np.float32)


def blur(channels: Floats) -> Floats:
    """Halve the resolution by averaging, as an eye does: (n, frame, side, side, 3) to half the side."""
    n, frames, height, width, count = channels.shape
    blocks = channels.reshape(n, frames, height // 2, 2, width // 2, 2, count)
    return np.asarray(blocks.mean(axis=(3, 5)), dtype=np.float32)


@dataclass(frozen=True)
class LightVoxels:
    """Early visual voxels: each likes one colour direction in one place, at one part of the clip."""

    fields: Fields
    moment: NDArray[np.float64]
    """The part of the clip, 0 to 1: (V, 1)."""
    colour: NDArray[np.float64]
    """Weights of the opponent channels: (V, 3)."""

    @classmethod
    def draw(cls, fields: Fields, rng: np.random.Generator) -> Self:
        """Draw what voxels with these receptive fields like."""
        voxels = len(fields.x)
        moment = rng.uniform(0, 1, (voxels, 1))
        return cls(fields, moment, rng.normal(size=(voxels, 3)) * (1.0, 1.2, 1.2))

    def drive(self, channels: Floats) -> Floats:
        """Return the voxels' drive, (n, V), by channels (n, frame, side, side, 3) from `opponent`."""
        n, frames, side = channels.shape[:3]
        at = (np.arange(frames) + 0.5) / frames
        when = np.exp(-(((at - self.moment) / 0.25) ** 2) / 2)
        kernel = np.einsum("vt,vc->vtc", when / when.sum(axis=1, keepdims=True), self.colour).astype(np.float32)
        local = channels.transpose(0, 1, 4, 2, 3).reshape(n * frames * 3, side * side) @ self.fields.weights(side).T
        local = local.reshape(n, frames, 3, len(self.moment))
        return np.asarray(np.einsum("ntcv,vtc->nv", local, kernel), dtype=np.float32)


def motion_energy(channels: Floats) -> Floats:
    """Return motion energy in eight directions and flicker, from luminance: shape (n, frame - 1, side, side, 9).

    The energy of a direction is the product of the temporal and the negated spatial derivative along it, rectified: an
    edge that moves that way.
    """
    light = channels[..., 0]
    change = np.diff(light, axis=1)
    middle = (light[:, 1:] + light[:, :-1]) / 2
    down, across = np.gradient(middle, axis=(2, 3))
    angles = np.arange(8) * np.pi / 4
    directed = [np.maximum(-change * (across * np.cos(a) + down * np.sin(a)), 0) for a in angles]
    return np.asarray(np.sqrt(np.stack([*directed, change**2], axis=-1)), dtype=np.float32)


@dataclass(frozen=True)
class MotionVoxels:
    """Motion voxels: each likes energy near one direction, in a wide receptive field."""

    fields: Fields
    tuning: NDArray[np.float64]
    """Weights of the eight directions and of flicker: (V, 9)."""

    @classmethod
    def draw(cls, fields: Fields, rng: np.random.Generator) -> Self:
        """Draw what voxels with these receptive fields like."""
        voxels = len(fields.x)
        prefers = rng.uniform(0, 2 * np.pi, (voxels, 1))
        tuning = np.exp(2 * (np.cos(np.arange(8) * np.pi / 4 - prefers) - 1))
        return cls(fields, np.concatenate([tuning, rng.uniform(0, 0.3, (voxels, 1))], axis=1))

    def drive(self, energy: Floats) -> Floats:
        """Return the voxels' drive, (n, V), by `motion_energy` (n, frame, side, side, 9)."""
        side = energy.shape[2]
        total = energy.mean(axis=1).reshape(len(energy), side * side, 9)
        local = np.einsum("npe,vp->nve", total, self.fields.weights(side), optimize=True)
        return np.asarray(np.einsum("nve,ve->nv", local, self.tuning), dtype=np.float32)


def dense_features(
    combinations: Sequence[Combination], seed: int, usual: Sequence[Combination] | None = None
) -> Floats:
    """Return random nonlinear features of the attributes, two layers deep, the same for all subjects.

    No feature stands for one attribute: each mixes several, so that a caption has to be decoded from a population. They
    are (n, `DENSE`), within -1 to 1; each layer is standardised by the mean and deviation of `usual`.
    """
    rng = rng_for(seed, "dense features")
    values = _codes(combinations)
    base = values if usual is None else _codes(usual)
    for width in (DENSE, DENSE):
        mixing = rng.normal(size=(base.shape[1], width)).astype(np.float32)
        expected = base @ mixing
        values, base = (
            np.sin(BEND * (drive - expected.mean(axis=0)) / expected.std(axis=0)).astype(np.float32)
            for drive in (values @ mixing, expected)
        )
    return values


def _codes(combinations: Sequence[Combination]) -> Floats:
    """Return which words describe each combination: (n, word), ones and zeros."""
    codes = [[getattr(c, name) == word for name, words in ATTRIBUTES.items() for word in words] for c in combinations]
    return np.asarray(codes, dtype=np.float32)


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
MIXED = 3
"""How many patterns a row of rest mixes."""


@dataclass(frozen=True)
class Seen:
    """What a subject is shown, as the features that may drive voxels; rows are the stimuli, training first.

    `light` is `opponent`, blurred, `motion` is `motion_energy` and `dense` is `dense_features`.
    """

    light: Floats
    motion: Floats
    dense: Floats

    @classmethod
    def of(
        cls,
        clips: NDArray[np.uint8],
        combinations: Sequence[Combination],
        seed: int,
        usual: Sequence[Combination] | None = None,
    ) -> "Seen":
        """Prepare clips (n, frame, side, side, 3); `usual` is what subjects are shown, where these are others."""
        light = blur(opponent(clips))
        return cls(light, motion_energy(light), dense_features(combinations, seed, usual))


@dataclass(frozen=True)
class SimulatedSubject:
    """One subject's betas by region, as files hold them: (stimulus, repetition, voxel) float64 per split."""

    betas: dict[str, dict[Split, NDArray[np.float64]]]
    ncsnr: Floats
    """Signal sd over the noise sd of one trial, per voxel in the regions' order; 0 where a voxel holds noise only."""
    rest: dict[str, NDArray[np.float64]]
    """Rows of rest by region, (row, voxel); no region where the config has no rest."""


def simulate_subject(
    seen: Seen, config: SimulationConfig, number: int, imagined: Seen | None = None
) -> SimulatedSubject:
    """Simulate one subject, numbered from 1; subjects differ in voxels and noise, and share what the clips drive.

    `imagined` is what is re-enacted at rest; it has to be given where the config has rest.
    """
    rng = rng_for(config.seed, "subject", number)
    sizes = {roi: _size(roi, config.voxels, rng) for roi in ROIS}
    regions = [_region(seen, roi, sizes[roi], rng) for roi in ROIS]
    signal = np.concatenate([region.responses(seen) for region in regions], axis=1)
    alive = signal.std(axis=0) > 0
    alive &= rng.random(len(alive)) >= config.silent
    low, high = config.ncsnr
    level = low + (high - low) * rng.random(len(alive)) ** SKEW
    ncsnr = np.where(alive, level, 0).astype(np.float32)
    usual, spread = signal[: config.n_train].mean(axis=0), signal[: config.n_train].std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    signal = (signal - usual) / spread * ncsnr
    patterns = _smooth_patterns(_places(sizes, rng), rng)
    train = _trials(signal[: config.n_train], config.train_repeats, patterns, config.shared_noise, rng)
    test = _trials(signal[config.n_train :], config.test_repeats, patterns, config.shared_noise, rng)
    mean, deviation = train.mean(axis=(0, 1)), train.std(axis=(0, 1))
    whole: dict[Split, NDArray[np.float64]] = {"train": (train - mean) / deviation, "test": (test - mean) / deviation}
    edges = np.cumsum([0, *sizes.values()])
    slices = {roi: slice(a, b) for roi, a, b in zip(ROIS, edges[:-1], edges[1:], strict=True)}
    rest: dict[str, NDArray[np.float64]] = {}
    if config.rest:
        assert imagined is not None, "nothing to re-enact at rest"
        pattern = np.concatenate([region.responses(imagined) for region in regions], axis=1)
        rows = (_rest((pattern - usual) / spread * ncsnr, config, number, patterns) - mean) / deviation
        rest = {roi: rows[:, v] for roi, v in slices.items()}
    return SimulatedSubject({roi: {s: whole[s][..., v] for s in SPLITS} for roi, v in slices.items()}, ncsnr, rest)


def _size(roi: str, voxels: int, rng: np.random.Generator) -> int:
    """Return a region's voxel count in one subject, within a tenth of its share."""
    shares = {name: SHARES.get(name, 1) for name in ROI_VOXELS}
    mean = voxels * shares[roi[1:]] / sum(shares.values()) / 2
    return max(1, round(mean * rng.uniform(0.9, 1.1)))


@dataclass(frozen=True)
class _Region:
    """A region's voxels, and what their responses to the subject's stimuli are standardised by."""

    voxels: LightVoxels | MotionVoxels | Floats | None
    """Of which kind they are, a readout (dense feature, voxel), or None where the region ignores the clips."""
    usual: Floats
    spread: Floats
    """Standard deviation of each voxel's drive by what the subject is shown; `usual` is its mean."""
    threshold: NDArray[np.float64]
    """Of each voxel, in those standard deviations."""

    def responses(self, seen: Seen) -> Floats:
        """Return noiseless responses, (n, voxel): ``max(z - θ, 0) ** 0.7`` for standardised drive z, θ near -1."""
        drive = _drive(self.voxels, seen)
        if drive is None:
            return np.zeros((len(seen.dense), len(self.threshold)), dtype=np.float32)
        z = (drive - self.usual) / self.spread
        return np.asarray(np.maximum(z - self.threshold, 0) ** 0.7, dtype=np.float32)


def _region(seen: Seen, roi: str, voxels: int, rng: np.random.Generator) -> _Region:
    """Draw a region's voxels; what is usual for them is what they see."""
    side, name = roi[0], roi[1:]
    kind: LightVoxels | MotionVoxels | Floats | None = None
    if name in EARLY_FIELDS:
        kind = LightVoxels.draw(_fields(side, name, voxels, EARLY_FIELDS[name], rng), rng)
    elif name in MOTION:
        kind = MotionVoxels.draw(_fields(side, name, voxels, 0.2, rng), rng)
    elif name in VENTRAL:
        kind = rng.normal(size=(seen.dense.shape[1], voxels)).astype(np.float32)
    drive = _drive(kind, seen)
    if drive is None:
        nothing = np.zeros(voxels, dtype=np.float32)
        return _Region(None, nothing, nothing, np.zeros(voxels))
    spread = drive.std(axis=0)
    threshold = rng.uniform(-1.5, -0.5, voxels)
    return _Region(kind, drive.mean(axis=0), np.where(spread > 0, spread, 1), threshold)


def _drive(kind: LightVoxels | MotionVoxels | Floats | None, seen: Seen) -> Floats | None:
    """Return what drives voxels of one kind, (n, voxel); see `_Region`."""
    if isinstance(kind, LightVoxels):
        return kind.drive(seen.light)
    if isinstance(kind, MotionVoxels):
        return kind.drive(seen.motion)
    return None if kind is None else seen.dense @ kind


def _fields(side: str, name: str, voxels: int, size: float, rng: np.random.Generator) -> Fields:
    """Place receptive fields: the left hemisphere sees the right half, ventral regions (…v) the upper half."""
    x = rng.uniform(0, 0.55, voxels)
    y = rng.uniform(0, 0.55, voxels) if name[-1] in "vd" else rng.uniform(0, 1, voxels)
    x = 1 - x if side == "l" else x
    y = 1 - y if name.endswith("d") else y
    spread = size * np.exp(rng.normal(0, 0.2, voxels))
    return Fields(x.astype(np.float32), y.astype(np.float32), spread.astype(np.float32))


def _places(sizes: dict[str, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Place all voxels on a cortex where regions are clusters: (voxel, 3), about 0 to 1."""
    centres = np.repeat(rng.uniform(0, 1, (len(sizes), 3)), list(sizes.values()), axis=0)
    return np.asarray(centres + rng.normal(0, 0.08, centres.shape))


def _smooth_patterns(places: NDArray[np.float64], rng: np.random.Generator) -> Floats:
    """Return `NOISE_RANK` patterns (rank, voxel) that vary smoothly over the cortex."""
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


def _rest(responses: Floats, config: SimulationConfig, number: int, patterns: Floats) -> NDArray[np.float64]:
    """Return rows of rest, (row, voxel): each re-enacts a random mixture of `MIXED` responses, with a trial's noise.

    A mixture is as strong as one of the responses (n, voxel), in units of one trial's noise, times `rest_signal`.
    """
    rng = rng_for(config.seed, "rest", number)
    weights = np.zeros((config.rest, len(responses)), dtype=np.float32)
    for row in weights:
        few = rng.uniform(0.2, 1, MIXED)
        row[rng.choice(len(responses), MIXED, replace=False)] = config.rest_signal * few / np.sqrt((few**2).sum())
    return _trials(weights @ responses, 1, patterns, config.shared_noise, rng)[:, 0]
