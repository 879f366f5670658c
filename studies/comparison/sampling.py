"""Brings paired videos to one sampling by time, and says in words what that meant for them."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import PositiveInt

from core.clips import Clip, ClipConfig, read_clip, read_metadata
from core.config import Config
from core.errors import ConfigError, SourceError
from core.progress import track
from studies.comparison.videos import Film, Paired, named
from studies.stores.clip_reading import READERS

FPS = 8.0
"""Frames per second that a clip is shown with where nothing says how long it lasts."""
TOLERANCE = 0.1
"""The part by which a video may last longer or shorter than the truth without a word."""
BLACK = 8
"""The brightest value, of 255, in a clip that counts as all black."""
GROUPS = 3
"""Rates and sizes that are named one by one."""
COPIES = 16
"""Bytes that scoring takes for a byte of the truth's clips: 5 were measured, clips less a training mean take 8 more."""
Clips = NDArray[np.uint8]


class Sampling(Config):
    """What every clip looks like once it is read."""

    frames: PositiveInt
    height: PositiveInt
    width: PositiveInt

    def of(self, window_s: float) -> ClipConfig:
        """Return how a video is read whose first `window_s` seconds are looked at."""
        return ClipConfig(**self.model_dump(), window_s=window_s)

    def __str__(self) -> str:
        return f"{self.frames} frame{'' if self.frames == 1 else 's'} of {self.height} × {self.width} pixels"


def sampling_of(
    paired: Paired, *, frames: int | None = None, height: int | None = None, width: int | None = None
) -> tuple[Sampling, list[str]]:
    """Return how the clips are read, which is as the truth is unless something else is asked for, and why.

    Videos that we wrote ourselves say what they were before they were enlarged; they are read as that.

    Raises
    ------
    ConfigError
        The clips would take more than the free memory.
    """
    films = list(paired.shown.values())
    said, notes = _said_of(films[0]), []
    if said is None:
        count = Counter(film.frames for film in films).most_common(1)[0][0]
        size = Counter(_size(film) for film in films).most_common(1)[0][0]
        said = Sampling(frames=count, height=size[0], width=size[1])
    elif _size(said) != _size(films[0]):
        notes.append(f"the truth's files say that they were enlarged: they are scored as {said}, as they were made")
    made = Sampling(frames=frames or said.frames, height=height or said.height, width=width or said.width)
    _require_memory(made, len(films))
    return made, notes


def _said_of(film: Film) -> Sampling | None:
    """Return what a video of ours says of its sampling."""
    try:
        clips = json.loads(read_metadata(film.path)["comment"])["config"]["clips"]
        return Sampling(frames=clips["frames"], height=clips["height"], width=clips["width"])
    except (SourceError, OSError, ValueError, KeyError, TypeError):
        return None


def _require_memory(sampling: Sampling, n: int) -> None:
    needed = COPIES * n * sampling.frames * sampling.height * sampling.width * 3
    free = psutil.virtual_memory().available
    if needed > free:
        share = math.sqrt(free / needed / 2)
        side = [max(1, int(one * share)) for one in (sampling.height, sampling.width)]
        raise ConfigError(
            f"{n} clips of {sampling} take about {needed / 1e9:,.1f} GB to score and {free / 1e9:,.1f} GB are free; "
            f"score them smaller (--height {side[0]} --width {side[1]}) or with fewer --frames"
        )


def fps_of(paired: Paired, sampling: Sampling) -> float:
    """Return the rate at which the clips are shown."""
    lengths = [film.duration_s for film in paired.shown.values() if film.duration_s]
    return sampling.frames / median(lengths) if lengths else FPS


