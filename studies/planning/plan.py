"""What a study will take, before anything of it is started: bytes to fetch and write, memory, hours, money.

Needs no network, no weights and no data: what is here is looked at, the rest is declared, every figure says which, and
what is done already is told from what is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from core.checkout import project_root
from core.errors import SourceError
from feature_store import Store
from feature_store.sources.base import SPLITS, Source
from studies.planning.download import ToFetch, to_fetch
from studies.planning.facts import StudyFacts, find_facts, stored_bytes
from studies.planning.models import target_shape
from studies.planning.outputs import Output, Peak, outputs_of, peaks_of
from studies.planning.rates import Found, Gpu, Rates
from studies.planning.store_size import GroupSize, group_sizes, responses_size
from studies.planning.work import STAGES, Shapes, Stage, Work, seconds_of, work_of
from studies.runs import LATEST, MANIFEST, RECORD, TRAINING, find_run
from studies.status.freshness import freshness
from studies.study import Study

SCHEMA = 1
MEASURED, ESTIMATED = "measured here", "estimated, never run by us"
GPUS = (1, 8)


@dataclass(frozen=True)
class GroupPlan:
    """One group of the store: what it will hold, and whether it stands.

    Attributes
    ----------
    name : for example ``"responses/sub-01"``
    shapes : of betas or values, by array
    chunks, files, size : as `plan_sizes.GroupSize` has them
    state : what `brain2video status` says of it, ``"fresh"`` where nothing is to be done
    there : bytes that are in the store
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    chunks: int
    files: int
    size: int
    state: str
    there: int

    @property
    def done(self) -> bool:
        """Whether nothing is to be written."""
        return self.state == "fresh"


@dataclass(frozen=True)
class StageHours:
    """Hours of one stage.

    Attributes
    ----------
    stage : Stage
    whole : of the whole study, by machine: ``"this machine"``, ``"1 GPU"``, ``"8 GPUs"``
    left : of what is not done yet
    grounds : by machine, whether that was measured or estimated
    """

    stage: Stage
    whole: dict[str, float]
    left: dict[str, float]
    grounds: dict[str, str]


@dataclass(frozen=True)
class Scale:
    """The same study with so many subjects.

    Attributes
    ----------
    subjects : int
    fetch, store, files, models : bytes, but for files
    memory : the largest peak of any stage
    hours : by machine; empty where there are no rates
    money : by number of GPUs: GPU hours and a month of storage; empty as well
    """

    subjects: int
    fetch: int
    store: int
    files: int
    models: int
    memory: int
    hours: dict[str, float]
    money: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """Everything that `brain2video plan` shows."""

    schema: int
    study: str
    origin: str
    subjects: int
    stimuli: dict[str, int]
    trials: dict[str, int]
    voxels: tuple[int, int]
    fetch: ToFetch
    groups: tuple[GroupPlan, ...]
    outputs: tuple[Output, ...]
    peaks: tuple[Peak, ...]
    hours: tuple[StageHours, ...]
    scales: tuple[Scale, ...]
    assumptions: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all groups."""
        return sum(one.size for one in self.groups)

    @property
    def size_left(self) -> int:
        """Bytes of the groups that are not fresh."""
        return sum(one.size for one in self.groups if not one.done)

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON."""
        return asdict(self)


