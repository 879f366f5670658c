"""The context of a training (seed, checkpoints, log), and one stage of it: the loop with a config's settings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.seeds import seed_for
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.distributed import workers
from models.training.loop import History, Loss, Validation, fit, optimiser_of
from models.training.settings import LoopConfig

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
        What is trained, as the progress shows it, such as the route.
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
"""The defaults: seed 0, no checkpoints, no log."""


def train_stage(
    stage: str,
    what: str,
    model: torch.nn.Module,
    config: LoopConfig,
    loss: Loss,
    held_out: Callable[[], torch.Tensor] | None,
    context: Context,
    optimiser: torch.optim.Optimizer | None = None,
) -> History:
    """Train a network in place with its config's settings; see `models.training.loop.fit`.

    Parameters
    ----------
    stage, what : the checkpoint's name, and what the progress calls it
    held_out : returns the loss on held-out rows; without it there is no early stopping
    optimiser : by default the one that the config names
    """
    model.to(workers().device).train()
    history = fit(
        stage,
        f"{context.name}: {what}",
        model,
        optimiser or optimiser_of(config, model),
        loss,
        config.steps,
        seed=context.seed,
        checkpoints=context.checkpoints.at(config.checkpoint_every),
        clip=config.clip,
        warm_up=config.warm_up,
        ema=config.ema,
        validation=None if held_out is None else Validation(held_out, config.validate_every, config.patience),
    )
    context.log(stage, history)
    return history