def read_made(paired: Paired, sampling: Sampling, *, whole: bool = False) -> Clips:
    """Read what was made, (stimulus, frame, height, width, 3), at the instants at which the truth is read.

    Parameters
    ----------
    whole : bool
        Stretch every video over the truth's duration, whatever its own. A video that does not say how long it lasts is
        always stretched.
    """
    windows = [_window(paired.made[name], None if whole else paired.shown[name]) for name in paired.stimuli]
    return _read([paired.made[name] for name in paired.stimuli], windows, sampling, "reading what was made")


def read_shown(paired: Paired, sampling: Sampling) -> Clips:
    """Read what was shown, (stimulus, frame, height, width, 3), each over its whole duration."""
    films = [paired.shown[name] for name in paired.stimuli]
    return _read(films, [_window(film) for film in films], sampling, "reading what was shown")


def read_whole(films: Sequence[Film], sampling: Sampling) -> Iterator[Clip]:
    """Yield clips one by one, each over its whole duration."""
    return _each(films, [_window(film) for film in films], sampling)


def _window(film: Film, truth: Film | None = None) -> float:
    """Return the seconds of a video that are looked at: as long as the truth lasts, else as long as itself."""
    lasts = (truth.duration_s if truth else None) or film.duration_s
    return lasts or 1.0


def _read(films: Sequence[Film], windows: Sequence[float], sampling: Sampling, what: str) -> Clips:
    clips = np.empty((len(films), sampling.frames, sampling.height, sampling.width, 3), np.uint8)
    for row, clip in enumerate(track(_each(films, windows, sampling), what, len(films))):
        clips[row] = clip
    return clips


def _each(films: Sequence[Film], windows: Sequence[float], sampling: Sampling) -> Iterator[Clip]:
    def read(film: Film, window_s: float) -> Clip:
        return _read_frames(film, sampling) if film.path.is_dir() else read_clip(film.path, sampling.of(window_s))

    with ThreadPoolExecutor(max_workers=READERS) as readers:
        for start in range(0, len(films), READERS):  # so that no more than a few clips wait in memory
            yield from readers.map(read, films[start : start + READERS], windows[start : start + READERS])


def _read_frames(film: Film, sampling: Sampling) -> Clip:
    """Read a folder of frames, which says nothing of time: spread over the whole clip."""
    files = film.files
    chosen = (2 * np.arange(sampling.frames) + 1) * len(files) // (2 * sampling.frames)
    one = sampling.model_copy(update={"frames": 1}).of(1.0)
    read = {index: read_clip(files[index], one)[0] for index in sorted(set(chosen.tolist()))}
    return np.stack([read[index] for index in chosen.tolist()])


def alignment_notes(paired: Paired, sampling: Sampling, *, whole: bool = False) -> list[str]:
    """Return in words what is missing, and what was done to videos of another rate, size or length than is scored."""
    notes = []
    if paired.missing:
        n, there = len(paired.missing), len(paired.stimuli)
        notes.append(
            f"{n} of {n + there} videos {_are(n)} missing ({named(paired.missing)}): every mean is over the {there} "
            "that are there, and they are told from each other alone"
        )
    if paired.extra:
        n = len(paired.extra)
        notes.append(f"{_clips(n)} of what was not shown {'was' if n == 1 else 'were'} left out: {named(paired.extra)}")
    ours, truth = list(paired.made.values()), list(paired.shown.values())
    # Files of ours were enlarged for people, which `sampling_of` says once.
    usual = _size(sampling) if _said_of(truth[0]) is None else _size(truth[0])
    instants = f"{sampling.frames} instant{'' if sampling.frames == 1 else 's'}"
    notes += _resampled(ours, f"at the truth's {instants}", sampling, usual)
    notes += [f"truth: {note}" for note in _resampled(truth, f"at {instants}", sampling, usual)]
    lengths = sorted(film.duration_s for film in truth if film.duration_s)
    if lengths and lengths[-1] > lengths[0] * (1 + TOLERANCE):
        span = f"{lengths[0]:.3g} to {lengths[-1]:.3g} s"
        notes.append(f"truth: clips last from {span}; each is sampled over its own length")
    return [*notes, *_still(paired, sampling), *(_stretched(paired) if whole else _of_other_length(paired))]


