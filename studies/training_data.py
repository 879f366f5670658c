"""What a study's models are trained on: every subject's training trials, joined with targets by stimulus."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError, StoreError
from core.seeds import rng_for
from feature_store import Store
from feature_store.views import mean_over_repeats
from models.encoders.rows import BrainRows
from models.parts import Encoder
from models.predict import encode_trials
from models.regressors.config import RegressorConfig
from models.regressors.mlp import Roles
from models.regressors.rows import TrainingRows
from studies.study import Study

Array = NDArray[Any]


@dataclass(frozen=True)
class Target:
    """One target's values of the training stimuli.

    Attributes
    ----------
    values : (stimulus, …)
    row_of : the row of each stimulus
    """

    values: Array
    row_of: dict[str, int]

    @classmethod
    def of(cls, values: Array, stimuli: list[str]) -> "Target":
        """Return values (stimulus, …) by stimulus."""
        return cls(values, {name: row for row, name in enumerate(stimuli)})

    def of_trials(self, stimuli: list[str]) -> Array:
        """Return the values of each trial, (trial, …)."""
        return self.values[[self.row_of[name] for name in stimuli]]

    def vectors_of_trials(self, stimuli: list[str]) -> NDArray[np.float32]:
        """Return one vector a trial, (trial, width): tokens (…, token, width) are averaged."""
        rows = self.values.reshape(len(self.values), -1, self.values.shape[-1]).mean(axis=1, dtype=np.float32)
        return np.asarray(rows[[self.row_of[name] for name in stimuli]])

    def mean(self, stimuli: Collection[str]) -> NDArray[np.float32]:
        """Return the mean over some stimuli, each counted once."""
        rows = sorted(self.row_of[name] for name in set(stimuli))
        mean: NDArray[np.float32] = self.values[rows].mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean


@dataclass(frozen=True)
class TrainingData:
    """Training trials of several subjects, and the targets of what they saw.

    Attributes
    ----------
    brains : per subject
    targets : by name
    """

    brains: dict[str, BrainRows]
    targets: dict[str, Target]

    @property
    def stimuli(self) -> list[str]:
        """Every stimulus that any subject saw, in alphabetical order."""
        return sorted({name for one in self.brains.values() for name in one.stimuli})

    def only(self, stimuli: Collection[str]) -> "TrainingData":
        """Return the trials of some stimuli alone; recordings without a stimulus stay."""
        wanted = set(stimuli)
        return replace(self, brains={subject: _only(one, wanted) for subject, one in self.brains.items()})

    def roles(self, config: RegressorConfig, encoder: Encoder, named: dict[str, str]) -> Roles:
        """Return what regressors are fitted on: trials' features, or their mean over a stimulus's repetitions.

        Parameters
        ----------
        named : by role, the target's name
        """
        features = {}
        for subject, one in self.brains.items():
            encoded = encode_trials(encoder, subject, one.responses), one.stimuli
            features[subject] = mean_over_repeats(*encoded) if config.repeats == "mean" else encoded
        return {
            role: (
                target,
                {
                    subject: TrainingRows(rows, self.targets[target].of_trials(stimuli), stimuli)
                    for subject, (rows, stimuli) in features.items()
                },
            )
            for role, target in named.items()
        }


def _only(one: BrainRows, wanted: set[str]) -> BrainRows:
    kept = np.array([name in wanted for name in one.stimuli])
    return replace(
        one,
        responses=one.responses[kept],
        stimuli=[name for name in one.stimuli if name in wanted],
        align={target: values[kept] for target, values in one.align.items()},
    )


def training_stimuli(study: Study, names: list[str]) -> list[str]:
    """Return the training stimuli that a study uses, in the order of `names`.

    Raises
    ------
    ConfigError
        It asks for more than there are.
    """
    wanted = study.training.stimuli
    if wanted is None:
        return names
    if wanted > len(names):
        raise ConfigError(f"training.stimuli: {wanted} of {len(names)} training stimuli; ask for at most as many")
    drawn = rng_for(study.seed, "training stimuli").permutation(len(names))[:wanted]
    return [names[row] for row in sorted(drawn)]


def read_training_data(study: Study, store: Store, subjects: list[str]) -> TrainingData:
    """Read what a study's routes are trained on.

    Raises
    ------
    StoreError
        A subject saw a training stimulus that a target lacks: both must come from the same stimuli.
    """
    named = [*study.roles.regressed().values(), *study.training.baselines, *study.roles.align]
    targets = {}
    for name in dict.fromkeys(named):
        stored, names = store.target(name).values("train")
        targets[name] = Target.of(stored[:], names)
    brains = {}
    for subject in subjects:
        recorded, rois = store.responses(subject), study.training.rois
        values, stimuli = recorded.values("train", rois=rois)
        for name, target in targets.items():
            _require_all(study, subject, stimuli, name, target)
        unlabelled = recorded.unlabelled(rois)
        table = recorded.voxels if rois is None else recorded.voxels.iloc[recorded.voxels_in(rois)]
        align = {name: targets[name].vectors_of_trials(stimuli) for name in study.roles.align}
        regions = [str(roi) for roi in table["roi"]]
        brains[subject] = BrainRows(
            np.asarray(values), stimuli, regions, None if unlabelled is None else np.asarray(unlabelled), align
        )
    data = TrainingData(brains, targets)
    return data if study.training.stimuli is None else data.only(training_stimuli(study, data.stimuli))


def _require_all(study: Study, subject: str, stimuli: list[str], name: str, target: Target) -> None:
    missing = [stimulus for stimulus in dict.fromkeys(stimuli) if stimulus not in target.row_of]
    if missing:
        raise StoreError(
            f"{study.store}: {len(missing)} training stimuli of responses/{subject} are not among targets/{name}, such "
            f"as '{missing[0]}'; make both from the same stimuli: run 'brain2video responses' and 'brain2video targets'"
        )
