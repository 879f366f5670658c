"""Whether the result of a pipeline's step stands: made from what it would be made from now, every byte as written.

A pipeline asks before each step. ZenML may answer from its cache only for what stands, and its cache's key is
`Standing.made_from`: the digest of inputs, settings and all code of this project that the result depends on. So a
deleted or damaged store, an edited library file or another alias makes a step work again, and what follows is asked
about what it then finds: where the result is the same, nothing else runs.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

from core.checkout import project_root
from core.code import code_digest
from core.errors import Brain2VideoError
from core.files import digest_json
from core.progress import WORK, report
from feature_store import Store
from feature_store.schema import Kind
from feature_store.versioning import CHANGED, states
from feature_store.writer import is_published
from models.registry.sets import ModelSet, find_registered
from simulation.write import is_there, simulate
from studies.decoding.training_data import stored_subjects
from studies.reconstruction.run import planned
from studies.references import TrainingRef
from studies.regions.run import nothing_to_decode, regions_made_from
from studies.registry.promote import compare_with_production, promotion_rules
from studies.runs import LATEST, LOGGED, MANIFEST, RECORD, REGIONS, REGIONS_RECORD, TRAINING, find_run
from studies.stores.pictures import pictures_stand
from studies.stores.responses import responses_made_from
from studies.stores.targets import target_made_from
from studies.study import Study
from studies.training.fit import training_made_from

P = ParamSpec("P")


@dataclass(frozen=True)
class Standing:
    """What a step's result would be made from now, and whether it stands.

    Attributes
    ----------
    made_from : digest
    stands : whether the very result is there
    """

    made_from: str
    stands: bool


NOTHING_STANDS = Standing("", False)
"""Of what is done each time it is asked for, and of what cannot be told, which the step itself then explains."""


def asked(look: Callable[P, Standing]) -> Callable[P, Standing]:
    """Make a look count as work; where it fails on what a user can mend, the result does not stand."""

    def careful(*args: P.args, **kwargs: P.kwargs) -> Standing:
        with WORK.running():
            try:
                return look(*args, **kwargs)
            except (Brain2VideoError, OSError):
                return NOTHING_STANDS

    return careful


@asked
def source_standing(study: Study) -> Standing:
    """Of the simulated recordings."""
    assert study.simulation is not None
    made_from = [study.simulation.model_dump(mode="json"), study.source.path, code_digest(simulate)]
    return Standing(digest_json(made_from), is_there(study.simulation, project_root() / study.source.path))


@asked
def group_standing(study: Study, kind: Kind, name: str) -> Standing:
    """Of a subject's responses or an extractor's targets; every byte of the group is held against its manifest."""
    if kind == "targets" and name not in study.targets:
        return NOTHING_STANDS
    source, group = study.source.build(project_root()), study.store / kind / name
    if kind == "responses":
        config, made_from = None, responses_made_from(study.source, study.storage, source, name)
    else:
        config = study.targets[name]
        made_from = target_made_from(study.source, source, name, config, study.clips, config.revision(project_root()))
    fingerprint = digest_json(made_from)
    stands = is_published(group, fingerprint) and pictures_stand(study.outputs / "stores", group, config)
    if stands:
        report(f"{kind}/{name} is as it was", 1, 1)
    return Standing(fingerprint, stands)


@asked
def versions_standing(made_from: list[str], paths: list[str]) -> Standing:
    """Of what DVC knows of some outputs, relative to the checkout."""
    told = states(project_root(), [project_root() / path for path in paths])
    return Standing(digest_json([made_from, paths]), CHANGED not in told.values())


@asked
def training_standing(study: Study) -> Standing:
    """Of the training run."""
    store = Store(study.store)
    record = training_made_from(study, store, stored_subjects(store, study.source.named_subjects))
    return _of_run(study.outputs / TRAINING, RECORD, str(record["fingerprint"]), "training")


@asked
def registered_standing(study: Study, training: TrainingRef) -> Standing:
    """Of a training run's versions in the registry that is in use."""
    found = find_registered(study.study, study.parts, training.fingerprint)
    made_from = [_registry(), study.parts, training.run, training.fingerprint, training.digests]
    return Standing(digest_json(made_from), found is not None and found.digests == training.digests)


@asked
def promoted_standing(study: Study, run: str) -> Standing:
    """Of a promotion: it stands where promoting would change nothing, be it in production already or refused."""
    rules = promotion_rules()
    made = compare_with_production(study, run)
    made_from = [_registry(), str(made.candidate), made.candidate.digests, rules.model_dump(mode="json")]
    return Standing(digest_json(made_from), made.outcome == "current" or not made.accepted)


@asked
def regions_standing(study: Study) -> Standing:
    """Of the decoding from each ROI."""
    nothing = nothing_to_decode(study)
    if nothing is not None:
        return Standing(digest_json([study.study, nothing]), True)
    store = Store(study.store)
    record = regions_made_from(study, store, stored_subjects(store, study.source.named_subjects))
    return _of_run(study.outputs / REGIONS, REGIONS_RECORD, str(record["fingerprint"]), "regions")


@asked
def resolved_standing(models: ModelSet) -> Standing:
    """Of versions that an alias was resolved to: the same versions are the same result."""
    return Standing(digest_json([_registry(), models.model_dump(mode="json")]), True)


@asked
def reconstruction_standing(study: Study, models: ModelSet) -> Standing:
    """Of the test stimuli's videos, and of their record in the registry."""
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        return Standing(digest_json([study.study, nothing]), True)
    return _of_run(study.outputs, MANIFEST, planned(study, models).fingerprint, "reconstruction", LOGGED)


def _registry() -> str:
    """Return where the registry is; versions of another one are other versions."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def _of_run(runs: Path, record: str, fingerprint: str, what: str, *beside: str) -> Standing:
    """Of a run on disk: its files as they were written, `latest` pointing at it, and what lies beside its record."""
    found = find_run(runs, record, fingerprint)
    if found is None or (runs / LATEST).resolve() != found.resolve():
        return Standing(fingerprint, False)
    if not all((found / name).is_file() for name in beside):
        return Standing(fingerprint, False)
    report(f"{what} {found.name} is as it was", 1, 1)
    return Standing(fingerprint, True)
