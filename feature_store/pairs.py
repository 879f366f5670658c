"""Responses joined with targets by stimulus, never by position: what a feature store calls historical features."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from core.errors import StoreError
from feature_store.groups import Repeats, Responses, Targets
from feature_store.sources.base import Split
from feature_store.views import RowView, Values, loaded


@dataclass(frozen=True)
class SubjectPairs:
    """One subject's responses with the targets of what was seen.

    Attributes
    ----------
    responses : (row, voxel) or (row, time, voxel) float32
    targets : (row, …)
    ids : one row per row of both: stimulus, and repetition where single trials were asked for
    dropped : how many response rows had no target, and how many targets no response

    Both are arrays in memory, or views of the mapped files where they would not fit; see `views.loaded`.
    """

    responses: Values
    targets: Values
    ids: pd.DataFrame
    dropped: dict[str, int]

    @cached_property
    def stimuli(self) -> list[str]:
        """The stimulus of each row."""
        return [str(name) for name in self.ids["stimulus"]]

    def __len__(self) -> int:
        return len(self.ids)


class Pairs(Mapping[str, SubjectPairs]):
    """The join of several subjects, by subject: their voxels differ, so their rows do not stack."""

    def __init__(self, parts: dict[str, SubjectPairs]) -> None:
        self._parts = parts

    def __getitem__(self, subject: str) -> SubjectPairs:
        return self._parts[subject]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def ids(self) -> pd.DataFrame:
        """One row per row of all subjects, one after another: subject, stimulus, repetition."""
        tables = [part.ids.assign(subject=subject) for subject, part in self.items()]
        together = pd.concat(tables, ignore_index=True)
        return together[["subject", *(name for name in together if name != "subject")]]

    @property
    def dropped(self) -> pd.DataFrame:
        """Per subject, how many response rows had no target and how many targets no response."""
        return pd.DataFrame({subject: part.dropped for subject, part in self.items()}).T


def join(responses: Responses, target: Targets, split: Split, rois: list[str] | None, repeats: Repeats) -> SubjectPairs:
    """Join one subject's responses with one target by stimulus.

    Rows keep the order of the responses; those whose stimulus has no target are dropped and counted.

    Raises
    ------
    StoreError
        Not one stimulus is in both.
    """
    view, stimuli = responses.view(split, rois=rois, repeats=repeats)
    wanted, names = target.values(split)
    position = {name: row for row, name in enumerate(names)}
    kept = np.array([row for row, name in enumerate(stimuli) if name in position], dtype=np.int64)
    if not len(kept):
        raise StoreError(
            f"{responses.path.parents[1]}: no {split} stimulus of responses/{responses.subject} is among "
            f"targets/{target.path.name}; both must come from the same stimuli"
        )
    chosen = [stimuli[row] for row in kept]
    ids = pd.DataFrame({"stimulus": chosen})
    if repeats == "single":
        ids["repetition"] = responses.trials(split)["repetition"].to_numpy()[kept]
    rows = RowView(wanted, np.array([position[name] for name in chosen], dtype=np.int64))
    dropped = {"responses": len(stimuli) - len(kept), "targets": len(names) - len(set(chosen))}
    return SubjectPairs(loaded(view.select(kept)), loaded(rows), ids, dropped)
