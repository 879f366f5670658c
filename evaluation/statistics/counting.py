"""Which stimuli a metric is averaged over, and how many neighbours in time count as one: the same for every row.

A stimulus does not count where the metric leaves it out (`Metric.counted`: alone in its class), nor where its truth
gives the metric no value whatever is predicted (`Metric.defined`: the hue of a black-and-white clip). A value that is
missing for another reason, such as a prediction that is not finite, is never left out: it makes the mean undefined.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import Groups, PerStimulus, metric
from evaluation.statistics.intervals import Blocks
from evaluation.statistics.order import TimeOrder, block_length

Mask: TypeAlias = NDArray[np.bool_]
Defined: TypeAlias = Mapping[str, Mask]
"""By `space.metric`, which truths give it a value, (n,); metrics without an entry have one for every truth."""


def counted(name: str, n: int, groups: Groups | None = None, defined: Defined | None = None) -> Mask:
    """Return which of n stimuli count in a metric, `space.metric`, (n,)."""
    mask = metric(name).counted(n, groups)
    return mask & defined[name] if defined and name in defined else mask


@dataclass(frozen=True)
class Counting:
    """Which stimuli count in each metric, and the blocks of neighbours in time that they form.

    Attributes
    ----------
    groups : the class of each stimulus
    defined : which truths give a metric a value
    order : where stimuli are ordered in time
    lengths : how many neighbours in time make a block, by space; of `in_time`
    """

    groups: Groups | None = None
    defined: Defined | None = None
    order: TimeOrder | None = None
    lengths: Mapping[str, int] | None = None

    def mask(self, name: str, n: int) -> Mask:
        """Return which of n stimuli count in a metric, (n,)."""
        return counted(name, n, self.groups, self.defined)

    def in_time(self, moved: Mapping[str, PerStimulus]) -> "Counting":
        """Return the same with the blocks' lengths measured by how much each stimulus moves each metric's mean.

        The longest among a space's metrics, since coarse values hide some of their autocorrelation. Unchanged where
        stimuli are not ordered in time.
        """
        if self.order is None:
            return self
        lengths: dict[str, int] = {}
        for name, values in moved.items():
            space = name.rpartition(".")[0]
            lengths[space] = max(block_length(values, self.order), lengths.get(space, 1))
        return Counting(self.groups, self.defined, self.order, lengths)

    def blocks(self, name: str, mask: Mask) -> tuple[Blocks | None, dict[str, int]]:
        """Return the block of each stimulus that counts, and `block_length`; nothing where time plays no part."""
        if self.order is None or self.lengths is None:
            return None, {}
        length = self.lengths[name.rpartition(".")[0]]
        return self.order.only(mask).blocks(length), {"block_length": length}
