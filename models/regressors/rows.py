"""What a regressor is fitted on: one subject's features with the targets of the stimuli they belong to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingRows:
    """Rows of one subject.

    Attributes
    ----------
    features : (row, feature)
    targets : (row, …)
    stimuli : the stimulus of each row
    """

    features: NDArray[Any]
    targets: NDArray[Any]
    stimuli: list[str]

    @property
    def flat_targets(self) -> NDArray[np.float32]:
        """Targets as (row, value) float32."""
        return self.targets.reshape(len(self.targets), -1).astype(np.float32)
