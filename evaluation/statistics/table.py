"""The table of a report: rows are scored one after the other, and become `metrics.json` and `values.json`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for, seed_for
from evaluation.config import EvaluationConfig
from evaluation.metrics import Groups, PerStimulus, metric
from evaluation.metrics.protocols import Looked
from evaluation.statistics.candidates import MAX_BYTES, POWER, STIMULI, is_ratio, pack_outcomes, powers
from evaluation.statistics.controls import shuffle_stimuli
from evaluation.statistics.counting import Mask, counted
from evaluation.statistics.order import TimeOrder, block_length, shifts
from evaluation.statistics.scores import (
    RECONSTRUCTION,
    ROWS,
    SCHEMA,
    SHUFFLED,
    ScoredRow,
    Similarities,
    Values,
    comparisons,
    how_computed,
    influences_of,
    score_row,
    summarise,
)
from evaluation.statistics.spaces import Spaces, applicable, in_space

ORDERS, SHIFTS = 9_999, 499
"""Orders of the stimuli, or shifts in time, that a score is compared with, at most."""
MANY = 200
"""Stimuli above which not every prediction is scored for every truth."""


class Table:
    """The scores of a report as it grows, row by row, so that only one row's clips are kept in memory.

    `truth` holds arrays (n, ...) by space, `groups` the class of each stimulus, `order` its place in time, where
    stimuli are ordered in it.

    Raises
    ------
    ValueError
        There is not one place in time for each stimulus.
    """

    def __init__(
        self,
        truth: Spaces,
        config: EvaluationConfig,
        *,
        seed: int,
        groups: Groups | None = None,
        order: TimeOrder | None = None,
        looked: Mapping[str, Looked] | None = None,
    ) -> None:
        self._looked = looked or {}
        self._truth, self._config, self._seed, self._groups = truth, config, seed, groups
        self._values: Values = {}
        self._outcomes: dict[str, NDArray[np.uint8]] = {}
        self._defined: dict[str, Mask] = {}
        self.n = len(next(iter(truth.values())))
        if order is not None and len(order) != self.n:
            raise ValueError(f"{self.n} stimuli and an order in time of {len(order)}; expected one place each")
        self._order = order

    @property
    def defined(self) -> Mapping[str, Mask]:
        """Which truths give a metric a value, by `space.metric`; only of metrics that lack the value of some row."""
        return self._defined

    def undefined(self) -> dict[str, dict[str, Mask]]:
        """Return by row and `space.metric` which stimuli count and have no value, (n,); only where there are such."""
        found: dict[str, dict[str, Mask]] = {}
        for row, scored in self.values.items():
            for name, values in scored.items():
                mask = counted(name, self.n, self._groups, self._defined) & ~np.isfinite(values)
                if mask.any():
                    found.setdefault(row, {})[name] = mask
        return found

    @property
    def values(self) -> Values:
        """Values (n,) by row and `space.metric`, the rows in the order in which they are shown."""
        return {row: self._values[row] for row in sorted(self._values, key=_place)}

    def add(self, row: str, arrays: Spaces) -> None:
        """Score a row; with the reconstruction, the shuffled brain is scored as well.

        The shuffled brain is the reconstructions in random order: the same as the models on permuted responses, since a
        stimulus's noise in the generator does not depend on the brain. Where stimuli are ordered in time, they are
        shifted in it instead, by a block at least: neighbours still resemble each other. Values are averaged over
        `permutations` orders; comparisons of frames, which take longest, over `frame_permutations`.

        Raises
        ------
        ValueError
            An array's shape is not its truth's.
        """
        self._values[row] = self._score(row, arrays)
        if row == RECONSTRUCTION and self.n >= 2:
            self._values[SHUFFLED] = self._shuffled(arrays)

    def _score(self, row: str, arrays: Spaces) -> ScoredRow:
        names, known = applicable(self._config.metrics, self._truth, self._groups), Similarities()
        scored = score_row(row, arrays, self._truth, names, self._groups, known)
        for name, values in scored.items():
            wanted = in_space(self._truth, name.rpartition(".")[0])
            if name not in self._defined and wanted is not None and not np.isfinite(values).all():
                self._defined[name] = metric(name).defined(wanted, self._groups)
        dependent = {name.rpartition(".")[0] for name in scored if metric(name).depends_on_set}
        for space, r in known.of_spaces.items():
            used = sum(own.nbytes for own in self._outcomes.values())
            if space in dependent and used + r.size // 4 <= MAX_BYTES:
                self._outcomes[f"{row}/{space}"] = pack_outcomes(r)
        return scored

    def _shuffled(self, arrays: Spaces) -> ScoredRow:
        known, values, influences, null = Similarities(), {}, {}, {}
        orders, every = self._orders(), self._orders_of_test()
        for name in applicable(self._config.metrics, self._truth, self._groups):
            space = name.rpartition(".")[0]
            predicted, wanted = in_space(arrays, space), in_space(self._truth, space)
            if predicted is None or wanted is None:
                continue
            some = orders[: self._config.frame_permutations] if metric(name).view == "frames" else orders
            scored = [known.score(name, predicted, wanted, self._groups, order) for order in some]
            values[name] = np.mean(scored, axis=0)
            if metric(name).influence is not None:
                moved = [known.influences(name, predicted, wanted, self._groups, order) for order in some]
                influences[name] = np.mean(moved, axis=0)
            pairs = known.pairs(name, predicted, wanted, self._groups) if len(every) else None
            if pairs is not None:
                mask = counted(name, self.n, self._groups, self._defined)
                null[name] = pairs[every[:, mask], np.flatnonzero(mask)].mean(axis=1)
        return ScoredRow(values, influences, null)

    def _orders(self) -> list[NDArray[np.int64]]:
        """Return the orders of the shuffled brain, of which the first ones may be used alone."""
        count = self._config.permutations
        if self._order is not None:
            ours = self._values[RECONSTRUCTION]
            length = max((block_length(influences_of(ours, name), self._order) for name in ours), default=1)
            return shifts(self._order, count, seed_for(self._seed, "shifted brain"), length=length)
        return [shuffle_stimuli(self.n, seed_for(self._seed, "shuffled brain", index)) for index in range(count)]

    def _orders_of_test(self) -> NDArray[np.int64]:
        """Return the orders that the shuffled brain is tested by, (order, n); none where stimuli are many."""
        if self.n > MANY:
            return np.empty((0, self.n), np.int64)
        if self._order is not None:
            return np.array(shifts(self._order, SHIFTS, seed_for(self._seed, "every shift")))
        drawn = np.tile(np.arange(self.n), (ORDERS, 1))
        return rng_for(self._seed, "every order").permuted(drawn, axis=1)

    def report(self) -> dict[str, Any]:
        """Return the parts of a report: `rows`, `comparisons`, `intervals`, `permutations`, `protocols`.

        `intervals` is a sentence on how they are computed; `block_length` is there where stimuli are ordered in time.
        """
        values = self.values
        names = dict.fromkeys(name for scored in values.values() for name in scored)
        how: dict[str, Any] = {"groups": self._groups, "order": self._order, "defined": self._defined}
        rows = summarise(values, truth=self._truth, **how)
        return {
            "rows": rows,
            "comparisons": comparisons(values, seed=self._seed, **how),
            **how_computed([rows], order=self._order),
            "permutations": self._config.permutations,
            "protocols": self._protocols(names),
        }

    def _protocols(self, names: Iterable[str]) -> dict[str, str]:
        """Return, for each metric after a published protocol, whether it was followed, and in what it was not."""
        frames = in_space(self._truth, "frames")
        clip = frames.shape[1:4] if frames is not None and frames.ndim == 5 else None
        followed = {name: metric(name).follows for name in names}
        return {
            name: protocol.claim(name.rpartition(".")[0], clip, self._looked)
            for name, protocol in followed.items()
            if protocol is not None
        }

    def kept(self, stimuli: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return what it takes to score fewer stimuli later; see `evaluation.statistics.candidates`."""
        names = {name for scored in self._values.values() for name in scored}
        ratios = {name.rpartition(".")[0] for name in names if is_ratio(metric(name))}
        of_spaces = {f"{POWER}/{space}": powers(self._truth[space]) for space in sorted(ratios)}
        return {STIMULI: np.array(stimuli), **self._outcomes, **of_spaces}

    def record(self, stimuli: list[str]) -> dict[str, Any]:
        """Return every stimulus's values, ready for JSON; runs are compared by them.

        `order` holds each stimulus's segment and start, where they are ordered in time; `groups` its class, where it
        has one; `influences`, by row and metric, how much a stimulus moves the mean, where that is not its value.
        """
        directions = {name: metric(name).higher_is_better for scored in self._values.values() for name in scored}
        rows = {row: _listed(scored) for row, scored in self.values.items()}
        scored_rows = {row: scored for row, scored in self.values.items() if isinstance(scored, ScoredRow)}
        moved = {row: _listed(scored.influences) for row, scored in scored_rows.items()}
        classes = {} if self._groups is None else {"groups": [str(group) for group in self._groups]}
        values = {"rows": rows, "influences": moved, "directions": directions}
        return {"schema": SCHEMA, "stimuli": stimuli, **classes, **self._places_in_time(), **values}

    def _places_in_time(self) -> dict[str, Any]:
        """Return `order` as `record` holds it, nothing where time plays no part."""
        if self._order is None:
            return {}
        return {"order": {"segment": self._order.segment.tolist(), "start_s": self._order.start_s.tolist()}}


def _listed(scored: Mapping[str, PerStimulus]) -> dict[str, list[float | None]]:
    return {name: [float(value) if np.isfinite(value) else None for value in own] for name, own in scored.items()}


def _place(row: str) -> int:
    return ROWS.index(row) if row in ROWS else len(ROWS)
