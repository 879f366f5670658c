"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `gallery.html`, `sheet.png`
and `manifest.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.clips import write_clip
from core.config import nearest
from core.errors import ConfigError
from core.files import code_digest, digest_file, digest_json, read_json, staged_folder, write_bytes, write_json
from core.progress import report as progress
from core.progress import track
from evaluation import scores
from evaluation.controls import mean_prediction, shuffle_stimuli
from evaluation.gallery import GalleryItem, write_gallery
from evaluation.sheet import contact_sheet, sheet_png
from evaluation.verdict import verdict
from feature_store import Store
from models.parts import Encoder, Regressor
from models.registry.production import fetch, fetch_artifact, resolve
from models.registry.sets import ModelSet
from studies.extract import read_clips
from studies.fit import SCORES, groups_of, predict_test
from studies.home import home, shown
from studies.references import ReconstructionRef
from studies.render import Rendered, Renderer, why_nothing_to_render
from studies.runs import git_commit, publish_latest, run_name
from studies.study import Study

MANIFEST = "manifest.json"
METRICS = "metrics.json"
Array = NDArray[Any]


def resolve_production(study: Study) -> ModelSet:
    """Return the versions that carry the alias `production`; see `models.registry.production.resolve`."""
    return resolve(study.study, study.parts)


@dataclass(frozen=True)
class Predictions:
    """What the brain of one subject says about the test stimuli, and the truth.

    Attributes
    ----------
    stimuli : test stimuli, in the order of the rows
    rows : row ("reconstruction", "mean_predictor", …) to role to (stimulus, …)
    groups : the stimuli's classes, or None
    """

    subject: str
    stimuli: list[str]
    rows: dict[str, dict[str, Array]]
    groups: list[str] | None


def reconstruct(study: Study, chosen: ModelSet) -> ReconstructionRef:
    """Render and score the test stimuli with a model set, unless a run made from the same is already there."""
    nothing = why_nothing_to_render(study)
    if nothing is not None:
        return ReconstructionRef(study=study.study, run="", folder="", digest="", note=nothing, fresh=True)
    store = Store(study.store)
    subject = _subject(study, chosen)
    record = _record(study, store, chosen, subject)
    found = _find_run(study, record["fingerprint"])
    if found is not None:
        progress(f"reconstruction {found.name} is as it was", 1, 1)
        return _reference(study, found, fresh=True)
    encoder, regressors = fetch(chosen)
    renderer = Renderer(study, store)
    predictions = predict(study, store, encoder, regressors, subject)
    rendered = renderer.render(predictions.rows, predictions.stimuli)
    seen = read_clips(study.source.build(home()), predictions.stimuli, study.clips)
    folder = study.outputs / run_name(record["fingerprint"])
    values = _score(study, renderer, predictions, rendered, seen)
    _write(study, folder, store, chosen, record, predictions, rendered, seen, values)
    publish_latest(folder)
    return _reference(study, folder, fresh=False)


def predict(
    study: Study, store: Store, encoder: Encoder, regressors: dict[str, Regressor], subject: str
) -> Predictions:
    """Predict z and b of every test stimulus, with the controls' rows beside them."""
    rows: dict[str, dict[str, Array]] = {row: {} for row in scores.ROWS}
    stimuli: list[str] = []
    for role, regressor in regressors.items():
        stimuli, predicted, truth = predict_test(study, store, encoder, regressor, subject)
        training = store.target(regressor.target).values("train")[0][:].astype(np.float32)
        rows["reconstruction"][role] = predicted
        rows["mean_predictor"][role] = np.array(mean_prediction(training, len(truth)))
        rows["shuffled_brain"][role] = predicted[shuffle_stimuli(len(truth), study.seed)]
        rows["oracle"][role] = truth.astype(np.float32)
    groups = groups_of(store, next(iter(regressors.values())).target, stimuli)
    return Predictions(subject, stimuli, rows, groups)


def _score(
    study: Study, renderer: Renderer, predictions: Predictions, rendered: dict[str, Rendered], seen: Array
) -> scores.Values:
    truth = {"pixels": seen}
    rows: dict[str, dict[str, Array]] = {row: {"pixels": one.clips} for row, one in rendered.items()}
    for row, one in rendered.items():
        latents = renderer.z_of(one.clips)
        if latents is not None:
            rows[row][renderer.space] = latents
            truth[renderer.space] = predictions.rows["oracle"]["z"]
    progress("scoring", 0, 1)
    values = scores.per_stimulus(rows, truth, metrics=study.evaluation.metrics, groups=predictions.groups)
    progress("scoring", 1, 1)
    return values


def _write(
    study: Study,
    folder: Path,
    store: Store,
    chosen: ModelSet,
    record: dict[str, Any],
    predictions: Predictions,
    rendered: dict[str, Rendered],
    seen: Array,
    values: scores.Values,
) -> None:
    summary = scores.summarise(values, seed=study.seed, groups=predictions.groups)
    more = {"subject": predictions.subject, "models": str(chosen), "training": chosen.run}
    metrics = scores.report(study.study, folder.name, len(predictions.stimuli), summary, **more)
    metrics |= _cross_validation(study, chosen)
    ours = rendered["reconstruction"]
    true_captions = _true_captions(study, store, predictions.stimuli)
    with staged_folder(folder) as building:
        for index, stimulus in track(list(enumerate(predictions.stimuli)), "writing videos"):
            write_clip(building / "videos" / f"{stimulus}.mp4", ours.clips[index], study.clips.fps)
            write_clip(building / "seen" / f"{stimulus}.mp4", seen[index], study.clips.fps)
        captions = {"stimulus": predictions.stimuli, "seen": true_captions, "decoded": ours.captions or ""}
        pd.DataFrame(captions).to_csv(building / "captions.csv", index=False)
        write_json(building / METRICS, metrics)
        write_bytes(building / "sheet.png", sheet_png(contact_sheet(seen[:24], ours.clips[:24])))
        write_gallery(
            building / "gallery.html",
            title=f"{study.study}: {predictions.subject}",
            verdict=verdict(metrics),
            report={key: value for key, value in metrics.items() if key != "cross_validation"},
            items=_items(predictions.stimuli, ours, true_captions, values),
        )
        files = {p.relative_to(building).as_posix(): digest_file(p) for p in building.rglob("*") if p.is_file()}
        write_json(building / MANIFEST, {**record, "run": folder.name, "git_commit": git_commit(), "files": files})


def _items(stimuli: list[str], ours: Rendered, true_captions: list[str], values: scores.Values) -> list[GalleryItem]:
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=f"seen/{stimulus}.mp4",
            reconstructed=f"videos/{stimulus}.mp4",
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
    report = read_json(fetch_artifact(chosen, SCORES))
    return {"cross_validation": report["cross_validation"]} if "cross_validation" in report else {}


def _subject(study: Study, chosen: ModelSet) -> str:
    known = [str(subject) for subject in chosen.record["subjects"]]
    wanted = study.reconstruction.subject or known[0]
    if wanted not in known:
        raise ConfigError(f"reconstruction.subject: {chosen} knows no '{wanted}'{nearest(wanted, known)}")
    return wanted


def _record(study: Study, store: Store, chosen: ModelSet, subject: str) -> dict[str, Any]:
    generator = study.generator.model_dump(mode="json", exclude={"weights"}) if study.generator else None
    made_from = {
        "study": study.study,
        "subject": subject,
        "seed": study.seed,
        "models": {"training": chosen.run, "versions": chosen.versions, "digests": chosen.digests},
        "responses": store.responses(subject).digest,
        "targets": {role: store.target(name).digest for role, name in study.roles.regressed().items()},
        "extractor_revision": study.targets[study.roles.z or ""].revision(home()),
        "generator": generator,
        "generator_revision": study.generator.revision(home()) if study.generator else None,
        "evaluation": study.evaluation.model_dump(),
        "clips": study.clips.model_dump(),
        "code": code_digest(__name__, "studies.render", "evaluation.gallery"),
    }
    return {**made_from, "fingerprint": digest_json(made_from)}


def _find_run(study: Study, fingerprint: str) -> Path | None:
    for manifest in sorted(study.outputs.glob(f"[0-9]*/{MANIFEST}"), reverse=True):
        content = read_json(manifest)
        whole = content["fingerprint"] == fingerprint and all(
            (manifest.parent / name).is_file() and digest_file(manifest.parent / name) == digest
            for name, digest in content["files"].items()
        )
        if whole:
            return manifest.parent
    return None


def _reference(study: Study, folder: Path, *, fresh: bool) -> ReconstructionRef:
    return ReconstructionRef(
        study=study.study,
        run=folder.name,
        folder=shown(folder),
        digest=digest_file(folder / METRICS),
        note="",
        fresh=fresh,
    )
