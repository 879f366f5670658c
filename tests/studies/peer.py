"""Folders of videos as a peer might hand them over: clips of the small world, of any rate, size and form."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from core.clips import write_clip
from simulation.world import WORLDS, draw_clips

Clips = NDArray[np.uint8]


def draw(n: int = 6, *, frames: int = 8, side: int = 32, seed: int = 3) -> Clips:
    """Draw clips of the small world; at 3 times the frames, every third instant is the same."""
    return draw_clips(WORLDS["easy"], "test", n, seed, frames, side, side)[0]


def names(n: int) -> list[str]:
    return [f"{index:04d}" for index in range(n)]


def write_mp4s(folder: Path, clips: Clips, fps: float = 8.0, stimuli: Sequence[str] = ()) -> Path:
    for name, clip in zip(stimuli or names(len(clips)), clips, strict=True):
        write_clip(folder / f"{name}.mp4", clip, fps, min_side=1)
    return folder


def write_gifs(folder: Path, clips: Clips, fps: float = 10.0) -> Path:
    folder.mkdir()
    for name, clip in zip(names(len(clips)), clips, strict=True):
        first, *others = [Image.fromarray(frame) for frame in clip]
        first.save(folder / f"{name}.gif", save_all=True, append_images=others, duration=1000 / fps, loop=0)
    return folder


def write_frames(folder: Path, clips: Clips) -> Path:
    for name, clip in zip(names(len(clips)), clips, strict=True):
        (folder / name).mkdir(parents=True)
        for index, frame in enumerate(clip):
            Image.fromarray(frame).save(folder / name / f"frame{index}.png")
    return folder


def noisy(clips: Clips, rng: np.random.Generator, amount: float = 40.0) -> Clips:
    """Blur nothing and add noise: a reconstruction that is right, but not well."""
    return np.clip(clips + rng.normal(0, amount, clips.shape), 0, 255).astype(np.uint8)


def write_captions(file: Path, n: int) -> Path:
    """Write one caption for n stimuli, decoded and seen."""
    said = "a red circle moving left"
    pd.DataFrame({"stimulus": names(n), "decoded": [said] * n, "seen": [said] * n}).to_csv(file, index=False)
    return file
