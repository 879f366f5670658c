"""The small world: its settings, combinations of one moving object over a background, their captions and their clips.

Lengths are in half the frame's shorter side, with the origin at the frame's centre, x to the right and y downwards.
Edges are anti-aliased by their signed distance, which is the exact limit of supersampling for a straight edge.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from core.config import Config
from core.errors import ConfigError
from core.seeds import rng_for

WorldName = Literal["easy", "full"]
Space = Literal["rois", "MNI152", "fsLR32k", "fsaverage", "windows"]
"""The kinds of responses that the source `bold_moments` reads."""

LATE_SETTINGS = {"spaces", "annotations", "rest", "rest_signal"}
"""Settings that datasets already written do not name; their defaults are what those datasets hold."""


PUBLISHED_NCSNR = (0.1, 1.3)
"""A range for `SimulationConfig.ncsnr` whose best voxel is as good as the best one published for BOLD Moments.

The noise ceiling of its best voxel is 63.4 % of one trial's variance (sub-01, test, MNI152) or 60.8 % (sub-01, 1,000
videos of three repeats, fsLR32k), as the authors' notebooks print it: an ncsnr of 1.32 or 1.25. The notebooks are
``bmd_noiseceiling_versionB_MNI152`` and ``noiseceiling_versionB`` in the examples of
github.com/blahner/BOLDMomentsDataset. Other voxels are shown there as pictures only, so the lower end is our own.
"""


class SimulatedClips(Config):
    """The video files that are written: square, H.264, `frames` at `fps`."""

    frames: int = Field(24, ge=2)
    side: int = Field(128, ge=16)
    fps: float = Field(8.0, gt=0)


class SimulationConfig(Config):
    """A dataset in BOLD Moments' layout, of the small world seen by simulated brains."""

    world: WorldName = "easy"
    n_train: int = Field(400, ge=2)
    n_test: int = Field(48, ge=2)
    subjects: int = Field(2, ge=1, le=99)
    train_repeats: int = Field(3, ge=1)
    test_repeats: int = Field(10, ge=1)
    voxels: int = Field(1500, ge=46)
    """Voxels per subject, about: each region's size varies between subjects."""
    ncsnr: tuple[float, float] = (0.1, 1.0)
    """Lowest and highest noise-ceiling SNR of a voxel: signal sd over the noise sd of one trial."""
    shared_noise: float = Field(0.3, ge=0, le=1)
    """Part of the noise variance that lies in few spatially smooth patterns."""
    silent: float = Field(0.1, ge=0, le=1)
    """Part of every region's voxels that hold noise only."""
    rest: int = Field(0, ge=0)
    """Rows of rest per subject: activity without a stimulus, which re-enacts mixtures of what was never shown. They are
    written by region, and read where a source's responses are ``rois``."""
    rest_signal: float = Field(0.7, ge=0)
    """Standard deviation of what is re-enacted at rest, in that of the responses to training stimuli."""
    clips: SimulatedClips = SimulatedClips()
    spaces: tuple[Space, ...] = Field(("rois",), min_length=1)
    """Which kinds of responses are written. ``MNI152`` brings masks, ROI indices and the pickles of BMDgeneral and WB;
    every whole space brings its noise ceilings."""
    annotations: Literal["early", "newer"] = "early"
    """Which release's form the annotations have; the newer one names MiT, THINGS and PLACES365 ids."""
    seed: int = 0

    def recorded(self) -> dict[str, Any]:
        """Return the settings as a dataset's description holds them, without `LATE_SETTINGS` at their defaults."""
        defaults = {name for name in LATE_SETTINGS if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude=defaults)

    @model_validator(mode="after")
    def _check(self) -> Self:
        (low, high), spaces = self.ncsnr, ", ".join(self.spaces)
        if not 0 < low <= high:
            raise ValueError(f"ncsnr must be two numbers with 0 < low ≤ high, found {low} and {high}")
        if len(set(self.spaces)) != len(self.spaces):
            raise ValueError(f"spaces must name each kind once, found {spaces}")
        if self.rest and "rois" not in self.spaces:
            raise ValueError(f"rest is written by region: add rois to spaces, found {spaces}")
        if self.n_train + self.n_test > 9999:
            raise ValueError("n_train + n_test must be at most 9999: clips are named by four digits")
        return self


