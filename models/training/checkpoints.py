"""What a training keeps so that, killed at any moment, it goes on to the same weights bit for bit."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.files import digest_json


@dataclass(frozen=True)
class Checkpoints:
    """Where a stage keeps what it needs to go on.

    Attributes
    ----------
    folder : where they lie; None keeps nothing
    every : steps between two checkpoints
    made_from : everything that any stage is made from, such as settings and digests of data; see `of`
    """

    folder: Path | None = None
    every: int = 1
    made_from: dict[str, Any] = field(default_factory=dict)

    def of(self, *sections: str) -> "Checkpoints":
        """Return the checkpoints of stages that are made from these sections alone.

        A checkpoint of others is refused, so a change to one stage keeps those of the others.
        """
        return replace(self, made_from={name: self.made_from.get(name) for name in sorted(sections)})

    def under(self, name: str, **more: Any) -> "Checkpoints":
        """Return checkpoints in a folder of their own, made from `more` as well."""
        folder = None if self.folder is None else self.folder / name
        return Checkpoints(folder, self.every, {**self.made_from, **more})

    def at(self, every: int) -> "Checkpoints":
        """Return the same with another number of steps between two checkpoints."""
        return replace(self, every=every)

    def load(self, stage: str) -> dict[str, Any] | None:
        """Return a stage's last checkpoint, or None where there is none.

        Raises `ModelError`: it is damaged, or of other settings or data; the message names the first difference.
        """
        path = self._path(stage)
        if path is None or not path.is_file():
            return None
        try:
            kept: dict[str, Any] = torch.load(path, weights_only=True)
            made_from = kept["made_from"]
        except Exception as error:
            raise ModelError(f"{path}: not a checkpoint of this project ({error}); remove it to train anew") from error
        if digest_json(made_from) != digest_json(self.made_from):
            raise ModelError(
                f"{path}: a checkpoint of another training: {difference(made_from, self.made_from)}; "
                "go back to what it was made from, or remove it to train this stage anew"
            )
        return kept

    def keep(self, stage: str, state: dict[str, Any]) -> None:
        """Replace a stage's checkpoint, whole or not at all."""
        path = self._path(stage)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        torch.save({"made_from": self.made_from, **state}, partial)
        partial.replace(path)

    def _path(self, stage: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{stage}.pt"


NO_CHECKPOINTS = Checkpoints()
"""For trainings of seconds."""


def difference(found: Any, expected: Any, where: str = "") -> str:
    """Return the first place in which two JSON-able values differ: ``"mbm.lr was 0.001, is 0.002"``."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            if found.get(key) != expected.get(key):
                return difference(found.get(key), expected.get(key), f"{where}.{key}" if where else str(key))
    return f"{where or 'it'} was {found}, is {expected}"
