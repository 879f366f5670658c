"""The sizes at which `scale.py` runs every stage: four at least to fit on, and larger ones to predict."""

from dataclasses import dataclass

STIMULI, TEST, REPEATS = 150, 30, 2
"""Stimuli of the studies that grow in something else, and how often each is shown."""


@dataclass(frozen=True)
class Sizes:
    """The sizes that are run: four at least to fit on, and larger ones to predict."""

    voxels: tuple[int, ...]
    repeats: tuple[int, ...]
    more_voxels: tuple[int, int]
    """Voxels of the larger subject, and how often it saw each stimulus."""
    subjects: tuple[int, ...]
    more_subjects: int
    clips: tuple[int, ...]
    more_clips: int
    stimuli: tuple[int, ...]
    fit_voxels: tuple[int, ...]
    fit_more: tuple[int, int, int]
    """Stimuli, voxels and subjects of the larger fit."""
    steps: tuple[int, ...]
    rendered: tuple[int, ...]
    more_rendered: int
    scored: tuple[int, ...]
    more_scored: int
    sides: tuple[int, ...]
    rounds: int
    apart: bool
    """Whether every number of subjects has a process of its own, so that its peak is known."""


FULL = Sizes(
    voxels=(4_000, 8_000, 16_000, 32_000),
    repeats=(2, 4, 8, 16),
    more_voxels=(120_000, 8),
    subjects=(1, 2, 4, 8),
    more_subjects=16,
    clips=(12, 20, 34, 60),
    more_clips=120,
    stimuli=(200, 400, 800, 1_600),
    fit_voxels=(2_000, 4_000, 8_000, 16_000),
    fit_more=(2_400, 16_000, 2),
    steps=(25, 50, 100, 200),
    rendered=(2, 4, 8, 16),
    more_rendered=32,
    scored=(13, 20, 34, 60),
    more_scored=100,
    sides=(32, 48, 64, 96),
    rounds=3,
    apart=True,
)
QUICK = Sizes(
    voxels=(500, 1_000, 2_000, 4_000),
    repeats=(2, 3, 4, 6),
    more_voxels=(16_000, 4),
    subjects=(1, 2, 3, 4),
    more_subjects=6,
    clips=(8, 12, 16, 24),
    more_clips=32,
    stimuli=(100, 200, 400, 800),
    fit_voxels=(250, 500, 1_000, 2_000),
    fit_more=(1_000, 2_000, 2),
    steps=(5, 10, 20, 40),
    rendered=(1, 2, 3, 4),
    more_rendered=6,
    scored=(6, 9, 13, 20),
    more_scored=40,
    sides=(32, 40, 48, 64),
    rounds=1,
    apart=False,
)
RENDER = {"strength": 0.35, "guidance": 2.0, "steps": 20}
READ = ((8, 32, 32), (8, 128, 128), (16, 256, 256), (24, 320, 576))
