"""The connection to MLflow: where it is, its first-time set-up, and its errors as one line."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from core.errors import RegistryError, ServerError
from core.progress import report

SQLITE = "sqlite:///"


def client() -> MlflowClient:
    """Return a client of the tracking server, setting up a local database at its first use.

    Raises
    ------
    RegistryError
        No tracking server is configured.
    ServerError
        It does not answer.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise RegistryError(
            "MLFLOW_TRACKING_URI is not set; use the brain2video command, or set it to the tracking server's address"
        )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    database = _local_database(uri)
    first = database is not None and not database.exists()
    if database is not None and first:
        database.parent.mkdir(parents=True, exist_ok=True)
        report("setting up MLflow's database (first time only)", 0, 1)
    mlflow.set_tracking_uri(uri)
    with explained(uri):
        connection = MlflowClient()
        connection.search_experiments(max_results=1)
    if first:
        report("setting up MLflow's database (first time only)", 1, 1)
    return connection


def experiment(study: str) -> str:
    """Return the id of a study's experiment, created on first use with its artifacts beside a local database."""
    connection = client()
    found = connection.get_experiment_by_name(study)
    if found is not None:
        return str(found.experiment_id)
    database = _local_database(os.environ["MLFLOW_TRACKING_URI"])
    where = (database.parent / "artifacts" / study).resolve().as_uri() if database is not None else None
    return str(connection.create_experiment(study, artifact_location=where))


def versions_of(name: str) -> list[ModelVersion]:
    """Return a registered model's versions, newest first; none where there is no such model."""
    with explained(name):
        found = client().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: -int(version.version))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn MLflow's errors into one line."""
    try:
        yield
    except MlflowException as error:
        line = str(error).strip().splitlines()[0]
        raise ServerError(f"MLflow ({what}): {line}; check MLFLOW_TRACKING_URI and that the server runs") from error


def _local_database(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
