"""The zoo's training loop: every step draws by its own number, so a stopped training goes on to the same weights."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.files import digest_json
from core.progress import report
from core.seeds import seed_for

Loss = Callable[[int], torch.Tensor]
"""Returns the loss of a step, by its number."""

WARM_UP = 20
"""Steps until the full rate is reached."""


def cosine(step: int, steps: int, *, floor: float = 0.04) -> float:
    """Return the part of the full rate at a step: a short warm-up, then a cosine from 1 to `floor`."""
    half = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * min(1, step / max(1, steps)), dtype=torch.float64)))
    return min(1.0, (step + 1) / WARM_UP) * (floor + (1 - floor) * half)


@dataclass(frozen=True)
class Checkpoints:
    """Where a stage keeps what it needs to go on.

    Attributes
    ----------
    folder : Path or None
        None keeps nothing.
    every : int
        Steps between two checkpoints.
    made_from : dict
        Everything that any stage is made from; see `of`.
    """

    folder: Path | None = None
    every: int = 1
    made_from: dict[str, Any] = field(default_factory=dict)

    def of(self, *sections: str) -> "Checkpoints":
        """Return the checkpoints of stages that are made from these sections of the settings alone.

        A checkpoint of other settings is refused by a digest of them, so a change to one stage keeps the others.
        """
        return replace(self, made_from={name: self.made_from.get(name) for name in sorted(sections)})

    @property
    def digest(self) -> str:
        """Digest of what the stages are made from."""
        return digest_json(self.made_from)

    def path(self, stage: str) -> Path | None:
        """Return the file of a stage."""
        return None if self.folder is None else self.folder / f"{stage}.pt"


NO_CHECKPOINTS = Checkpoints()
"""For trainings of seconds."""


def fit(
    stage: str,
    what: str,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    steps: int,
    *,
    seed: int,
    checkpoints: Checkpoints,
    clip: float | None = None,
) -> list[float]:
    """Train for `steps` steps, from the last checkpoint where there is one, and return every step's loss.

    Torch's generator is seeded by (seed, stage, step) before each step, and set back to what it was afterwards.

    Parameters
    ----------
    stage, what : the checkpoint's name, and what the progress calls it
    model : all that is trained, as one module
    optimiser : its groups' rates are the full ones
    loss : callable
    steps : int
    seed : int
    checkpoints : Checkpoints
    clip : float, optional
        Largest norm of the gradient.

    Raises
    ------
    ModelError
        The checkpoint is of other settings, or a loss is not finite.
    """
    rates = [group["lr"] for group in optimiser.param_groups]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    losses = _resume(checkpoints, stage, model, optimiser)
    report(what, len(losses), steps)
    with torch.random.fork_rng(devices=[]):
        for step in range(len(losses), steps):
            torch.manual_seed(seed_for(seed, stage, step))
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * cosine(step, steps)
            value = loss(step)
            optimiser.zero_grad()
            value.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            optimiser.step()
            losses.append(float(value.item()))
            if losses[-1] != losses[-1]:
                raise ModelError(f"train-zoo: {what} diverged at step {step}; lower the stage's lr")
            if len(losses) % checkpoints.every == 0 or len(losses) == steps:
                _keep(checkpoints, stage, model, optimiser, losses)
            report(what, len(losses), steps)
    return losses


def _resume(
    checkpoints: Checkpoints, stage: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer
) -> list[float]:
    path = checkpoints.path(stage)
    if path is None or not path.is_file():
        return []
    kept = torch.load(path, weights_only=True)
    if kept["made_from"] != checkpoints.digest:
        raise ModelError(f"{path}: a checkpoint of other settings; remove it to train this stage anew")
    model.load_state_dict(kept["model"])
    optimiser.load_state_dict(kept["optimiser"])
    return list(kept["losses"])


def _keep(
    checkpoints: Checkpoints, stage: str, model: torch.nn.Module, optimiser: torch.optim.Optimizer, losses: list[float]
) -> None:
    path = checkpoints.path(stage)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    torch.save({"made_from": checkpoints.digest, "losses": losses, **state}, partial)
    partial.replace(path)


@torch.no_grad()  # type: ignore[untyped-decorator]
def round_to_half(model: torch.nn.Module) -> None:
    """Round every weight to what float16 holds, as it is shipped, so that later stages are trained on what others get.

    Raises
    ------
    ModelError
        A weight is beyond float16.
    """
    for weight in model.parameters():
        rounded = weight.half().float()
        if not torch.isfinite(rounded).all():
            raise ModelError("train-zoo: a weight is beyond float16; lower the stage's lr")
        weight.copy_(rounded)
