"""The production set: which versions carry the alias, whether they fit together, and how the alias moves."""

from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from core.errors import RegistryError
from core.files import digest_folder
from models.parts import Encoder, Regressor, load_encoder, load_regressor
from models.registry.client import client, explained, versions_of
from models.registry.register import set_of_run, set_of_versions
from models.registry.sets import ENCODER, PRODUCTION, ModelSet, model_name


def resolve(study: str, parts: list[str], alias: str = PRODUCTION) -> ModelSet:
    """Return the versions that carry an alias; resolved once, a run then works with the numbers.

    Raises
    ------
    RegistryError
        A part has no version with the alias, or the versions come from different training runs.
    """
    connection = client()
    with explained(study):
        found = {part: _aliased(connection, model_name(study, part), alias) for part in parts}
    versions = {part: version for part, version in found.items() if version is not None}
    missing = [model_name(study, part) for part in parts if part not in versions]
    if missing:
        raise RegistryError(
            f"{study}: no version of {', '.join(missing)} has the alias '{alias}'; "
            f"run 'brain2video promote' or set the alias in the MLflow UI"
        )
    if len({version.tags.get("training_run") for version in versions.values()}) > 1:
        raise RegistryError(_mixed(study, versions, alias))
    try:
        return set_of_versions(study, versions)
    except KeyError as error:
        raise RegistryError(
            f"{study}: a version with the alias '{alias}' lacks the tag {error}, which training gives it; "
            "promote a version that 'brain2video train' registered"
        ) from error


def promote(study: str, parts: list[str], run: str | None = None, alias: str = PRODUCTION) -> ModelSet:
    """Set an alias on every part of a training run's set, or on none.

    Parameters
    ----------
    run : str, optional
        The training run; by default the newest one.
    """
    connection = client()
    chosen = _set_to_promote(study, parts, run)
    with explained(f"promoting {study}"):
        before = {part: _aliased(connection, model_name(study, part), alias) for part in parts}
        try:
            for part in parts:
                connection.set_registered_model_alias(model_name(study, part), alias, str(chosen.versions[part]))
        except BaseException:
            _restore(connection, study, before, alias)
            raise
    return chosen


def fetch(chosen: ModelSet) -> tuple[Encoder, dict[str, Regressor]]:
    """Load a set's encoder and regressors (by role), each checked against its registered digest."""
    folders = {part: _download(chosen, part) for part in chosen.versions}
    regressors = {
        part.removeprefix("regressor-"): load_regressor(folder) for part, folder in folders.items() if part != ENCODER
    }
    return load_encoder(folders[ENCODER]), regressors


def fetch_artifact(chosen: ModelSet, name: str) -> Path:
    """Return a local copy of a file that was logged with the set's training run."""
    with explained(f"{chosen.study}, run {chosen.run}"):
        return Path(mlflow.artifacts.download_artifacts(run_id=chosen.mlflow_run, artifact_path=name))


def _download(chosen: ModelSet, part: str) -> Path:
    name, version = model_name(chosen.study, part), chosen.versions[part]
    with explained(f"{name} v{version}"):
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}"))
    model = next((path.parent for path in folder.rglob("model.safetensors")), folder)
    if digest_folder(model) != chosen.digests[part]:
        raise RegistryError(
            f"{name} v{version}: its files are not those that were registered; restore them or promote another version"
        )
    return model


def _aliased(connection: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    try:
        return connection.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _set_to_promote(study: str, parts: list[str], run: str | None) -> ModelSet:
    runs = [str(v.tags.get("training_run")) for v in versions_of(model_name(study, ENCODER))]
    if not runs:
        raise RegistryError(f"{study}: no training run is registered; run 'brain2video train' first")
    if run is not None and run not in runs:
        raise RegistryError(f"{study}: no training run '{run}' is registered; the newest are {', '.join(runs[:3])}")
    found = (set_of_run(study, parts, name) for name in ([run] if run else runs))
    chosen = next((candidate for candidate in found if candidate is not None), None)
    if chosen is None:
        raise RegistryError(f"{study}: no training run registered all of {', '.join(parts)}; train again")
    return chosen


def _restore(connection: MlflowClient, study: str, before: dict[str, ModelVersion | None], alias: str) -> None:
    for part, version in before.items():
        name = model_name(study, part)
        if version is not None:
            connection.set_registered_model_alias(name, alias, version.version)
        elif _aliased(connection, name, alias) is not None:
            connection.delete_registered_model_alias(name, alias)


def _mixed(study: str, versions: dict[str, ModelVersion], alias: str) -> str:
    named = ", ".join(f"{part} v{v.version} (training {v.tags.get('training_run')})" for part, v in versions.items())
    runs = list(dict.fromkeys(str(v.tags.get("training_run")) for v in versions.values()))
    commands = " or ".join(f"'brain2video promote --run {run}'" for run in runs)
    return f"{study}: the alias '{alias}' is on parts of different trainings: {named}; complete one with {commands}"
