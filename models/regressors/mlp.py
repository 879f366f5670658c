"""A perceptron onto principal components of the targets, trained on the trials of all subjects; `residual` shares it.

Each subject has an input layer of its own; the hidden layers are for all. A batch of every subject is seen at each
step, so the features of all subjects are in memory together: what training takes grows with subjects, unlike ridge's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from core.errors import ModelError
from core.seeds import rng_for, seed_for
from core.times import Times
from models.decoders.rows import RegressorRows, RowsByRole, flat_targets, not_near, split_stimuli
from models.regressors.basis import Basis
from models.regressors.settings import MlpConfig, NetworkConfig
from models.training.distributed import local_shard, workers
from models.training.loop import Context, train_stage
from models.weights.tensor_file import Stored, Tensors, common, prefixed, writable

Array = NDArray[Any]

ROWS = 1024
"""Rows predicted at once."""


@dataclass(frozen=True)
class NetworkInputs:
    """One subject's rows as the network sees them.

    Attributes
    ----------
    features : (row, feature)
    wanted : by role, (row, component)
    stimuli : the stimulus of each row
    hints : (row, component) a first guess at what is wanted; None where there is none
    times : when each row was shown, where stimuli are ordered in time; see `models.decoders.rows.BrainRows`
    """

    features: Array
    wanted: dict[str, Array]
    stimuli: list[str]
    hints: Array | None = None
    times: Times | None = None


class Perceptron(nn.Module):  # type: ignore[misc]
    """Features of a subject to components of every role.

    ``Linear → GELU → Dropout → LayerNorm → Linear → GELU → Dropout``, then one ``Linear`` a role. The first layer is
    the subject's own, so that subjects with other voxels share the rest.

    Parameters
    ----------
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
    config: NetworkConfig, data: dict[str, NetworkInputs], what: str, context: Context
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
        name: split_stimuli(rows.stimuli, config.validation, rng_for(context.seed, "held out"), rows.times)
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
    train = {name: np.flatnonzero(not_near(held[name], data[name].times)) for name in names}

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


@dataclass(frozen=True)
class Mlp:
    """A trained perceptron for one role.

    Attributes
    ----------
    target : name of the target it predicts
    shape : shape of one stimulus's target
    basis : the components that the network predicts
    spread : root of the variance of all components together, the unit of what the network predicts
    scales : per subject, what its features are divided by
    widths_in : per subject, number of features
    network : with the head of this role, named ``"role"``, alone
    """

    config: MlpConfig
    target: str
    shape: tuple[int, ...]
    basis: Basis
    spread: float
    scales: dict[str, float]
    widths_in: dict[str, int]
    network: Perceptron

    @classmethod
    def fit(cls, config: MlpConfig, target: str, data: dict[str, RegressorRows], context: Context) -> "Mlp":
        """Fit one role on its own."""
        return cls.fit_jointly(config, {"role": (target, data)}, context)["role"]

    @classmethod
    def fit_jointly(cls, config: MlpConfig, roles: RowsByRole, context: Context) -> dict[str, "Mlp"]:
        """Fit several roles with shared hidden layers, on the sum of their errors; each is handed on by itself.

        Raises `ModelError`: the roles have targets of different stimuli.
        """
        first, *others = roles
        for other in others:
            _require_same(first, roles[first][1], other, roles[other][1])
        bases = {role: Basis.fit_rows(data, config.components) for role, (_, data) in roles.items()}
        codes = {
            role: {s: bases[role].project(flat_targets(r)) for s, r in data.items()}
            for role, (_, data) in roles.items()
        }
        spread = {role: np.sqrt(np.concatenate(list(codes[role].values())).var(axis=0).sum()) for role in roles}
        scales, rows = {}, {}
        for subject, one in roles[first][1].items():
            features = one.features
            scales[subject] = scale_of(features)
            wanted = {role: codes[role][subject] / spread[role] for role in roles}
            rows[subject] = NetworkInputs(features / scales[subject], wanted, one.stimuli, times=one.times)
        network, _ = train_perceptron(
            config, rows, f"perceptron for {' and '.join(t for t, _ in roles.values())}", context
        )
        widths = {subject: one.features.shape[1] for subject, one in rows.items()}
        return {
            role: cls(
                config,
                target,
                next(iter(data.values())).shape,
                bases[role],
                float(spread[role]),
                scales,
                widths,
                _with_one_head(network, config, widths, role),
            )
            for role, (target, data) in roles.items()
        }

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        return list(self.scales)

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and target values that come out; -1 where subjects differ."""
        return common(list(self.widths_in.values())), int(np.prod(self.shape))

    def predict(self, subject: str, features: Array) -> NDArray[np.float32]:
        """Return predictions (row, *shape) float32."""
        codes = self.network.answer(subject, features / self.scales[subject], "role") * self.spread
        return self.basis.expand(codes).reshape(len(features), *self.shape)

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        config = {
            "part": "regressor",
            "kind": "mlp",
            "target": self.target,
            "shape": list(self.shape),
            "config": self.config.model_dump(mode="json"),
            "spread": self.spread,
            "scales": self.scales,
            "features": self.widths_in,
            "components": len(self.basis.vectors),
            "explained_variance": self.basis.explained_variance,
        }
        return config, {**self.basis.state("basis"), **network_state(self.network)}

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Mlp":
        """Return the regressor that `state` described."""
        settings = MlpConfig.model_validate(config["config"])
        network = Perceptron(settings, config["features"], {"role": config["components"]})
        load_network(network, tensors)
        basis, shape = Basis.from_state(tensors, "basis"), tuple(config["shape"])
        return cls(
            settings, config["target"], shape, basis, config["spread"], config["scales"], config["features"], network
        )


def network_state(network: torch.nn.Module) -> Tensors:
    """Return a network's weights as tensors whose names begin with ``network.``."""
    return {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}


def load_network(network: torch.nn.Module, tensors: Stored) -> None:
    """Fill a network with what `network_state` returned."""
    weights = writable(prefixed(tensors, "network"))
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    network.eval()


def _with_one_head(network: Perceptron, config: MlpConfig, widths: dict[str, int], role: str) -> Perceptron:
    """Return a copy with one role's head alone, so that a part owes nothing to another."""
    alone = Perceptron(config, widths, {"role": network.heads[role].out_features})
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith("heads.")}
    head = {f"heads.role.{name}": value for name, value in network.heads[role].state_dict().items()}
    alone.load_state_dict({**kept, **head})
    alone.eval()
    return alone


def _require_same(one: str, first: dict[str, RegressorRows], other: str, second: dict[str, RegressorRows]) -> None:
    for subject, rows in first.items():
        if rows.stimuli != second[subject].stimuli:
            differing = sorted(set(rows.stimuli) ^ set(second[subject].stimuli))
            raise ModelError(
                f"{subject}: a joint loss needs both targets of every stimulus; {one} and {other} differ in "
                f"{len(differing)}, such as '{(differing or rows.stimuli)[0]}'; extract both again, or train separately"
            )
