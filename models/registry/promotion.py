"""Moves the aliases of a whole set, or of nothing: `production` onto it, `previous` onto what it replaces.

MLflow has no transaction over several aliases. On one host a lock keeps two promotions apart; between hosts each reads
again what it has set, and the one that finds anything else raises. A mixed set is refused when it is resolved.
"""

import getpass
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from core.errors import RegistryError
from core.files import digest_json, exclusive
from models.registry.client import client, explained, local_database
from models.registry.production import aliased, versions_text
from models.registry.sets import PREVIOUS, PRODUCTION, ModelSet, model_name

SINCE = "production_since"
"""Tag of a registered model: which version was promoted when, by whom and why."""

Found = dict[str, ModelVersion | None]


def set_production(chosen: ModelSet, replaced: ModelSet | None, *, expected: dict[str, int | None], why: str) -> None:
    """Set `production` on every part of a set and `previous` on what it replaces, or change nothing.

    Parameters
    ----------
    replaced : the set that becomes `previous`; None leaves that alias where it is
    expected : by part, the version that had the alias when the set was chosen
    why : kept beside the alias, such as "better" or "forced"

    Raises
    ------
    RegistryError
        Another process promotes at the same time, or has promoted since.
    """
    connection, study, parts = client(), chosen.study, list(chosen.versions)
    with _alone(study), explained(f"promoting {study}"):
        before = {alias: aliased(study, parts, alias) for alias in (PRODUCTION, PREVIOUS)}
        if _numbers(before[PRODUCTION]) != expected:
            raise RegistryError(
                f"{study}: the alias '{PRODUCTION}' has moved meanwhile, to {versions_text(before[PRODUCTION])}; "
                "look at 'brain2video promote --dry-run' again"
            )
        try:
            if replaced is not None:
                _point(connection, study, PREVIOUS, replaced.versions)
            _point(connection, study, PRODUCTION, chosen.versions)
        except BaseException:
            for alias, found in before.items():
                _restore(connection, study, alias, found)
            raise
        _require_ours(study, chosen)
        _remember(connection, chosen, why)


def since(study: str, part: str, version: int) -> dict[str, str] | None:
    """Return when, by whom and why a part's version was promoted; None where it was set in the UI."""
    with explained(study):
        tag = client().get_registered_model(model_name(study, part)).tags.get(SINCE)
    promoted: dict[str, str] | None = json.loads(tag) if tag else None
    return promoted if promoted and promoted.get("version") == str(version) else None


def promoter() -> str:
    """Return who promotes: the server's user where one is named, else the system's."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


@contextmanager
def _alone(study: str) -> Iterator[None]:
    """Hold the host's lock for one registry and study; it lies beside a local database, else among temporary files."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    database = local_database(uri)
    folder = database.parent if database is not None else Path(tempfile.gettempdir())
    lock = folder / f".promotion-{digest_json([uri, study])[:12]}.lock"
    with exclusive(lock, RegistryError(f"{study}: is being promoted by another process; wait for it and look again")):
        yield


def _numbers(found: Found) -> dict[str, int | None]:
    return {part: None if version is None else int(version.version) for part, version in found.items()}


def _point(connection: MlflowClient, study: str, alias: str, versions: dict[str, int]) -> None:
    for part, version in versions.items():
        connection.set_registered_model_alias(model_name(study, part), alias, str(version))


def _restore(connection: MlflowClient, study: str, alias: str, found: Found) -> None:
    now = aliased(study, list(found), alias)
    for part, version in found.items():
        name = model_name(study, part)
        if version is not None:
            connection.set_registered_model_alias(name, alias, version.version)
        elif now[part] is not None:
            connection.delete_registered_model_alias(name, alias)


def _require_ours(study: str, chosen: ModelSet) -> None:
    """Raise where a process on another host has set the alias at the same time."""
    found = aliased(study, list(chosen.versions), PRODUCTION)
    if _numbers(found) != dict(chosen.versions):
        raise RegistryError(
            f"{study}: somebody else promoted at the same time: '{PRODUCTION}' is on {versions_text(found)}, not on "
            f"{chosen}; agree with them, then run 'brain2video promote --run {chosen.run}' again"
        )


def _remember(connection: MlflowClient, chosen: ModelSet, why: str) -> None:
    promoted = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "by": promoter(), "why": why, "run": chosen.run}
    for part, version in chosen.versions.items():
        tag = json.dumps({**promoted, "version": str(version)}, sort_keys=True)
        connection.set_registered_model_tag(model_name(chosen.study, part), SINCE, tag)
