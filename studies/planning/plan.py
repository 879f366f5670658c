"""What a study takes before anything of it is started: bytes to fetch and to write, files, memory.

Needs no network, no weights and no data: what is here is looked at, the rest is declared, and the plan names where its
facts are from. What is exact and what is an estimate is in docs/plan.md.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.checkout import project_root, relative_to_root
from core.errors import ConfigError, SourceError
from core.files import read_json
from evaluation.statistics.scores import RECONSTRUCTION
from feature_store.schema import MANIFEST
from feature_store.sources.base import SPLITS
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import DOWNLOAD, STIMULI, Counts
from feature_store.sources.bold_moments.request import how_to_get_clips
from models.extractors.settings import GivenConfig
from models.weights.download import choose
from models.weights.locate import DOWNLOADED, PUBLISHED
from studies.planning.facts import StudyFacts, find_facts
from studies.planning.memory import Network, Peak, networks_of, peaks_of
from studies.planning.store_size import Shapes, group_sizes, parts_size, responses_size
from studies.stores.download import published_weights
from studies.study import Study

SCHEMA = 2


@dataclass(frozen=True)
class Weights:
    """A model of the hub that a study names: bytes of the weights that are read, if known, and whether it is here."""

    name: str
    size: int | None
    there: bool


@dataclass(frozen=True)
class GroupPlan:
    """One group of the store, as `store_size.GroupSize` has it, and what `brain2video status` shows of it."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    chunks: int
    files: int
    size: int
    state: str


@dataclass(frozen=True)
class Output:
    """What lies beside the store: files, and bytes where they can be known beforehand."""

    what: str
    size: int | None
    files: int


@dataclass(frozen=True)
class Scale:
    """The same study with so many subjects: bytes and files of the store, models of the largest route, peak memory."""

    subjects: int
    store: int
    files: int
    models: int
    memory: int


