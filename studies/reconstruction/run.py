"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `values.json` (the scores of
every stimulus), `candidates.npz` (what it takes to score fewer of them), `gallery.html`, `sheet.png`, `sheet.gif`,
`diagnoses.png` and `manifest.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from core.code import code_digest
from core.files import digest_file, digest_json, read_json, write_bytes, write_json
from core.seeds import seed_for
from core.subjects import is_group, members_of, subject_label
from core.threads import computing
from evaluation.report.gallery.cards import gallery_items
from evaluation.report.gallery.page import DIAGNOSES, GalleryFigure, diagnosis_figures, page_digest, render_gallery
from evaluation.report.sheet import animated_sheet, contact_sheet, sheet_png
from evaluation.report.verdict import verdict
from evaluation.statistics import scores
from evaluation.statistics.candidates import kept_bytes
from feature_store import Store
from models.registry.client import require_experiment
from models.registry.production import read_artifact
from models.registry.runs import log_reconstruction
from models.registry.sets import ModelSet
from studies.reconstruction.provenance import (
    MadeFrom,
    made_from,
    portable,
    stored_input,
    subject_of,
    subjects_known,
    write_seen,
    write_videos,
)
from studies.reconstruction.score import Judged, render_and_score
from studies.regions.run import current_regions
from studies.registry.production import require_same_targets, require_trained_on
from studies.runs import (
    BRAIN,
    CANDIDATES,
    CAPTIONS,
    GALLERY,
    GIF,
    KEPT_ROWS,
    LOGGED,
    MANIFEST,
    METRICS,
    REGIONS_CHART,
    REGIONS_RECORD,
    SCORES,
    SEEN,
    SHEET,
    VALUES,
    VIDEOS,
    ReconstructionRef,
    placed_run,
    publish_latest,
    staged_run,
)
from studies.scoring import revisions_of
from studies.stores.kept import Kept
from studies.study import Study


@computing()
def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless there is a run that is up to date.

    Raises as `planned` does, and `RegistryError` where the study's experiment was deleted in MLflow.
    """
    nothing = study.why_nothing_to_render()
    if nothing is not None:
        return ReconstructionRef.to_nothing(study.study, nothing)
    plan = planned(study, chosen)
    where = (study.outputs, MANIFEST, plan.fingerprint, "reconstruction", plan.inputs)
    with placed_run(*where) as (folder, fresh):
        if not (folder / LOGGED).is_file():
            require_experiment(study.study)
        if not fresh:
            kept = Kept(study.outputs / KEPT_ROWS, rows_made_from(study.frame, study.roles.regressed(), plan.origin))
            judged = render_and_score(study, Store(study.store), chosen, plan.origin.subject, kept)
            more = {} if study.evaluation.folds is None else _cross_validation(chosen)
            _write(folder, chosen, plan, judged, study.clips.fps, more)
            kept.tidy()
        publish_latest(folder)
        log_run(folder, chosen)
    reference = ReconstructionRef.to(study.study, folder, METRICS, fresh=fresh)
    others = [subject for subject in subjects_known(chosen) if subject != plan.origin.subject]
    return reference.model_copy(update={"others": others})


def rows_made_from(frame: tuple[int, int, int], roles: dict[str, str], origin: MadeFrom) -> dict[str, Any]:
    """Return what every row is rendered from, beside what is predicted for it: nothing of the models is in it."""
    of_models = {"subject", "input", "models", "rois"}
    return {"frame": frame, "roles": roles, **origin.model_dump(mode="json", exclude=of_models)}


@dataclass(frozen=True)
class Planned:
    """The inputs, settings and code of a reconstruction that is not made yet."""

    origin: MadeFrom
    inputs: dict[str, Any]
    """What the fingerprint is of, JSON-able."""
    record: dict[str, Any]
    """The inputs, the fingerprint, the study, and what each video says of itself."""
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
    record = {**fingerprinted, **shared, "fingerprint": digest_json(fingerprinted)}
    return Planned(origin, fingerprinted, record, regions)


def _write(folder: Path, chosen: ModelSet, plan: Planned, judged: Judged, fps: float, more: dict[str, Any]) -> None:
    """Write a run; `more` joins the scores in `metrics.json`."""
    config, rendered = plan.record["config"], judged.reconstruction
    subject = plan.origin.subject
    named: dict[str, Any] = {"subject": subject, "models": str(chosen), "training": chosen.run}
    metrics = scores.report(config["study"], folder.name, len(judged.stimuli), **judged.report, **named) | more
    if is_group(subject):
        note = f"{subject_label(subject)}: every stimulus is decoded from the responses of all of them to it"
        metrics |= {"group_decoder": members_of(subject), "notes": [note, *metrics["notes"]]}
    values = {"study": config["study"], "run": folder.name, **named, **judged.table.record(judged.stimuli)}
    columns = {"decoded": rendered.captions or "", "nearest": rendered.nearest or ""}
    captions = pd.DataFrame({"stimulus": judged.stimuli, "seen": judged.captions, **columns})
    with staged_run(folder, MANIFEST, plan.record) as building:
        write_videos(building / VIDEOS, config, plan.origin, rendered, judged.stimuli)
        write_seen(building / SEEN, config, judged.seen, judged.stimuli)
        captions.to_csv(building / CAPTIONS, index=False)
        write_json(building / METRICS, metrics)
        write_json(building / VALUES, values)
        write_bytes(building / CANDIDATES, kept_bytes(judged.table.kept(judged.stimuli)))
        write_pictures(building, fps, judged, metrics, plan.origin, plan.regions)


def _cross_validation(chosen: ModelSet) -> dict[str, Any]:
    """Return what training reported of its cross-validation, to be shown beside the test scores."""
    report = json.loads(read_artifact(chosen, SCORES))
    return {"cross_validation": report["cross_validation"]} if "cross_validation" in report else {}


SHOWN, MOVING = 24, 10
"""Test clips on the contact sheet and on the moving one, the first in test order."""
NOT_SHOWN = {"cross_validation"}
"""Parts of a report that the page leaves to the command line."""
FIGURES_OF_REGIONS = {
    REGIONS_CHART: (
        "Where does it come from?",
        "Bars of how well each region alone predicts the targets, and of what is lost without it.",
        "Test stimuli, by ridge; intervals are over stimuli, and not adjusted for the number of regions.",
    ),
    BRAIN: (
        "On the brain",
        "A glass brain with every voxel coloured by how well its region alone predicts the targets.",
        "Each voxel has its region's score; see the bars for intervals.",
    ),
}
"""Title, description and note of each."""


def write_pictures(
    folder: Path, fps: float, judged: Judged, metrics: dict[str, Any], origin: MadeFrom, regions: Path | None
) -> None:
    """Write a run's gallery and pictures into its folder.

    Parameters
    ----------
    fps : frames per second of the clips
    regions : the run of regions whose pictures are shown as well, if any
    """
    seen, clips = judged.seen, judged.reconstruction.clips
    write_bytes(folder / SHEET, sheet_png(contact_sheet(seen[:SHOWN], clips[:SHOWN])))
    if clips.shape[1] > 1:
        write_bytes(folder / GIF, animated_sheet(seen[:MOVING], clips[:MOVING], fps=fps))
    diagnoses = diagnosis_figures(
        folder,
        judged.table,
        judged.report,
        predicted=judged.predicted,
        truth=judged.truth,
        distance=judged.nearest_to_truth.distance,
    )
    items = gallery_items(
        judged.stimuli,
        seen,
        clips,
        judged.table.values,
        folders=(SEEN, VIDEOS),
        true_captions=judged.captions,
        decoded_captions=judged.reconstruction.captions,
        facts=[_facts(judged, origin, index) for index in range(len(judged.stimuli))],
    )
    page = render_gallery(
        title=f"{metrics['study']}: {subject_label(origin.subject)}",
        verdict=verdict(metrics),
        report={key: value for key, value in metrics.items() if key not in NOT_SHOWN},
        items=items,
        fps=fps,
        figures=[*diagnoses, *_regions(regions)],
    )
    write_bytes(folder / GALLERY, page.encode())


def _facts(judged: Judged, origin: MadeFrom, index: int) -> dict[str, str]:
    """Return where one clip comes from, and what the training set had that is like it."""
    near, like = judged.nearest_to_truth, judged.nearest_to_prediction.stimuli[index]
    caption = judged.training_captions[like]
    facts = {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": f"{like}: {caption}" if caption else like,
        "models": ", ".join(f"{part} v{number}" for part, number in origin.models.versions.items()),
        "responses": f"{origin.input.name} ({origin.input.digest[:12]})",
    }
    if origin.generator is not None:
        facts["seed of the noise"] = str(seed_for(origin.seed, "render", judged.stimuli[index]))
        facts["generator"] = f"{(origin.generator_revision or '')[:12]}, strength {origin.strength}"
    return facts


def _regions(folder: Path | None) -> list[GalleryFigure]:
    """Return the pictures of which regions the targets can be decoded from."""
    return [
        GalleryFigure(title=title, image=(folder / name).read_bytes(), description=description, note=note)
        for name, (title, description, note) in FIGURES_OF_REGIONS.items()
        if folder is not None and (folder / name).is_file()
    ]


def log_run(folder: Path, chosen: ModelSet) -> None:
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
    sentence = " ".join([f"{metrics['notes'][0]}."] * ("group_decoder" in metrics) + [verdict(metrics)])
    write_bytes(logged, log_reconstruction(chosen, folder.name, values, sentence, pictures).encode())
