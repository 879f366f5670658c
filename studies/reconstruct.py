"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `gallery.html`, `sheet.png`
and `manifest.json`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from core.code import code_digest
from core.config import nearest
from core.errors import ConfigError
from core.files import digest_file, digest_json, staged_folder, write_bytes, write_json
from core.progress import report as progress
from evaluation import scores
from evaluation.controls import shuffle_stimuli
from evaluation.gallery import TEMPLATE, GalleryItem, write_gallery
from evaluation.sheet import contact_sheet, sheet_png
from evaluation.verdict import verdict
from feature_store import Store
from models.parts import Encoder, Regressor
from models.registry.production import fetch, read_artifact
from models.registry.sets import ModelSet
from studies.extract import read_clips
from studies.fit import SCORES
from studies.home import home, shown
from studies.predictions import predict_test_roles
from studies.production import require_same_targets, require_trained_on
from studies.provenance import (
    CODE,
    SEEN,
    VIDEOS,
    MadeFrom,
    made_from,
    portable,
    stored_input,
    write_seen,
    write_videos,
)
from studies.references import ReconstructionRef
from studies.render import Rendered, Renderer, why_nothing_to_render
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.study import Study

MANIFEST = "manifest.json"
METRICS = "metrics.json"
Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """What is rendered: the reconstruction and its controls.

    Attributes
    ----------
    stimuli : test stimuli
    rows : row ("reconstruction", "mean_predictor", …) to role to (stimulus, …)
    groups : the stimuli's classes, or None
    """

    stimuli: list[str]
    rows: dict[str, dict[str, Array]]
    groups: list[str] | None


def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless a run made from the same is already there."""
    nothing = why_nothing_to_render(study)
    if nothing is not None:
        return ReconstructionRef(study=study.study, run="", folder="", digest="", note=nothing, fresh=True)
    store = Store(study.store)
    subject = subject_of(study, chosen)
    require_same_targets(study, chosen)
    require_trained_on(study, store, chosen, subject)
    origin = made_from(study, store, chosen, subject, stored_input(store, subject))
    record = _record(study, chosen, origin)
    found = find_run(study.outputs, MANIFEST, record["fingerprint"])
    folder = found or study.outputs / run_name(record["fingerprint"])
    if found is None:
        renderer = Renderer(study, store)
        rows = _rows(study, store, *fetch(chosen), subject, chosen.record["rois"])
        rendered = renderer.render(rows.rows, rows.stimuli)
        seen = read_clips(study.source.build(home()), rows.stimuli, study.clips)
        values = _score(study, renderer, rows, rendered, seen)
        _write(study, folder, store, chosen, origin, record, rows, rendered, seen, values)
    else:
        progress(f"reconstruction {found.name} is as it was", 1, 1)
    publish_latest(folder)
    return reference_to(study, folder, METRICS, fresh=found is not None)


def _rows(
    study: Study, store: Store, encoder: Encoder, regressors: dict[str, Regressor], subject: str, rois: list[str] | None
) -> Rows:
    """Predict z and b of every test stimulus, with the controls' rows beside them."""
    made = predict_test_roles(study, store, encoder, regressors, subject, rois)
    first = next(iter(made.values()))
    order = shuffle_stimuli(len(first.stimuli), study.seed)
    rows = {
        "reconstruction": {role: one.predicted for role, one in made.items()},
        "mean_predictor": {role: one.mean for role, one in made.items()},
        "shuffled_brain": {role: one.predicted[order] for role, one in made.items()},
        "oracle": {role: one.truth for role, one in made.items()},
    }
    return Rows(first.stimuli, rows, first.groups)


def _score(study: Study, renderer: Renderer, made: Rows, rendered: dict[str, Rendered], seen: Array) -> scores.Values:
    truth = {"pixels": seen}
    rows: dict[str, dict[str, Array]] = {row: {"pixels": one.clips} for row, one in rendered.items()}
    for row, one in rendered.items():
        latents = renderer.z_of(one.clips)
        if latents is not None:
            rows[row][renderer.space] = latents
            truth[renderer.space] = made.rows["oracle"]["z"]
    progress("scoring", 0, 1)
    values = scores.per_stimulus(rows, truth, metrics=study.evaluation.metrics, groups=made.groups)
    progress("scoring", 1, 1)
    return values


