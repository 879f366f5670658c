"""Ridge, and a perceptron that learns what ridge leaves over on stimuli that it was not fitted on.

Ridge's own residuals on its training rows say nothing, as it has seen them; its leave-one-stimulus-out predictions are
exact and cost next to nothing (see `models.regressors.ridge`), and what they miss is what is missed on new
stimuli. The correction is scaled by the factor that suits its own held-out stimuli best, down to none at all.

Like the perceptron of `models.regressors.mlp`, the correction needs the features of all subjects in memory.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.decoders.rows import RegressorRows, flat_targets
from models.regressors.basis import Basis
from models.regressors.mlp import NetworkInputs, Perceptron, load_network, network_state, scale_of, train_perceptron
from models.regressors.penalty import summary
from models.regressors.ridge import RidgeFit, fit_ridge, left_out_predictions
from models.regressors.settings import ResidualConfig
from models.training.loop import Context
from models.weights.tensor_file import Stored, Tensors, common

Array = NDArray[Any]
STORED_NAMES = {"penalties": "alphas"}
"""Settings that registered models have under their old names."""


@dataclass(frozen=True)
class Residual:
    """A trained ridge with its correction, for one role.

    Attributes
    ----------
    target : name of the target it predicts
    shape : shape of one stimulus's target
    basis : the components that both predict
    spread : (component,) float32, standard deviation of each, the unit of what the correction reads
    ridges : per subject
    scales : per subject, what its features are divided by
    factor : per subject, what the correction is multiplied by, from 0 to 1
    """

    config: ResidualConfig
    target: str
    shape: tuple[int, ...]
    basis: Basis
    spread: Array
    ridges: dict[str, RidgeFit]
    scales: dict[str, float]
    factor: dict[str, float]
    network: Perceptron

    @classmethod
    def fit(cls, config: ResidualConfig, target: str, data: dict[str, RegressorRows], context: Context) -> "Residual":
        """Fit ridge, then its correction."""
        basis = Basis.fit_rows(data, config.components)
        codes = {subject: basis.project(flat_targets(rows)) for subject, rows in data.items()}
        spread = np.concatenate(list(codes.values())).std(axis=0).clip(1e-6)
        unit = float(np.sqrt((spread**2).sum()))
        ridges, scales, rows = {}, {}, {}
        for subject, one in data.items():
            features, wanted, left_out = one.features, codes[subject], one.left_out
            ridges[subject] = ridge = fit_ridge(
                features, wanted, left_out, config.alphas, penalty_per=config.penalty_per, grow=config.grow
            )
            guess = left_out_predictions(features, wanted, left_out, ridge)
            scales[subject] = scale_of(features)
            missed = {"role": (wanted - guess) / unit}
            rows[subject] = NetworkInputs(features / scales[subject], missed, one.stimuli, guess / spread, one.times)
        network, held = train_perceptron(config, rows, f"correction of ridge for {target}", context)
        factor = {}
        for subject, seen in rows.items():
            chosen = held[subject]
            hints = None if seen.hints is None else seen.hints[chosen]
            made = network.answer(subject, seen.features[chosen], "role", hints)
            left = seen.wanted["role"][chosen]
            factor[subject] = float(np.clip((made * left).sum() / max((made**2).sum(), 1e-12), 0, 1))
        shape = next(iter(data.values())).shape
        return cls(config, target, shape, basis, spread, ridges, scales, factor, network)

    @property
    def subjects(self) -> list[str]:
        """The subjects it knows."""
        return list(self.ridges)

    @property
    def widths(self) -> tuple[int, int]:
        """Features that go in and target values that come out; -1 where subjects differ."""
        return common([len(ridge.centre) for ridge in self.ridges.values()]), int(np.prod(self.shape))

    def predict(self, subject: str, features: Array) -> NDArray[np.float32]:
        """Return predictions (row, *shape) float32."""
        codes = self.ridges[subject].predict(features)
        if self.factor[subject]:
            unit = self.factor[subject] * float(np.sqrt((self.spread**2).sum()))
            scaled = features / self.scales[subject]
            codes = codes + unit * self.network.answer(subject, scaled, "role", codes / self.spread)
        return self.basis.expand(codes).reshape(len(features), *self.shape)

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`."""
        tensors: Tensors = {**self.basis.state("basis"), **network_state(self.network), "spread": self.spread}
        for subject, ridge in self.ridges.items():
            tensors |= ridge.state(f"subjects.{subject}")
        config = {
            "part": "regressor",
            "kind": "residual",
            "target": self.target,
            "shape": list(self.shape),
            "config": self.config.model_dump(mode="json"),
            "scales": self.scales,
            "factor": self.factor,
            "penalties": {subject: summary(ridge.alphas, ridge.ends) for subject, ridge in self.ridges.items()},
            "features": {subject: len(ridge.centre) for subject, ridge in self.ridges.items()},
            "components": len(self.basis.vectors),
            "explained_variance": self.basis.explained_variance,
        }
        return config, tensors

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Residual":
        """Return the regressor that `state` described."""
        stored, count = config["config"], config["components"]
        settings = ResidualConfig.model_validate({STORED_NAMES.get(key, key): value for key, value in stored.items()})
        network = Perceptron(settings, config["features"], {"role": count}, count)
        load_network(network, tensors)
        ridges = {subject: RidgeFit.from_state(tensors, f"subjects.{subject}") for subject in config["scales"]}
        shape, basis = tuple(config["shape"]), Basis.from_state(tensors, "basis")
        scales, factor = config["scales"], config["factor"]
        return cls(settings, config["target"], shape, basis, tensors["spread"], ridges, scales, factor, network)
