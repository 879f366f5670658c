"""Seeds for every random draw, derived from the study's one seed and the names of what draws."""

import hashlib

import numpy as np


def seed_for(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for one use, independent of every other use of the same study seed.

    The names say what draws, from the general to the particular: ``seed_for(0, "render", "0042")``.
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng_for(seed: int, *names: str | int) -> np.random.Generator:
    """Return numpy's generator for one use; see `seed_for`."""
    return np.random.default_rng(seed_for(seed, *names))
