"""Everything that can be known of a study before it runs: each fault in a line, and what will be used.

Nothing is started, fetched or written; recordings are looked at by their tables and headers, clips by some of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

import pandas as pd

from core.checkout import project_root
from core.errors import Brain2VideoError, ModelError, SourceMissing
from core.subjects import group_of
from feature_store import versioning
from feature_store.sources.base import SPLITS, Declares, RecordingShape
from feature_store.sources.settings import SourceConfig
from models.captioners.settings import CaptionerConfig, NearestCaptionerConfig
from models.extractors.settings import ExtractorConfig, GivenConfig, LatentsConfig, TextConfig
from models.generator.settings import GeneratorConfig
from models.registry.client import is_set_up, require_experiment
from models.registry.production import aliased, versions_text
from studies.checking.clips import faults_of_stimuli, look_at_clips
from studies.checking.trials import Shown, faults_of_regions, faults_of_subject, faults_of_trials, require
from studies.checking.weights import faults_of_folder, faults_of_weights, folder_of
from studies.planning.facts import LOOKED_AT, StudyFacts, facts_of_store, find_facts, shape_of
from studies.registry.production import require_own_autoencoder
from studies.registry.promote import require_comparable
from studies.stores.download import named_weights, published_weights
from studies.stores.extraction import Given
from studies.study import RouteConfig, Study, TrainingConfig
from studies.training.cross_validation import require_folds
from studies.training.routes import require_held_out

Targets: TypeAlias = Mapping[str, ExtractorConfig]
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
NOT_MADE = "not simulated yet: numbers of voxels and captions are about what the simulation will make"
STORED = "the recordings are not here; what the store holds of them is used"


@dataclass
class Checked:
    """What a check found.

    Attributes
    ----------
    problems : errors, a line each
    recordings : of single subjects' recordings; ingest finds them too, and publishes the other subjects
    facts : what will be used, as (what, in words)
    notes : what is no fault and good to know
    """

    problems: list[Brain2VideoError] = field(default_factory=list)
    recordings: list[Brain2VideoError] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(
        self, work: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Result | None:
        """Return what a function returns, or None where it raises, which is kept as a problem."""
        try:
            return work(*arguments, **named)
        except Brain2VideoError as error:
            if str(error) not in map(str, self.problems):  # such as that of a server which is asked twice
                self.problems.append(error)
            return None


def check(study: Study, config: str) -> Checked:
    """Return all that can be known of a study before it runs.

    Parameters
    ----------
    config : its YAML, as the user named it
    """
    checked = _ready(study)
    files = _source_files(study.source)
    clips, faults = look_at_clips(files, study.clips)
    checked.problems = [*checked.recordings, *checked.problems, *faults]
    if clips is not None:
        checked.facts.insert(_place(checked, "clips are read at"), ("clips", str(clips)))
    captioner = study.captioner_of_b()
    named = named_weights(study.targets.values(), study.generator, captioner, study.judges)
    checked.facts += [
        *((f"route {name}", _route(route)) for name, route in study.training.routes.items()),
        ("rendered by", _rendered_by(study.why_nothing_to_render(), study.generator, captioner)),
        *_weights([weights for weights, _ in named], list(published_weights(study)), config),
        ("registry", _registry(study.study, study.parts)),
        ("DVC", _stages(study.store, list(study.targets), study.source)),
        ("memory", f"'brain2video plan -c {config}' shows whether networks fit a GPU"),
    ]
    return checked


def require_ready(study: Study) -> None:
    """Raise the first fault of a study, before anything of it is made; those of single recordings are ingest's."""
    require(_ready(study).problems)


