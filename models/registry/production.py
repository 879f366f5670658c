"""The production set: which versions carry an alias, whether they fit together, their files, and promotion.

Promotion moves the aliases of a whole set, or of nothing. MLflow has no transaction over several aliases: on one host a
lock keeps two promotions apart; between hosts each reads again what it has set, and the one that finds anything else
raises. A mixed set is refused when it is resolved.
"""

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from core.errors import RegistryError, ServerError
from core.files import digest_folder, digest_json, exclusive
from core.progress import report
from models.decoders.build import Encoder, Regressor, load_encoder, load_regressor
from models.registry.client import client, explained, is_unreachable, local_database
from models.registry.history import Entry, entry, read_history, write_history
from models.registry.sets import (
    ENCODER,
    PREVIOUS,
    PRODUCTION,
    ModelSet,
    model_name,
    role_of,
    set_of_run,
    set_of_versions,
)
from models.weights.tensor_file import TENSORS

Found = dict[str, ModelVersion | None]
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""How MLflow answers for an alias, a version or a model that is not there."""


def aliased(study: str, parts: list[str], alias: str = PRODUCTION) -> Found:
    """Return the version of each part that carries an alias, None where none does."""
    connection = client()

    def find(name: str) -> ModelVersion | None:
        try:
            return connection.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise

    with explained(study):
        return {part: find(model_name(study, part)) for part in parts}


def resolve(study: str, parts: list[str], alias: str = PRODUCTION) -> ModelSet:
    """Return the versions that carry an alias; resolved once, a run then works with the numbers.

    Raises
    ------
    RegistryError
        A part has no version with the alias, the versions come from different training runs, or they do not fit.
    """
    found = aliased(study, parts, alias)
    versions = {part: version for part, version in found.items() if version is not None}
    if not versions:
        raise RegistryError(
            f"{study}: no version of {', '.join(model_name(study, part) for part in parts)} has the alias '{alias}'; "
            "run 'brain2video promote' or set the alias in the MLflow UI"
        )
    if len(versions) < len(parts) or len({_run(version) for version in versions.values()}) > 1:
        raise RegistryError(_mixed(study, parts, found, alias))
    _require_own_encoder(study, versions)
    try:
        return set_of_versions(study, versions)
    except KeyError as error:
        raise RegistryError(
            f"{study}: a version with the alias '{alias}' lacks the tag {error}, which training gives it; "
            "promote a version that 'brain2video train' registered"
        ) from error


def versions_text(found: Found) -> str:
    """Return which versions carry an alias: ``encoder v2, regressor-z none``."""
    return ", ".join(f"{part} {f'v{version.version}' if version else 'none'}" for part, version in found.items())


def fetch(chosen: ModelSet) -> tuple[Encoder, dict[str, Regressor]]:
    """Load a set's encoder and regressors (by role), each checked against its registered digest."""
    with _scratch() as scratch:
        folders = {part: _download(chosen, part, scratch) for part in chosen.versions}
        regressors = {role_of(part): load_regressor(folder) for part, folder in folders.items() if part != ENCODER}
        return load_encoder(folders[ENCODER]), regressors


def read_artifact(chosen: ModelSet, name: str) -> bytes:
    """Return the content of a file that was logged with the set's training run."""
    with explained(f"{chosen.study}, run {chosen.run}"), _scratch() as scratch:
        file = mlflow.artifacts.download_artifacts(run_id=chosen.mlflow_run, artifact_path=name, dst_path=scratch)
        return Path(file).read_bytes()


@contextmanager
def _scratch() -> Iterator[str | None]:
    """Yield where a server's files are put while they are read; None for a local store, whose own are read."""
    if local_database(os.environ["MLFLOW_TRACKING_URI"]) is not None:
        yield None
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder


def _download(chosen: ModelSet, part: str, scratch: str | None) -> Path:
    """Return the folder of a part's files, having made sure that they are those that were registered."""
    name, version = model_name(chosen.study, part), chosen.versions[part]
    again = "restore them, or promote another version"
    into = None if scratch is None else tempfile.mkdtemp(dir=scratch)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{version}", dst_path=into))
    except (MlflowException, OSError) as error:
        if is_unreachable(error):
            with explained(f"{name} v{version}"):
                raise
        line = str(error).strip().splitlines()[0]
        raise RegistryError(f"{name} v{version}: its files cannot be had ({line}); {again}") from error
    model = next((path.parent for path in folder.rglob(TENSORS)), None)
    if model is None:
        held = ", ".join(sorted(path.name for path in folder.rglob("*") if path.is_file())[:6]) or "nothing"
        raise RegistryError(f"{name} v{version}: holds no {TENSORS}, found {held}; no other file is loaded; {again}")
    if digest_folder(model) != chosen.digests[part]:
        raise RegistryError(f"{name} v{version}: its files are not those that were registered; {again}")
    return model


