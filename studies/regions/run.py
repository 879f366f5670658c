"""Decodes a study's targets from each ROI alone and without it: where the signal comes from, as a run on disk.

Writes ``outputs/<study>/regions/<run>/`` with `regions.json`, `regions.png`, and `brain.png` where voxels have
coordinates.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.code import code_digest
from core.errors import ConfigError
from core.files import digest_json, write_bytes
from core.threads import computing
from evaluation.config import EvaluationConfig
from evaluation.report.charts.regions import METRIC_WORDS, brain_png, region_chart_png, voxel_places, voxel_scores
from evaluation.statistics import scores
from feature_store import Store
from models.encoders.linear import Standardise
from models.training.loop import Context
from studies.decoding.order import diagnose_time, refuse_dense
from studies.decoding.predictions import stimuli_trained_on
from studies.decoding.training_data import read_training_data, stored_subjects
from studies.regions.scores import (
    Decoding,
    Regions,
    RoleDecoder,
    decode_role,
    find_regions,
    ridge_route,
    why_no_regions,
)
from studies.runs import (
    BRAIN,
    REGIONS,
    REGIONS_CHART,
    REGIONS_RECORD,
    RegionsRef,
    find_run,
    placed_run,
    publish_latest,
    staged_run,
)
from studies.study import RegionsConfig, Study, TrainingConfig

DRAWN = "correlation"
MNI = "MNI"
NO_ROUTE = "no route of the study is ridge on standardised voxels; decoded by the plain one"


def decode_regions(study: Study, *, require: bool = True) -> RegionsRef:
    """Decode every role's target from each ROI alone and without it, unless there is a run that is up to date.

    Penalties are chosen on training stimuli alone. The scores are those of the test stimuli: a report of where the
    signal lies, never used to choose anything. An analysis that picks voxels by them and then scores on the same
    stimuli is circular.

    Parameters
    ----------
    require : whether it is an error that no ROI has voxels enough; otherwise the reference has a note

    Raises
    ------
    ConfigError
        No ROI has voxels enough.
    StoreMissing, StoreError, ModelError
        A store is absent or has too few stimuli, or the ridge cannot be fitted.
    """
    store = Store(study.store)
    subjects = stored_subjects(store, study.source.named_subjects)
    nothing = why_no_regions(study.study, store, subjects)
    if nothing is not None:
        return RegionsRef.to_nothing(study.study, nothing)
    record = regions_made_from(study, store, subjects)
    inputs = {name: value for name, value in record.items() if name != "fingerprint"}
    where = (study.outputs / REGIONS, REGIONS_RECORD, record["fingerprint"], "regions", inputs)
    with placed_run(*where) as (folder, fresh):
        if not fresh:
            with computing(study.training.threads):
                decoding, time = _decoding_of(
                    study.study, store, subjects, study.roles.regressed(), study.training, study.evaluation, study.seed
                )
                record |= {"diagnoses": {"time": time}}
                try:
                    _write(folder, study.study, study.regions, decoding, record)
                except ConfigError as error:
                    if require:
                        raise
                    return RegionsRef.to_nothing(study.study, str(error))
        publish_latest(folder)
    return RegionsRef.to(study.study, folder, REGIONS_RECORD, fresh=fresh)


def _decoding_of(
    study: str,
    store: Store,
    subjects: list[str],
    roles: dict[str, str],
    training: TrainingConfig,
    evaluation: EvaluationConfig,
    seed: int,
) -> tuple[Decoding, dict[str, Any]]:
    """Return what every ROI is decoded with, and how near test and training are in time; raises where too near."""
    route, allowed = ridge_route(training.routes), evaluation.allow_dense_time
    trained_on = stimuli_trained_on(store, subjects, training.stimuli, seed)
    time = diagnose_time(store, subjects, list(roles.values()), trained_on, allowed=allowed, seed=seed)
    refuse_dense(time, study)
    data = read_training_data(
        store,
        subjects,
        list(roles.values()),
        rois=training.rois,
        count=training.stimuli,
        seed=seed,
    )
    decoding = Decoding(
        store=store,
        rois=training.rois,
        data=data,
        encoder=Standardise.fit(route.encoder, data.brains, Context(seed)),
        regressor=route.regressor,
        trained_on=trained_on,
        permutations=evaluation.permutations,
        seed=seed,
        dense=bool(time["dense"]),
    )
    return decoding, time


def current_regions(study: Study, store: Store) -> Path | None:
    """Return the folder of the run that is up to date with the stores, or None where there is none."""
    subjects = stored_subjects(store, study.source.named_subjects)
    if why_no_regions(study.study, store, subjects) is not None:
        return None
    return find_run(study.outputs / REGIONS, REGIONS_RECORD, regions_made_from(study, store, subjects)["fingerprint"])


def _write(folder: Path, study: str, config: RegionsConfig, decoding: Decoding, record: dict[str, Any]) -> None:
    """Decode from each ROI and write the run; `record` holds what it is made from."""
    made_from, encoder = record["config"], decoding.encoder
    rois = {s: list(np.array(own.rois, dtype=object)[encoder.kept[s]]) for s, own in decoding.data.brains.items()}
    regions = find_regions(config, rois, decoding.rois)
    targets, n_test = {}, 0
    for role, target in made_from["roles"].items():
        decoder = RoleDecoder(decoding, target, made_from["spaces"][role])
        targets[role], n_test = decode_role(decoder, regions.kept, role), decoder.n_test
    notes = [] if made_from["route"]["name"] is not None else [NO_ROUTE]
    report = {
        **record,
        "schema": scores.SCHEMA,
        "study": study,
        "n_test": n_test,
        "voxels": {s: len(names) for s, names in rois.items()},
        "regions": {
            region.name: {"names": list(region.names), "voxels": {s: len(rows) for s, rows in region.voxels.items()}}
            for region in regions.kept
        },
        "targets": targets,
        "skipped": regions.skipped,
        "notes": [*notes, *regions.notes],
    }
    with staged_run(folder, REGIONS_RECORD, report) as building:
        write_bytes(building / REGIONS_CHART, region_chart_png(report, DRAWN))
        picture, why = _brain(decoding, regions, targets)
        if picture is not None:
            write_bytes(building / BRAIN, picture)
        report["brain"] = {"picture": None if picture is None else BRAIN, "why": why}


def _brain(decoding: Decoding, regions: Regions, targets: dict[str, Any]) -> tuple[bytes | None, str]:
    """Return the voxels of all subjects on a glass brain, and what of it is missing or to be known."""
    store, encoder = decoding.store, decoding.encoder
    tables = {s: _table(store, s, decoding.rois).iloc[np.flatnonzero(encoder.kept[s])] for s in encoder.subjects}
    places, why = voxel_places(tables)
    if not places:
        return None, why
    drawn = {}
    for role, target in targets.items():
        name = next(metric for metric in target["metrics"] if metric.endswith(f".{DRAWN}"))
        alone = {roi: scored["alone"][name]["value"] for roi, scored in target["regions"].items()}
        values = [
            voxel_scores(len(at), [(roi.voxels[s], alone[roi.name]) for roi in regions.kept if s in roi.voxels])
            for s, at in places.items()
        ]
        drawn[f"{role}: {target['target']}"] = np.concatenate(values)
    spaces = sorted({str(store.responses(s).attributes.get("space", "unknown")) for s in places})
    if not all(space.startswith(MNI) for space in spaces):
        note = f"the outline is MNI's, the voxels' space is {', '.join(spaces)}: places are not to be read off exactly"
        why = "; ".join(filter(None, (why, note)))
    where = f"{', '.join(places)}; {', '.join(spaces)}; grey: in no ROI that was decoded from"
    together = np.concatenate(list(places.values()))
    return brain_png(together, drawn, words=METRIC_WORDS[DRAWN], chance=0.0, where=where), why


def _table(store: Store, subject: str, rois: list[str] | None) -> pd.DataFrame:
    group = store.responses(subject)
    return group.voxels if rois is None else group.voxels.iloc[group.voxels_in(rois)]


def regions_made_from(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return the inputs, settings and code of a run, and their fingerprint."""
    roles, route = study.roles.regressed(), ridge_route(study.training.routes)
    made_from = {
        "subjects": subjects,
        "stores": {
            **{f"responses/{subject}": store.responses(subject).digest for subject in subjects},
            **{f"targets/{target}": store.target(target).digest for target in sorted(set(roles.values()))},
        },
        "config": {
            "seed": study.seed,
            "roles": roles,
            "spaces": {role: study.spaces[target] for role, target in roles.items()},
            "rois": study.training.rois,
            "stimuli": study.training.stimuli,
            "permutations": study.evaluation.permutations,
            "allow_dense_time": study.evaluation.allow_dense_time,
            "regions": study.regions.model_dump(mode="json"),
            "route": {
                "name": route.name,
                "encoder": route.encoder.model_dump(mode="json"),
                "regressor": route.regressor.model_dump(mode="json"),
            },
        },
        "code": code_digest(decode_regions),
    }
    return {**made_from, "fingerprint": digest_json(made_from)}
