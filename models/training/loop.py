"""The training loop: every step draws by its own number, so a stopped training goes on to the same weights."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import ModelError
from core.progress import report
from core.seeds import seed_for
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.distributed import (
    average,
    average_gradients,
    broadcast,
    drawn_for_the_batch,
    require_alike,
    workers,
)
from models.training.settings import LoopConfig

Coefficients = tuple[float, float, float]

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients of Jordan's Muon: singular values end near 1, quickly rather than exactly."""


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Muon with convolution kernels flattened to ``(out, in·k·k)``, which `torch.optim.Muon` does not take.

    ``W ← W − lr · sqrt(max(1, rows/columns)) · orth(momentum)`` for weights of two or more axes, and Adam for the rest.
    Follows Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    Parameters
    ----------
    lr : step of the orthogonalised update, in units of a singular value
    lr_adam : Adam's step for weights of one axis
    momentum : Nesterov momentum of the orthogonalised update
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], *, lr: float, lr_adam: float, momentum: float = 0.95
    ) -> None:
        every = list(parameters)
        groups = [
            {"params": [p for p in every if p.ndim > 1], "lr": lr, "matrices": True},
            {"params": [p for p in every if p.ndim <= 1], "lr": lr_adam, "matrices": False},
        ]
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, _: None = None) -> None:
        """Take one step along the gradients; weights without a gradient stay."""
        for group in self.param_groups:
            update = self._muon if group["matrices"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    update(weight, group["lr"], group["momentum"])

    def _muon(self, weight: torch.Tensor, lr: float, momentum: float) -> None:
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        direction = weight.grad.lerp(buffer, momentum).flatten(1)
        rows, columns = direction.shape
        step = orthogonalise(direction).view_as(weight)
        weight.add_(step, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _adam(self, weight: torch.Tensor, lr: float, _: float) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 0.1)
        state["square"].lerp_(weight.grad.square(), 0.05)
        mean = state["mean"] / (1 - 0.9 ** state["step"])
        square = state["square"] / (1 - 0.95 ** state["step"])
        weight.sub_(lr * mean / (square.sqrt() + 1e-8))


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return roughly ``U Vᵀ`` of a matrix ``U S Vᵀ`` by a quintic Newton-Schulz iteration; singular values end near 1.

    Every step multiplies from the left by a polynomial of the small square ``X Xᵀ``, so the polynomials are gathered
    there first and meet the long side of the matrix once: a quarter of the work for a convolution's kernel.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    eye = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    gathered = eye
    for _ in range(steps):
        factor = a * eye + b * gram + c * gram @ gram
        gathered = factor @ gathered
        gram = factor @ gram @ factor
    x = gathered @ x
    return x.T if tall else x


Loss = Callable[[int], torch.Tensor]
"""Returns the loss of a step, by its number; over several processes, that of this one's share of the batch."""

WARM_UP = 20
"""Steps until the full rate is reached."""


@dataclass(frozen=True)
class Validation:
    """When to look at held-out rows, and when to stop.

    Attributes
    ----------
    loss : returns the loss on the held-out rows; it is called without gradients
    every : steps between two looks
    patience : looks without a better loss after which training stops
    """

    loss: Callable[[], torch.Tensor]
    every: int
    patience: int


@dataclass
class History:
    """The losses of a training.

    Attributes
    ----------
    losses : the loss of every step, over all processes
    validation : (steps done, loss on the held-out rows) at every look
    best : the steps after which the weights that are kept were had; None without validation
    """

    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best: int | None = None

    def is_over(self, steps: int, patience: int | None) -> bool:
        """Say whether training has done its steps, or has not become better for too long."""
        if len(self.losses) >= steps:
            return True
        return patience is not None and sum(at > (self.best or 0) for at, _ in self.validation) >= patience

    def note(self) -> str:
        """Return the newest losses in a few words."""
        words = f"loss {self.losses[-1]:.4f}" if self.losses else ""
        return f"{words}, validation {self.validation[-1][1]:.4f}" if self.validation else words


def cosine(step: int, steps: int, *, floor: float = 0.04, warm_up: int = WARM_UP) -> float:
    """Return the part of the full rate at a step: a short warm-up, then a cosine from 1 to `floor`."""
    half = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * min(1, step / max(1, steps)), dtype=torch.float64)))
    return min(1.0, (step + 1) / warm_up) * (floor + (1 - floor) * half)


