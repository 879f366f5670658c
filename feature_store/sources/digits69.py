"""Handwritten sixes and nines: fMRI of one person seeing 100 images of 28 × 28 pixels (van Gerven et al. 2010).

The file `digit69_28x28.mat` as distributed with the DGMM code: `fmriTrn` (90 × 3092), `fmriTest` (10 × 3092),
`stimTrn`, `stimTest` (784 grey values a row, column by column) and `labelTrn`, `labelTest` (1 for a six, 2 for a nine).
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray
from PIL import Image

from core.clips import Clip, ClipConfig
from core.config import Config
from core.errors import SourceError, SourceMissing
from feature_store.sources.base import (
    SPLITS,
    STIMULUS_COLUMNS,
    Declared,
    Recording,
    RecordingShape,
    Rows,
    Source,
    Split,
    declared_trials,
)


class Digits69Config(Config):
    """Where the `.mat` file lies."""

    kind: Literal["digits69"] = "digits69"
    path: str

    @property
    def named_subjects(self) -> list[str]:
        """The one person that was recorded."""
        return [Digits69.SUBJECT]

    def build(self, root: Path) -> "Digits69":
        """Return the source; a relative path starts at `root`."""
        return Digits69(root / self.path)

    def declared(self) -> Declared:
        """Return what the file holds, whether or not it is here."""
        names = {split: [_name(split, row) for row in range(count)] for split, count in Digits69.COUNTS.items()}
        trials = {split: declared_trials(names[split], 1) for split in SPLITS}
        table = pd.DataFrame({"roi": ["V1-V3"] * Digits69.VOXELS})
        rows = [(name, split, ["a handwritten nine"], "nine") for split in SPLITS for name in names[split]]
        stimuli = pd.DataFrame(rows, columns=[*STIMULUS_COLUMNS, "group"])
        return Declared((RecordingShape(Digits69.SUBJECT, trials, Digits69.VOXELS, table),), stimuli)


class Digits69(Source):
    """The dataset, with what it is known to hold; a still image is a clip of one frame, repeated."""

    VOXELS: ClassVar[int] = 3092
    SIDE: ClassVar[int] = 28
    COUNTS: ClassVar[dict[Split, int]] = {"train": 90, "test": 10}
    DIGITS: ClassVar[dict[int, str]] = {1: "six", 2: "nine"}
    SUBJECT: ClassVar[str] = "sub-01"
    _SUFFIX: ClassVar[dict[Split, str]] = {"train": "Trn", "test": "Test"}

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def subjects(self) -> list[str]:
        """The one person that was recorded."""
        return [self.SUBJECT]

    def stimuli(self) -> pd.DataFrame:
        """Return the 100 images: train-000 … train-089, test-000 … test-009; group is the digit."""
        rows = []
        for split in SPLITS:
            for index, label in enumerate(self._array("label", split).ravel()):
                digit = self._digit(int(label))
                rows.append((_name(split, index), split, [f"a handwritten {digit}"], digit))
        return pd.DataFrame(rows, columns=["stimulus", "split", "caption", "group"])

    def responses(self, subject: str) -> Recording:
        """Return the responses; every image was shown once in this file."""
        if subject != self.SUBJECT:
            raise SourceError(f"{self.path}: holds {self.SUBJECT} only, '{subject}' was asked for; set --subject")
        values: dict[Split, Rows] = {split: self._array("fmri", split).astype(np.float32) for split in SPLITS}
        trials: dict[Split, pd.DataFrame] = {
            split: pd.DataFrame({"stimulus": [_name(split, i) for i in range(self.COUNTS[split])], "repetition": 0})
            for split in SPLITS
        }
        return Recording(subject, values, trials, pd.DataFrame({"roi": ["V1-V3"] * self.VOXELS}))

    def response_files(self, subject: str) -> list[Path]:
        """Return the one file."""
        del subject
        return self.stimulus_files()

    def recordings(self, subject: str) -> list[Path]:
        """Return the one file."""
        return self.response_files(subject)

    def stimulus_files(self) -> list[Path]:
        """Return the one file."""
        return [self.path]

    def clip(self, stimulus: str, config: ClipConfig) -> Clip:
        """Return an image, upright, in RGB, resized where the config asks for another size, every frame the same."""
        split, index = stimulus.split("-")
        pixels = self._array("stim", "train" if split == "train" else "test")[int(index)]
        image = Image.fromarray(pixels.reshape(self.SIDE, self.SIDE).T.astype(np.uint8))
        if image.size != (config.width, config.height):
            image = image.resize((config.width, config.height), Image.Resampling.BOX)
        frame = np.asarray(image.convert("RGB"))
        return np.repeat(frame[None], config.frames, axis=0)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[Any]]:
        if not self.path.is_file():
            raise SourceMissing(f"{self.path}: no such file; set source.path to digit69_28x28.mat")
        try:
            content = scipy.io.loadmat(self.path)
        except (ValueError, NotImplementedError, OSError) as error:
            raise SourceError(f"{self.path}: not a MATLAB file ({error}); expected digit69_28x28.mat") from error
        return {name: value for name, value in content.items() if not name.startswith("__")}

    def _array(self, what: Literal["fmri", "stim", "label"], split: Split) -> NDArray[Any]:
        name = f"{what}{self._SUFFIX[split]}"
        expected = (self.COUNTS[split], {"fmri": self.VOXELS, "stim": self.SIDE**2, "label": 1}[what])
        found = self._arrays.get(name)
        if found is None or found.shape != expected:
            shape = "is missing" if found is None else f"has the shape {found.shape}"
            raise SourceError(f"{self.path}: {name} {shape}; expected {expected} as in digit69_28x28.mat")
        return found

    def _digit(self, label: int) -> str:
        if label not in self.DIGITS:
            raise SourceError(f"{self.path}: label {label} is neither 1 (six) nor 2 (nine); the file is another one")
        return self.DIGITS[label]


def _name(split: Split, index: int) -> str:
    return f"{split}-{index:03d}"
