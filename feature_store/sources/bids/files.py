"""Finds a BIDS folder's files: its runs in their order, and for each its events, sidecars, confounds and brain mask.

File names are read as the Brain Imaging Data Structure has them (Gorgolewski et al. 2016): ``sub-01_task-movie_bold``
is a row of entities and a suffix. Events and sidecars may lie above the run, by the inheritance principle. Reads the
tables of events (which trials show which stimulus, in which split, with which caption) and of confounds, too.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.config import Config, nearest
from core.errors import SourceError, SourceMissing
from feature_store.sources.base import NAME, check_inside, present
from feature_store.sources.splits import OF_TIME, SplitConfig, in_test
from feature_store.sources.timeseries import Events
from feature_store.sources.tsv import entities_of, hint, natural, read_tsv

DERIVED = {"space", "res", "den", "cohort", "desc", "label"}
"""Entities that preprocessing adds to a run's name."""
ALTERNATIVES = DERIVED | {"echo", "part"}
"""Entities in which images of one and the same run differ."""
CONFOUNDS = ("_timeseries.tsv", "_regressors.tsv")
"""How confound tables end; fMRIPrep used the second until version 20.1."""


@dataclass(frozen=True)
class Run:
    """One run of one subject, with the files that belong to it."""

    image: Path
    entities: dict[str, str]
    """The image's, for example ``{"sub": "01", "task": "movie", "run": "2"}``."""
    events: Path | None
    sidecars: tuple[Path, ...]
    """JSON files that describe the image, the most general first; later ones take precedence."""
    confounds: Path | None
    mask: Path | None
    """The brain mask beside the image."""

    @property
    def session(self) -> str:
        """The session's label, empty where the dataset has no sessions."""
        return self.entities.get("ses", "")

    @property
    def task(self) -> str:
        """The task's label."""
        return self.entities.get("task", "")

    @property
    def number(self) -> int:
        """The run's number; 1 where its name has none."""
        return int(self.entities.get("run", "1"))


@dataclass(frozen=True)
class Layout:
    """A raw BIDS folder and which of its images are meant; labels are without ``ses-`` and the like."""

    root: Path
    images: Path
    """The folder of the images: `root`, or one of preprocessed runs."""
    wanted: dict[str, list[str]]
    """Per entity the labels that are meant; an entity that is absent here may have any."""

    def subjects(self) -> list[str]:
        """Return the subjects that have a folder, as ``sub-01``; raises `SourceMissing` where there is none."""
        for folder, key in ((self.root, "source.path"), (self.images, "source.derivatives")):
            if not folder.is_dir():
                raise SourceMissing(f"{folder}: no such folder; set {key} to a BIDS folder, which has sub-…")
        there = sorted((path.name for path in self.images.glob("sub-*") if path.is_dir()), key=natural)
        if not there:
            raise SourceMissing(f"{self.images}: no subject; expected BIDS folders such as sub-01; set source.path")
        return there

    def runs(self, subject: str) -> list[Run]:
        """Return a subject's runs, ordered by session, task and the run's number.

        Raises `SourceError` where there is no run, none of a label that is wanted, or two images of one run.
        """
        folders = sorted([self.images / subject / "func", *(self.images / subject).glob("ses-*/func")])
        images = [path for folder in folders for path in folder.glob("*_bold.nii*") if is_nifti(path)]
        if not images:
            others = [path for folder in folders for path in sorted(folder.glob("*.nii")) if is_cifti(path)]
            found = f"found {others[0].name}, a CIFTI file, which is not read" if others else "no BOLD run"
            raise SourceMissing(f"{self.images / subject}: {found}; expected func/{subject}_task-…_bold.nii.gz")
        named = {path: entities_of(path) for path in images}
        for entity, labels in self.wanted.items():
            named = _chosen(named, entity, labels, self.images / subject)
        _check_one_image_each(named)
        return sorted((self._run(path, names) for path, names in named.items()), key=_order)

    def _run(self, image: Path, entities: dict[str, str]) -> Run:
        folder = self.root / image.parent.relative_to(self.images)
        raw = {name: label for name, label in entities.items() if name not in DERIVED}
        events = inherited(self.root, folder, "events.tsv", raw)
        sidecars = inherited(self.root, folder, "bold.json", raw)
        if self.images != self.root:
            sidecars += inherited(self.images, image.parent, "bold.json", entities)
        return Run(
            image=image,
            entities=entities,
            events=events[-1] if events else None,
            sidecars=tuple(sidecars),
            confounds=_beside(image, raw | {"desc": "confounds"}, lambda path: path.name.endswith(CONFOUNDS)),
            mask=_beside(image, entities | {"desc": "brain"}, _is_mask),
        )


