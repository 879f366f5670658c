"""What a regressor is fitted on: one subject's features with the targets of the stimuli they belong to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainingRows:
    """Rows of one subject.

    Attributes
    ----------
    features : (row, feature)
    targets : (row, …)
    stimuli : the stimulus of each row
    """

    features: Array
    targets: Array
    stimuli: list[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row's targets."""
        return self.targets.shape[1:]

    @property
    def flat_targets(self) -> NDArray[np.float32]:
        """Targets as (row, value) float32."""
        targets = self.targets
        return targets.reshape(len(targets), -1).astype(np.float32)


class LazyRows(TrainingRows):
    """Rows that are made whenever they are asked for and not kept: of many subjects only the one at hand is in memory.

    Parameters
    ----------
    features, targets : return what `TrainingRows` holds
    stimuli : the stimulus of each row
    shape : of one row's targets
    """

    def __init__(
        self,
        features: Callable[[], Array],
        targets: Callable[[], Array],
        stimuli: list[str],
        shape: tuple[int, ...],
    ) -> None:
        given = {"_features": features, "_targets": targets, "stimuli": stimuli, "_shape": shape}
        for name, value in given.items():
            object.__setattr__(self, name, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row's targets, which need not be made for it."""
        shape: tuple[int, ...] = self.__dict__["_shape"]
        return shape

    @property
    def features(self) -> Array:
        """Features, (row, feature)."""
        made: Array = self.__dict__["_features"]()
        return made

    @property
    def targets(self) -> Array:
        """Targets, (row, …)."""
        made: Array = self.__dict__["_targets"]()
        return made


Roles = dict[str, tuple[str, dict[str, TrainingRows]]]
"""By role: the target's name, and the training rows of every subject."""
