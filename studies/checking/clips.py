"""What a study's clips are before they are read at its size: how many, how large, how fast and how long."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.clips import ClipConfig, VideoInfo, probe_video
from core.errors import SourceError

TABLES = {".csv", ".tsv", ".json", ".npy", ".mat", ".txt", ".pkl"}
"""Files that belong to the stimuli and are no clips."""
PROBED = 50
"""Clips that are opened at most, evenly spaced over all: a check takes seconds."""


@dataclass(frozen=True)
class ClipFiles:
    """The clips of a source.

    Attributes
    ----------
    files : how many there are
    probed : those that were opened
    """

    files: int
    probed: list[VideoInfo]

    def __str__(self) -> str:
        """Return for example "60 (50 opened): 320 × 240, 30 frames a second, 2.97 to 3.03 s"."""
        opened = "" if len(self.probed) == self.files else f" ({len(self.probed)} opened)"
        moving = [info for info in self.probed if info.duration_s is not None]
        still = len(self.probed) - len(moving)
        parts = [_sizes(self.probed)]
        if rates := [info.frames / info.duration_s for info in moving if info.duration_s]:
            parts.append(f"{_range(rates)} frames a second")
        if lengths := [info.duration_s for info in moving if info.duration_s]:
            parts.append(f"{_range(lengths)} s")
        if still:
            parts.append("still pictures" if still == len(self.probed) else f"{still} still pictures among them")
        return f"{self.files:,}{opened}: {', '.join(parts)}"


def _sizes(clips: Sequence[VideoInfo]) -> str:
    """Return the sizes, width × height, the most frequent first."""
    sizes = Counter(f"{info.width} × {info.height}" for info in clips).most_common()
    return sizes[0][0] if len(sizes) == 1 else f"{sizes[0][0]} and {len(sizes) - 1} other sizes"


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.3g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def clip_files(files: Sequence[Path]) -> list[Path]:
    """Return which files of a source's stimuli are clips."""
    return [file for file in files if file.suffix.lower() not in TABLES]


def look_at_clips(files: Sequence[Path], config: ClipConfig) -> tuple[ClipFiles | None, list[SourceError]]:
    """Open some of the clips; return what they are, None where there are none, and a fault for each that has one.

    Parameters
    ----------
    files : of all stimuli, tables among them
    config : the part of each clip that is used
    """
    clips, probed, faults = clip_files(files), list[VideoInfo](), list[SourceError]()
    for at in np.unique(np.linspace(0, len(clips) - 1, min(PROBED, len(clips))).astype(np.int64)):
        try:
            info = probe_video(clips[at])
        except SourceError as error:
            faults.append(error)
            continue
        probed.append(info)
        if info.duration_s is not None and info.duration_s <= config.start_s:
            length = f"is {info.duration_s:.3g} s long, and clips.start_s is {config.start_s:g}"
            faults.append(SourceError(f"{info.path}: {length}; begin earlier"))
    return (ClipFiles(len(clips), probed) if probed else None), faults


def faults_of_stimuli(stimuli: pd.DataFrame, *, clips: Sequence[str], captions: Sequence[str]) -> Iterator[SourceError]:
    """Yield a fault where a stimulus has no clip, or no caption, and a target is made of it.

    Parameters
    ----------
    stimuli : as `Source.stimuli` returns them; a clip is looked for where they have the column ``file``
    clips, captions : what needs them, such as ``targets.text``
    """
    needs = [("caption", [not own for own in stimuli["caption"]], captions)]
    if "file" in stimuli:
        needs.append(("clip", [not name for name in stimuli["file"].fillna("")], clips))
    for what, lacks, wanted in needs:
        missing = stimuli["stimulus"][lacks]
        if len(missing) and wanted:
            yield SourceError(
                f"{', '.join(wanted)}: needs a {what} of every stimulus, and {len(missing)} of {len(stimuli)} have "
                f"none, such as '{missing.iloc[0]}'; add them to the source"
            )
