"""Views of several subjects' responses side by side: a row holds the voxels of all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.errors import StoreError
from feature_store.rows import Index, RowView, take_rows
from feature_store.times import RUN_COLUMNS


class SideBySide(RowView):
    """Several views of equally many rows, joined along the last axis; reads what is asked for and nothing else.

    Parameters
    ----------
    parts : (row, …, voxel) each, the same but for the number of voxels
    where : what they were read from, for messages

    Raises
    ------
    StoreError
        The parts' windows have different numbers of time points.
    """

    def __init__(self, parts: Sequence[RowView], where: object) -> None:
        shapes = sorted({part.shape[:-1] for part in parts})
        if len(shapes) > 1:
            raise StoreError(
                f"{where}: rows of the shapes {', '.join(map(str, shapes))} cannot lie side by side; expected the same "
                "number of time points of every subject; ingest them with the same window, or leave some out"
            )
        self._parts, self._where = list(parts), where
        self.dtype = parts[0].dtype
        self.shape = (*shapes[0], sum(part.shape[-1] for part in parts))

    def __getitem__(self, key: slice | int | NDArray[Any]) -> NDArray[Any]:
        """Read rows: a slice, a position, positions or a mask."""
        return take_rows(key, len(self), self._take)

    def _take(self, chosen: Index) -> NDArray[Any]:
        return np.concatenate([part[chosen] for part in self._parts], axis=-1)

    def read_into(self, out: NDArray[Any]) -> None:
        """Read everything into an array of this view's shape."""
        first = 0
        for part in self._parts:
            out[..., first : first + part.shape[-1]] = part[:]
            first += part.shape[-1]

    def select(self, rows: Index | NDArray[np.bool_]) -> "SideBySide":
        """Return a view of some of the rows, by position or mask, which reads nothing."""
        return SideBySide([part.select(rows) for part in self._parts], self._where)

    def narrow(self, columns: slice) -> "SideBySide":
        """Return a view of some of the columns, which reads nothing."""
        start, stop, _ = columns.indices(self.shape[-1])
        parts, first = [], 0
        for part in self._parts:
            low, high = max(start - first, 0), min(stop - first, part.shape[-1])
            if low < high:
                parts.append(part.narrow(slice(low, high)))
            first += part.shape[-1]
        return SideBySide(parts or [self._parts[0].narrow(slice(0, 0))], self._where)


def common_trials(tables: Mapping[str, pd.DataFrame], where: object) -> tuple[pd.DataFrame, dict[str, list[Index]]]:
    """Return the trials of a group: repetitions of the stimuli that all its members saw.

    A stimulus has as many as the member who saw it least often. The j-th holds, of each member, the mean over its j-th
    trial and every further one that is a multiple of that number on, so that no trial is left out.

    Parameters
    ----------
    tables : by member, a row a trial: stimulus, repetition, …

    Returns
    -------
    trials : stimulus, repetition, and the columns on which all members agree in every trial
    rows : by member, the positions of the trials that are averaged into each

    Raises
    ------
    StoreError
        No stimulus was seen by all.
    """
    seen = {name: table.groupby("stimulus", sort=False).indices for name, table in tables.items()}
    first, *others = seen
    common = [stimulus for stimulus in seen[first] if all(stimulus in seen[name] for name in others)]
    if not common:
        raise StoreError(
            f"{where}: no stimulus was seen by all of {', '.join(tables)}; a group decoder needs the responses of all "
            "to the same stimuli: leave subjects out, or set the route's pooled to false"
        )
    rows: dict[str, list[Index]] = {name: [] for name in tables}
    names: list[tuple[str, int]] = []
    for stimulus in common:
        count = min(len(own[stimulus]) for own in seen.values())
        names += [(str(stimulus), repetition) for repetition in range(count)]
        for name, own in seen.items():
            rows[name] += [np.asarray(own[stimulus][start::count], np.int64) for start in range(count)]
    order = np.argsort([own[0] for own in rows[first]], kind="stable")  # the first member's, as presented
    rows = {name: [own[place] for place in order] for name, own in rows.items()}
    trials = pd.DataFrame([names[place] for place in order], columns=["stimulus", "repetition"])
    return trials.assign(**_agreed(tables, rows)), rows


def _agreed(tables: Mapping[str, pd.DataFrame], rows: Mapping[str, list[Index]]) -> dict[str, Any]:
    """Return the columns, such as a run or an onset, that have the same value for all members in every trial."""
    if any(len(own) > 1 for several in rows.values() for own in several):
        return {}
    taken = [table.iloc[[int(own[0]) for own in rows[name]]].reset_index(drop=True) for name, table in tables.items()]
    first, *others = taken
    columns = [str(name) for name in first if name not in ("stimulus", "repetition", "trial")]
    agreed = [name for name in columns if all(name in other and first[name].equals(other[name]) for other in others)]
    if any(name in table for name in RUN_COLUMNS if name not in agreed for table in taken):
        of_runs = (*RUN_COLUMNS, "onset_s", "duration_s")  # which mean something together alone
        agreed = [name for name in agreed if name not in of_runs]
    return {name: first[name] for name in agreed}