Pool = Literal["zoo", "train", "test"]
"""`zoo` trains generators, `train` and `test` are what simulated subjects see."""

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
MOTIONS = ("moving left", "moving right", "moving up", "moving down", "growing", "shrinking", "circling", "bouncing")
TEXTURES = ("plain", "striped", "checkered")
SIZES = ("large", "small")

PARTITION_SEED = 20240
"""Never changes, whatever a study's seed: a shipped generator knows the zoo pool and must know no study's clips."""

SHARES: dict[Pool, int] = {"zoo": 55, "train": 30, "test": 15}
"""Parts of a hundred of all combinations."""

GRAMMAR = (
    "a {size} {colour} {shape} {motion} over a {texture} {background} background",
    "a {colour} {shape}, {size} and {motion}, in front of a {texture} {background} background",
    "over a {texture} {background} background a {size} {colour} {shape} is {motion}",
    "a {texture} {background} background with a {size} {colour} {shape} {motion}",
    "we see a {size} {colour} {shape} {motion}, and the background is {texture} {background}",
)


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "motion": MOTIONS,
    "texture": TEXTURES,
    "background": COLOURS,
}
"""The words of each attribute of a combination."""


@cache
def _sentences() -> list[re.Pattern[str]]:
    """Return the grammar as patterns with a group for each attribute."""
    words = {name: f"(?P<{name}>{'|'.join(of)})" for name, of in ATTRIBUTES.items()}
    return [re.compile(phrase.format(**words)) for phrase in GRAMMAR]


@dataclass(frozen=True)
class Combination:
    """What one clip shows, all but the jitter."""

    shape: str
    colour: str
    size: str
    motion: str
    texture: str
    background: str
    """The background's colour, never the object's."""

    @classmethod
    def read(cls, caption: str) -> "Combination | None":
        """Return the combination that a caption of the grammar describes, in any case, or None for any other text."""
        for sentence in _sentences():
            if found := sentence.fullmatch(caption.strip().lower()):
                return cls(**found.groupdict())
        return None

    def captions(self, count: int = len(GRAMMAR)) -> list[str]:
        """Return up to five captions; the first is the canonical one."""
        return [phrase.format(**vars(self)) for phrase in GRAMMAR[:count]]

    @property
    def pool(self) -> Pool:
        """The pool the combination belongs to, by a hash of its attributes: the same in every world and study."""
        text = "\x1f".join((str(PARTITION_SEED), *astuple(self)))
        ticket = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % 100
        if ticket < SHARES["zoo"]:
            return "zoo"
        return "train" if ticket < SHARES["zoo"] + SHARES["train"] else "test"


@dataclass(frozen=True)
class World:
    """The attributes that clips are drawn from, and how far a clip strays from the ideal of its combination."""

    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    sizes: tuple[str, ...] = SIZES
    motions: tuple[str, ...] = MOTIONS
    textures: tuple[str, ...] = TEXTURES
    jitter: float = 0.08
    """Largest displacement of the object, in parts of half the frame's shorter side."""

    def combinations(self, pool: Pool) -> list[Combination]:
        """Return every combination of a pool, in a fixed order."""
        return list(_pools(self)[pool])

    def draw(self, pool: Pool, n: int, *, seed: int) -> list[Combination]:
        """Draw from a pool in random order; no combination comes twice before each has come once."""
        if pool not in get_args(Pool):
            raise ConfigError(f"pool '{pool}': no such pool of the small world; known: {', '.join(get_args(Pool))}")
        members = self.combinations(pool)
        if not members:
            raise ConfigError(f"pool '{pool}': this world has no combination in it; allow more attributes")
        rng = rng_for(seed, "combinations", pool)
        rounds = -(-n // len(members))
        order = itertools.chain.from_iterable(rng.permutation(len(members)).tolist() for _ in range(rounds))
        return [members[index] for index in itertools.islice(order, n)]


@cache
def _pools(world: World) -> dict[Pool, list[Combination]]:
    grid = itertools.product(world.shapes, world.colours, world.sizes, world.motions, world.textures, world.colours)
    pools: dict[Pool, list[Combination]] = {pool: [] for pool in SHARES}
    for combination in itertools.starmap(Combination, grid):
        if combination.background != combination.colour:
            pools[combination.pool].append(combination)
    return pools


WORLDS: dict[WorldName, World] = {
    "full": World(),
    "easy": World(shapes=SHAPES[:4], sizes=("large",), motions=MOTIONS[:6], textures=TEXTURES[:2], jitter=0.06),
}


Floats = NDArray[np.float32]

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (226, 45, 45),
    "orange": (248, 142, 30),
    "yellow": (250, 222, 50),
    "green": (48, 170, 72),
    "blue": (48, 98, 226),
    "purple": (150, 62, 190),
    "white": (246, 246, 242),
    "black": (24, 24, 28),
}
RADIUS = {"large": 0.58, "small": 0.42}
TRAVEL = 0.34
"""How far an object moves to either side of its middle position."""
STRIPE = 0.64
"""Period of stripes and checks."""
OUTLINE = 0.07
CHUNK_PIXELS = 1 << 20
"""Pixels that are drawn at once, so that the intermediate arrays stay near the processor."""