def optimiser_of(
    config: LoopConfig, model: torch.nn.Module, *, slower: torch.nn.Module | None = None, by: float = 1.0
) -> torch.optim.Optimizer:
    """Return the optimiser that a config names, over the weights that are trained.

    Parameters
    ----------
    slower : a part of the model whose rate is multiplied by `by`
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    apart = set() if slower is None else set(slower.parameters())
    if config.optimiser == "muon":
        muon = Muon([weight for weight in weights if weight not in apart], lr=config.lr, lr_adam=config.lr_adam)
        for matrices, rate in ((True, config.lr), (False, config.lr_adam)):
            slow = [weight for weight in weights if weight in apart and (weight.ndim > 1) == matrices]
            if slow:
                muon.add_param_group({"params": slow, "lr": rate * by, "matrices": matrices})
        return muon
    groups = [
        {
            "params": [weight for weight in weights if (weight.ndim > 1) == matrices and (weight in apart) == slow],
            "weight_decay": config.weight_decay if matrices else 0.0,
            "lr": config.lr * (by if slow else 1.0),
        }
        for slow in (False, True)
        for matrices in (True, False)
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.95), fused=True)


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
    warm_up: int = WARM_UP,
    ema: float | None = None,
    validation: Validation | None = None,
) -> History:
    """Train for `steps` steps, from the last checkpoint where there is one, and leave the kept weights in the model.

    Torch's generator is seeded by (seed, stage, step) before each step, alike in all processes, and set back to what it
    was afterwards: what is drawn must be drawn for the whole batch, as dropout is here. Kept are the weights of the
    best look at the held-out rows, else the last ones; of their moving average with `ema`.

    Parameters
    ----------
    stage, what : the checkpoint's name, and what the progress calls it
    model : all that is trained, as one module
    optimiser : its groups' rates are the full ones
    clip : largest norm of the gradient
    warm_up : steps until the full rate is reached
    ema : decay of the moving average of the weights

    Raises
    ------
    ModelError
        The checkpoint is of another training, or a loss is not finite; the last checkpoint is then unchanged.
    """
    going = _Training(stage, model, optimiser, checkpoints, _average_of(model, ema), validation)
    going.resume()
    rates = [group["lr"] for group in optimiser.param_groups]
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    history, patience = going.history, validation.patience if validation else None
    report(what, len(history.losses), steps)
    with torch.random.fork_rng(devices=[]), drawn_for_the_batch(model):
        while not history.is_over(steps, patience):
            step = len(history.losses)
            torch.manual_seed(seed_for(seed, stage, step))
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * cosine(step, steps, warm_up=warm_up)
            value = loss(step)
            optimiser.zero_grad()
            value.backward()
            average_gradients(weights)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(weights, clip)
            history.losses.append(_finite(average(value), what, going))
            optimiser.step()
            going.look()
            if len(history.losses) % checkpoints.every == 0 or history.is_over(steps, patience):
                going.keep(rates)
            report(what, len(history.losses), steps, history.note())
    if len(history.losses) < steps:
        report(what, steps, steps, f"{history.note()}, stopped after {len(history.losses)} steps")
    going.finish()
    return history


def _finite(value: float, what: str, going: "_Training") -> float:
    if math.isfinite(value):
        return value
    kept = f"the checkpoint of step {going.kept_at} is unchanged; " if going.kept_at else ""
    raise ModelError(
        f"{what}: the loss is not a number at step {len(going.history.losses)}; {kept}check the data, lower lr, or set "
        "clip"
    )


def _average_of(model: torch.nn.Module, decay: float | None) -> torch.nn.Module | None:
    if decay is None:
        return None
    return torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=False
    )


class _Training:
    """A training under way: the network, its moving average, the best weights so far."""

    def __init__(
        self,
        stage: str,
        model: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        checkpoints: Checkpoints,
        averaged: torch.nn.Module | None,
        validation: Validation | None,
    ) -> None:
        self._stage, self._model, self._optimiser = stage, model, optimiser
        self._checkpoints, self._averaged, self._validation = checkpoints, averaged, validation
        self._best: dict[str, torch.Tensor] | None = None
        self.history = History()
        self.kept_at = 0

    def resume(self) -> None:
        """Go back to the last checkpoint, where there is one."""
        kept = self._checkpoints.load(self._stage)
        if self._checkpoints.folder is not None:
            done = {"steps": 0 if kept is None else len(kept["losses"])}
            require_alike(f"checkpoint of {self._stage}", done, "outputs/ must be the same folder on all nodes")
        if kept is None:
            return
        self._model.load_state_dict(kept["model"])
        self._optimiser.load_state_dict(kept["optimiser"])
        if self._averaged is not None:
            self._averaged.load_state_dict(kept["averaged"])
        self._best = kept["best"]
        self.history = History(list(kept["losses"]), [(int(a), float(b)) for a, b in kept["validation"]], kept["at"])
        self.kept_at = len(self.history.losses)

    def look(self) -> None:
        """Update the moving average and, every so many steps, look at the held-out rows."""
        if self._averaged is not None:
            self._averaged.update_parameters(self._model)
        wanted, done = self._validation, len(self.history.losses)
        if wanted is None or done % wanted.every:
            return
        own = self._state(self._model)
        self._model.load_state_dict(self._kept_weights())
        self._model.eval()
        with torch.no_grad():
            value = broadcast(float(wanted.loss().item()))
        better = value < min((loss for _, loss in self.history.validation), default=math.inf)
        self.history.validation.append((done, value))
        if better:
            self.history.best, self._best = done, self._state(self._model)
        self._model.load_state_dict(own)
        self._model.train()

    def keep(self, rates: list[float]) -> None:
        """Write a checkpoint; the rates in it are the full ones."""
        if self._checkpoints.folder is None:
            return
        self.kept_at = len(self.history.losses)
        if not workers().is_main_process:
            return
        optimiser = self._optimiser.state_dict()
        for group, rate in zip(optimiser["param_groups"], rates, strict=True):
            group["lr"] = rate
        state: dict[str, Any] = {"model": self._model.state_dict(), "optimiser": optimiser, "best": self._best}
        state["averaged"] = None if self._averaged is None else self._averaged.state_dict()
        history = {"losses": self.history.losses, "validation": self.history.validation, "at": self.history.best}
        self._checkpoints.keep(self._stage, {**state, **history})

    def finish(self) -> None:
        """Leave the weights that are kept in the model, ready for use."""
        self._model.load_state_dict(self._best if self._best is not None else self._kept_weights())
        self._model.eval()

    def _kept_weights(self) -> dict[str, torch.Tensor]:
        source = self._model if self._averaged is None else self._averaged.module
        return self._state(source)

    @staticmethod
    def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in model.state_dict().items()}


Log = Callable[[str, History], None]
"""Called with a stage's name and its history when the stage is over."""


def _ignore(stage: str, history: History) -> None:
    del stage, history


@dataclass(frozen=True)
class Context:
    """What a training runs in.

    Attributes
    ----------
    name : what is trained, as the progress shows it, such as the route
    scratch : where a part that does not fit in memory is put while it is being fitted; the system's place for temporary
        files by default
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