def _ready(study: Study) -> Checked:
    """Return what can be known without opening clips: it takes as long as reading the tables does."""
    checked = Checked()
    to_simulate = study.simulation is not None and not (project_root() / study.source.path).is_dir()
    facts = find_facts(study) if to_simulate else _look(checked, study.source, study.store)
    checked.notes += [NOT_MADE] * to_simulate
    training, pooled = study.training, {route.pooled for route in study.training.routes.values()}
    if facts is not None:
        tables = {subject.subject: subject.trials for subject in facts.subjects}
        declares = isinstance(study.source, Declares) and study.source.declared() is not None
        _check_trials(checked, facts, training, study.seed, regions=facts.origin == LOOKED_AT and not declares)
        first = next(iter(training.routes.values())).pooled
        checked.problems += faults_of_subject(list(tables), first, study.reconstruction.subject)
        if study.evaluation.folds is not None:
            checked.attempt(require_folds, study.evaluation.folds, len(facts.stimuli))
        names = [group_of(list(tables))] if pooled == {True} and len(tables) > 1 else list(tables)
        checked.facts += [
            ("subjects", f"{len(tables)}: {', '.join(tables)}" + (f", read as {names[0]}" if pooled == {True} else "")),
            *((subject.subject, _recording(subject)) for subject in facts.subjects),
            ("split", _split(study.source, facts)),
        ]
        rendered = study.why_nothing_to_render() is None
        checked.problems += _faults_of_stimuli(facts.stimuli, study.targets, study.captioner_of_b(), rendered=rendered)
    frames, height, width = study.frame
    size = f"{frames} frames of {width} × {height} over {study.clips.window_s:g} s"
    checked.facts.append(("clips are read at", size))
    roles = [*study.roles.regressed().items(), *(("align", name) for name in study.roles.align)]
    _check_targets(checked, study.targets, roles, study.source, facts)
    named = named_weights(study.targets.values(), study.generator, study.captioner_of_b(), study.judges)
    checked.problems += faults_of_weights(named, project_root())
    if study.judges.small_world is not None:
        checked.problems += faults_of_folder("judges.small_world", project_root() / study.judges.small_world)
    if study.generator is not None and not checked.problems:
        checked.problems += _faults_of_generator(study.study, study.generator, study.targets, study.roles.regressed())
    checked.attempt(require_experiment, study.study)
    checked.attempt(require_comparable, study.study, study.parts)
    return checked


def _look(checked: Checked, config: SourceConfig, store: Path) -> StudyFacts | None:
    """Look at the recordings, subject by subject; what is at fault is kept, and the others go on."""
    try:
        source = config.build(project_root())
        subjects, stimuli = source.subjects, source.stimuli()
    except SourceMissing as error:
        if (stored := facts_of_store(store)) is not None:
            checked.notes.append(STORED)
            return stored
        checked.problems.append(error)
        return None
    except Brain2VideoError as error:
        checked.problems.append(error)
        return None
    looked = Checked()
    shapes = [looked.attempt(shape_of, config, source, subject) for subject in subjects]
    looked.attempt(source.stimulus_files)
    for subject, shape in zip(subjects, shapes, strict=True):
        if shape is not None:
            looked.attempt(source.response_files, subject)
    checked.recordings = looked.problems
    whole = tuple(shape for shape in shapes if shape is not None)
    return StudyFacts(whole, stimuli, LOOKED_AT) if whole else None


def _source_files(config: SourceConfig) -> list[Path]:
    with suppress(Brain2VideoError):  # which `_look` has reported
        return config.build(project_root()).stimulus_files()
    return []


def _check_trials(checked: Checked, facts: StudyFacts, training: TrainingConfig, seed: int, *, regions: bool) -> None:
    """Check what subjects were shown, and, where `regions` are known, that they have those that training is of."""
    tables = {subject.subject: subject.trials for subject in facts.subjects}
    shown = Shown.of(tables, {subject.subject: subject.times or 1 for subject in facts.subjects})
    faults = list(faults_of_trials(shown, training.routes, training.stimuli, seed))
    for subject in facts.subjects:
        if regions:
            faults += faults_of_regions(subject.table["roi"], training.rois, subject.subject)
    checked.problems += faults
    if not faults:
        count = training.stimuli or len(shown.training())
        checked.attempt(require_held_out, training, count)


def _faults_of_stimuli(
    stimuli: pd.DataFrame, targets: Targets, captioner: CaptionerConfig | None, *, rendered: bool
) -> Iterator[Brain2VideoError]:
    """Yield where stimuli lack what targets, captions and reconstructions are made of."""
    clips = [f"targets.{name}" for name, own in targets.items() if not isinstance(own, TextConfig | GivenConfig)]
    captions = [f"targets.{name}" for name, own in targets.items() if isinstance(own, TextConfig)]
    if isinstance(captioner, NearestCaptionerConfig):
        captions.append("captioner")
    return faults_of_stimuli(stimuli, clips=[*clips, *["reconstruction"] * rendered], captions=captions)


def _check_targets(
    checked: Checked,
    targets: Targets,
    roles: Sequence[tuple[str, str]],
    source: SourceConfig,
    facts: StudyFacts | None,
) -> None:
    """Check every target's shape, and the values of those that were made elsewhere, where their source is here.

    Parameters
    ----------
    roles : a role and the target that it names, each
    """
    for name, config in targets.items():
        if not isinstance(config, GivenConfig):
            shape = checked.attempt(config.shape, project_root())
        elif facts is None or facts.origin != LOOKED_AT:
            continue
        else:
            shape = checked.attempt(_shape_of_given, source, config.file or name, list(facts.stimuli["stimulus"]))
        if shape is not None:
            used = [role for role, target in roles if target == name]
            words = f"{config.extractor}, {' × '.join(map(str, shape))} a stimulus"
            checked.facts.append((f"target {name}", words + (f" ({', '.join(used)})" if used else "")))