def draw_clips(
    world: World, pool: Pool, n: int, seed: int, frames: int, height: int, width: int
) -> tuple[NDArray[np.uint8], list[Combination]]:
    """Draw fresh clips of a pool: uint8 (n, frames, height, width, 3), and what each of them shows."""
    combinations = world.draw(pool, n, seed=seed)
    return render(combinations, draw_jitter(n, seed, world.jitter), frames, height, width), combinations


def draw_jitter(n: int, seed: int, amount: float) -> Floats:
    """Return what makes clips of one combination differ: shape (n, 4), columns x, y, log radius and texture phase."""
    jitter = rng_for(seed, "jitter").uniform(-1, 1, (n, 4)).astype(np.float32)
    return jitter * np.asarray([amount, amount, amount, STRIPE / 2], dtype=np.float32)


def render(
    combinations: Sequence[Combination], jitter: Floats, frames: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Render combinations, with the jitter of `draw_jitter`: uint8 (n, frames, height, width, 3).

    Frame k shows the instant ``(k + 1/2) / frames`` of the clip, at any number of frames.
    """
    clips = np.empty((len(combinations), frames, height, width, 3), dtype=np.uint8)
    step = max(1, CHUNK_PIXELS // (frames * height * width))
    for start in range(0, len(combinations), step):
        rows = slice(start, start + step)
        _render_chunk(combinations[rows], jitter[rows], clips[rows])
    return clips


def _render_chunk(combinations: Sequence[Combination], jitter: Floats, out: NDArray[np.uint8]) -> None:
    frames, height, width = out.shape[1:4]
    scale = np.float32(min(height, width) / 2)
    x = ((np.arange(width, dtype=np.float32) + 0.5) - width / 2) / scale
    y = ((np.arange(height, dtype=np.float32) + 0.5) - height / 2) / scale
    centre, radius = _paths(combinations, jitter, frames)
    distance = _distances(combinations, centre, radius, x, y)
    ground = _backgrounds(combinations, jitter[:, 3], x, y, scale)
    out[...] = (ground + np.float32(0.5)).astype(np.uint8)[:, None]
    near = np.flatnonzero(distance * scale < np.float32(0.5))  # most pixels show the background
    clip, place = near // (frames * height * width), near % (height * width)
    depth = distance.reshape(-1)[near] * scale
    inside = np.clip(np.float32(0.5) - depth, 0, 1)
    core = np.clip(np.float32(0.5) - depth - np.float32(OUTLINE) * scale, 0, 1)
    fill = np.asarray([PALETTE[c.colour] for c in combinations], dtype=np.float32)
    under, pixels = clip * (height * width) + place, out.reshape(-1, 3)
    for channel in range(3):
        colour, image = fill[clip, channel], ground[..., channel].reshape(-1)[under]
        image += inside * (colour * np.float32(0.35) - image)
        image += core * (colour - image)
        pixels[near, channel] = image + np.float32(0.5)


def _paths(combinations: Sequence[Combination], jitter: Floats, frames: int) -> tuple[Floats, Floats]:
    """Return centres (n, frames, 2) and radii (n, frames)."""
    time = ((np.arange(frames) + 0.5) / frames).astype(np.float32)
    paths = {motion: _path(motion, time) for motion in {c.motion for c in combinations}}
    move = np.stack([paths[c.motion] for c in combinations])
    size = np.asarray([RADIUS[c.size] for c in combinations], dtype=np.float32)
    centre = jitter[:, None, :2] + move[..., :2]
    return centre, (size * np.exp(jitter[:, 2]))[:, None] * move[..., 2]


def _path(motion: str, time: Floats) -> Floats:
    """Return x, y and the factor on the radius over `time` from 0 to 1: shape (frames, 3)."""
    sweep = TRAVEL * (2 * time - 1)
    rest, turn = np.zeros_like(time), 2 * np.pi * time
    x, y, size = rest, rest, rest + 1
    if motion in ("moving left", "moving right"):
        x = sweep if motion == "moving right" else -sweep
    elif motion in ("moving up", "moving down"):
        y = sweep if motion == "moving down" else -sweep
    elif motion in ("growing", "shrinking"):
        size = 0.5 + 0.8 * (time if motion == "growing" else 1 - time)
    elif motion == "circling":
        x, y = TRAVEL * np.sin(turn), -TRAVEL * np.cos(turn)
    else:
        y = TRAVEL * (1 - 2 * np.abs(np.sin(turn)))
    return np.stack([x, y, size], axis=-1).astype(np.float32)


def _distances(combinations: Sequence[Combination], centre: Floats, radius: Floats, x: Floats, y: Floats) -> Floats:
    """Return the signed distance to each object's edge, negative inside: shape (n, frames, height, width)."""
    distance = np.empty((*radius.shape, len(y), len(x)), dtype=np.float32)
    shapes = np.asarray([c.shape for c in combinations])
    for shape in np.unique(shapes):
        rows = shapes == shape
        size = radius[rows][..., None, None]
        u = (x - centre[rows, :, 0, None, None]) / size
        v = (y[:, None] - centre[rows, :, 1, None, None]) / size
        distance[rows] = SHAPE_DISTANCES[str(shape)](u, v) * size
    return distance


def _triangle(u: Floats, v: Floats) -> Floats:
    v = v - np.float32(0.2)
    return np.maximum(v, np.float32(0.866) * np.abs(u) - np.float32(0.5) * v) - np.float32(0.6)


def _cross(u: Floats, v: Floats) -> Floats:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - np.float32(1.0), np.minimum(u, v) - np.float32(0.34))


