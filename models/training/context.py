"""What a part is fitted with beside its data: a seed, checkpoints, and somebody who listens to how training goes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.seeds import seed_for
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.loop import History

Log = Callable[[str, History], None]
"""Called with a stage's name and its history when the stage is over."""


def _ignore(stage: str, history: History) -> None:
    del stage, history


@dataclass(frozen=True)
class Context:
    """What a training runs in.

    Attributes
    ----------
    seed : int
    name : str
        What the progress calls whatever is trained, such as the route.
    checkpoints : Checkpoints
    log : callable
    scratch : Path or None
        Where a part that does not fit in memory is put while it is being fitted; the system's place for temporary files
        by default.
    """

    seed: int = 0
    name: str = ""
    checkpoints: Checkpoints = NO_CHECKPOINTS
    log: Log = _ignore
    scratch: Path | None = None

    def within(self, name: str, **made_from: Any) -> "Context":
        """Return the context of a part of the whole: a seed, a name and a folder for checkpoints of its own."""
        return replace(
            self,
            seed=seed_for(self.seed, name),
            name=f"{self.name} {name}".strip(),
            checkpoints=self.checkpoints.under(name, **made_from),
            log=lambda stage, history: self.log(f"{name}/{stage}", history),
        )


ALONE = Context()
"""Seed 0, no checkpoints, nobody listening."""
