"""What a part is fitted with beside its data: a seed, checkpoints, and somebody who listens to how training goes.

A stage of a brain model's training: the loop with what a config says, in a context that keeps and listens.
"""

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
    """Train a network in place as its config says; see `models.training.loop.fit`.

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