def _star(u: Floats, v: Floats) -> Floats:
    """Fold the plane into one half of one of five points, where the star is a single edge from tip to notch."""
    tip, notch, half = 1.2, 0.56, np.pi / 5
    length = np.sqrt(u * u + v * v)
    angle = np.abs((np.arctan2(u, -v) + half) % (2 * half) - half)
    edge = np.asarray([notch * np.cos(half) - tip, notch * np.sin(half)])
    normal = (np.asarray([edge[1], -edge[0]]) / np.hypot(*edge)).astype(np.float32)
    return np.asarray(
        normal[0] * (length * np.cos(angle) - np.float32(tip)) + normal[1] * (length * np.sin(angle)),
        dtype=np.float32,
    )


SHAPE_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": lambda u, v: np.sqrt(u * u + v * v) - np.float32(0.95),
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - np.float32(0.86),
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
    "ring": lambda u, v: np.abs(np.sqrt(u * u + v * v) - np.float32(0.72)) - np.float32(0.28),
}


def _backgrounds(combinations: Sequence[Combination], phase: Floats, x: Floats, y: Floats, scale: np.float32) -> Floats:
    """Return the backgrounds, shape (n, height, width, 3)."""
    first = np.asarray([PALETTE[c.background] for c in combinations], dtype=np.float32)
    other = np.where(first.mean(axis=1, keepdims=True) < 60, first + np.float32(70), first * np.float32(0.68))
    textures = [c.texture for c in combinations]
    mix = np.stack([_texture(name, float(p), x, y, scale) for name, p in zip(textures, phase, strict=True)])
    return first[:, None, None] + mix[..., None] * (other - first)[:, None, None]


def _texture(name: str, phase: float, x: Floats, y: Floats, scale: np.float32) -> Floats:
    """Return how much of the background's second shade each pixel has: shape (height, width)."""
    if name == "plain":
        return np.zeros((len(y), len(x)), dtype=np.float32)
    if name == "striped":
        across = (x + y[:, None] + np.float32(phase)) / np.float32(np.sqrt(2))
        wave = _wave(across, scale)
    else:
        wave = _wave(x + np.float32(phase), scale) * _wave(y[:, None] + np.float32(phase), scale)
    return np.asarray((1 + wave) / 2, dtype=np.float32)


def _wave(position: Floats, scale: np.float32) -> Floats:
    """Return a square wave from -1 to 1 whose edges are one pixel wide."""
    cycle = (position / np.float32(STRIPE)) % 1
    to_edge = (0.25 - np.abs(cycle - 0.5)) * np.float32(STRIPE)
    return np.asarray(np.clip(2 * to_edge * scale, -1, 1), dtype=np.float32)