def plan(
    study: Study,
    *,
    found: Found | None,
    gpu: Gpu | None = None,
    subjects: Sequence[int] = (),
    supposed: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a study will take.

    Parameters
    ----------
    study : Study
    found : Found, optional
        The rates; without them there are no hours and no money.
    gpu : Gpu, optional
        What is supposed of a GPU and of prices.
    subjects : sequence of int
        For how many subjects the study is scaled, beside its own.
    supposed : mapping of str, optional
        See `plan_facts.find_facts`.

    Raises
    ------
    ConfigError
        Something that the plan needs is nowhere; one line says what, and how to say it.
    """
    facts, gpu = find_facts(study, supposed), gpu or Gpu()
    shapes = shapes_of(study)
    rates = None if found is None else found.rates
    fetch, groups = to_fetch(study), _groups(study, facts, shapes)
    done = _done(study, groups)
    notes = [*fetch.notes, *_notes(study, facts, found)]
    return Plan(
        schema=SCHEMA,
        study=study.study,
        origin=facts.origin,
        subjects=len(facts.subjects),
        stimuli={split: facts.count(split) for split in SPLITS},
        trials={split: sum(one.rows(split) for one in facts.subjects) for split in SPLITS},
        voxels=(min(one.voxels for one in facts.subjects), max(one.voxels for one in facts.subjects)),
        fetch=fetch,
        groups=groups,
        outputs=tuple(outputs_of(study, facts, shapes, rates)),
        peaks=tuple(peaks_of(study, facts, shapes, rates)),
        hours=() if rates is None else _hours(study, facts, shapes, rates, gpu, done),
        scales=tuple(_scale(study, facts.of_subjects(n), shapes, fetch, rates, gpu) for n in subjects),
        assumptions={"gpu": gpu.model_dump(), "rates": None if found is None else _told(found)},
        notes=tuple(notes),
    )


def work_of_study(study: Study) -> dict[Stage, Work]:
    """Return the work of every stage of a study whose recordings are here; raises as `plan`."""
    return work_of(study, find_facts(study), shapes_of(study))


def _told(found: Found) -> dict[str, Any]:
    return {"file": found.file, "date": found.rates.date, "machine": found.rates.machine.model_dump()}


def shapes_of(study: Study) -> Shapes:
    """Return the shape of one stimulus, and its type, of every target; raises as `plan_models.target_shape`."""
    source: Source | None = None
    if any(one.extractor == "given" for one in study.targets.values()):
        try:
            source = study.source.build(project_root())
        except SourceError:
            source = None
    return {name: target_shape(study, name, source) for name in study.targets}


def _groups(study: Study, facts: StudyFacts, shapes: Shapes) -> tuple[GroupPlan, ...]:
    states = _states(study)
    made = []
    for size in group_sizes(facts, shapes):
        there = stored_bytes(study, size.name) or 0
        state = states.get(size.name, "there, and nobody can tell how fresh" if there else "not made")
        made.append(_group(size, state, there))
    return tuple(made)


def _group(size: GroupSize, state: str, there: int) -> GroupPlan:
    shapes = {one.name: one.shape for one in size.values}
    return GroupPlan(size.name, shapes, size.chunks, size.files, size.size, state, there)


def _states(study: Study) -> dict[str, str]:
    """Return what the status says of every group, by its name; nothing where the source is not here."""
    try:
        return {path.relative_to(study.store).as_posix(): one.state for path, one in freshness(study).items()}
    except SourceError:
        return {}


def _done(study: Study, groups: Sequence[GroupPlan]) -> dict[Stage, float]:
    """Return which part of every stage is done: of stores by their bytes, of runs all or nothing."""
    parts: dict[Stage, float] = {}
    kinds: tuple[tuple[Stage, str], ...] = (("ingest", "responses/"), ("extract", "targets/"))
    for stage, kind in kinds:
        of_kind = [one for one in groups if one.name.startswith(kind)]
        parts[stage] = sum(one.size for one in of_kind if one.done) / max(1, sum(one.size for one in of_kind))
    trained = float(all(one.done for one in groups) and _is_trained(study))
    rendered = float(bool(trained) and (study.outputs / LATEST / MANIFEST).is_file())
    return {**parts, "select": trained, "train": trained, "reconstruct": rendered, "evaluate": rendered}


def _is_trained(study: Study) -> bool:
    """Say whether there is a training run made from the stores, settings and code as they are now."""
    from studies.decoding.training_data import stored_subjects
    from studies.training.fit import training_made_from

    store = Store(study.store)
    made_from = training_made_from(study, store, stored_subjects(store, study.source.named_subjects))
    return find_run(study.outputs / TRAINING, RECORD, made_from["fingerprint"]) is not None


def _hours(
    study: Study, facts: StudyFacts, shapes: Shapes, rates: Rates, gpu: Gpu, done: Mapping[Stage, float]
) -> tuple[StageHours, ...]:
    made, work = [], work_of(study, facts, shapes)
    for stage in STAGES:
        if work[stage] != Work():
            whole = stage_hours(work[stage], rates, gpu, stage)
            left = {machine: hours * (1 - done[stage]) for machine, hours in whole.items()}
            made.append(StageHours(stage, whole, left, _grounds(study, stage)))
    return tuple(made)


def stage_hours(work: Work, rates: Rates, gpu: Gpu, stage: Stage) -> dict[str, float]:
    """Return a stage's hours on this machine, on one GPU and on eight."""
    made = {"this machine": seconds_of(work, rates) / 3600}
    for gpus in GPUS:
        name = f"{gpus} GPU" if gpus == 1 else f"{gpus} GPUs"
        made[name] = seconds_of(work, rates, gpu, gpus, stage) / 3600
    return made


def _grounds(study: Study, stage: Stage) -> dict[str, str]:
    """Say of every machine whether a stage's rates were measured on it at work of this kind."""
    arrays, ours = study.source.kind == "arrays", _is_of_our_world(study)
    measured = {"ingest": arrays, "extract": ours, "reconstruct": ours, "evaluate": ours}.get(stage, True)
    elsewhere = {f"{n} GPU" if n == 1 else f"{n} GPUs": ESTIMATED for n in GPUS}
    return {"this machine": MEASURED if measured else ESTIMATED, **elsewhere}


def _is_of_our_world(study: Study) -> bool:
    """Say whether no network but the small world's takes part, so that its rates are those measured."""
    named = [getattr(one, "weights", "models/small_world") for one in study.targets.values()]
    named += [] if study.generator is None else [study.generator.weights]
    named += [one.weights for one in (study.judges.clip, study.judges.frames, study.judges.videos) if one is not None]
    return all(name.startswith("models/small_world") for name in named)


def _scale(study: Study, facts: StudyFacts, shapes: Shapes, fetch: ToFetch, rates: Rates | None, gpu: Gpu) -> Scale:
    store, files = _store_of(facts, shapes)
    outputs = outputs_of(study, facts, shapes, rates)
    models = max((one.size for one in outputs if one.each), default=0)
    kept = store + models + sum(one.size for one in outputs if not one.each)
    fetched = fetch.weights_size + fetch.each * len(facts.subjects)
    hours: dict[str, float] = {}
    money: dict[str, float] = {}
    if rates is not None:
        work = work_of(study, facts, shapes)
        for stage in STAGES:
            for machine, one in stage_hours(work[stage], rates, gpu, stage).items():
                hours[machine] = hours.get(machine, 0.0) + one
        month = (kept + fetched) / 1e9 * gpu.gb_month_price
        for machine, count in zip(list(hours)[1:], GPUS, strict=True):
            money[machine] = hours[machine] * count * gpu.hour_price + month
    memory = max(one.size for one in peaks_of(study, facts, shapes, rates))
    return Scale(len(facts.subjects), fetched, store, files, models, memory, hours, money)


def _store_of(facts: StudyFacts, shapes: Shapes) -> tuple[int, int]:
    """Return bytes and files of a store."""
    sized = [(responses_size(one), count) for one, count in facts.alike]
    sized += [(one, 1) for one in group_sizes(replace(facts, subjects=()), shapes)]
    return sum(one.size * count for one, count in sized), sum(one.files * count for one, count in sized)


def _notes(study: Study, facts: StudyFacts, found: Found | None) -> list[str]:
    notes = []
    if found is None:
        notes.append(
            "no rates: run 'python benchmarks/scale.py --write .state/rates.json' for hours and money; the peaks of "
            "memory lack what a bare process takes"
        )
    if study.storage.compression != "none":
        notes.append(f"responses are compressed ({study.storage.compression}): their bytes are the most there will be")
    if study.training.rois is not None:
        notes.append("training.rois is not gone into: memory and hours of training are those of all voxels")
    if facts.origin == "declared by the dataset" and study.simulation is not None:
        notes.append("not simulated yet: voxels and captions are about what the simulation will make")
    return notes