def inherited(root: Path, folder: Path, ending: str, entities: dict[str, str]) -> list[Path]:
    """Return the files that apply to a run by inheritance, the most general first.

    A file applies if it lies in the run's folder or above it, up to `root`, and each of its entities is one of the
    run's. The ending is suffix and extension, for example ``"events.tsv"``.
    """
    levels = [folder, *(parent for parent in folder.parents if parent == root or root in parent.parents)]
    found: list[Path] = []
    for level in reversed(levels):
        here = [path for path in level.glob(f"*{ending}") if path.name.split("_")[-1] == ending]
        applies = {path: names for path in here if (names := entities_of(path)).items() <= entities.items()}
        found += sorted(applies, key=lambda path: len(applies[path]))
    return found


def is_nifti(path: Path) -> bool:
    """Return whether a name is that of a NIfTI file; CIFTI's ``.dtseries.nii`` is another format."""
    return path.name.split(".")[1:] in (["nii"], ["nii", "gz"])


def is_cifti(path: Path) -> bool:
    """Return whether a name is that of a CIFTI-2 file, such as ``x.dtseries.nii``, whose values lie on a surface."""
    return re.search(r"\.[dp](conn|label|scalar|series|tseries|pconn)\.nii$", path.name.lower()) is not None


def bare(labels: Iterable[str], entity: str) -> list[str]:
    """Return labels without their entity: ``sub-01`` and ``01`` are the same."""
    return [label.removeprefix(f"{entity}-") for label in labels]


def _order(run: Run) -> tuple[list[str | int], list[str | int], int, str]:
    return natural(run.session), natural(run.task), run.number, run.image.name


def _chosen(
    named: dict[Path, dict[str, str]], entity: str, labels: list[str], where: Path
) -> dict[Path, dict[str, str]]:
    there = sorted({names[entity] for names in named.values() if entity in names}, key=natural)
    for label in labels:
        if label not in there:
            known = nearest(label, there) or f"; no file's name has {entity}-"
            raise SourceMissing(f"{where}: no BOLD run with {entity}-{label}{known}")
    return {path: names for path, names in named.items() if names.get(entity) in labels}


def _check_one_image_each(named: dict[Path, dict[str, str]]) -> None:
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    for path, names in sorted(named.items()):
        key = tuple(sorted(item for item in names.items() if item[0] not in ALTERNATIVES))
        if key in seen:
            raise SourceError(
                f"{path}: is of the same run as {seen[key].name}; one image a run is expected; choose with "
                "source.space and source.desc, or move one away"
            )
        seen[key] = path


def _is_mask(path: Path) -> bool:
    return is_nifti(path) and path.name.split(".")[0].endswith("_mask")


def _beside(image: Path, entities: dict[str, str], fits: Callable[[Path], bool]) -> Path | None:
    """Return the file in the image's folder that has these entities, for example the run's mask."""
    there = sorted(image.parent.glob(f"*_desc-{entities['desc']}_*"))
    return next((path for path in there if fits(path) and entities_of(path) == entities), None)


MISSING = "n/a"
"""How BIDS writes a missing value."""
KEYS = {"task": "task", "stimulus": "value"}
"""Which column of the trials `SplitConfig.test` is compared with; a stimulus may also be named as in the store."""
FAULTS = {
    "value": "stands for {a} and {b}; rename one",
    "split": "is for {a} and {b}; each belongs into one split; fix source.split",
}
"""What is wrong with a stimulus that has two values in one of these columns."""
TIMES = ("onset", "duration")
FILE_COLUMN = "stim_file"
"""The column that BIDS reserves for files below ``stimuli/``."""


