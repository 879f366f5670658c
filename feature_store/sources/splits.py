"""How stimuli are dealt into training and test: by name, by a column, by task, or by time; and what is purged.

Splits by time (`run`, `segment`, `block`) keep neighbours together: a test trial a few seconds after a training trial
shares its noise, its drift and the tail of its haemodynamic response, and a clip of a movie is like the clip before.
`purge_s` drops the training trials that are still too near.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, field_validator, model_validator

from core.config import Config, nearest
from core.errors import SourceError
from core.progress import report
from feature_store.sources.base import Split
from feature_store.times import near_test, places, run_labels, trial_times, without_time

By = Literal["task", "stimulus", "column", "run", "segment", "block"]
OF_TIME: tuple[By, ...] = ("run", "segment", "block")
"""The ways of splitting that keep neighbours in time together."""
Mask = NDArray[np.bool_]
NEEDS = {
    "run": "the column run of the trials",
    "segment": "the column segment of the stimuli",
    "block": "run and onset_s of the trials, or segment and start_s of the stimuli",
}
"""What a split by time needs to know."""


class SplitConfig(Config):
    """How stimuli are dealt out: those that `test` names are for testing, all others for training."""

    by: By
    """What `test` names: tasks, stimuli, values of `column`, runs (``"2"``, or ``"ses-01_task-movie_run-2"``), segments
    (movies or episodes), or blocks of `length_s` seconds of every segment or, where stimuli have none, of every run."""
    test: list[str] = Field(min_length=1)
    """Blocks count from 0 in every run or segment, or from its end: ``-1`` is the last."""
    column: str | None = None
    length_s: FiniteFloat | None = Field(None, gt=0)
    """How long a block is, in seconds."""
    purge_s: FiniteFloat = Field(0.0, ge=0)
    """Training trials within so many seconds of a test trial of the same run, or of the same segment, are dropped; 12
    covers a haemodynamic response."""

    @field_validator("test", mode="before")
    @classmethod
    def _numbers_are_names(cls, names: Any) -> Any:
        if not isinstance(names, list):
            return names
        return [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in names]

    @model_validator(mode="after")
    def _check_column(self) -> Self:
        if (self.by == "column") != (self.column is not None):
            raise ValueError(f"'by' is {self.by}, and 'column' goes with 'by: column' and only with it")
        if (self.by == "block") != (self.length_s is not None):
            raise ValueError(f"'by' is {self.by}, and 'length_s' goes with 'by: block' and only with it")
        if self.by == "block":
            for name in self.test:
                if not name.removeprefix("-").isdecimal():
                    raise ValueError(f"test names the block '{name}'; blocks are whole numbers, -1 is the last")
        return self


def in_test(split: SplitConfig, trials: pd.DataFrame, where: object) -> Mask:
    """Return which trials a split by time puts into the test set, (trial,).

    Parameters
    ----------
    trials : of all subjects together, with the columns of their runs and onsets, and with ``segment`` and ``start_s``
        where their stimuli have a place
    where : what the trials were read from, for messages

    Raises
    ------
    SourceError
        The trials lack what the split needs, or have no run, segment or block that it names.
    """
    labels, known = _labels(split, trials, where)
    hit = np.zeros(len(trials), dtype=bool)
    for name in split.test:
        mine = np.array([name in several for several in labels], dtype=bool)
        if not mine.any():
            raise SourceError(
                f"{where}: source.split.test names '{name}', no {split.by} here{nearest(name, known)}; fix "
                "source.split.test"
            )
        hit |= mine
    return hit


def _labels(split: SplitConfig, trials: pd.DataFrame, where: object) -> tuple[list[set[str]], list[str]]:
    """Return all names that each trial's run, segment or block goes by, and the names that are offered."""
    if split.by == "run":
        labels = run_labels(trials)
        if labels is None or (labels == "").any():
            raise _lacking(split, where)
        names = [{label, str(run), f"run-{run}"} for label, run in zip(labels, trials["run"], strict=True)]
        return names, sorted(set(labels.tolist()))
    if split.by == "segment":
        if "segment" not in trials:
            raise _lacking(split, where)
        return [{str(name)} for name in trials["segment"]], sorted({str(name) for name in trials["segment"]})
    own = trials.assign(stimulus=np.arange(len(trials)))
    times = places(own) or trial_times(trials)
    if times is None or not times.known or split.length_s is None:
        raise _lacking(split, where)
    number = np.floor(times.start_s / split.length_s + 1e-9).astype(np.int64)
    lasts = {segment: int(number[times.segment == segment].max()) for segment in np.unique(times.segment)}
    ends = [int(one) - lasts[segment] - 1 for one, segment in zip(number, times.segment, strict=True)]
    return [{str(one), str(end)} for one, end in zip(number, ends, strict=True)], sorted(map(str, set(number.tolist())))


def _lacking(split: SplitConfig, where: object) -> SourceError:
    return SourceError(
        f"{where}: source.split.by is '{split.by}', which needs {NEEDS[split.by]}, for every one; add them, or split "
        "by stimulus or column"
    )


def split_of_stimuli(
    stimuli: Sequence[str], shown: Sequence[str], test: Mask, by: str, where: object
) -> dict[str, Split]:
    """Return the split of every stimulus from that of its trials; stimuli without a trial are for training.

    Raises `SourceError` where a stimulus was shown in both parts: all its trials belong into one split.
    """
    tested = {name for name, out in zip(shown, test, strict=True) if out}
    trained = {name for name, out in zip(shown, test, strict=True) if not out}
    both = sorted(tested & trained)
    if both:
        raise SourceError(
            f"{where}: stimulus '{both[0]}' was shown in a test {by} and in a training {by}, as were {len(both) - 1} "
            "others; each stimulus belongs into one split: split by stimulus, with purge_s, or by another part"
        )
    return {name: "test" if name in tested else "train" for name in stimuli}


def kept_trials(
    trials: dict[Split, pd.DataFrame], stimuli: pd.DataFrame, purge_s: float, subject: str, where: object
) -> tuple[Mask, dict[str, Any]]:
    """Return which training trials are left when those too near to a test trial are purged, and what to remember of it.

    Returns
    -------
    kept : (training trial,) bool
    attributes : of the subject's group: ``{"purge": {"purge_s", "dropped", "of"}}``, none where nothing is purged

    Raises
    ------
    SourceError
        Neither runs and onsets nor places are known, or no training trial is left.
    """
    count = len(trials["train"])
    if not purge_s:
        return np.ones(count, dtype=bool), {}
    near = near_test(trials["train"], trials["test"], stimuli, purge_s)
    unknown = sum(int(without_time(table, stimuli).sum()) for table in trials.values())
    if near is None or unknown:
        found = f"; {unknown} of {sum(map(len, trials.values()))} trials of {subject} have none" if unknown else ""
        raise SourceError(
            f"{where}: source.split.purge_s is {purge_s:g}, which needs {NEEDS['block']}, for every trial{found}; add "
            "them, or remove purge_s"
        )
    dropped = int(near.sum())
    if dropped == count:
        raise SourceError(
            f"{where}: all {count} training trials of {subject} lie within {purge_s:g} s of a test trial; lower "
            "source.split.purge_s, or split by run, segment or longer blocks"
        )
    report(f"{subject}: {dropped} of {count} training trials lie within {purge_s:g} s of a test trial: purged", 1, 1)
    return ~near, {"purge": {"purge_s": purge_s, "dropped": dropped, "of": count}}
