"""What a study will read, as far as it can be known beforehand: its subjects, their trials and voxels, its stimuli.

Four places are asked in turn: the source, where its data are here; the study's store; what the dataset, or the
simulation, declares of itself; and what the user supposes. The facts name the place that answered.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from core.checkout import project_root, relative_to_root
from core.errors import ConfigError, SourceMissing
from core.progress import track
from feature_store.reader import Responses, Targets, open_group
from feature_store.schema import MANIFEST, UNLABELLED
from feature_store.sources.base import SPLITS, STIMULUS_COLUMNS, RecordingShape, Source, Split, declared_trials
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.digits69 import Digits69Config
from studies.study import Study

Origin = Literal["looked at in the source", "as the store holds it", "declared by the dataset", "supposed"]
KEYS = ("subjects", "voxels", "train", "test")
EXAMPLE = "say for example --assume subjects=12,voxels=20000,train=1000x3,test=100x10"


@dataclass(frozen=True)
class StudyFacts:
    """What the plan goes by.

    Attributes
    ----------
    subjects : tuple of RecordingShape
    stimuli : table with stimulus, split, caption and, where there are classes, group
    origin : where trials and voxels are from
    """

    subjects: tuple[RecordingShape, ...]
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
    def alike(self) -> list[tuple[RecordingShape, int]]:
        """One subject of those that are the same but for their name, and how many they are."""
        found: dict[tuple[Any, ...], list[RecordingShape]] = {}
        for one in self.subjects:
            key = (id(one.table), id(one.trials), one.voxels, one.times, one.unlabelled)
            found.setdefault(key, []).append(one)
        return [(some[0], len(some)) for some in found.values()]

    def of_subjects(self, count: int) -> "StudyFacts":
        """Return the same study with so many subjects: those that are known, over and over."""
        known = self.subjects
        made = tuple(replace(known[i % len(known)], subject=f"sub-{i + 1:02d}") for i in range(count))
        return replace(self, subjects=made)


def find_facts(study: Study, supposed: Mapping[str, str] | None = None) -> StudyFacts:
    """Return what is known of a study's recordings.

    Parameters
    ----------
    study : Study
    supposed : mapping of str, optional
        What to go by where nothing else is known: ``{"subjects": "12", "voxels": "20000", "train": "1000x3",
        "test": "102x10"}``, train and test as stimuli × repetitions.

    Raises
    ------
    ConfigError
        Nothing is known and nothing is supposed; or something is supposed where the recordings are here.
    SourceError
        The recordings are here and are not what their source declares.
    """
    found = _from_source(study) or _from_store(study)
    if found is not None and supposed:
        raise ConfigError(
            f"--assume: {study.study} has its recordings or its stores here, and the plan looks at those; leave it "
            "out, or give --subjects to see how the study grows"
        )
    if found is None:
        found = _supposed(study, supposed) if supposed else _declared(study)
    if found is None:
        raise ConfigError(
            f"{relative_to_root(project_root() / study.source.path)}: no recordings here, and a source of the kind "
            f"'{study.source.kind}' "
            f"declares no trials and voxels by itself; set source.path to where they are, or {EXAMPLE}"
        )
    return found


def _from_source(study: Study) -> StudyFacts | None:
    """Look at the recordings; None where they are not here."""
    try:
        source = study.source.build(project_root())
        subjects, stimuli = source.subjects, source.stimuli()
        looked = track(subjects, "looking at subjects") if len(subjects) > 1 else subjects
        return StudyFacts(tuple(_look(study, source, one) for one in looked), stimuli, "looked at in the source")
    except SourceMissing:
        return None


def _look(study: Study, source: Source, subject: str) -> RecordingShape:
    config = study.source
    if isinstance(config, BoldMomentsConfig):
        published = config.model_copy(update={"subjects": [int(subject.removeprefix("sub-"))]}).declared()
        if published is not None:
            source.response_files(subject)  # raises where they are not here; they are gigabytes to read
            return published.subjects[0]
    return RecordingShape.of(source.responses(subject))


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


def _stored(group: object) -> RecordingShape:
    assert isinstance(group, Responses)
    shape = group.rows("train/betas").shape
    rest = len(group.rows(UNLABELLED)) if group.has(UNLABELLED) else 0
    table = group.voxels.drop(columns=[f"ncsnr_{split}" for split in SPLITS], errors="ignore")
    trials = {split: group.trials(split) for split in SPLITS}
    return RecordingShape(group.subject, trials, shape[-1], table, shape[1] if len(shape) == 3 else None, rest)


def _declared(study: Study) -> StudyFacts | None:
    config, made = study.source, study.simulation
    if isinstance(config, BoldMomentsConfig) and made is not None:
        numbers = config.subjects or list(range(1, made.subjects + 1))
        declared = config.model_copy(update={"subjects": numbers}).declared(made.voxels, made.rest)
    elif isinstance(config, BoldMomentsConfig | Digits69Config):
        declared = config.declared()
    else:
        return None
    return None if declared is None else StudyFacts(declared.subjects, declared.stimuli, "declared by the dataset")


def _supposed(study: Study, supposed: Mapping[str, str]) -> StudyFacts:
    if missing := [key for key in KEYS if key not in supposed]:
        raise ConfigError(f"--assume: lacks {', '.join(missing)}; {EXAMPLE}")
    if unknown := [key for key in supposed if key not in KEYS]:
        raise ConfigError(f"--assume: '{unknown[0]}' is not one of {', '.join(KEYS)}; {EXAMPLE}")
    for key in ("subjects", "voxels"):
        if re.fullmatch(r"[1-9]\d{0,8}", supposed[key]) is None:
            raise ConfigError(f"--assume {key}={supposed[key]}: expected a whole number from 1; {EXAMPLE}")
    trials, rows = {}, []
    for split in SPLITS:
        match = re.fullmatch(r"([1-9]\d{0,6})(?:x([1-9]\d{0,3}))?", supposed[split])
        if match is None:
            raise ConfigError(f"--assume {split}={supposed[split]}: expected STIMULIxREPETITIONS; {EXAMPLE}")
        names = [f"{split}-{number:05d}" for number in range(int(match[1]))]
        trials[split] = declared_trials(names, int(match[2] or 1))
        rows += [(name, split, ["a caption of some words"]) for name in names]
    count = int(supposed["subjects"])
    labels = study.source.named_subjects or [f"sub-{number + 1:02d}" for number in range(count)]
    first = RecordingShape.declared(labels[0], trials, int(supposed["voxels"]))
    subjects = tuple(replace(first, subject=label) for label in labels[:count])
    return StudyFacts(subjects, pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS)), "supposed")
