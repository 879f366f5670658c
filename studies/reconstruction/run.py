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
from core.config import nearest
from core.errors import ConfigError
from core.files import digest_file, digest_json, read_json, staged_folder, write_bytes, write_json
from core.progress import report as progress
from evaluation.report.gallery.page import DIAGNOSES, page_digest
from evaluation.report.wording import verdict
from evaluation.statistics import scores
from feature_store import Store
from models.registry.production import read_artifact
from models.registry.register import log_reconstruction
from models.registry.sets import ModelSet
from studies.decoding.render import why_nothing_to_render
from studies.reconstruction.pictures import GALLERY, GIF, SHEET, write_pictures
from studies.reconstruction.provenance import (
    SEEN,
    VIDEOS,
    MadeFrom,
    made_from,
    portable,
    stored_input,
    write_seen,
    write_videos,
)
from studies.reconstruction.score import Judged, judge
from studies.references import ReconstructionRef
from studies.regions.run import RECORD as REGIONS
from studies.regions.run import current_regions
from studies.registry.production import require_same_targets, require_trained_on
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.scoring.views import revisions_of
from studies.study import Study
from studies.training.fit import SCORES

MANIFEST, METRICS, VALUES, CAPTIONS = "manifest.json", "metrics.json", "values.json", "captions.csv"
LOGGED = "mlflow_run.txt"
"""The id of the run's record in MLflow; it says nothing of the run itself, so the manifest does not name it."""


def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless a run made from the same is already there."""
    nothing = why_nothing_to_render(study)
    if nothing is not None:
        return ReconstructionRef(study=study.study, run="", folder="", digest="", note=nothing, fresh=True)
    plan = planned(study, chosen)
    found = find_run(study.outputs, MANIFEST, plan.fingerprint)
    folder = found or study.outputs / run_name(plan.fingerprint)
    if found is None:
        _write(study, folder, chosen, plan, judge(study, Store(study.store), chosen, plan.origin.subject))
    else:
        progress(f"reconstruction {found.name} is as it was", 1, 1)
    publish_latest(folder)
    _log(folder, chosen)
    return reference_to(study, folder, METRICS, fresh=found is not None)


@dataclass(frozen=True)
class Planned:
    """What a reconstruction would be made from now.

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

    Raises
    ------
    ConfigError, RegistryError, StoreError
        The set does not know the subject, does not predict what the study renders, or was trained on other stores.
    """
    store = Store(study.store)
    subject = subject_of(study, chosen)
    require_same_targets(study, chosen)
    require_trained_on(study, store, chosen, subject)
    origin = made_from(study, store, chosen, subject, stored_input(store, subject))
    regions = current_regions(study, store)
    return Planned(origin, _record(study, chosen, origin, regions), regions)


def _write(study: Study, folder: Path, chosen: ModelSet, plan: Planned, made: Judged) -> None:
    more: dict[str, Any] = {"subject": plan.origin.subject, "models": str(chosen), "training": chosen.run}
    run = {"study": study.study, "run": folder.name, **more}
    metrics = scores.report(study.study, folder.name, len(made.stimuli), **made.report, **more)
    metrics |= _cross_validation(study, chosen)
    ours, captions = made.reconstruction, [(one[0] if one else "") for one in made.captions]
    with staged_folder(folder) as building:
        write_videos(building / VIDEOS, study, plan.origin, ours, made.stimuli)
        write_seen(building / SEEN, study, made.seen, made.stimuli)
        words = {"decoded": ours.captions or "", "nearest": ours.nearest or ""}
        table = pd.DataFrame({"stimulus": made.stimuli, "seen": captions, **words})
        table.to_csv(building / CAPTIONS, index=False)
        write_json(building / METRICS, metrics)
        write_json(building / VALUES, {**run, **made.table.record(made.stimuli)})
        write_pictures(building, study, made, metrics, plan.origin, plan.regions)
        more_record = {"run": folder.name, "git_commit": git_commit(), "files": file_digests(building)}
        write_json(building / MANIFEST, {**plan.record, **more_record})


def _log(folder: Path, chosen: ModelSet) -> None:
    """Log a run to MLflow, once: its scores, and the pictures by which people choose."""
    logged = folder / LOGGED
    if logged.is_file():
        return
    metrics = read_json(folder / METRICS)
    values = {
        f"{row}.{name}": entry["value"]
        for row, entries in metrics["rows"].items()
        for name, entry in entries.items()
        if entry["value"] is not None
    }
    pictures = [folder / name for name in (GALLERY, SHEET, GIF, DIAGNOSES, METRICS) if (folder / name).is_file()]
    write_bytes(logged, log_reconstruction(chosen, folder.name, values, verdict(metrics), pictures).encode())


def _cross_validation(study: Study, chosen: ModelSet) -> dict[str, Any]:
    """Return what training reported of its cross-validation, so that it stands beside the test scores."""
    if study.evaluation.folds is None:
        return {}
    report = json.loads(read_artifact(chosen, SCORES))
    return {"cross_validation": report["cross_validation"]} if "cross_validation" in report else {}


def subject_of(study: Study, chosen: ModelSet) -> str:
    """Return whose brain is reconstructed from: `reconstruction.subject`, else the first that the models know.

    Raises
    ------
    ConfigError
        The models do not know it.
    """
    known = [str(subject) for subject in chosen.record["subjects"]]
    wanted = study.reconstruction.subject or known[0]
    if wanted not in known:
        raise ConfigError(f"reconstruction.subject: {chosen} knows no '{wanted}'{nearest(wanted, known)}")
    return wanted


def _record(study: Study, chosen: ModelSet, origin: MadeFrom, regions: Path | None) -> dict[str, Any]:
    """Return what a run is made from; its fingerprint is that of all that may show in its files but the machine."""
    same = {"subject", "targets", "generator", "generator_revision", "captioner", "captioner_revision", "seed"}
    fingerprinted = {
        "study": study.study,
        **origin.model_dump(mode="json", include=same),
        "models": {"training": chosen.run, **origin.models.model_dump()},
        "responses": origin.input.digest,
        "extractor_revision": origin.extractors[study.roles.z or ""],
        "evaluation": study.evaluation.model_dump(),
        "judges": revisions_of(study.judges),
        "regions": digest_file(regions / REGIONS) if regions is not None else None,
        "clips": study.clips.model_dump(),
        "code": code_digest(reconstruct, study.generator, study.captioner, study.judges, study.targets),
        "page": page_digest(),
    }
    shared = {"made_from": origin.model_dump(mode="json"), "config": portable(study)}
    return {**fingerprinted, **shared, "fingerprint": digest_json(fingerprinted)}


def reference_to(study: Study, folder: Path, file: str, *, fresh: bool) -> ReconstructionRef:
    """Return the reference to a run on disk, by the digest of one of its files."""
    return ReconstructionRef(
        study=study.study,
        run=folder.name,
        folder=relative_to_root(folder),
        digest=digest_file(folder / file),
        note="",
        fresh=fresh,
    )
