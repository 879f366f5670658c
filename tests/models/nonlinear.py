"""Small problems with a known answer for the regressors with a network: targets that bend, subjects who differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.times import Times
from models.decoders.build import Regressor
from models.decoders.rows import leave_out
from models.regressors.settings import MlpConfig, ResidualConfig


@dataclass(frozen=True)
class TrainingRows:
    """`models.decoders.rows.RegressorRows` in memory."""

    features: np.ndarray
    targets: np.ndarray
    stimuli: list[str]
    times: Times | None = None

    @property
    def left_out(self) -> Sequence[str]:
        return leave_out(self.stimuli, self.times)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.targets.shape[1:]


TINY: dict[str, Any] = {
    "hidden": 48,
    "dropout": 0.1,
    "input_dropout": 0.0,
    "components": 4,
    "steps": 250,
    "batch": 64,
    "lr": 5e-3,
    "warm_up": 10,
    "validate_every": 25,
    "checkpoint_every": 20,
}


def tiny_mlp(**changed: Any) -> MlpConfig:
    return MlpConfig.model_validate({**TINY, **changed})


def tiny_residual(**changed: Any) -> ResidualConfig:
    return ResidualConfig.model_validate({**TINY, **changed})


class Problem:
    """Causes of stimuli, seen through every subject's own mixture of them, with noise; targets are made of causes.

    Parameters
    ----------
    bend : how much of the targets is squares and products of causes rather than causes
    voxels : by subject
    """

    def __init__(
        self,
        *,
        bend: float = 1.0,
        stimuli: int = 200,
        voxels: dict[str, int] | None = None,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        self._rng, self._bend, self._noise = rng, bend, noise
        self._loads = {name: rng.normal(size=(3, count)) for name, count in (voxels or {"sub-01": 12}).items()}
        self._stimuli = stimuli

    def targets(self, causes: np.ndarray) -> np.ndarray:
        """(stimulus, 2, 2): a linear part, and one that no linear map of causes correlates with."""
        one, two, three = causes.T
        linear = np.stack([one, two, three, one - two], axis=1)
        bent = np.stack([one**2 - 1, two * three, one * two, np.abs(three) - 0.8], axis=1)
        mixed = (1 - self._bend) * linear + self._bend * bent
        return mixed.reshape(-1, 2, 2).astype(np.float32)

    def rows(self, stimuli: int | None = None, repeats: int = 2, prefix: str = "s") -> dict[str, TrainingRows]:
        """Draw stimuli that all subjects see `repeats` times each."""
        count = stimuli or self._stimuli
        causes = np.repeat(self._rng.normal(size=(count, 3)), repeats, axis=0)
        names = [f"{prefix}{row // repeats}" for row in range(len(causes))]
        return {name: TrainingRows(self._seen(name, causes), self.targets(causes), names) for name in self._loads}

    def _seen(self, name: str, causes: np.ndarray) -> np.ndarray:
        features = causes @ self._loads[name]
        seen: np.ndarray = (features + self._noise * self._rng.normal(size=features.shape)).astype(np.float32)
        return seen


def r2(regressor: Regressor, rows: dict[str, TrainingRows]) -> dict[str, float]:
    """By subject, the part of the targets' variance that is predicted."""
    made = {name: regressor.predict(name, one.features) for name, one in rows.items()}
    return {
        name: float(1 - np.square(made[name] - one.targets).sum() / np.square(one.targets - one.targets.mean(0)).sum())
        for name, one in rows.items()
    }
