"""What a study will read, as far as it can be known beforehand: its subjects, their trials and voxels, its stimuli.

Four places are asked in turn: the source, where its data are here; the study's store; what the dataset, or the
simulation, declares of itself; and what the user assumes. The facts name the place that answered.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from core.checkout import project_root, relative_to_root
from core.errors import ConfigError, SourceMissing
from core.progress import track
from feature_store.reader import Responses, Targets, open_group
from feature_store.schema import MANIFEST, UNLABELLED
from feature_store.sources.base import (
    SPLITS,
    STIMULUS_COLUMNS,
    WINDOW_VOLUMES,
    Declares,
    RecordingShape,
    Source,
    Split,
    declared_trials,
)
from feature_store.sources.bids.dataset import Bids
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.settings import SourceConfig
from simulation.world import SimulationConfig
from studies.study import Study

Origin = Literal["looked at in the source", "as the store holds it", "declared by the dataset", "supposed"]
LOOKED_AT: Origin = "looked at in the source"
KEYS = ("subjects", "voxels", "train", "test")
EXAMPLE = "say for example --assume subjects=12,voxels=20000,train=1000x3,test=100x10"
WHOLE, SHOWN = r"[1-9]\d{0,8}", r"([1-9]\d{0,6})(?:x([1-9]\d{0,3}))?"


@dataclass(frozen=True)
class StudyFacts:
    """What the plan goes by: subjects, stimuli as `Source.stimuli` returns them, and where both are from."""

    subjects: tuple[RecordingShape, ...]
    stimuli: pd.DataFrame
    origin: Origin

    def count(self, split: Split) -> int:
        """Stimuli of a split."""
        return int((self.stimuli["split"] == split).sum())

    @property
    def largest(self) -> RecordingShape:
        """The subject with the most voxels."""
        return max(self.subjects, key=lambda subject: subject.voxels)


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
    facts = _from_source(study.source) or facts_of_store(study.store)
    if facts is not None and supposed:
        raise ConfigError(
            f"--assume: {study.study} has its recordings or its stores here, and the plan looks at those; leave it "
            "out, or give --subjects to see how the study grows"
        )
    if facts is None:
        facts = _supposed(study.source, supposed) if supposed else _declared(study.source, study.simulation)
    if facts is None:
        raise ConfigError(
            f"{relative_to_root(project_root() / study.source.path)}: no recordings here, and a source of the kind "
            f"'{study.source.kind}' declares no trials and voxels by itself; set source.path to where they are, or "
            f"{EXAMPLE}"
        )
    return facts


def _from_source(config: SourceConfig) -> StudyFacts | None:
    """Look at the recordings; None where they are not here."""
    try:
        source = config.build(project_root())
        subjects, stimuli = source.subjects, source.stimuli()
        looked = track(subjects, "looking at subjects") if len(subjects) > 1 else subjects
        shapes = tuple(shape_of(config, source, subject) for subject in looked)
    except SourceMissing:
        return None
    return StudyFacts(shapes, stimuli, LOOKED_AT)


def shape_of(config: SourceConfig, source: Source, subject: str) -> RecordingShape:
    """Return what a subject's recording holds, by its headers and tables, or as its dataset declares it.

    Raises `SourceMissing` or `SourceError` where files are absent, or are not what the source declares.
    """
    if isinstance(config, BoldMomentsConfig):
        published = config.model_copy(update={"subjects": [int(subject.removeprefix("sub-"))]}).declared()
        if published is not None:
            source.response_files(subject)  # raises where they are not here; they are gigabytes to read
            return published.subjects[0]
    return source.shape(subject) if isinstance(source, Bids) else RecordingShape.of(source.responses(subject))


def facts_of_store(store: Path) -> StudyFacts | None:
    """Look at what was ingested, where the recordings themselves are gone."""
    responses, targets = (
        [open_group(path.parent) for path in sorted(store.glob(f"{kind}/[!.]*/{MANIFEST}"))]
        for kind in ("responses", "targets")
    )
    if not responses or not targets:
        return None
    target = targets[0]
    assert isinstance(target, Targets)
    stimuli = pd.concat([target.stimuli(split).assign(split=split) for split in SPLITS], ignore_index=True)
    return StudyFacts(tuple(_stored(group) for group in responses), stimuli, "as the store holds it")


def _stored(group: object) -> RecordingShape:
    assert isinstance(group, Responses)
    shape = group.rows("train/betas").shape
    times = shape[1] if len(shape) == 3 else None
    rest = len(group.rows(UNLABELLED)) if group.has(UNLABELLED) else 0
    table = group.voxels.drop(columns=[f"ncsnr_{split}" for split in SPLITS], errors="ignore")
    trials = {split: group.trials(split) for split in SPLITS}
    window = group.attributes.get(WINDOW_VOLUMES, times)
    return RecordingShape(group.subject, trials, shape[-1], table, times, rest, window)


def _declared(config: SourceConfig, simulation: SimulationConfig | None) -> StudyFacts | None:
    declared = None
    if isinstance(config, BoldMomentsConfig) and simulation is not None:
        numbers = config.subjects or list(range(1, simulation.subjects + 1))
        declared = config.model_copy(update={"subjects": numbers}).declared(simulation.voxels, simulation.rest)
    elif isinstance(config, Declares):
        declared = config.declared()
    return None if declared is None else StudyFacts(declared.subjects, declared.stimuli, "declared by the dataset")


def _supposed(config: SourceConfig, supposed: Mapping[str, str]) -> StudyFacts:
    if missing := [key for key in KEYS if key not in supposed]:
        raise ConfigError(f"--assume: lacks {', '.join(missing)}; {EXAMPLE}")
    if unknown := [key for key in supposed if key not in KEYS]:
        raise ConfigError(f"--assume: '{unknown[0]}' is not one of {', '.join(KEYS)}; {EXAMPLE}")
    for key in ("subjects", "voxels"):
        if re.fullmatch(WHOLE, supposed[key]) is None:
            raise ConfigError(f"--assume {key}={supposed[key]}: expected a whole number from 1; {EXAMPLE}")
    trials, rows = {}, []
    for split in SPLITS:
        match = re.fullmatch(SHOWN, supposed[split])
        if match is None:
            raise ConfigError(f"--assume {split}={supposed[split]}: expected STIMULIxREPETITIONS; {EXAMPLE}")
        names = [f"{split}-{number:05d}" for number in range(int(match[1]))]
        trials[split] = declared_trials(names, int(match[2] or 1))
        rows += [(name, split, ["a caption of some words"]) for name in names]
    count = int(supposed["subjects"])
    labels = config.named_subjects or [f"sub-{number + 1:02d}" for number in range(count)]
    first = RecordingShape.declared(labels[0], trials, int(supposed["voxels"]))
    subjects = tuple(replace(first, subject=label) for label in labels[:count])
    return StudyFacts(subjects, pd.DataFrame(rows, columns=list(STIMULUS_COLUMNS)), "supposed")
