"""Logs trainings and reconstructions to MLflow: what its table of runs, its compare page and a run's page show.

A training is one run: its parameters are the study's settings, its metrics the scores of the registered route, under
names that no route, control or target is part of, so that two trainings are in the same rows of the compare page.
Controls, and routes where a study has several, are runs below it, with the same names again. So are reconstructions.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import yaml
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_GIT_COMMIT,
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

from core.progress import report
from models.registry.client import client, experiment, explained
from models.registry.production import promoter
from models.registry.sets import ModelSet, TrainedSet

BATCH = 1000
"""Metrics in one message to MLflow, which takes no more."""
DIGEST = 36
"""Characters that MLflow keeps of a dataset's digest."""
LONGEST = 500
"""Characters of a parameter's value, which is what the oldest servers take; a longer one is cut, and says so."""
SETTINGS = "study.yaml"
"""The artifact with a training's settings, whole."""
CUT = f" … (cut; whole in the artifact {SETTINGS})"
EXPERIMENT_NOTE = """\
**Compare:** tick two trainings, then *Compare*. **Promote:** give a version the alias `production`; not the blue \
button. Click ⌄ for more.

- If this page shows no *Runs*, choose *Model training* at the top left.
- **Compare:** `validation.…` are scores on held-out training stimuli, to choose by. `test.…` are scores on the test \
stimuli, to report; do not choose by them.
- **Promote:** *Model registry*, a model, a version, *Aliases: Add* (or the pencil), type `production`, Enter, *Save \
aliases*: for the encoder and every regressor of one training. Or run `brain2video promote`. The blue button *Promote \
model* copies a version to another registered model; it sets no alias.
- **Take back:** `brain2video promote --rollback` returns to what was in production before, also after clicks.
- **Find:** trainings have the tag `kind` = `training`; below each (⊞) are its routes (`route`), where there are \
several, its controls (`control`) and its reconstructions (`reconstruction`). A search: `tags.kind = "training" and \
tags.route = "ridge"`."""
RUN_NOTE = """\
To promote: open each version under *Registered models* and add the alias `production`, or run \
`brain2video promote --run {run}`.

`validation.…`: held-out training stimuli, to choose by. `test.…`: test stimuli, to report. Both are of targets minus \
their training mean; `test.z.uncentred.…` are of the targets themselves. The child runs are the routes, where there \
are several, and the controls, under the same names. The parameters are the settings; the artifact `study.yaml` has \
them whole. The times are the training's."""
ROUTE_NOTE = """\
Route `{route}` of training `{run}`{chosen}. `validation.{criterion}` is the score that routes were compared by, the \
mean over the roles; that of the best route is too high, as it was chosen by it. The times are the training's."""
CONTROL_NOTE = """\
The row `{control}` of training `{run}`: what its scores are compared with, on the test stimuli."""


def log_reconstruction(
    chosen: ModelSet, run: str, metrics: Mapping[str, float], note: str, artifacts: Sequence[Path]
) -> str:
    """Log a reconstruction to the study's experiment and return MLflow's id of the run.

    Parameters
    ----------
    chosen : what it was made with; its training run is named in a tag
    run : the reconstruction's name
    metrics : by name; what is not finite is left out
    note : the run's description
    artifacts : files, such as the gallery, which MLflow shows

    Raises
    ------
    ServerError
        MLflow cannot be reached, or refuses; the run is marked as failed where there is one.
    """
    about = {"kind": "reconstruction", "training": chosen.run, "study": chosen.study, "models": str(chosen)}
    tags = {**about, MLFLOW_RUN_NOTE: note}
    if chosen.mlflow_run:
        tags[MLFLOW_PARENT_RUN_ID] = chosen.mlflow_run
    with (
        explained(f"logging the reconstruction {run}"),
        logged_run(chosen.study, run, tags, "brain2video reconstruct") as run_id,
    ):
        _log_metrics(run_id, metrics, get_current_time_millis())
        for path in artifacts:
            client().log_artifact(run_id, str(path))
    return run_id


@contextmanager
def logged_run(
    study: str,
    name: str,
    tags: Mapping[str, str],
    command: str,
    started: datetime | None = None,
    finished: datetime | None = None,
) -> Iterator[str]:
    """Yield the id of a new run of the study's experiment, which ends with the block, as failed where that raises.

    Parameters
    ----------
    command : shown as the run's source
    started, finished : the run's times; by default those of the block
    """
    connection, where = client(), experiment(study)
    describe_experiment(connection, where)
    of_mlflow = {MLFLOW_USER: promoter(), MLFLOW_SOURCE_NAME: command, MLFLOW_SOURCE_TYPE: "LOCAL"}
    made = connection.create_run(where, start_time=_millis(started), run_name=name, tags={**of_mlflow, **tags})
    run_id = str(made.info.run_id)
    try:
        yield run_id
    except BaseException:
        connection.set_terminated(run_id, "FAILED", end_time=_millis(finished))
        raise
    connection.set_terminated(run_id, "FINISHED", end_time=_millis(finished))


def describe_experiment(connection: MlflowClient, experiment_id: str) -> None:
    """Give an experiment the note that MLflow shows at its top, unless it has one."""
    if not connection.get_experiment(experiment_id).tags.get(MLFLOW_RUN_NOTE):
        connection.set_experiment_tag(experiment_id, MLFLOW_RUN_NOTE, EXPERIMENT_NOTE)


