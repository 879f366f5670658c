"""Reconstruction: the production set's predictions for the test stimuli, rendered, scored beside controls, and shown.

Writes ``outputs/<study>/<run>/`` with `videos/`, `seen/`, `captions.csv`, `metrics.json`, `gallery.html`, `sheet.png`
and `manifest.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from core.clips import write_clip
from core.code import code_digest
from core.config import nearest
from core.errors import ConfigError, RegistryError
from core.files import digest_file, digest_json, read_json, staged_folder, write_bytes, write_json
from core.progress import report as progress
from core.progress import track
from evaluation import scores
from evaluation.controls import shuffle_stimuli
from evaluation.gallery import TEMPLATE, GalleryItem, write_gallery
from evaluation.sheet import contact_sheet, sheet_png
from evaluation.verdict import verdict
from feature_store import Store
from models.parts import Encoder, Regressor
from models.registry.production import fetch, fetch_artifact, resolve
from models.registry.sets import ModelSet
from studies.extract import read_clips
from studies.fit import SCORES
from studies.home import home, shown
from studies.predictions import common_stimuli, predict_test
from studies.references import ReconstructionRef
from studies.render import Rendered, Renderer, why_nothing_to_render
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.study import Study

MANIFEST = "manifest.json"
METRICS = "metrics.json"
Array = NDArray[Any]


def resolve_production(study: Study) -> ModelSet:
    """Return the versions that carry the alias `production`; see `models.registry.production.resolve`."""
    return resolve(study.study, study.parts)


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
    subject = _subject(study, chosen)
    _check_trained_on_these(study, store, chosen, subject)
    record = _record(study, store, chosen, subject)
    found = find_run(study.outputs, MANIFEST, record["fingerprint"])
    folder = found or study.outputs / run_name(record["fingerprint"])
    if found is None:
        renderer = Renderer(study, store)
        rows = _rows(study, store, *fetch(chosen), subject, chosen.record["rois"])
        rendered = renderer.render(rows.rows, rows.stimuli)
        seen = read_clips(study.source.build(home()), rows.stimuli, study.clips)
        values = _score(study, renderer, rows, rendered, seen)
        _write(study, folder, store, chosen, record, rows, rendered, seen, values)
    else:
        progress(f"reconstruction {found.name} is as it was", 1, 1)
    publish_latest(folder)
    return _reference(study, folder, fresh=found is not None)


def _rows(
    study: Study, store: Store, encoder: Encoder, regressors: dict[str, Regressor], subject: str, rois: list[str] | None
) -> Rows:
    """Predict z and b of every test stimulus, with the controls' rows beside them."""
    made = {role: predict_test(study, store, encoder, one, subject, rois) for role, one in regressors.items()}
    common_stimuli({role: one.stimuli for role, one in made.items()})
    first = next(iter(made.values()))
    order = shuffle_stimuli(len(first.stimuli), study.seed)
    rows = {
        "reconstruction": {role: one.predicted for role, one in made.items()},
        "mean_predictor": {role: one.mean for role, one in made.items()},
        "shuffled_brain": {role: one.predicted[order] for role, one in made.items()},
        "oracle": {role: one.truth for role, one in made.items()},
    }
    return Rows(first.stimuli, rows, first.groups)


def _check_trained_on_these(study: Study, store: Store, chosen: ModelSet, subject: str) -> None:
    """Raise unless the models were trained on what the store holds: else a test stimulus may have been in training.

    Raises
    ------
    RegistryError
        The stores' digests or the roles differ from those of the training.
    """
    advice = "run 'brain2video train' and 'brain2video promote', or 'dvc checkout' what they were trained on"
    here = {f"responses/{subject}": store.responses(subject).digest}
    here |= {f"targets/{name}": store.target(name).digest for name in study.roles.regressed().values()}
    for name, digest in here.items():
        told = str(chosen.record["stores"].get(name, "nothing"))
        if told != digest:
            raise RegistryError(
                f"{study.study}: {chosen} (training {chosen.run}) saw {name} as {told[:12]}, the store holds "
                f"{digest[:12]}; {advice}"
            )
    roles = {role: chosen.record["roles"].get(role) for role in study.roles.regressed()}
    if roles != study.roles.regressed():
        raise RegistryError(
            f"{study.study}: {chosen} were trained for the roles {roles}, the study names {study.roles.regressed()}; "
            f"{advice}"
        )


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
        for index, stimulus in track(list(enumerate(made.stimuli)), "writing videos"):
            write_clip(building / "videos" / f"{stimulus}.mp4", ours.clips[index], study.clips.fps)
            write_clip(building / "seen" / f"{stimulus}.mp4", seen[index], study.clips.fps)
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
    captioner = study.captioner_of_b()
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
        "captioner": captioner.model_dump(mode="json", exclude={"weights"}) if captioner else None,
        "captioner_revision": captioner.revision(home()) if captioner else None,
        "evaluation": study.evaluation.model_dump(),
        "clips": study.clips.model_dump(),
        "code": code_digest(
            __name__, "studies.render", "studies.predictions", "studies.extract", stop=("studies", "simulation")
        ),
        "page": digest_file(TEMPLATE),
    }
    return {**made_from, "fingerprint": digest_json(made_from)}


def _reference(study: Study, folder: Path, *, fresh: bool) -> ReconstructionRef:
    return ReconstructionRef(
        study=study.study,
        run=folder.name,
        folder=shown(folder),
        digest=digest_file(folder / METRICS),
        note="",
        fresh=fresh,
    )