class EventsConfig(Config):
    """The part of a `BidsConfig` that is about events."""

    stimulus_column: str = FILE_COLUMN
    """The column that names the stimulus."""
    ignore: tuple[str, ...] = (MISSING,)
    """Values of that column that are no stimulus and evoke nothing of interest, such as that of rest."""
    nuisance: tuple[str, ...] = ()
    """Values that are no stimulus but evoke a response, such as an oddball's: a GLM models these events together."""
    caption_column: str | None = None
    """A column that describes the stimulus in words."""
    segment_column: str | None = None
    """A column that names the movie or episode that the stimulus is a clip of."""
    start_column: str | None = None
    """A column of when in that movie the clip begins, in seconds."""
    split: SplitConfig

    @property
    def columns(self) -> list[str]:
        """The columns that must be there."""
        named = ["onset", "duration", self.stimulus_column, self.caption_column, self.split.column]
        named += [self.segment_column, self.start_column]
        return list(dict.fromkeys(name for name in named if name is not None))


def read_trials(runs: list[Run], config: EventsConfig) -> pd.DataFrame:
    """Read the trials of a subject's runs: one row per trial, in the order of runs and onsets.

    Columns are stimulus, repetition, session, task, run, onset_s, duration_s (NaN where the events have none), value
    (of the stimulus column), split, caption, place (for messages), index (of the run), and segment and start_s where
    the config names their columns.

    Raises
    ------
    SourceMissing, SourceError
        A table is absent, lacks a column, or holds what cannot be an onset, a duration or a stimulus.
    """
    tables = [_read_run(run, config).assign(index=index) for index, run in enumerate(runs)]
    trials = pd.concat(tables, ignore_index=True)
    if trials.empty:
        raise SourceError(f"{runs[0].events}: no event shows a stimulus, here and in all runs; fix source.ignore")
    if config.split.by in OF_TIME:
        trials["split"] = np.where(in_test(config.split, trials, runs[0].image.parent), "test", "train")
    trials["repetition"] = trials.groupby("stimulus").cumcount()
    return trials


def check_splits(trials: pd.DataFrame, config: EventsConfig, where: Path) -> None:
    """Raise `SourceError` where a name stands for two stimuli, a stimulus is in both splits, or a split is empty."""
    by = config.split.by
    known = sorted(set(trials["key"]) | set(trials["stimulus"] if by == "stimulus" else []), key=natural)
    for value in config.split.test if by not in OF_TIME else ():
        if value not in known:
            what = f"value in the column '{config.split.column}'" if by == "column" else by
            raise SourceError(f"{where}: source.split.test names '{value}', no {what} here{hint(value, known)}")
    first = trials.drop_duplicates("stimulus").set_index("stimulus")
    for column, fault in FAULTS.items():
        other = trials[first.loc[trials["stimulus"], column].to_numpy() != trials[column].to_numpy()]
        if len(other):
            trial = other.iloc[0]
            before = first.loc[trial["stimulus"]]
            found = fault.format(a=f"{before[column]} in {before['place']}", b=f"{trial[column]} in {trial['place']}")
            raise SourceError(f"{where}: stimulus '{trial['stimulus']}' {found}")


def stimulus_name(value: str, column: str) -> str:
    """Return a stimulus's name, which may name a file: the stem of a stimulus file, else the value itself.

    Other characters than letters, digits, '.', '_' and '-' become '_'; empty where nothing is left.
    """
    text = PurePosixPath(value).stem if column == FILE_COLUMN else value
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")
    return name if NAME.fullmatch(name) else ""


def read_nuisance(run: Run, config: EventsConfig) -> Events:
    """Return the events of a run that are no stimulus but evoke a response; see `EventsConfig.nuisance`."""
    table = _read_events(run, config)
    table = table[table[config.stimulus_column].isin(config.nuisance)]
    times = [np.asarray(_seconds(table, name), dtype=np.float64) for name in TIMES]
    return Events(times[0], times[1], table["place"].tolist())


def _read_events(run: Run, config: EventsConfig) -> pd.DataFrame:
    """Read a run's events as text, with the place of each for messages."""
    if run.events is None:
        raise SourceMissing(
            f"{run.image}: no events.tsv applies to this run; expected one in the raw dataset, beside it or above; "
            "add it, or name the tasks that have events in source.task"
        )
    table = read_tsv(present(run.events, "fetch the dataset again"), config.columns)
    table["place"] = [f"{run.events} line {row + 2}" for row in table.index]
    return table