def _resampled(films: Sequence[Film], where: str, sampling: Sampling, usual: tuple[int, int]) -> list[str]:
    moving = [film for film in films if film.frames > 1 and film.frames != sampling.frames]
    rates = Counter((film.frames, _rate(film)) for film in moving)
    sizes = Counter(_size(film) for film in films if _size(film) not in (_size(sampling), usual))
    size = f"{sampling.height} × {sampling.width}"
    return [
        *_grouped(rates, lambda of: f"of {of[0]} frames{of[1]} {{were}} sampled {where}"),
        *_grouped(sizes, lambda of: f"of {of[0]} × {of[1]} pixels {{were}} brought to {size}"),
    ]


def _grouped(counts: "Counter[Any]", words: Callable[[Any], str]) -> list[str]:
    """Return a line for each of the groups that are most common, and one for all others."""
    common = counts.most_common(GROUPS)
    lines = [f"{_clips(n)} {words(of).format(were='was' if n == 1 else 'were')}" for of, n in common]
    rest = sum(counts.values()) - sum(n for _, n in common)
    return [*lines, *([f"so {'was' if rest == 1 else 'were'} {_clips(rest)} of yet others"] if rest else [])]


def _rate(film: Film) -> str:
    return f" at {film.frames / film.duration_s:.3g} per second" if film.duration_s else ""


def _size(of: Sampling | Film) -> tuple[int, int]:
    return of.height, of.width


def _still(paired: Paired, sampling: Sampling) -> list[str]:
    """Return what is said of clips of one frame, and of folders of frames, which have no rate."""
    stills = [name for name in paired.stimuli if paired.made[name].frames == 1]
    timeless = [name for name in paired.stimuli if paired.made[name].path.is_dir() and name not in stills]
    notes = []
    if stills and sampling.frames > 1:
        notes.append(
            f"{_clips(len(stills))} {'holds' if len(stills) == 1 else 'hold'} one frame, which is repeated "
            f"({named(stills)}): what is scored of motion says nothing of {_them(stills)}"
        )
    if timeless:
        notes.append(
            f"{_clips(len(timeless))} {_are(len(timeless))} frames without a rate: spread over the truth's length"
        )
    return notes


def _stretched(paired: Paired) -> list[str]:
    n = len(paired.stimuli)
    return [f"{_clips(n)} {'was' if n == 1 else 'were'} stretched over the truth's length, as asked for"]


def _of_other_length(paired: Paired) -> list[str]:
    lengths = {name: (paired.made[name].duration_s, paired.shown[name].duration_s) for name in paired.stimuli}
    known = {name: (ours, truth) for name, (ours, truth) in lengths.items() if ours and truth}
    short = [name for name, (ours, truth) in known.items() if ours < truth * (1 - TOLERANCE)]
    long = [name for name, (ours, truth) in known.items() if ours > truth * (1 + TOLERANCE)]
    ends = {"shorter": (short, "the last frame is held"), "longer": (long, "what comes after is not looked at")}
    notes = []
    for word, (names, then) in ends.items():
        if names:
            ours, truth = known[names[0]]
            many = f"{_clips(len(names))} {_are(len(names))} {word} than the truth ({named(names)}; "
            notes.append(f"{many}{ours:.3g} s for {truth:.3g} s): {then}")
    return notes


def black_note(clips: Clips, stimuli: Sequence[str]) -> list[str]:
    """Return what is said of clips, (stimulus, frame, height, width, 3), that show nothing."""
    black = [name for name, clip in zip(stimuli, clips, strict=True) if clip.max() <= BLACK]
    return [f"{_clips(len(black))} {_are(len(black))} all black: {named(black)}"] if black else []


def _clips(n: int) -> str:
    return f"{n} {'clip' if n == 1 else 'clips'}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _them(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