@dataclass(frozen=True)
class Plan:
    """Everything that `brain2video plan` shows; `ask` is the command that asks for the bytes of the recordings."""

    schema: int
    study: str
    origin: str
    subjects: int
    stimuli: dict[str, int]
    trials: dict[str, int]
    voxels: tuple[int, int]
    ask: str | None
    weights: tuple[Weights, ...]
    groups: tuple[GroupPlan, ...]
    outputs: tuple[Output, ...]
    peaks: tuple[Peak, ...]
    networks: tuple[Network, ...]
    scales: tuple[Scale, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all groups."""
        return sum(one.size for one in self.groups)

    @property
    def size_left(self) -> int:
        """Bytes of the groups that are not fresh."""
        return sum(one.size for one in self.groups if one.state != "fresh")

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return asdict(self)


def plan(
    study: Study,
    *,
    subjects: Sequence[int] = (),
    supposed: Mapping[str, str] | None = None,
    states: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a study will take.

    Parameters
    ----------
    study : Study
    subjects : sequence of int
        For how many subjects the study is scaled, beside its own.
    supposed : mapping of str, optional
        See `facts.find_facts`.
    states : mapping of str, optional
        What `brain2video status` shows of the store's groups, by their names.

    Raises
    ------
    ConfigError, ModelError
        Something that the plan needs is nowhere; one line says what, and what to do.
    """
    facts, shapes = find_facts(study, supposed), shapes_of(study)
    networks, unknown = networks_of(study, facts, shapes)
    voxels = [one.voxels for one in facts.subjects]
    return Plan(
        schema=SCHEMA,
        study=study.study,
        origin=facts.origin,
        subjects=len(facts.subjects),
        stimuli={split: facts.count(split) for split in SPLITS},
        trials={split: sum(one.rows(split) for one in facts.subjects) for split in SPLITS},
        voxels=(min(voxels), max(voxels)),
        ask=_command(study),
        weights=tuple(_weights(study)),
        groups=tuple(_groups(study, facts, shapes, states or {})),
        outputs=tuple(_outputs(study, facts, shapes)),
        peaks=tuple(peaks_of(study, facts, shapes, networks)),
        networks=tuple(networks),
        scales=tuple(_scale(study, facts, count, shapes, networks) for count in subjects),
        notes=(*unknown, *_notes(study, facts)),
    )


def shapes_of(study: Study) -> Shapes:
    """Return the shape of one stimulus, and its type, of every target.

    Raises
    ------
    ConfigError, ModelError
        A target was made elsewhere and is not here; or the settings of a model are not.
    """
    made = {}
    for name, config in study.targets.items():
        if isinstance(config, GivenConfig):
            made[name] = _given_shape(study, name, config.file or name), "float32"
        else:
            made[name] = config.shape(project_root()), "float16"
    return made


def _given_shape(study: Study, name: str, file: str) -> tuple[int, ...]:
    try:
        values = study.source.build(project_root()).target(file)
    except SourceError:
        values = None
    if values is None:
        raise ConfigError(
            f"targets.{name}: embeddings made elsewhere ('given'), and their file is not here to give their shape; "
            "set source.path to the folder that has it, or leave the target out with --set"
        )
    return tuple(values.shape[1:])


def _weights(study: Study) -> list[Weights]:
    known: dict[str, dict[str, int]] = read_json(PUBLISHED / "files.json")
    made = []
    for name, wanted in published_weights(study).items():
        size = sum(choose(name, known[name], wanted)[0].values()) if name in known else None
        made.append(Weights(name, size, (project_root() / DOWNLOADED / name).is_dir()))
    return made


def _command(study: Study) -> str | None:
    """Return the command that asks for the bytes of the recordings; None where no command brings them."""
    config = study.source
    if not isinstance(config, BoldMomentsConfig) or config.counts != Counts():
        return None
    wanted = [f"--subject {number}" for number in config.subjects or range(1, 11)]
    wanted += [f"--responses {config.responses}", *(f"--roi {roi}" for roi in config.rois or ())]
    return f"{DOWNLOAD} {shlex.quote(config.path)} {' '.join(wanted)} --dry-run"


def _groups(study: Study, facts: StudyFacts, shapes: Shapes, states: Mapping[str, str]) -> list[GroupPlan]:
    made = []
    for one in group_sizes(facts, shapes):
        there = (study.store / one.name / MANIFEST).is_file()
        state = states.get(one.name, "there; its source is not here to compare it with" if there else "not made")
        values = {array.name: array.shape for array in one.values}
        made.append(GroupPlan(one.name, values, one.chunks, one.files, one.size, state))
    return made


def _outputs(study: Study, facts: StudyFacts, shapes: Shapes) -> list[Output]:
    """Return the parts of every route, of which one is registered, and videos."""
    made = [
        Output(f"route {name}: encoder and regressors", parts_size(study, route, facts, shapes), len(study.parts))
        for name, route in study.training.routes.items()
    ]
    if study.why_nothing_to_render() is None:
        made.append(Output(f"videos, seen and {RECONSTRUCTION}", None, 2 * facts.count("test")))
    return made


def _scale(study: Study, facts: StudyFacts, count: int, shapes: Shapes, networks: Sequence[Network]) -> Scale:
    more, facts = count - len(facts.subjects), facts.of_subjects(count)
    sized = [(responses_size(one), alike) for one, alike in facts.alike]
    sized += [(one, 1) for one in group_sizes(replace(facts, subjects=()), shapes)]
    grown = [replace(one, working=max(0, one.working + more * one.each)) for one in networks]
    return Scale(
        count,
        sum(one.size * alike for one, alike in sized),
        sum(one.files * alike for one, alike in sized),
        max(parts_size(study, route, facts, shapes) for route in study.training.routes.values()),
        max(one.size for one in peaks_of(study, facts, shapes, grown)),
    )


def _notes(study: Study, facts: StudyFacts) -> list[str]:
    config, notes = study.source, []
    if _command(study) is not None and isinstance(config, BoldMomentsConfig):
        clips = project_root() / (config.stimuli or f"{config.path}/{STIMULI}")
        notes += [] if clips.is_dir() else [how_to_get_clips(relative_to_root(clips))]
    if study.storage.compression != "none":
        notes.append(f"responses are compressed ({study.storage.compression}): their bytes are the most there will be")
    if study.training.rois is not None:
        notes.append("training.rois is not looked at: the memory of training is that of all voxels")
    if facts.origin == "declared by the dataset" and study.simulation is not None:
        notes.append("not simulated yet: voxels and captions are about what the simulation will make")
    return notes
