"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `values.json` (the scores of
every stimulus), `gallery.html`, `sheet.png`, `sheet.gif`, `diagnoses.png` and `manifest.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.checkout import relative_to_root
from core.code import code_digest
from core.files import digest_file, digest_json, staged_folder, write_json
from core.progress import report as progress
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
from studies.references import ReconstructionRef
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
    file_digests,
    find_run,
    git_commit,
    publish_latest,
    run_name,
)
from studies.scoring.views import revisions_of
from studies.study import Study


def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless there is a run that is up to date."""
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        return ReconstructionRef(study=study.study, run="", folder="", digest="", note=nothing, fresh=True)
    plan = planned(study, chosen)
    current = find_run(study.outputs, MANIFEST, plan.fingerprint)
    folder = current or study.outputs / run_name(plan.fingerprint)
    if current is None:
        judged = judge(study, Store(study.store), chosen, plan.origin.subject)
        more = {} if study.evaluation.folds is None else _cross_validation(chosen)
        _write(folder, chosen, plan, judged, study.clips.fps, more)
    else:
        progress(f"reconstruction {folder.name} is up to date", 1, 1)
    publish_latest(folder)
    log_run(folder, chosen)
    return reference_to(study.study, folder, METRICS, fresh=current is not None)


@dataclass(frozen=True)
class Planned:
    """The inputs, settings and code of a reconstruction that is not made yet.

    Attributes
    ----------
    origin : MadeFrom
    record : all of it, JSON-able
    regions : the folder of the decoding from each ROI that the gallery shows, where there is one
    """

    origin: MadeFrom
    record: dict[str, Any]
    regions: Path | None

    @property
    def fingerprint(self) -> str:
        """Digest of all that may show in the run's files."""
        return str(self.record["fingerprint"])


def planned(study: Study, chosen: ModelSet) -> Planned:
    """Return what the test stimuli's reconstruction by a model set would be made from; nothing is rendered.

    Its fingerprint is that of all that may show in the run's files but the machine.

    Raises
    ------
    ConfigError, RegistryError, StoreError
        The set does not know the subject, does not predict what the study renders, or was trained on other stores.
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
    with staged_folder(folder) as building:
        write_videos(building / VIDEOS, config, plan.origin, rendered, judged.stimuli)
        write_seen(building / SEEN, config, judged.seen, judged.stimuli)
        captions.to_csv(building / CAPTIONS, index=False)
        write_json(building / METRICS, metrics)
        write_json(building / VALUES, values)
        write_pictures(building, fps, judged, metrics, plan.origin, plan.regions)
        about = {"run": folder.name, "git_commit": git_commit(), "files": file_digests(building)}
        write_json(building / MANIFEST, {**plan.record, **about})


def _cross_validation(chosen: ModelSet) -> dict[str, Any]:
    """Return what training reported of its cross-validation, to be shown beside the test scores."""
    report = json.loads(read_artifact(chosen, SCORES))
    return {"cross_validation": report["cross_validation"]} if "cross_validation" in report else {}


def reference_to(study: str, folder: Path, file: str, *, fresh: bool) -> ReconstructionRef:
    """Return the reference to a run on disk, by the digest of one of its files."""
    return ReconstructionRef(
        study=study,
        run=folder.name,
        folder=relative_to_root(folder),
        digest=digest_file(folder / file),
        note="",
        fresh=fresh,
    )
