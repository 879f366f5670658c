"""What clips and their attributes drive in a simulated brain: local light and colour, motion energy, dense features.

Nothing here knows any video model's latents: brains driven by what is later decoded would make the result circular.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


def light_drive(channels: Floats, fields: Fields, rng: np.random.Generator) -> Floats:
    """Return the drive of early visual voxels: one colour direction in one place, at one part of the clip.

    Parameters
    ----------
    channels : shape (n, frame, side, side, 3), from `opponent`
    fields : receptive fields of V voxels

    Returns
    -------
    shape (n, V)
    """
    n, frames, side = channels.shape[:3]
    voxels = len(fields.x)
    at = (np.arange(frames) + 0.5) / frames
    when = np.exp(-(((at - rng.uniform(0, 1, (voxels, 1))) / 0.25) ** 2) / 2)
    colour = rng.normal(size=(voxels, 3)) * (1.0, 1.2, 1.2)
    kernel = np.einsum("vt,vc->vtc", when / when.sum(axis=1, keepdims=True), colour).astype(np.float32)
    local = channels.transpose(0, 1, 4, 2, 3).reshape(n * frames * 3, side * side) @ fields.weights(side).T
    return np.asarray(np.einsum("ntcv,vtc->nv", local.reshape(n, frames, 3, voxels), kernel), dtype=np.float32)


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


def motion_drive(energy: Floats, fields: Fields, rng: np.random.Generator) -> Floats:
    """Return the drive of motion voxels: energy near one direction, in a wide receptive field: shape (n, V)."""
    side, voxels = energy.shape[2], len(fields.x)
    total = energy.mean(axis=1).reshape(len(energy), side * side, 9)
    prefers = rng.uniform(0, 2 * np.pi, (voxels, 1))
    tuning = np.exp(2 * (np.cos(np.arange(8) * np.pi / 4 - prefers) - 1))
    tuning = np.concatenate([tuning, rng.uniform(0, 0.3, (voxels, 1))], axis=1)
    local = np.einsum("npe,vp->nve", total, fields.weights(side), optimize=True)
    return np.asarray(np.einsum("nve,ve->nv", local, tuning), dtype=np.float32)


def dense_features(combinations: Sequence[Combination], seed: int) -> Floats:
    """Return random nonlinear features of the attributes, two layers deep, the same for all subjects.

    No feature stands for one attribute: each mixes several, so that a caption has to be decoded from a population.

    Returns
    -------
    shape (n, `DENSE`), each within -1 to 1
    """
    codes = [[getattr(c, name) == word for name, words in ATTRIBUTES.items() for word in words] for c in combinations]
    rng = rng_for(seed, "dense features")
    values = np.asarray(codes, dtype=np.float32)
    for width in (DENSE, DENSE):
        mixing = rng.normal(size=(values.shape[1], width)).astype(np.float32)
        drive = values @ mixing
        values = np.sin(BEND * (drive - drive.mean(axis=0)) / drive.std(axis=0)).astype(np.float32)
    return values