@contextmanager
def logged_training(trained: TrainedSet) -> Iterator[str]:
    """Yield the id of a training's run, with all but its models logged, which the block logs."""
    tags = {"kind": "training", "training": trained.run, **search_tags(trained.record), "study": trained.study}
    commit = str(trained.record.get("git_commit", ""))
    tags |= {MLFLOW_GIT_COMMIT: commit.partition("+")[0], MLFLOW_RUN_NOTE: RUN_NOTE.format(run=trained.run)}
    times = trained.started, trained.finished
    with logged_run(trained.study, trained.run, tags, "brain2video train", *times) as run_id:
        connection, now = client(), _millis(trained.finished) or get_current_time_millis()
        settings = flattened(trained.settings)
        connection.log_batch(run_id, params=[Param(name, value) for name, value in settings.items()])
        if trained.settings:
            connection.log_text(run_id, yaml.safe_dump(trained.settings, sort_keys=False), SETTINGS)
        scores = {f"validation.{name}": score["value"] for name, score in trained.validation.items()}
        _log_metrics(run_id, scores | trained.metrics, now)
        _log_curves(run_id, trained, now)
        for path in trained.artifacts:
            log = connection.log_artifacts if path.is_dir() else connection.log_artifact
            log(run_id, str(path), *([path.name] if path.is_dir() else []))
        _log_rows(run_id, trained, now)
        yield run_id


def search_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a person searches a training's run and its versions by: subjects, route, data, commit, ZenML run."""
    tags = {name: str(record[name]) for name in ("route", "fingerprint", "git_commit", "zenml_run") if record.get(name)}
    tags |= {"subjects": ", ".join(record["subjects"])} if "subjects" in record else {}
    tags |= {f"target.{role}": target["name"] for role, target in record.get("targets", {}).items()}
    return tags | {f"dataset.{name}": digest for name, digest in record.get("stores", {}).items()}


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested settings by dotted key, as MLflow takes them: ``training.routes.ridge.regressor.kind``.

    Values are as YAML has them (`null`, `true`), lists on one line. A value of more than `LONGEST` characters is cut,
    and says so. A character that MLflow does not take in a key becomes `_`, and a key that is longer than it takes is
    left out; the artifact `SETTINGS` has all.
    """
    flat: dict[str, str] = {}
    for key, value in settings.items():
        name = re.sub(r"[^\w.: -]", "_", f"{prefix}{key}")
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}.")
        elif len(name) <= MAX_ENTITY_KEY_LENGTH:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            flat[name] = text if len(text) <= LONGEST else text[: LONGEST - len(CUT)] + CUT
    return flat


def log_datasets(trained: TrainedSet) -> None:
    """Name the stores that the models saw as the active run's inputs, by digest; their values stay where they are."""
    for name, digest in trained.record.get("stores", {}).items():
        source = CodeDatasetSource({"store": f"data/{trained.study}/features.zarr/{name}"})
        mlflow.log_input(MetaDataset(source=source, name=name, digest=digest[:DIGEST]), context="training")


def _log_metrics(run_id: str, values: Mapping[str, float], now: int) -> None:
    metrics = [Metric(name, float(value), now, 0) for name, value in values.items()]
    client().log_batch(run_id, metrics=[metric for metric in metrics if np.isfinite(metric.value)])


def _log_curves(run_id: str, trained: TrainedSet, now: int) -> None:
    points = [
        Metric(name, value, now, step)
        for name, curve in trained.curves.items()
        for step, value in curve
        if np.isfinite(value)
    ]
    for first in range(0, len(points), BATCH):
        report("logging curves to MLflow", first, len(points))
        client().log_batch(run_id, metrics=points[first : first + BATCH])
    if points:
        report("logging curves to MLflow", len(points), len(points))


def _log_rows(parent: str, trained: TrainedSet, now: int) -> None:
    """Log every route and every control as a run below its training's."""
    chosen, training = trained.record.get("route"), trained.settings.get("training", {})
    criterion = training.get("selection", {}).get("criterion", "correlation")
    for route, metrics in trained.routes.items():
        registered = ", which was registered" if route == chosen else ""
        note = ROUTE_NOTE.format(route=route, run=trained.run, chosen=registered, criterion=criterion)
        about = {"kind": "route", "route": route, "chosen": str(route == chosen).lower(), MLFLOW_RUN_NOTE: note}
        settings = training.get("routes", {}).get(route, {})
        _log_row(parent, trained, f"{trained.run} {route}", about, flattened(settings), metrics, now)
    for control, metrics in trained.controls.items():
        note = CONTROL_NOTE.format(control=control, run=trained.run)
        about = {"kind": "control", "control": control, MLFLOW_RUN_NOTE: note}
        _log_row(parent, trained, f"{trained.run} {control}", about, {}, metrics, now)


def _log_row(
    parent: str,
    trained: TrainedSet,
    name: str,
    about: Mapping[str, str],
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    now: int,
) -> None:
    tags = {"training": trained.run, "study": trained.study, MLFLOW_PARENT_RUN_ID: parent, **about}
    times = trained.started, trained.finished
    with logged_run(trained.study, name, tags, "brain2video train", *times) as run_id:
        client().log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        _log_metrics(run_id, metrics, now)


def _millis(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
