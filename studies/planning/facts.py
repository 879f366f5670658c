"""What a study will read, as far as it can be known beforehand: its subjects, their trials and voxels, its stimuli.

Four places are asked in turn: the source, where its data are here; the study's store; what the dataset, or the
simulation, declares of itself; and what the user supposes. Every figure says which of them it is from.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from core.checkout import project_root, relative_to_root
from core.errors import ConfigError, SourceMissing
from core.progress import track
from feature_store.manifest import read_manifest
from feature_store.reader import Responses, Targets, open_group
from feature_store.schema import MANIFEST, UNLABELLED
from feature_store.sources.base import SPLITS, Recording, Source, Split
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import (
    FSAVERAGE_VERTICES,
    FSLR_VOXELS,
    GENERAL,
    GENERAL_VOXELS,
    MNI_VOXELS,
    PUBLISHED_SUBJECTS,
    ROI_VOXELS,
    ROIS,
    WHOLE,
    WINDOW_ROIS,
    WINDOW_VOXELS,
    Counts,
)
from feature_store.sources.digits69 import Digits69, Digits69Config
from studies.study import Study

Origin = Literal["looked at in the source", "as the store holds it", "declared by the dataset", "supposed"]
CAPTION_BYTES: dict[Split, int] = {"train": 546, "test": 414}
"""Bytes of the longest list of five captions of BOLD Moments' clips, as JSON: of the annotations' early release."""
KEYS = ("subjects", "voxels", "train", "test")


@dataclass(frozen=True)
class SubjectFacts:
    """One subject's responses.

    Attributes
    ----------
    trials : table per split, one row a trial
    voxels : how many
    times : volumes of a trial's window, None for betas
    unlabelled : rows without a stimulus
    table : what is known of the voxels, without what ingest measures
    """

    name: str
    trials: dict[Split, pd.DataFrame]
    voxels: int
    table: pd.DataFrame
    times: int | None = None
    unlabelled: int = 0

    def rows(self, split: Split) -> int:
        """Trials of a split."""
        return len(self.trials[split])

    @property
    def values(self) -> int:
        """Numbers that are stored: trials and unlabelled rows × volumes × voxels."""
        return (sum(self.rows(split) for split in SPLITS) + self.unlabelled) * (self.times or 1) * self.voxels


@dataclass(frozen=True)
class StudyFacts:
    """What the plan goes by.

    Attributes
    ----------
    subjects : tuple of SubjectFacts
    stimuli : table with stimulus, split, caption and, where there are classes, group
    origin : where trials and voxels are from
    """

    subjects: tuple[SubjectFacts, ...]
    stimuli: pd.DataFrame
    origin: Origin

    @cached_property
    def counts(self) -> dict[str, int]:
        """Stimuli of every split."""
        return {str(split): int(count) for split, count in self.stimuli["split"].value_counts().items()}

    def count(self, split: Split) -> int:
        """Stimuli of a split."""
        return self.counts.get(split, 0)

    @cached_property
    def alike(self) -> list[tuple[SubjectFacts, int]]:
        """One subject of those that are the same but for their name, and how many they are."""
        found: dict[tuple[Any, ...], list[SubjectFacts]] = {}
        for one in self.subjects:
            key = (id(one.table), id(one.trials), one.voxels, one.times, one.unlabelled)
            found.setdefault(key, []).append(one)
        return [(some[0], len(some)) for some in found.values()]

    def of_subjects(self, count: int) -> "StudyFacts":
        """Return the same study with so many subjects: those that are known, over and over."""
        known = self.subjects
        made = tuple(replace(known[i % len(known)], name=f"sub-{i + 1:02d}") for i in range(count))
        return replace(self, subjects=made)


def find_facts(study: Study, supposed: Mapping[str, str] | None = None) -> StudyFacts:
    """Return what is known of a study's recordings.

    Parameters
    ----------
    study : Study
    supposed : mapping of str, optional
        What to go by where nothing else tells: ``{"subjects": "12", "voxels": "20000", "train": "1000x3",
        "test": "102x10"}``, train and test as stimuli × repetitions.

    Raises
    ------
    ConfigError
        Nothing tells, and nothing is supposed; or something is supposed where the recordings are here.
    SourceError
        The recordings are here and are not what their source declares.
    """
    found = _from_source(study) or _from_store(study)
    if found is not None:
        if supposed:
            raise ConfigError(
                f"--assume: {study.study} has its recordings or its stores here, and the plan looks at those; leave it "
                "out, or say --subjects to see how the study grows"
            )
        return found
    return (_supposed(study, supposed) if supposed else None) or _declared(study) or _ask(study)


def _from_source(study: Study) -> StudyFacts | None:
    """Look at the recordings; None where they are not here."""
    try:
        source = study.source.build(project_root())
        subjects, stimuli = source.subjects, source.stimuli()
        looked = track(subjects, "looking at subjects") if len(subjects) > 1 else subjects
        return StudyFacts(tuple(_look(study, source, one) for one in looked), stimuli, "looked at in the source")
    except SourceMissing:
        return None


def _look(study: Study, source: Source, subject: str) -> SubjectFacts:
    config = study.source
    if isinstance(config, BoldMomentsConfig) and config.counts == Counts():
        source.response_files(subject)  # that they are here; what is published is declared, and gigabytes to read
        return _published_subject(config, subject)
    return facts_of(source.responses(subject))


def facts_of(recording: Recording) -> SubjectFacts:
    """Return what a recording says of itself; its values are not read where they are lazy."""
    shape = tuple(recording.values["train"].shape)
    rows = 0 if recording.unlabelled is None else int(recording.unlabelled.shape[0])
    times = int(shape[1]) if len(shape) == 3 else None
    return SubjectFacts(recording.subject, recording.trials, int(shape[-1]), recording.voxels, times, rows)


def _from_store(study: Study) -> StudyFacts | None:
    """Look at what was ingested, where the recordings themselves are gone."""
    groups = sorted(path.parent for path in (study.store / "responses").glob(f"[!.]*/{MANIFEST}"))
    targets = sorted(path.parent for path in (study.store / "targets").glob(f"[!.]*/{MANIFEST}"))
    if not groups or not targets:
        return None
    known = open_group(targets[0])
    assert isinstance(known, Targets)
    stimuli = pd.concat([known.stimuli(split).assign(split=split) for split in SPLITS], ignore_index=True)
    return StudyFacts(tuple(_stored(open_group(group)) for group in groups), stimuli, "as the store holds it")


def _stored(group: object) -> SubjectFacts:
    assert isinstance(group, Responses)
    shape = group.rows("train/betas").shape
    rest = len(group.rows(UNLABELLED)) if group.has(UNLABELLED) else 0
    table = group.voxels.drop(columns=[f"ncsnr_{split}" for split in SPLITS], errors="ignore")
    trials = {split: group.trials(split) for split in SPLITS}
    return SubjectFacts(group.subject, trials, shape[-1], table, shape[1] if len(shape) == 3 else None, rest)


def stored_bytes(study: Study, name: str) -> int | None:
    """Return the bytes of a published group by its manifest, or None where there is none."""
    group = study.store / name
    if not (group / MANIFEST).is_file():
        return None
    return sum(int(row["size"]) for row in read_manifest(group).files.values()) + (group / MANIFEST).stat().st_size


def _declared(study: Study) -> StudyFacts | None:
    config = study.source
    if isinstance(config, Digits69Config):
        return _digits()
    if not isinstance(config, BoldMomentsConfig):
        return None
    if study.simulation is not None:
        numbers = config.subjects or range(1, study.simulation.subjects + 1)
        made = study.simulation
        trials = {s: _trials(config.counts.stimuli(s), config.counts.repeats(s)) for s in SPLITS}
        subjects = [
            SubjectFacts(f"sub-{n:02d}", trials, made.voxels, _voxel_table(made.voxels), None, made.rest)
            for n in numbers
        ]
        stimuli = _stimuli(config.counts, {"train": 390, "test": 375})
        return StudyFacts(tuple(subjects), stimuli, "declared by the dataset")
    if config.counts != Counts():
        return None
    names = config.named_subjects or [f"sub-{number:02d}" for number in PUBLISHED_SUBJECTS]
    published = tuple(_published_subject(config, name) for name in names)
    return StudyFacts(published, _stimuli(config.counts, CAPTION_BYTES), "declared by the dataset")


def _digits() -> StudyFacts:
    names = {split: [f"{split}-{i:03d}" for i in range(count)] for split, count in Digits69.COUNTS.items()}
    subject = SubjectFacts(
        Digits69.SUBJECT,
        {split: _trials(names[split], 1) for split in SPLITS},
        Digits69.VOXELS,
        pd.DataFrame({"roi": ["V1-V3"] * Digits69.VOXELS}),
    )
    rows = [(name, split, ["a handwritten nine"], "nine") for split in SPLITS for name in names[split]]
    stimuli = pd.DataFrame(rows, columns=["stimulus", "split", "caption", "group"])
    return StudyFacts((subject,), stimuli, "declared by the dataset")


def _published_subject(config: BoldMomentsConfig, subject: str) -> SubjectFacts:
    """Return what BOLD Moments declares of a subject."""
    trials = {split: _trials(config.counts.stimuli(split), config.counts.repeats(split)) for split in SPLITS}
    voxels = sum(published_voxels(config, subject).values())
    times = len(config.trs) if config.responses == "windows" else None
    return SubjectFacts(subject, trials, voxels, _voxel_table(voxels), times)


def published_voxels(config: BoldMomentsConfig, subject: str) -> dict[str, int]:
    """Return the voxels that a study reads of a subject of BOLD Moments, by region or for the whole space."""
    if config.responses in ("fsLR32k", "fsaverage"):
        return {config.responses: FSLR_VOXELS if config.responses == "fsLR32k" else 2 * FSAVERAGE_VERTICES}
    whole = MNI_VOXELS.get(subject, max(MNI_VOXELS.values()))
    if config.responses == "windows":
        known = WINDOW_VOXELS.get(subject, next(iter(WINDOW_VOXELS.values())))
        return {roi: known.get(roi, whole) for roi in config.rois or WINDOW_ROIS}
    sided = {f"{side}{roi}": count for roi, both in ROI_VOXELS.items() for side, count in zip("lr", both, strict=True)}
    sized = {**sided, GENERAL: GENERAL_VOXELS, WHOLE: whole}
    if config.rois is None:
        return {WHOLE: whole} if config.responses == "MNI152" else {roi: sized[roi] for roi in ROIS}
    return {
        name: sized[name] for roi in config.rois for name in ([f"l{roi}", f"r{roi}"] if roi in ROI_VOXELS else [roi])
    }


def _supposed(study: Study, supposed: Mapping[str, str]) -> StudyFacts:
    if missing := [key for key in KEYS if key not in supposed]:
        raise ConfigError(f"--assume: lacks {', '.join(missing)}; {_EXAMPLE}")
    if unknown := [key for key in supposed if key not in KEYS]:
        raise ConfigError(f"--assume: '{unknown[0]}' is not one of {', '.join(KEYS)}; {_EXAMPLE}")
    subjects, voxels = _whole("subjects", supposed), _whole("voxels", supposed)
    trials, rows = {}, []
    for split in SPLITS:
        match = re.fullmatch(r"([1-9]\d{0,6})(?:x([1-9]\d{0,3}))?", supposed[split])
        if match is None:
            raise ConfigError(f"--assume {split}={supposed[split]}: expected STIMULIxREPETITIONS; {_EXAMPLE}")
        names = [f"{split}-{number:05d}" for number in range(int(match[1]))]
        trials[split] = _trials(names, int(match[2] or 1))
        rows += [(name, split, ["a caption of some words"]) for name in names]
    table = _voxel_table(voxels)
    labels = study.source.named_subjects or [f"sub-{number + 1:02d}" for number in range(subjects)]
    made = tuple(SubjectFacts(label, trials, voxels, table) for label in labels[:subjects])
    return StudyFacts(made, pd.DataFrame(rows, columns=["stimulus", "split", "caption"]), "supposed")


def _whole(key: str, supposed: Mapping[str, str]) -> int:
    if re.fullmatch(r"[1-9]\d{0,8}", supposed[key]) is None:
        raise ConfigError(f"--assume {key}={supposed[key]}: expected a whole number from 1; {_EXAMPLE}")
    return int(supposed[key])


_EXAMPLE = "say for example --assume subjects=12,voxels=20000,train=1000x3,test=100x10"


def _ask(study: Study) -> StudyFacts:
    raise ConfigError(
        f"{relative_to_root(project_root() / study.source.path)}: no recordings here, and a source of the kind "
        f"'{study.source.kind}' "
        f"declares no trials and voxels by itself; set source.path to where they are, or {_EXAMPLE}"
    )


def _trials(stimuli: list[str], repeats: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "stimulus": np.repeat(stimuli, repeats).astype(object),
            "repetition": np.tile(np.arange(repeats), len(stimuli)),
        }
    )


def _voxel_table(voxels: int) -> pd.DataFrame:
    """Return a table of the columns that most subjects' voxels have; names and places are not known."""
    roi = pd.Series(["lIPS1-2-3"] * voxels, dtype=object)
    return pd.DataFrame({"roi": roi, "hemisphere": "l", "index": np.arange(voxels)})


def _stimuli(counts: Counts, captions: Mapping[Split, int]) -> pd.DataFrame:
    rows = [(name, split, ["x" * (captions[split] - 4)]) for split in SPLITS for name in counts.stimuli(split)]
    return pd.DataFrame(rows, columns=["stimulus", "split", "caption"])