def _read_run(run: Run, config: EventsConfig) -> pd.DataFrame:
    table = _read_events(run, config)
    aside = [*config.ignore, *config.nuisance]
    table = table[~table[config.stimulus_column].isin(aside)].reset_index(drop=True)
    values = table[config.stimulus_column]
    trials = pd.DataFrame(
        {
            "stimulus": [_named(*row, config) for row in zip(values, table["place"], strict=True)],
            "session": run.session,
            "task": run.task,
            "run": run.number,
            "onset_s": _seconds(table, "onset"),
            "duration_s": _seconds(table, "duration"),
            "value": values,
            "caption": table[config.caption_column] if config.caption_column else MISSING,
            "place": table["place"],
        }
    )
    if config.segment_column:
        trials["segment"] = table[config.segment_column]
    if config.start_column:
        trials["start_s"] = _seconds(table, config.start_column)
    trials["key"] = table[config.split.column] if config.split.column else trials[KEYS.get(config.split.by, "value")]
    test = trials["key"].isin(config.split.test)
    if config.split.by == "stimulus":
        test |= trials["stimulus"].isin(config.split.test)
    trials["split"] = np.where(test, "test", "train")
    return trials.sort_values("onset_s", kind="stable", ignore_index=True)


def _named(value: str, place: str, config: EventsConfig) -> str:
    column = config.stimulus_column
    if value in ("", MISSING):
        raise SourceError(
            f"{place}: {column} is '{value}'; name the stimulus there, or put '{value}' into source.ignore if this "
            "event shows none"
        )
    if column == FILE_COLUMN:
        check_inside(value, column, "stimuli", place)
    name = stimulus_name(value, column)
    if not name:
        raise SourceError(f"{place}: {column} '{value}' makes no name for a stimulus; use letters and digits in it")
    return name


def _seconds(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Return a column in seconds; a duration, but no onset, may be missing."""
    seconds = pd.to_numeric(table[column], errors="coerce").astype("float64")
    missing = (column == "duration") & (table[column] == MISSING)
    wrong = ~np.isfinite(seconds) & ~missing | (column == "duration") & (seconds < 0)
    for row in np.flatnonzero(wrong):
        raise SourceError(
            f"{table['place'].iloc[row]}: {column} '{table[column].iloc[row]}' is no time; expected seconds, as in 12.5"
        )
    return seconds


def read_confounds(path: Path | None, patterns: Sequence[str], *, volumes: int, image: Path) -> NDArray[np.float64]:
    """Read those columns of a run's confounds whose names match a pattern: (volumes, confound).

    A missing value in the first row is 0, as derivatives have none there. The image is for messages.

    Raises
    ------
    SourceMissing, SourceError
        There is no table, it lacks a column or rows, or a value is no number.
    """
    if not patterns:
        return np.zeros((volumes, 0))
    if path is None:
        raise SourceMissing(
            f"{image}: no *_desc-confounds_timeseries.tsv beside it, and source.response.confounds asks for "
            f"'{patterns[0]}'; set source.derivatives to fMRIPrep's output, or drop the confounds"
        )
    table = read_tsv(present(path, "run fMRIPrep again"), [])
    columns: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not matching:
            raise SourceError(f"{path}: no confound matches '{pattern}'{hint(pattern, list(table.columns))}")
        columns.update(dict.fromkeys(matching))
    if len(table) != volumes:
        raise SourceError(
            f"{path}: has {len(table)} rows, {image.name} has {volumes} volumes; they must be equal; take both "
            "from one run of the preprocessing"
        )
    return np.column_stack([_confound(table[name], path) for name in columns])


def _confound(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, copy=True)
    if np.isnan(numbers[0]):
        numbers[0] = 0
    for row in np.flatnonzero(~np.isfinite(numbers)):
        raise SourceError(
            f"{path} line {row + 2}: {column.name} is '{column.iloc[row]}', no number; only the first row may lack "
            "one; drop this confound"
        )
    return numbers
