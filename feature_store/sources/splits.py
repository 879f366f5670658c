"""How stimuli are dealt into training and test: by name, by a column, by task, or by time; and what is purged.

Splits by time (`run`, `segment`, `block`) keep neighbours together: a test trial a few seconds after a training trial
shares its noise, its drift and the tail of its haemodynamic response, and a clip of a movie is like the clip before.
`purge_s` drops the training trials that are still too near. What is tested is named, or drawn by a seed.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, field_validator, model_validator

from core.config import Config, nearest
from core.errors import SourceError
from core.progress import report
from core.seeds import rng_for
from feature_store.cells import is_missing
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
    """How stimuli are dealt out: those that `test` names or draws are for testing, all others for training."""

    by: By
    """What `test` names or draws: tasks (named only), stimuli, values of `column`, runs (``"2"``, or
    ``"ses-01_task-movie_run-2"``), segments (movies or episodes), or blocks of `length_s` seconds of every segment or,
    where stimuli have none, of every run."""
    test: list[str] | int | float
    """Names; or a share such as 0.2, or a count such as 10, of all stimuli, runs, …, which are drawn by `seed`. Blocks
    are named from 0 in every run or segment, or from its end: ``-1`` is the last."""
    seed: int | None = None
    """Of the draw, where `test` is a share or a count; 0 by default."""
    column: str | None = None
    length_s: FiniteFloat | None = Field(None, gt=0)
    """How long a block is, in seconds."""
    purge_s: FiniteFloat = Field(0.0, ge=0)
    """Training trials within so many seconds of a test trial of the same run, or of the same segment, are dropped; 12
    covers a haemodynamic response."""

    @field_validator("test", mode="before")
    @classmethod
    def _names_or_number(cls, test: Any) -> Any:
        """Take numbers in a list for names, and check a number alone."""
        if isinstance(test, list | tuple) and test:
            return [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in test]
        is_count = isinstance(test, int) and not isinstance(test, bool) and test > 0
        is_share = isinstance(test, float) and 0 < test < 1
        if not (is_count or is_share):
            raise ValueError("expected a list of names, a share between 0 and 1 such as 0.2, or a count such as 10")
        return test

    @model_validator(mode="after")
    def _check_column(self) -> Self:
        if (self.by == "column") != (self.column is not None):
            raise ValueError(f"'by' is {self.by}, and 'column' goes with 'by: column' and only with it")
        if (self.by == "block") != (self.length_s is not None):
            raise ValueError(f"'by' is {self.by}, and 'length_s' goes with 'by: block' and only with it")
        if isinstance(self.test, int | float) and self.by == "task":
            raise ValueError("'by' is task, and tasks are not drawn; name those that test in a list")
        if isinstance(self.test, list) and self.seed is not None:
            raise ValueError("test names what tests, and 'seed' goes with a share or a count; remove seed")
        if self.by == "block" and isinstance(self.test, list):
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
    units, labels, known = _labels(split, trials, where)
    if not isinstance(split.test, list):
        return np.isin(units, sorted(drawn(split, units, where)))
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


def drawn(split: SplitConfig, units: Iterable[str], where: object) -> frozenset[str]:
    """Return the units, such as stimuli or runs, that a split draws for testing; a larger part holds a smaller one.

    Raises `SourceError` where the share or the count leaves nothing for testing or nothing for training.

    Parameters
    ----------
    units : of all subjects, in any order and any number of times; those without a name are not drawn
    """
    assert not isinstance(split.test, list), "names are not drawn"
    known = sorted(unit for unit in set(units) if split.by == "stimulus" or not is_missing(unit))
    count = split.test if isinstance(split.test, int) else math.floor(split.test * len(known) + 0.5)
    what = {"column": f"different values of {split.column}", "stimulus": "stimuli"}.get(split.by, f"{split.by}s")
    if not 0 < count < len(known):
        raise SourceError(
            f"{where}: source.split.test is {split.test}, which is {count} of the {len(known)} {what} here; both "
            "testing and training need one at least; give another share or count"
        )
    order = rng_for(split.seed or 0, "split", split.by).permutation(len(known))
    return frozenset(known[index] for index in order[:count])


def _labels(split: SplitConfig, trials: pd.DataFrame, where: object) -> tuple[list[str], list[set[str]], list[str]]:
    """Return each trial's run, segment or block, all names that it goes by, and the names that are offered."""
    if split.by == "run":
        labels = run_labels(trials)
        if labels is None or (labels == "").any():
            raise _lacking(split, where)
        names = [{label, str(run), f"run-{run}"} for label, run in zip(labels, trials["run"], strict=True)]
        return labels.tolist(), names, sorted(set(labels.tolist()))
    if split.by == "segment":
        if "segment" not in trials:
            raise _lacking(split, where)
        segments = [str(name) for name in trials["segment"]]
        return segments, [{name} for name in segments], sorted(set(segments))
    own = trials.assign(stimulus=np.arange(len(trials)))
    times = places(own) or trial_times(trials)
    if times is None or not times.known or split.length_s is None:
        raise _lacking(split, where)
    number = np.floor(times.start_s / split.length_s + 1e-9).astype(np.int64)
    lasts = {segment: int(number[times.segment == segment].max()) for segment in np.unique(times.segment)}
    ends = [int(one) - lasts[segment] - 1 for one, segment in zip(number, times.segment, strict=True)]
    units = [f"{segment} {one}" for segment, one in zip(times.segment, number, strict=True)]
    names = [{str(one), str(end)} for one, end in zip(number, ends, strict=True)]
    return units, names, sorted(map(str, set(number.tolist())))


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
