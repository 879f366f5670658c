"""Any BIDS dataset with BOLD runs and events becomes per-trial responses: betas of a GLM, or windows of the signal.

The images are the raw ones or those of a derivative such as fMRIPrep's; events always come from the raw dataset. Runs
are read one at a time, when their trials are asked for.

Gorgolewski et al. (2016), The brain imaging data structure, a format for organizing and describing outputs of
neuroimaging experiments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from core.clips import Clip, ClipConfig, read_clip
from core.config import nearest
from core.errors import SourceError, SourceMissing
from core.progress import track
from feature_store.cells import missing
from feature_store.sources.base import (
    MOTION_COLUMNS,
    SPLITS,
    STIMULUS_COLUMNS,
    WINDOW_VOLUMES,
    Recording,
    RecordingShape,
    Rows,
    Source,
    Split,
    check_stimuli,
    check_trials,
    present,
    stays_inside,
)
from feature_store.sources.bids.confounds import motion_of_trials, read_confounds
from feature_store.sources.bids.events import (
    FILE_COLUMN,
    EventsConfig,
    check_splits,
    read_nuisance,
    read_trials,
    with_splits,
)
from feature_store.sources.bids.files import NONE, Layout, Run, bare
from feature_store.sources.bids.images import Scan, open_scans
from feature_store.sources.bids.trials import NOISE_GAIN, RunModel, events_of_runs, trial_notes
from feature_store.sources.bids.voxels import AtlasConfig, Voxels, find_voxels, mask_files, read_series
from feature_store.sources.splits import kept_trials
from feature_store.sources.timeseries import (
    NOISY,
    Events,
    GlmConfig,
    WindowConfig,
    check_covered,
    first_volumes,
    trial_regressors,
    trial_weights,
    trial_windows,
    volumes_in_window,
    weighted_betas,
)
from feature_store.sources.tsv import hint
from feature_store.times import PLACE

STIMULI = "stimuli"
"""BIDS's folder of stimulus files."""
TRIALS = ["stimulus", "repetition", "session", "task", "run", "onset_s", "duration_s"]

ResponseConfig = Annotated[GlmConfig | WindowConfig, Field(discriminator="kind")]


class BidsConfig(EventsConfig):
    """Where the dataset lies, which of its runs are read, and how their trials become responses."""

    kind: Literal["bids"] = "bids"
    path: str
    subjects: list[str] | None = Field(None, min_length=1)
    """Subjects' labels, with or without ``sub-``; all that are there by default."""
    task: str | list[str] | None = Field(None, min_length=1)
    """The tasks that are read; all by default, and then all need events."""
    sessions: list[str] | None = Field(None, min_length=1)
    derivatives: str | None = None
    """The folder of preprocessed runs inside `path`, such as ``derivatives/fmriprep``; the raw runs by default."""
    space: str | None = None
    """Which preprocessed images: their ``space-``; ``none`` for those without."""
    desc: str | None = None
    """Which preprocessed images: their ``desc-``; ``none`` for those without."""
    entities: dict[str, list[str]] = Field(default_factory=dict)
    """Which images by any other entity, such as ``{rec: moco, res: "2", echo: none}``: a label, ``none`` for images
    without it, or several. Several of ``acq``, ``ce`` or ``dir`` are runs of their own."""
    stimuli: str | None = None
    """The folder of the clips, where it is not ``stimuli`` inside `path`."""
    mask: str | None = None
    """A NIfTI file, or ``none`` for every voxel that varies; by default the runs' own masks, else a computed one."""
    atlas: AtlasConfig | None = None
    response: ResponseConfig = GlmConfig()

    @field_validator("entities", mode="before")
    @classmethod
    def _labels_are_text(cls, entities: Any) -> Any:
        if not isinstance(entities, dict):
            return entities
        return {name: _labels(str(name), labels) for name, labels in entities.items()}

    @model_validator(mode="after")
    def _one_setting_an_entity(self) -> Self:
        if "sub" in self.entities:
            raise ValueError("entities: 'sub' is chosen by source.subjects; name the subjects there")
        for entity, labels in self._own_settings.items():
            if labels and entity in self.entities:
                raise ValueError(f"entities: '{entity}' is chosen twice, here and by a setting of its own; keep one")
        return self

    @property
    def _own_settings(self) -> dict[str, list[str] | None]:
        """The labels of those entities that have a setting of their own."""
        tasks = [self.task] if isinstance(self.task, str) else self.task
        single = {"space": self.space, "desc": self.desc}
        return {"task": tasks, "ses": self.sessions} | {
            name: [label] if label else None for name, label in single.items()
        }

    @property
    def named_subjects(self) -> list[str] | None:
        """The subjects that the config names, as ``sub-01``, or None where it takes all that are there."""
        return None if self.subjects is None else [f"sub-{label}" for label in bare(self.subjects, "sub")]

    def layout(self, path: Path) -> Layout:
        """Return which files of the dataset at `path` are meant."""
        asked = self._own_settings | self.entities
        wanted = {entity: bare(labels, entity) for entity, labels in asked.items() if labels}
        return Layout(path, path / self.derivatives if self.derivatives else path, wanted)

    def build(self, root: Path) -> "Bids":
        """Return the source; relative paths start at `root`."""
        return Bids(self, root)


