"""The perceptron that the regressors `mlp` and `residual` share: an input layer a subject, hidden layers for all."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.errors import ModelError
from core.seeds import rng_for, seed_for
from models.decoders.rows import split_stimuli
from models.regressors.settings import NetworkConfig
from models.training.distributed import local_shard, workers
from models.training.stage import Context, train_stage

Array = NDArray[Any]

ROWS = 1024
"""Rows predicted at once."""


@dataclass(frozen=True)
class NetworkRows:
    """One subject's rows as the network sees them.

    Attributes
    ----------
    features : (row, feature)
    wanted : by role, (row, component)
    stimuli : the stimulus of each row
    hints : (row, component) a first guess at what is wanted; None where there is none
    """

    features: Array
    wanted: dict[str, Array]
    stimuli: list[str]
    hints: Array | None = None


class Perceptron(nn.Module):  # type: ignore[misc]
    """Features of a subject to components of every role.

    ``Linear → GELU → Dropout → LayerNorm → Linear → GELU → Dropout``, then one ``Linear`` a role. The first layer is
    the subject's own, so that subjects with other voxels share the rest.

    Parameters
    ----------
    config : NetworkConfig
    widths : by subject, the number of features
    components : by role, the number of components
    hints : number of components of the first guess, 0 where there is none
    """

    def __init__(
        self, config: NetworkConfig, widths: dict[str, int], components: dict[str, int], hints: int = 0
    ) -> None:
        super().__init__()
        self._index = {name: index for index, name in enumerate(widths)}
        self.inwards = nn.ModuleList(nn.Linear(width, config.hidden) for width in widths.values())
        self.hints = nn.Linear(hints, config.hidden) if hints else None
        self.drop = nn.Dropout(config.input_dropout)
        self.trunk = nn.Sequential(
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.LayerNorm(config.hidden),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
        )
        self.heads = nn.ModuleDict({role: nn.Linear(config.hidden, width) for role, width in components.items()})

    def forward(self, subject: str, features: torch.Tensor, hints: torch.Tensor | None = None) -> dict[str, Any]:
        """Return by role (row, component) for features (row, feature)."""
        inside = self.inwards[self._index[subject]](self.drop(features))
        if self.hints is not None and hints is not None:
            inside = inside + self.hints(hints)
        inside = self.trunk(inside)
        return {role: head(inside) for role, head in self.heads.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def answer(self, subject: str, features: Array, role: str, hints: Array | None = None) -> NDArray[np.float32]:
        """Return one role's components, (row, component) float32, as numpy."""
        device = workers().device
        self.to(device).eval()
        parts = []
        for first in range(0, len(features), ROWS):
            given = [_tensor(part[first : first + ROWS], device) for part in (features, hints) if part is not None]
            parts.append(self(subject, *given)[role].float().cpu().numpy())
        return np.concatenate(parts)


def train_perceptron(
    config: NetworkConfig, data: dict[str, NetworkRows], what: str, context: Context
) -> tuple[Perceptron, dict[str, NDArray[np.bool_]]]:
    """Train a perceptron; the sum of its roles' errors, each in units of one, is what falls.

    Roles of one network share all but their heads, which is when training them jointly differs from training each
    alone: with nothing shared, the gradient of a sum is the two gradients.

    Returns
    -------
    network : Perceptron
    held : per subject, (row,) which rows were held out for early stopping

    Raises
    ------
    ModelError
        Fewer stimuli than can be split.
    """
    first = next(iter(data.values()))
    if len(set(first.stimuli)) < 4:
        raise ModelError(f"{what}: {len(set(first.stimuli))} training stimuli; at least 4 are needed to hold some out")
    held = {
        name: split_stimuli(rows.stimuli, config.validation, rng_for(context.seed, "held out"))
        for name, rows in data.items()
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(context.seed, "perceptron", "weights"))
        widths = {name: rows.features.shape[1] for name, rows in data.items()}
        components = {role: wanted.shape[1] for role, wanted in first.wanted.items()}
        network = Perceptron(config, widths, components, 0 if first.hints is None else first.hints.shape[1])
    device = workers().device

    def error(name: str, chosen: NDArray[np.int64]) -> torch.Tensor:
        rows = data[name]
        given = [_tensor(part[chosen], device) for part in (rows.features, rows.hints) if part is not None]
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            made = network(name, *given)
        parts = [
            (made[role].float() - _tensor(rows.wanted[role][chosen], device)).square().sum(dim=1).mean()
            for role in made
        ]
        return torch.stack(parts).sum()

    names = sorted(data)
    train = {name: np.flatnonzero(~held[name]) for name in names}

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(context.seed, "perceptron", "batches", step)
        share = max(1, config.batch // len(names))
        return torch.stack([error(name, local_shard(rng.choice(train[name], share))) for name in names]).mean()

    def held_out() -> torch.Tensor:
        return torch.stack([error(name, np.flatnonzero(held[name])) for name in names]).mean()

    train_stage("perceptron", what, network, config, loss, held_out, context)
    return network, held


def scale_of(features: Array) -> float:
    """Return what features are divided by before they meet the network: the square root of their mean square."""
    return float(np.sqrt(np.mean(np.square(features, dtype=np.float64)))) or 1.0


def _tensor(values: Array, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)
