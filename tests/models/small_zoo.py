"""What several tests of models stand on: a corpus of coloured screens, and a tiny zoo trained on it."""

import numpy as np

from zoo.corpus import Corpus

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}
CHANGES = ("brighter", "darker")


def draw(n: int, seed: int) -> Corpus:
    """Return clips of one colour each, getting brighter or darker, said in two ways."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.integers(0, 3, n), rng.integers(0, 2, n)], axis=1)
    colours = np.asarray(list(COLOURS.values()))[labels[:, 0]][:, None, None, None]
    ramp = np.linspace(0.7, 1, 4)
    ramps = np.stack([ramp, ramp[::-1]])[labels[:, 1]][:, :, None, None, None]
    clips = np.broadcast_to(colours * ramps, (n, 4, 16, 16, 3)).astype(np.uint8)
    words = [(list(COLOURS)[colour], CHANGES[change]) for colour, change in labels]
    captions = [[f"a {colour} screen getting {change}", f"{change}, a {colour} screen"] for colour, change in words]
    return Corpus(clips, captions, labels, {"colour": tuple(COLOURS), "motion": CHANGES})
