"""Where it comes from: the study's targets decoded from each ROI alone and without it, as a run on disk.

Writes ``outputs/<study>/regions/<run>/`` with `regions.json`, `regions.png`, and `brain.png` where voxels have
coordinates.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.checkout import relative_to_root
from core.code import code_digest
from core.errors import ConfigError
from core.files import digest_file, digest_json, staged_folder, write_bytes, write_json
from core.progress import report as progress
from evaluation.report.charts.regions import METRIC_WORDS, brain_png, region_chart_png, voxel_places, voxel_scores
from evaluation.statistics import scores
from feature_store import Store
from models.encoders.standardise import Standardise
from models.training.stage import Context
from studies.decoding.training_data import read_training_data
from studies.references import RegionsRef
from studies.regions.scores import RidgeRoute, RoleDecoder, decode_role, ridge_route
from studies.regions.voxels import Regions, find_regions, why_no_regions
from studies.runs import file_digests, find_run, git_commit, publish_latest, run_name
from studies.study import Study
from studies.training.fit import stored_subjects

FOLDER, RECORD, CHART, BRAIN = "regions", "regions.json", "regions.png", "brain.png"
DRAWN = "correlation"
MNI = "MNI"


def decode_regions(study: Study, *, require: bool = True) -> RegionsRef:
    """Decode every role's target from each ROI alone and without it, unless a run made from the same is there already.

    Penalties are chosen on training stimuli alone. The scores are those of the test stimuli: a report of where the
    signal lies, never used to choose anything. Whoever picks voxels by them and then scores on the same stimuli has
    looked at the answer.

    Parameters
    ----------
    require : bool
        Whether it is an error that no ROI has voxels enough; otherwise the reference says so.

    Raises
    ------
    ConfigError
        No ROI has voxels enough.
    StoreMissing, StoreError, ModelError
        A store is absent or has too few stimuli, or the ridge cannot be fitted.
    """
    store = Store(study.store)
    subjects = stored_subjects(study, store)
    nothing = why_no_regions(study, store, subjects)
    if nothing is not None:
        return _none(study, nothing)
    record = regions_made_from(study, store, subjects)
    runs = study.outputs / FOLDER
    found = find_run(runs, RECORD, record["fingerprint"])
    folder = found or runs / run_name(record["fingerprint"])
    if found is None:
        try:
            _write(study, store, folder, record, ridge_route(study))
        except ConfigError as error:
            if require:
                raise
            return _none(study, str(error))
    else:
        progress(f"regions {found.name} are as they were", 1, 1)
    publish_latest(folder)
    return RegionsRef(
        study=study.study,
        run=folder.name,
        folder=relative_to_root(folder),
        digest=digest_file(folder / RECORD),
        note="",
        fresh=found is not None,
    )


def _none(study: Study, why: str) -> RegionsRef:
    return RegionsRef(study=study.study, run="", folder="", digest="", note=why, fresh=True)


def current_regions(study: Study, store: Store) -> Path | None:
    """Return the folder of the run that was made from the stores as they are, or None where there is none."""
    subjects = stored_subjects(study, store)
    if why_no_regions(study, store, subjects) is not None:
        return None
    return find_run(study.outputs / FOLDER, RECORD, regions_made_from(study, store, subjects)["fingerprint"])


def nothing_to_decode(study: Study) -> str | None:
    """Return why there is nothing to decode from region by region, or None where there is something."""
    store = Store(study.store)
    return why_no_regions(study, store, stored_subjects(study, store))


def _write(study: Study, store: Store, folder: Path, record: dict[str, Any], route: RidgeRoute) -> None:
    data = read_training_data(_roles_alone(study), store, record["subjects"])
    encoder = Standardise.fit(route.encoder, data.brains, Context(study.seed))
    rois = {s: list(np.array(one.rois, dtype=object)[encoder.kept[s]]) for s, one in data.brains.items()}
    regions = find_regions(study.regions, rois, study.training.rois)
    targets, n_test = {}, 0
    for role, target in study.roles.regressed().items():
        decoder = RoleDecoder(study, store, route, encoder, data, target)
        targets[role], n_test = decode_role(decoder, regions.found, role), decoder.n_test
    report = {
        "schema": scores.SCHEMA,
        "study": study.study,
        "run": folder.name,
        "n_test": n_test,
        "voxels": {s: len(names) for s, names in rois.items()},
        "regions": {
            one.name: {"names": list(one.names), "voxels": {s: len(rows) for s, rows in one.voxels.items()}}
            for one in regions.found
        },
        "targets": targets,
        "skipped": regions.skipped,
        "notes": [*_route_notes(route), *regions.notes],
    }
    with staged_folder(folder) as building:
        write_bytes(building / CHART, region_chart_png(report, DRAWN))
        picture, why = _brain(study, store, encoder, regions, report)
        if picture is not None:
            write_bytes(building / BRAIN, picture)
        report["brain"] = {"picture": None if picture is None else BRAIN, "why": why}
        more = {"git_commit": git_commit(), "files": file_digests(building)}
        write_json(building / RECORD, {**record, **report, **more})


def _brain(
    study: Study, store: Store, encoder: Standardise, regions: Regions, report: dict[str, Any]
) -> tuple[bytes | None, str]:
    """Return the voxels of all subjects on a glass brain, and what of it is missing or to be known."""
    tables = {s: _table(study, store, s).iloc[np.flatnonzero(encoder.kept[s])] for s in encoder.subjects}
    places, why = voxel_places(tables)
    if not places:
        return None, why
    drawn = {}
    for role, target in report["targets"].items():
        name = next(one for one in target["metrics"] if one.endswith(f".{DRAWN}"))
        alone = {roi: scored["alone"][name]["value"] for roi, scored in target["regions"].items()}
        values = [
            voxel_scores(len(at), [(one.voxels[s], alone[one.name]) for one in regions.found if s in one.voxels])
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


def _table(study: Study, store: Store, subject: str) -> pd.DataFrame:
    group, rois = store.responses(subject), study.training.rois
    return group.voxels if rois is None else group.voxels.iloc[group.voxels_in(rois)]


def _roles_alone(study: Study) -> Study:
    """Return the study without the targets that are not decoded here, so that they are not read."""
    training = study.training.model_copy(update={"baselines": ()})
    return study.model_copy(update={"training": training, "roles": study.roles.model_copy(update={"align": ()})})


def _route_notes(route: RidgeRoute) -> list[str]:
    if route.name is not None:
        return []
    return ["no route of the study is ridge on standardised voxels; decoded by the plain one"]


def regions_made_from(study: Study, store: Store, subjects: list[str]) -> dict[str, Any]:
    """Return what a run would be made from now, and the fingerprint of that."""
    roles, route = study.roles.regressed(), ridge_route(study)
    made_from = {
        "subjects": subjects,
        "stores": {
            **{f"responses/{subject}": store.responses(subject).digest for subject in subjects},
            **{f"targets/{target}": store.target(target).digest for target in sorted(set(roles.values()))},
        },
        "config": {
            "seed": study.seed,
            "roles": roles,
            "spaces": {role: study.space(target) for role, target in roles.items()},
            "rois": study.training.rois,
            "stimuli": study.training.stimuli,
            "permutations": study.evaluation.permutations,
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
