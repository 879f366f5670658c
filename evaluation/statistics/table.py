"""The table of a report as it grows: rows are scored as they come, so that no more than one row's clips are kept."""

from typing import Any

import numpy as np

from core.seeds import seed_for
from evaluation.config import EvaluationConfig
from evaluation.metrics import Groups, metric
from evaluation.statistics import scores
from evaluation.statistics.controls import shuffle_stimuli
from evaluation.statistics.scores import RECONSTRUCTION, ROWS, SHUFFLED
from evaluation.statistics.spaces import Spaces, applicable, in_space

FEWEST_TO_SHUFFLE = 2


class Table:
    """Scores rows against one truth.

    Parameters
    ----------
    truth : arrays (n, ...) by space
    config : EvaluationConfig
        Its metrics and permutations.
    seed : int
        The study's seed.
    groups : sequence of length n, optional
        The class of each stimulus.
    """

    def __init__(self, truth: Spaces, config: EvaluationConfig, *, seed: int, groups: Groups | None = None) -> None:
        self._truth, self._config, self._seed, self._groups = truth, config, seed, groups
        self._values: scores.Values = {}
        self.n = len(next(iter(truth.values())))

    @property
    def values(self) -> scores.Values:
        """Values (n,) by row and `space.metric`, the rows in the order in which they are shown."""
        return {row: self._values[row] for row in sorted(self._values, key=_place)}

    def add(self, row: str, arrays: Spaces) -> None:
        """Score a row; with the reconstruction, the shuffled brain is scored as well.

        The shuffled brain is the reconstruction of other stimuli, dealt out at random: the same models on permuted
        responses, since a stimulus's noise in the generator owes nothing to the brain either. Values are averaged over
        several orders; a comparison of frames, which takes longest, over fewer.

        Raises
        ------
        ValueError
            An array's shape is not its truth's.
        """
        self._values[row] = self._score(arrays, self._config.metrics)
        if row == RECONSTRUCTION and self.n >= FEWEST_TO_SHUFFLE:
            self._values[SHUFFLED] = self._shuffled(arrays)

    def _score(self, arrays: Spaces, metrics: tuple[str, ...]) -> dict[str, Any]:
        return scores.per_stimulus({"row": arrays}, self._truth, metrics=metrics, groups=self._groups)["row"]

    def _shuffled(self, arrays: Spaces) -> dict[str, Any]:
        known, made = scores.Similarities(), {}
        orders = [
            shuffle_stimuli(self.n, seed_for(self._seed, "shuffled brain", index))
            for index in range(self._config.permutations)
        ]
        for name in applicable(self._config.metrics, self._truth, self._groups):
            space = name.rpartition(".")[0]
            predicted, wanted = in_space(arrays, space), in_space(self._truth, space)
            if predicted is None or wanted is None:
                continue
            some = orders[: self._config.frame_permutations] if metric(name).view == "frames" else orders
            made[name] = np.mean([known.score(name, predicted, wanted, self._groups, order) for order in some], axis=0)
        return made

    def report(self) -> dict[str, Any]:
        """Return what a report says of the rows: `rows`, `comparisons`, `permutations`, `protocols`."""
        values = self.values
        names = dict.fromkeys(name for scored in values.values() for name in scored)
        return {
            "rows": scores.summarise(values, seed=self._seed, groups=self._groups, truth=self._truth),
            "comparisons": scores.comparisons(values, seed=self._seed, groups=self._groups),
            "permutations": self._config.permutations,
            "protocols": {name: metric(name).protocol for name in names if metric(name).protocol},
        }

    def record(self, stimuli: list[str]) -> dict[str, Any]:
        """Return every stimulus's values, ready for JSON: what runs are compared by."""
        directions = {name: metric(name).higher_is_better for scored in self._values.values() for name in scored}
        rows = {
            row: {name: [float(value) if np.isfinite(value) else None for value in one] for name, one in scored.items()}
            for row, scored in self.values.items()
        }
        return {"schema": scores.SCHEMA, "stimuli": stimuli, "rows": rows, "directions": directions}


def _place(row: str) -> int:
    return ROWS.index(row) if row in ROWS else len(ROWS)