def why_damaged(chosen: ModelSet) -> str | None:
    """Return why a set's files are not those that were registered; None where they are, or are not in a local store."""
    if local_database(os.environ["MLFLOW_TRACKING_URI"]) is None:
        return None  # a server's would have to be fetched
    try:
        for part in chosen.versions:
            _download(chosen, part, None)
    except RegistryError as error:
        return str(error).partition("; restore")[0]
    return None


def _run(version: ModelVersion) -> str:
    return str(version.tags.get("training_run", "unknown"))


def _require_own_encoder(study: str, versions: dict[str, ModelVersion]) -> None:
    """Raise where a regressor was trained on another encoder's features, whatever its training run."""
    encoder = versions[ENCODER]
    for part, version in versions.items():
        trained_on, own = version.tags.get("encoder_digest"), encoder.tags.get("digest")
        if trained_on != own:
            raise RegistryError(
                f"{study}: {part} v{version.version} was trained on the encoder {str(trained_on)[:12]}, encoder "
                f"v{encoder.version} is {str(own)[:12]}; promote versions of one training: 'brain2video promote'"
            )


def _mixed(study: str, parts: list[str], found: Found, alias: str) -> str:
    """Return which versions carry the alias, which fit together, and the commands that make one set of them."""
    held = {part: version for part, version in found.items() if version is not None}
    on_parts = ", ".join(
        f"{part} v{held[part].version} (training {_run(held[part])})" if part in held else f"{part} none"
        for part in parts
    )
    runs = list(dict.fromkeys(_run(version) for version in held.values()))
    whole = {run: set_of_run(study, parts, run) for run in runs}
    fits = "; ".join(
        f"of training {run} {chosen} fit together: 'brain2video promote --run {run}'"
        for run, chosen in whole.items()
        if chosen is not None
    )
    advice = fits or "none of these trainings registered all parts: 'brain2video promote' takes one that did"
    return f"{study}: the alias '{alias}' is on parts that do not make one set: {on_parts}; {advice}"


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
    promoted = entry(chosen, by=promoter(), why=why)
    with _alone(study), explained(f"promoting {study}"):
        before = {alias: aliased(study, parts, alias) for alias in (PRODUCTION, PREVIOUS)}
        known, current = history(study, parts), _whole(study, parts, PRODUCTION)
        if current is not None and not _ends_with(known, current):
            known.append(entry(current))
        if _numbers(before[PRODUCTION]) != expected:
            raise RegistryError(
                f"{study}: the alias '{PRODUCTION}' has moved meanwhile, to {versions_text(before[PRODUCTION])}; "
                "look at 'brain2video promote --dry-run' again"
            )
        try:
            if replaced is not None:
                _point(connection, study, PREVIOUS, replaced.versions)
            _point(connection, study, PRODUCTION, chosen.versions)
            write_history(study, [*known, promoted])
        except BaseException:
            for alias, found in before.items():
                _restore(connection, study, alias, found)
            if known:
                with suppress(MlflowException):  # what is in production is read from the aliases
                    write_history(study, known)
            raise
        _require_ours(study, chosen)


def history(study: str, parts: list[str]) -> list[Entry]:
    """Return what is known to have been in production, oldest first; see `models.registry.history`."""
    return read_history(study, _whole(study, parts, PREVIOUS))


def note_production(study: str, parts: list[str]) -> tuple[ModelSet | None, list[Entry]]:
    """Return the whole set that is in production, and what is known to have been there, oldest first.

    What the UI put there is added to the registry, and `previous` is set on what it replaced. Who may not write to the
    registry, or comes while another process promotes, changes nothing: the next command adds it.
    """
    current, known = _whole(study, parts, PRODUCTION), history(study, parts)
    if current is None or _ends_with(known, current):
        return current, known
    try:
        with _alone(study), explained(f"noting what is in production of {study}"):
            now, before = _whole(study, parts, PRODUCTION), history(study, parts)
            if now == current and not _ends_with(before, current):
                write_history(study, [*before, entry(current)])
                replaced = set_of_run(study, parts, before[-1].run) if before else None
                if replaced is not None:
                    _point(client(), study, PREVIOUS, replaced.versions)
            known = before
    except (RegistryError, ServerError) as error:
        report(f"what the UI put into production is not noted: {error}", 1, 1)
    return current, known if _ends_with(known, current) else [*known, entry(current)]


def _whole(study: str, parts: list[str], alias: str) -> ModelSet | None:
    """Return the set that carries an alias; None where there is none, or no whole one."""
    try:
        return resolve(study, parts, alias)
    except RegistryError:
        return None


def _ends_with(known: list[Entry], chosen: ModelSet) -> bool:
    return bool(known) and known[-1].run == chosen.run


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