def _write(
    study: Study,
    folder: Path,
    store: Store,
    chosen: ModelSet,
    origin: MadeFrom,
    record: dict[str, Any],
    made: Rows,
    rendered: dict[str, Rendered],
    seen: Array,
    values: scores.Values,
) -> None:
    summary = scores.summarise(values, seed=study.seed, groups=made.groups)
    more = {"subject": record["subject"], "models": str(chosen), "training": chosen.run}
    metrics = scores.report(study.study, folder.name, len(made.stimuli), summary, **more)
    metrics |= _cross_validation(study, chosen)
    ours = rendered["reconstruction"]
    true_captions = _true_captions(study, store, made.stimuli)
    with staged_folder(folder) as building:
        write_videos(building / VIDEOS, study, origin, ours, made.stimuli)
        write_seen(building / SEEN, study, seen, made.stimuli)
        words = {"decoded": ours.captions or "", "nearest": ours.nearest or ""}
        captions = {"stimulus": made.stimuli, "seen": true_captions, **words}
        pd.DataFrame(captions).to_csv(building / "captions.csv", index=False)
        write_json(building / METRICS, metrics)
        write_bytes(building / "sheet.png", sheet_png(contact_sheet(seen[:24], ours.clips[:24])))
        write_gallery(
            building / "gallery.html",
            title=f"{study.study}: {record['subject']}",
            verdict=verdict(metrics),
            report={key: value for key, value in metrics.items() if key != "cross_validation"},
            items=_items(made.stimuli, ours, true_captions, values),
        )
        more_record = {"run": folder.name, "git_commit": git_commit(), "files": file_digests(building)}
        write_json(building / MANIFEST, {**record, **more_record})


def _items(stimuli: list[str], ours: Rendered, true_captions: list[str], values: scores.Values) -> list[GalleryItem]:
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=f"{SEEN}/{stimulus}.mp4",
            reconstructed=f"{VIDEOS}/{stimulus}.mp4",
            true_caption=true_captions[index] or None,
            decoded_caption=ours.captions[index] if ours.captions else None,
            scores=scores.scores_of(values, index),
        )
        for index, stimulus in enumerate(stimuli)
    ]


def _true_captions(study: Study, store: Store, stimuli: list[str]) -> list[str]:
    table = store.target(study.roles.z or "").stimuli("test").set_index("stimulus")
    return [captions[0] if captions else "" for captions in table.loc[stimuli, "caption"]]


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


def _record(study: Study, chosen: ModelSet, origin: MadeFrom) -> dict[str, Any]:
    """Return what a run is made from; its fingerprint is that of all that may show in its files but the machine."""
    same = {"subject", "targets", "generator", "generator_revision", "captioner", "captioner_revision", "seed"}
    fingerprinted = {
        "study": study.study,
        **origin.model_dump(mode="json", include=same),
        "models": {"training": chosen.run, **origin.models.model_dump()},
        "responses": origin.input.digest,
        "extractor_revision": origin.extractors[study.roles.z or ""],
        "evaluation": study.evaluation.model_dump(),
        "clips": study.clips.model_dump(),
        "code": code_digest(__name__, *CODE, "studies.extract", stop=("studies", "simulation")),
        "page": digest_file(TEMPLATE),
    }
    shared = {"made_from": origin.model_dump(mode="json"), "config": portable(study)}
    return {**fingerprinted, **shared, "fingerprint": digest_json(fingerprinted)}


def reference_to(study: Study, folder: Path, file: str, *, fresh: bool) -> ReconstructionRef:
    """Return the reference to a run on disk, by the digest of one of its files."""
    return ReconstructionRef(
        study=study.study,
        run=folder.name,
        folder=shown(folder),
        digest=digest_file(folder / file),
        note="",
        fresh=fresh,
    )
