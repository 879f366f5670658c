"""A perceptron onto principal components of the targets, trained on the trials of all subjects.

It sees a batch of every subject at each step, so the features of all subjects are in memory together: what training
takes grows with subjects, unlike ridge's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError
from models.decoders.rows import Roles, TrainingRows
from models.regressors.network import NetworkRows, Perceptron, scale_of, train_perceptron
from models.regressors.ridge.basis import Basis
from models.regressors.settings import MlpConfig
from models.training.stage import Context
from models.weights.tensor_file import Stored, Tensors, common, prefixed, writable

Array = NDArray[Any]


@dataclass(frozen=True)
class Mlp:
    """A trained perceptron for one role.

    Attributes
    ----------
    config : MlpConfig
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
    def fit(cls, config: MlpConfig, target: str, data: dict[str, TrainingRows], context: Context) -> "Mlp":
        """Fit one role on its own."""
        return cls.fit_jointly(config, {"role": (target, data)}, context)["role"]

    @classmethod
    def fit_jointly(cls, config: MlpConfig, roles: Roles, context: Context) -> dict[str, "Mlp"]:
        """Fit several roles with shared hidden layers, on the sum of their errors; each is handed on by itself.

        Raises
        ------
        ModelError
            The roles have targets of different stimuli.
        """
        first, *others = roles
        for other in others:
            _require_same(first, roles[first][1], other, roles[other][1])
        bases = {role: Basis.fit_rows(data, config.components) for role, (_, data) in roles.items()}
        codes = {
            role: {s: bases[role].project(r.flat_targets) for s, r in data.items()} for role, (_, data) in roles.items()
        }
        spread = {role: np.sqrt(np.concatenate(list(codes[role].values())).var(axis=0).sum()) for role in roles}
        scales, rows = {}, {}
        for subject, one in roles[first][1].items():
            features = one.features
            scales[subject] = scale_of(features)
            wanted = {role: codes[role][subject] / spread[role] for role in roles}
            rows[subject] = NetworkRows(features / scales[subject], wanted, one.stimuli)
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


def _require_same(one: str, first: dict[str, TrainingRows], other: str, second: dict[str, TrainingRows]) -> None:
    for subject, rows in first.items():
        if rows.stimuli != second[subject].stimuli:
            differing = sorted(set(rows.stimuli) ^ set(second[subject].stimuli))
            raise ModelError(
                f"{subject}: a joint loss needs both targets of every stimulus; {one} and {other} differ in "
                f"{len(differing)}, such as '{(differing or rows.stimuli)[0]}'; extract both again, or train separately"
            )
