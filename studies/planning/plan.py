"""What a study takes before anything of it is started: bytes to fetch and to write, files, memory.

Needs no network, no weights and no data: what is here is looked at, the rest is declared, and the plan names where its
facts are from. What is exact and what is an estimate is in docs/plan.md.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.checkout import project_root, relative_to_root
from core.errors import ConfigError, SourceError
from core.files import read_json
from evaluation.statistics.scores import RECONSTRUCTION
from feature_store.schema import MANIFEST
from feature_store.sources.base import SPLITS
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.bold_moments.layout import DOWNLOAD, STIMULI, Counts
from feature_store.sources.bold_moments.request import how_to_get_clips
from feature_store.sources.settings import SourceConfig
from models.extractors.settings import ExtractorConfig, GivenConfig
from models.weights.download import choose
from models.weights.locate import DOWNLOADED, PUBLISHED
from studies.planning.facts import StudyFacts, find_facts
from studies.planning.memory import Peak, networks_of, peaks_of
from studies.planning.routes import Network, over_and_over, sizes_of_routes
from studies.planning.store_size import GroupSize, Shapes, group_sizes
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
    groups: tuple[GroupSize, ...]
    outputs: tuple[Output, ...]
    peaks: tuple[Peak, ...]
    networks: tuple[Network, ...]
    scales: tuple[Scale, ...]
    notes: tuple[str, ...]

    @property
    def size_left(self) -> int:
        """Bytes of the groups that are not fresh."""
        return sum(group.size for group in self.groups if group.state != "fresh")


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
    facts, shapes = find_facts(study, supposed), shapes_of(study.targets, study.source)
    known = facts.subjects
    routes = sizes_of_routes(study.training.routes, study.roles, facts, shapes)
    networks, unknown = networks_of(study, shapes, routes)
    groups = [_with_state(group, study.store, states or {}) for group in group_sizes(facts, shapes)]

    def scale(count: int) -> Scale:
        responses, targets = groups[: len(known)], groups[len(known) :]
        sizes, files = ([getattr(group, name) for group in responses] for name in ("size", "files"))
        return Scale(
            count,
            sum(group.size for group in targets) + over_and_over(sizes, count),
            sum(group.files for group in targets) + over_and_over(files, count),
            max(route.size(count) for route in routes),
            max(peak.size for peak in peaks_of(study, facts, shapes, networks, count)),
        )

    parts = len(study.parts)
    outputs = [Output(f"route {route.name}: encoder and regressors", route.size(len(known)), parts) for route in routes]
    if study.why_nothing_to_render() is None:
        outputs.append(Output(f"videos, seen and {RECONSTRUCTION}", None, 2 * facts.count("test")))
    voxels = [subject.voxels for subject in known]
    return Plan(
        schema=SCHEMA,
        study=study.study,
        origin=facts.origin,
        subjects=len(known),
        stimuli={split: facts.count(split) for split in SPLITS},
        trials={split: sum(subject.rows(split) for subject in known) for split in SPLITS},
        voxels=(min(voxels), max(voxels)),
        ask=_command(study.source),
        weights=tuple(_weights(published_weights(study))),
        groups=tuple(groups),
        outputs=tuple(outputs),
        peaks=tuple(peaks_of(study, facts, shapes, networks, len(known))),
        networks=tuple(networks),
        scales=tuple(map(scale, subjects)),
        notes=(*unknown, *_notes(study, facts)),
    )


def shapes_of(targets: Mapping[str, ExtractorConfig], source: SourceConfig) -> Shapes:
    """Return the shape of one stimulus, and its type, of every target.

    Raises
    ------
    ConfigError, ModelError
        A target was made elsewhere and is not here; or the settings of a model are not.
    """
    return {
        name: (_given_shape(source, name, config.file or name), "float32")
        if isinstance(config, GivenConfig)
        else (config.shape(project_root()), "float16")
        for name, config in targets.items()
    }


def _given_shape(source: SourceConfig, name: str, file: str) -> tuple[int, ...]:
    try:
        values = source.build(project_root()).target(file)
    except SourceError:
        values = None
    if values is None:
        raise ConfigError(
            f"targets.{name}: embeddings made elsewhere ('given'), and their file is not here to give their shape; "
            "set source.path to the folder that has it, or leave the target out with --set"
        )
    return tuple(values.shape[1:])


def _weights(published: Mapping[str, Sequence[str]]) -> Iterator[Weights]:
    sizes: dict[str, dict[str, int]] = read_json(PUBLISHED / "files.json")
    for name, wanted in published.items():
        size = sum(choose(name, sizes[name], wanted)[0].values()) if name in sizes else None
        yield Weights(name, size, (project_root() / DOWNLOADED / name).is_dir())


def _command(config: SourceConfig) -> str | None:
    """Return the command that asks for the bytes of the recordings; None where no command brings them."""
    if not isinstance(config, BoldMomentsConfig) or config.counts != Counts():
        return None
    wanted = [f"--subject {number}" for number in config.subjects or range(1, 11)]
    wanted += [f"--responses {config.responses}", *(f"--roi {roi}" for roi in config.rois or ())]
    return f"{DOWNLOAD} {shlex.quote(config.path)} {' '.join(wanted)} --dry-run"


def _with_state(group: GroupSize, store: Path, states: Mapping[str, str]) -> GroupSize:
    there = (store / group.name / MANIFEST).is_file()
    unknown = "there; its source is not here to compare it with" if there else "not made"
    return replace(group, state=states.get(group.name, unknown))


def _notes(study: Study, facts: StudyFacts) -> Iterator[str]:
    if isinstance(study.source, BoldMomentsConfig) and _command(study.source) is not None:
        clips = project_root() / (study.source.stimuli or f"{study.source.path}/{STIMULI}")
        if not clips.is_dir():
            yield how_to_get_clips(relative_to_root(clips))
    if study.storage.compression != "none":
        yield f"responses are compressed ({study.storage.compression}): their bytes are the most there will be"
    if study.training.rois is not None:
        yield "training.rois is not looked at: the memory of training is that of all voxels"
    if facts.origin == "declared by the dataset" and study.simulation is not None:
        yield "not simulated yet: voxels and captions are about what the simulation will make"