def _shape_of_given(source: SourceConfig, file: str, stimuli: list[str]) -> tuple[int, ...]:
    given = Given(source.build(project_root()), file)
    given.require_finite(stimuli)
    return given.shape


def _faults_of_generator(
    study: str, generator: GeneratorConfig, targets: Targets, roles: Mapping[str, str]
) -> Iterator[Brain2VideoError]:
    """Yield where a generator and the targets that it is given do not fit each other."""
    root, z, b = project_root(), targets[roles["z"]], targets[roles["b"]]
    if folder_of(generator.weights, root) is None:
        return
    if isinstance(z, LatentsConfig) and folder_of(z.weights, root) is not None:
        try:
            require_own_autoencoder(study, generator.weights, z)
        except Brain2VideoError as error:
            yield error
    if generator.conditioning == "states" and isinstance(b, TextConfig):
        ours, theirs = b.shape(root), TextConfig(weights=generator.weights).shape(root)
        if ours != theirs:
            yield ModelError(
                f"generator: is conditioned on states of {' × '.join(map(str, theirs))}, and roles.b predicts "
                f"{' × '.join(map(str, ours))}; name the same weights for both"
            )


def _recording(subject: RecordingShape) -> str:
    """Return what a subject's recording holds, in words."""
    parts = []
    for split in SPLITS:
        counts = subject.trials[split].groupby("stimulus").size()
        low, high = (int(counts.min()), int(counts.max())) if len(counts) else (0, 0)
        times = f"{low}" if low == high else f"{low} to {high}"
        parts.append(f"{len(counts):,} {'training' if split == 'train' else split} stimuli shown {times} ×")
    parts.append(f"{subject.voxels:,} voxels")
    if subject.window is not None:
        parts.append(f"windows of {subject.window} volumes{'' if subject.times else ', averaged'}")
    if subject.unlabelled:
        parts.append(f"{subject.unlabelled:,} rows without a stimulus")
    return ", ".join(parts)


def _split(source: SourceConfig, facts: StudyFacts) -> str:
    settings = getattr(source, "split", None)
    by = "as the dataset has it" if settings is None else f"by {settings.column or settings.by}"
    purged = f", purged by {settings.purge_s:g} s" if settings is not None and settings.purge_s else ""
    return f"{facts.count('train'):,} stimuli for training, {facts.count('test'):,} for test, {by}{purged}"


def _route(route: RouteConfig) -> str:
    return f"{route.encoder.kind}, then {route.regressor.kind}{', a group decoder' if route.pooled else ''}"


def _rendered_by(nothing: str | None, generator: GeneratorConfig | None, captioner: CaptionerConfig | None) -> str:
    """Return what turns z into videos; `nothing` is why the study renders none."""
    if nothing is not None:
        return nothing.partition(": ")[2]
    if generator is None:
        return "z is decoded directly, without a generator"
    written = "" if captioner is None else f", captions by {captioner.kind}"
    return f"{generator.weights}, {generator.steps} steps at strength {generator.strength:g}{written}"


def _weights(names: Sequence[str], published: Sequence[str], config: str) -> Iterator[tuple[str, str]]:
    """Yield which weights are here, and how those that are not are fetched."""
    here = [name for name in dict.fromkeys(names) if folder_of(name, project_root()) is not None]
    fetched = [name for name in published if name not in here]
    if here:
        yield "weights here", ", ".join(here)
    if fetched:
        yield "weights not here", f"{', '.join(fetched)}; 'brain2video download weights -c {config}' fetches them"


def _registry(study: str, parts: list[str]) -> str:
    if not is_set_up():
        return "none yet; the first training makes it"
    try:
        found = aliased(study, parts)
    except Brain2VideoError as error:
        return f"not reached: {error}"
    held = any(version is not None for version in found.values())
    return f"reached; in production: {versions_text(found) if held else 'nothing yet'}"


def _stages(store: Path, targets: Sequence[str], source: SourceConfig) -> str:
    """Return which of a study's groups DVC keeps."""
    groups = [store / "targets" / name for name in targets]
    with suppress(Brain2VideoError):
        groups = [store / "responses" / subject for subject in source.build(project_root()).subjects] + groups
    states: dict[str, list[str]] = {}
    for group, state in versioning.stages(project_root(), groups).items():
        states.setdefault("kept by a stage" if state.startswith("stage ") else state, []).append(group.name)
    return "; ".join(f"{state}: {', '.join(names)}" for state, names in states.items())


def _place(checked: Checked, what: str) -> int:
    return next((index for index, (name, _) in enumerate(checked.facts) if name == what), len(checked.facts))
