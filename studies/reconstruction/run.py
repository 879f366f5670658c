"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `values.json` (the scores of
every stimulus), `gallery.html`, `sheet.png`, `sheet.gif`, `diagnoses.png` and `manifest.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.code import code_digest
from core.files import digest_file, digest_json, write_json
from evaluation.report.gallery.page import page_digest
from evaluation.statistics import scores
from feature_store import Store
from models.registry.production import read_artifact
from models.registry.sets import ModelSet
from studies.reconstruction.pictures import log_run, write_pictures
from studies.reconstruction.provenance import (
    MadeFrom,
    made_from,
    portable,
    stored_input,
    subject_of,
    write_seen,
    write_videos,
)
from studies.reconstruction.score import Judged, judge
from studies.regions.run import current_regions
from studies.registry.production import require_same_targets, require_trained_on
from studies.runs import (
    CAPTIONS,
    MANIFEST,
    METRICS,
    REGIONS_RECORD,
    SCORES,
    SEEN,
    VALUES,
    VIDEOS,
    ReconstructionRef,
    place_run,
    publish_latest,
    staged_run,
)
from studies.scoring import revisions_of
from studies.study import Study


def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless there is a run that is up to date."""
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        return ReconstructionRef.to_nothing(study.study, nothing)
    plan = planned(study, chosen)
    folder, fresh = place_run(study.outputs, MANIFEST, plan.fingerprint, "reconstruction")
    if not fresh:
        judged = judge(study, Store(study.store), chosen, plan.origin.subject)
        more = {} if study.evaluation.folds is None else _cross_validation(chosen)
        _write(folder, chosen, plan, judged, study.clips.fps, more)
    publish_latest(folder)
    log_run(folder, chosen)
    return ReconstructionRef.to(study.study, folder, METRICS, fresh=fresh)


@dataclass(frozen=True)
class Planned:
    """The inputs, settings and code of a reconstruction that is not made yet."""

    origin: MadeFrom
    record: dict[str, Any]
    """All of it, JSON-able."""
    regions: Path | None
    """The folder of the decoding from each ROI that the gallery shows, where there is one."""

    @property
    def fingerprint(self) -> str:
        """Digest of all that may show in the run's files."""
        return str(self.record["fingerprint"])


def planned(study: Study, chosen: ModelSet) -> Planned:
    """Return what the test stimuli's reconstruction by a model set would be made from; nothing is rendered.

    Its fingerprint is that of all that may show in the run's files but the machine. Raises `ConfigError`,
    `RegistryError` or `StoreError` where the set does not know the subject, does not predict what the study renders, or
    was trained on other stores.
    """
    store = Store(study.store)
    subject = subject_of(chosen, study.reconstruction.subject)
    require_same_targets(study, chosen)
    require_trained_on(chosen, store, subject, study.roles.regressed().values())
    origin = made_from(study, store, chosen, subject, stored_input(store, subject))
    regions = current_regions(study, store)
    same = {"subject", "targets", "generator", "generator_revision", "captioner", "captioner_revision", "seed"}
    fingerprinted = {
        "study": study.study,
        **origin.model_dump(mode="json", include=same),
        "models": {"training": chosen.run, **origin.models.model_dump()},
        "responses": origin.input.digest,
        "extractor_revision": origin.extractors[study.roles.z or ""],
        "evaluation": study.evaluation.model_dump(),
        "judges": revisions_of(study.judges),
        "regions": digest_file(regions / REGIONS_RECORD) if regions is not None else None,
        "clips": study.clips.model_dump(),
        "code": code_digest(
            reconstruct, study.source, study.generator, study.captioner_of_b(), study.judges, study.targets
        ),
        "page": page_digest(),
    }
    shared = {"made_from": origin.model_dump(mode="json"), "config": portable(study)}
    return Planned(origin, {**fingerprinted, **shared, "fingerprint": digest_json(fingerprinted)}, regions)


def _write(folder: Path, chosen: ModelSet, plan: Planned, judged: Judged, fps: float, more: dict[str, Any]) -> None:
    """Write a run; `more` joins the scores in `metrics.json`."""
    config, rendered = plan.record["config"], judged.reconstruction
    named: dict[str, Any] = {"subject": plan.origin.subject, "models": str(chosen), "training": chosen.run}
    metrics = scores.report(config["study"], folder.name, len(judged.stimuli), **judged.report, **named) | more
    values = {"study": config["study"], "run": folder.name, **named, **judged.table.record(judged.stimuli)}
    columns = {"decoded": rendered.captions or "", "nearest": rendered.nearest or ""}
    captions = pd.DataFrame({"stimulus": judged.stimuli, "seen": judged.captions, **columns})
    with staged_run(folder, MANIFEST, plan.record) as building:
        write_videos(building / VIDEOS, config, plan.origin, rendered, judged.stimuli)
        write_seen(building / SEEN, config, judged.seen, judged.stimuli)
        captions.to_csv(building / CAPTIONS, index=False)
        write_json(building / METRICS, metrics)
        write_json(building / VALUES, values)
        write_pictures(building, fps, judged, metrics, plan.origin, plan.regions)


def _cross_validation(chosen: ModelSet) -> dict[str, Any]:
    """Return what training reported of its cross-validation, to be shown beside the test scores."""
    report = json.loads(read_artifact(chosen, SCORES))
    return {"cross_validation": report["cross_validation"]} if "cross_validation" in report else {}
