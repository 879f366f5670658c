"""What clips and their attributes drive in a simulated brain: local light and colour, motion energy, dense features.

Nothing here knows any video model's latents: brains driven by what is later decoded would make the result circular.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from simulation.world import ATTRIBUTES, Combination

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
    """Early visual voxels: each likes one colour direction in one place, at one part of the clip.

    Attributes
    ----------
    fields : receptive fields of V voxels
    moment : (V, 1)
        The part of the clip, 0 to 1.
    colour : (V, 3)
        Weights of the opponent channels.
    """

    fields: Fields
    moment: NDArray[np.float64]
    colour: NDArray[np.float64]

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
    """Motion voxels: each likes energy near one direction, in a wide receptive field.

    Attributes
    ----------
    fields : receptive fields of V voxels
    tuning : (V, 9)
        Weights of the eight directions and of flicker.
    """

    fields: Fields
    tuning: NDArray[np.float64]

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

    No feature stands for one attribute: each mixes several, so that a caption has to be decoded from a population.

    Parameters
    ----------
    combinations : n combinations
    seed : the study's
    usual : by whose mean and deviation each layer is standardised; `combinations` by default

    Returns
    -------
    shape (n, `DENSE`), each within -1 to 1
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