def _labels(entity: str, labels: Any) -> list[str]:
    """Return one entity's labels, one or several, as text; raises `ValueError` for anything else."""
    several = labels if isinstance(labels, list) else [labels]
    if not several or not all(isinstance(label, str | int) and not isinstance(label, bool) for label in several):
        raise ValueError(
            f"entities: {entity} is {labels!r}; expected a label in quotes, '{NONE}' for images without it, or a list "
            "of these"
        )
    return [str(label) for label in several]


@dataclass(frozen=True)
class Shown:
    """What a subject was shown: its trials, with the ``scan`` and the ``row`` in it of each, and the runs of these."""

    trials: pd.DataFrame
    scans: list[Scan]
    events: list[Events]


class Bids(Source):
    """A BIDS dataset on disk, as a `Source`."""

    def __init__(self, config: BidsConfig, root: Path) -> None:
        self.config = config
        self.root = root
        self.path = root / Path(config.path).expanduser()
        self.clips = root / Path(config.stimuli).expanduser() if config.stimuli else self.path / STIMULI
        self.layout = config.layout(self.path)

    @property
    def subjects(self) -> list[str]:
        """The subjects that the config names, or all that are there, as ``sub-01``."""
        there = self.layout.subjects()
        for subject in self.config.named_subjects or []:
            if subject not in there:
                raise SourceMissing(
                    f"{self.layout.images / subject}: no such subject{nearest(subject, there)}; fix source.subjects"
                )
        return self.config.named_subjects or there

    def stimuli(self) -> pd.DataFrame:
        """Return the stimuli by split and name; captions are those of all the events that show them."""
        return self._stimuli.copy()

    @cached_property
    def _stimuli(self) -> pd.DataFrame:
        trials = pd.concat(self._trials.values(), ignore_index=True)
        check_splits(trials, self.config, self.path)
        table = trials.drop_duplicates("stimulus").sort_values("stimulus")
        stimuli = pd.concat([table[table["split"] == split] for split in SPLITS], ignore_index=True)
        check_stimuli(stimuli, self.path)
        texts = trials[~missing(trials["caption"])].groupby("stimulus")["caption"].unique()
        captions = [list(texts.get(stimulus, [])) for stimulus in stimuli["stimulus"]]
        place = PLACE if {"segment", "start_s"} <= set(stimuli) else ()
        return stimuli.assign(caption=pd.Series(captions, dtype=object))[[*STIMULUS_COLUMNS, *place]]

    @cached_property
    def _runs(self) -> dict[str, list[Run]]:
        return {subject: self.layout.runs(subject) for subject in self.subjects}

    @cached_property
    def _trials(self) -> dict[str, pd.DataFrame]:
        tables = {subject: read_trials(runs, self.config) for subject, runs in self._runs.items()}
        return with_splits(tables, self.config.split, self.layout.images)

    @cached_property
    def _values(self) -> dict[str, str]:
        """The events' value of every stimulus, by its name."""
        trials = pd.concat(self._trials.values())
        return dict(zip(trials["stimulus"], trials["value"], strict=True))

    def responses(self, subject: str) -> Recording:
        """Return one subject's responses: (trial, voxel) or (trial, time, voxel) float32, by session, run and onset.

        The trials of a GLM have the column `NOISE_GAIN`; what was noticed of them is in the attribute ``notes``.
        """
        shown = self._shown(subject)
        models = self._models(shown.scans, shown.events)
        notes = [*self._unread(subject), *trial_notes(models)]
        attributes: dict[str, Any] = {"notes": notes} if notes else {}
        trials = shown.trials
        if models:
            trials = self._usable(trials.assign(**{NOISE_GAIN: np.concatenate([model.gains for model in models])}))
            check_trials(trials, self.stimuli(), self.layout.images / subject)
        parts, purged = self._parts(trials, subject)
        voxels = find_voxels(shown.scans, self.config.mask, self.config.atlas, self.root)

        def read_run(run: int) -> NDArray[np.float32]:
            return self._read(shown.scans[run], shown.events[run], models[run : run + 1], voxels)

        read, tail = lru_cache(maxsize=1)(read_run), (*self._times(shown.scans[0]), len(voxels.table))
        values: dict[Split, Rows] = {
            split: RunRows(part[["scan", "row"]].to_numpy(np.int64), tail, read) for split, part in parts.items()
        }
        attributes |= self._attributes(shown.scans[0], voxels) | purged
        return Recording(subject, values, _tables(parts), voxels.table, attributes)

    def shape(self, subject: str) -> RecordingShape:
        """Return what `responses` holds, without modelling its trials: those that may be dropped are counted."""
        shown = self._shown(subject)
        trials = shown.trials if isinstance(self.config.response, WindowConfig) else shown.trials.assign(noise_gain=1.0)
        voxels = find_voxels(shown.scans, self.config.mask, self.config.atlas, self.root).table
        scan, tables = shown.scans[0], _tables(self._parts(trials, subject)[0])
        times = next(iter(self._times(scan)), None)
        return RecordingShape(subject, tables, len(voxels), voxels, times, window=self._window(scan))

    def _shown(self, subject: str) -> "Shown":
        """Open a subject's runs and check its events."""
        trials, runs = self._trials[self._known(subject)], self._runs[subject]
        check_trials(trials, self.stimuli(), self.layout.images / subject)
        shown = [index for index in range(len(runs)) if (trials["index"] == index).any()]
        scans, events = open_scans([runs[index] for index in shown]), events_of_runs(trials, shown)
        for scan, happened in zip(scans, events, strict=True):
            self._check(scan, happened)
        scan_of = {index: scan for scan, index in enumerate(shown)}
        trials = trials.assign(scan=trials["index"].map(scan_of), row=trials.groupby("index").cumcount())
        motion = motion_of_trials([(scan.run.confounds, scan.timing) for scan in scans], trials["scan"], trials)
        return Shown(trials.join(motion), scans, events)

    def _unread(self, subject: str) -> list[str]:
        """Return a line on events that no image belongs to, such as those of a run that was not preprocessed."""
        files = self.layout.unread_events(subject, self._runs[subject])
        if not files:
            return []
        tables = "1 table of events belongs" if len(files) == 1 else f"{len(files)} tables of events belong"
        return [f"{tables} to no image that is read, such as {files[0].name}"]

    def _parts(self, trials: pd.DataFrame, subject: str) -> tuple[dict[Split, pd.DataFrame], dict[str, Any]]:
        """Return the trials of either split, without those that the split purges, and what to remember of these."""
        parts: dict[Split, pd.DataFrame] = {split: trials[trials["split"] == split] for split in SPLITS}
        purge_s, where = self.config.split.purge_s, self.layout.images / subject
        kept, purged = kept_trials(parts, self.stimuli(), purge_s, subject, where)
        return {**parts, "train": parts["train"][kept]}, purged

    def _usable(self, trials: pd.DataFrame) -> pd.DataFrame:
        """Return the trials without those that the config drops."""
        response = self.config.response
        drops = isinstance(response, GlmConfig) and response.noisy_trials == "drop"
        return trials[trials[NOISE_GAIN] <= NOISY] if drops else trials

    def _check(self, scan: Scan, events: Events) -> None:
        response = self.config.response
        if isinstance(response, WindowConfig):
            first_volumes(events, scan.timing, response)
        else:
            check_covered(events, scan.timing)

    def _models(self, scans: Sequence[Scan], events: Sequence[Events]) -> list[RunModel]:
        """Return how each run's trials are estimated, before any image is read; nothing for windows."""
        response = self.config.response
        if isinstance(response, WindowConfig):
            return []
        models = []
        for scan, happened in track(list(zip(scans, events, strict=True)), "modelling runs"):
            confounds = self._confounds(scan, response)
            weights = trial_weights(happened, scan.timing, response, confounds)
            models.append(RunModel(happened, scan.timing, response, weights))
        return models

    def _read(self, scan: Scan, events: Events, models: Sequence[RunModel], voxels: Voxels) -> NDArray[np.float32]:
        """Return a run's responses by its window, or by its model where there is one."""
        image = scan.run.image
        series = read_series(image, voxels)
        if models:
            return weighted_betas(series, models[0].weights, models[0].config, where=image)
        assert isinstance(self.config.response, WindowConfig)
        return trial_windows(series, events, scan.timing, self.config.response, where=image)

    def _confounds(self, scan: Scan, response: GlmConfig) -> NDArray[np.float64]:
        volumes, run = scan.timing.volumes, scan.run
        measured = read_confounds(run.confounds, response.confounds, volumes=volumes, image=run.image)
        aside = read_nuisance(run, self.config)
        if not aside.places:
            return measured
        check_covered(aside, scan.timing)
        return np.column_stack([measured, trial_regressors(aside, scan.timing, response).sum(axis=0)])

    def _window(self, scan: Scan) -> int | None:
        """Return how many volumes a trial's window holds, None for betas."""
        response = self.config.response
        return volumes_in_window(response, scan.timing.tr_s) if isinstance(response, WindowConfig) else None

    def _times(self, scan: Scan) -> tuple[int, ...]:
        response, window = self.config.response, self._window(scan)
        kept = isinstance(response, WindowConfig) and not response.average
        return (window,) if kept and window is not None else ()

    def _attributes(self, scan: Scan, voxels: Voxels) -> dict[str, Any]:
        window = self._window(scan)
        return {
            "space": scan.run.entities.get("space", "individual"),
            "tr_s": scan.timing.tr_s,
            "start_s": scan.timing.start_s,
            "affine": scan.grid.affine.tolist(),
            "mask": voxels.origin,
            "response": self.config.response.model_dump(mode="json"),
            **({} if window is None else {WINDOW_VOLUMES: window}),
        }

    def recordings(self, subject: str) -> list[Path]:
        """Return a subject's images."""
        return [run.image for run in self._runs[self._known(subject)]]

    def response_files(self, subject: str) -> list[Path]:
        """Return a subject's images, sidecars, events, confounds, masks, and the atlas."""
        runs = self._runs[self._known(subject)]
        images = [present(run.image, "fetch the dataset again") for run in runs]
        beside = [path for run in runs for path in (*run.sidecars, run.events) if path is not None]
        tables = [run.confounds for run in runs if run.confounds is not None]
        masks = mask_files(runs, self.config.mask, self.config.atlas, self.root)
        return list(dict.fromkeys([*images, *beside, *tables, *masks]))

    def stimulus_files(self) -> list[Path]:
        """Return all events and, where there is a folder of them, the clips that they name."""
        events = [run.events for runs in self._runs.values() for run in runs if run.events is not None]
        clips = [self._clip_path(stimulus) for stimulus in self.stimuli()["stimulus"]]
        return list(dict.fromkeys([*events, *(path for path in clips if path is not None)]))

    def clip(self, stimulus: str, config: ClipConfig) -> Clip | None:
        """Return what was shown, or None where the dataset has no folder of stimuli or the events name no file."""
        path = self._clip_path(stimulus)
        return None if path is None else read_clip(path, config)

    def _clip_path(self, stimulus: str) -> Path | None:
        if stimulus not in self._values:
            raise SourceError(
                f"{self.path}: no event shows the stimulus '{stimulus}'{hint(stimulus, list(self._values))}"
            )
        name, named = self._values[stimulus], self.config.stimulus_column == FILE_COLUMN
        path = self.clips / name
        # Other columns hold names of any kind, some of which may be those of files below the folder.
        if not self.clips.is_dir() or (not named and not (stays_inside(name) and path.is_file())):
            return None
        return present(path, "fetch the clips, or set source.stimuli to their folder")

    def _known(self, subject: str) -> str:
        if subject not in self._runs:
            raise SourceMissing(f"{self.layout.images / subject}: no such subject{nearest(subject, list(self._runs))}")
        return subject


class RunRows:
    """Rows that lie in several runs; slices in order read every run once, for the last one is kept.

    Parameters
    ----------
    where : (row, 2), each row's run, and its trial in that run
    tail : shape of one row
    read : returns a run's responses, (trial, *tail)
    """

    def __init__(
        self, where: NDArray[np.int64], tail: Sequence[int], read: Callable[[int], NDArray[np.float32]]
    ) -> None:
        self.shape = (len(where), *tail)
        self._where = where
        self._read = read

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        wanted = self._where[rows]
        values = np.empty((len(wanted), *self.shape[1:]), np.float32)
        for run in dict.fromkeys(wanted[:, 0].tolist()):
            here = wanted[:, 0] == run
            values[here] = self._read(run)[wanted[here, 1]]
        return values


def _tables(parts: dict[Split, pd.DataFrame]) -> dict[Split, pd.DataFrame]:
    """Return the columns of trials that a store keeps."""
    columns = [name for name in (*TRIALS, NOISE_GAIN, *MOTION_COLUMNS) if name in parts["train"]]
    return {split: part[columns].reset_index(drop=True) for split, part in parts.items()}
