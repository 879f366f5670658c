"""A stage of a brain model's training: the loop with what a config says, in a context that keeps and listens."""

from collections.abc import Callable

import torch

from models.training.config import LoopConfig
from models.training.context import Context
from models.training.loop import History, Loss, Validation, fit, optimiser_of
from models.training.workers import workers


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
