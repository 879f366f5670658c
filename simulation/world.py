"""The small world: one moving object over a background, its captions, and three pools that share no combination."""

import hashlib
import itertools
import re
from dataclasses import astuple, dataclass
from functools import cache
from typing import Literal, get_args

from core.errors import ConfigError
from core.seeds import rng_for
from simulation.config import WorldName

Pool = Literal["zoo", "train", "test"]
"""`zoo` trains generators, `train` and `test` are what simulated subjects see."""

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

SHAPES = ("circle", "square", "triangle", "cross", "star", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "circling",
    "bouncing",
)
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
    """The attributes that clips are drawn from, and how far a clip strays from the ideal of its combination.

    Attributes
    ----------
    jitter : float
        Largest displacement of the object, in parts of half the frame's shorter side.
    """

    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    sizes: tuple[str, ...] = SIZES
    motions: tuple[str, ...] = MOTIONS
    textures: tuple[str, ...] = TEXTURES
    jitter: float = 0.08

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
