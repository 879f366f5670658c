"""The connection to MLflow: where it is, its first-time set-up, and its errors as one line."""

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds, read_mlflow_creds
from mlflow.utils.rest_utils import http_request
from requests import RequestException, Response
from sqlalchemy import create_engine
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from core.errors import RegistryError, ServerError
from core.files import one_at_a_time
from core.moved import SQLITE, follow_mlflow
from core.progress import report

SET_UP = "setting up MLflow's database (first time only)"
RETRIES, BACKOFF = 2, 1
"""How an address that does not answer is asked again, where the user sets nothing; MLflow's own 7 take minutes."""
CONNECT_S, ANSWER_S = 3.0, 4.0
BUSY = (429, 500, 502, 503, 504)
USER = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_sound: set[str] = set()
"""Addresses that this process has found to be MLflow's."""


def client() -> MlflowClient:
    """Return a client of the tracking server, setting up a local database at its first use.

    The first call in a process looks whether the address is MLflow's and fits the installed version.

    Raises
    ------
    RegistryError
        No tracking server is configured.
    ServerError
        It does not answer, is none, refuses the user, or its database is of another version's schema.
    NotAllowed
        A local database was moved and cannot be written; see `core.moved`.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise RegistryError(
            "MLFLOW_TRACKING_URI is not set; use the brain2video command, or set it to the tracking server's address"
        )
    database = local_database(uri)
    if uri in _sound and (database is None or database.exists()):
        return _connect(uri)
    if database is None:
        _check(uri)
        return _connect(uri)
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{database.parent}: {error.strerror}; set MLFLOW_TRACKING_URI elsewhere") from error
    lock = database.with_name(f".{database.name}.lock")
    with one_at_a_time(lock) if os.access(database.parent, os.W_OK) else nullcontext():
        first = not database.exists()
        if first:
            report(SET_UP, 0, 1)
        else:
            _check(uri)
        connection = _connect(uri)
    if first:
        report(SET_UP, 1, 1)
    return connection


def _connect(uri: str) -> MlflowClient:
    """Return a client of an address that was checked, or of a new database, which MLflow then sets up."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    for line in follow_mlflow(uri):
        report(line, 1, 1)
    if mlflow.get_tracking_uri() != uri:  # setting it anew resets MLflow's tracing, which takes a moment
        mlflow.set_tracking_uri(uri)
    with explained(uri):
        connection = MlflowClient()
    _sound.add(uri)
    return connection


def experiment(study: str) -> str:
    """Return the id of a study's experiment, created on first use with its artifacts beside a local database.

    Raises `RegistryError` as `require_experiment` does.
    """
    connection = client()
    database = local_database(os.environ["MLFLOW_TRACKING_URI"])
    where = (database.parent / "artifacts" / study).resolve().as_uri() if database is not None else None
    with explained(study):
        found = connection.get_experiment_by_name(study)
        _require_active(found)
        return str(found.experiment_id if found else connection.create_experiment(study, artifact_location=where))


def require_experiment(study: str) -> None:
    """Raise `RegistryError` where a study's experiment was deleted, as in MLflow's UI: nothing can be logged to it."""
    if is_set_up():
        with explained(study):
            _require_active(client().get_experiment_by_name(study))


def is_set_up() -> bool:
    """Return whether there is a registry: a server, or a local database that something was logged to before."""
    database = local_database(os.environ.get("MLFLOW_TRACKING_URI", ""))
    return database is None or database.exists()


def _require_active(found: Experiment | None) -> None:
    if found is not None and found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise RegistryError(
            f"{found.name}: its experiment was deleted in MLflow, so nothing can be logged to it; bring it back with "
            f"'MLFLOW_TRACKING_URI={_masked(os.environ['MLFLOW_TRACKING_URI'])} mlflow experiments restore "
            f"--experiment-id {found.experiment_id}'"
        )


def versions_of(name: str) -> list[ModelVersion]:
    """Return a registered model's versions, newest first; none where there is no such model."""
    with explained(name):
        found = client().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: -int(version.version))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the errors of MLflow, of its database and of the way to its server into one line."""
    try:
        yield
    except (MlflowException, CommandError, SQLAlchemyError, RequestException) as error:
        raise ServerError(_line(what, error)) from error


def is_unreachable(error: BaseException) -> bool:
    """Return whether an error means that a server did not answer, rather than its answer."""
    return isinstance(error, RequestException) or "failed with exception" in str(error)


def _line(what: str, error: Exception) -> str:
    message = str(error).strip() or type(error).__name__
    code = getattr(error, "error_code", "")
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED") or " 401" in message:
        advice = f"the server does not know this user; {USER}"
    elif code == "PERMISSION_DENIED" or " 403" in message:
        advice = f"ask the server's administrator to allow it, or {USER} to another user"
    elif code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS"):
        advice = "see the MLflow UI ('brain2video ui') for what is there"
    else:
        advice = "check MLFLOW_TRACKING_URI and that the server runs"
    return _masked(f"MLflow ({what}): {message.splitlines()[0].rstrip('.')}; {advice}")


def _check(uri: str) -> None:
    """Raise unless the address is MLflow's and fits the installed version."""
    if uri.startswith(("http:", "https:")):
        _check_server(uri)
    else:
        _check_schema(uri)


def _check_server(uri: str) -> None:
    """Raise unless an MLflow server answers, and lets this user in."""
    calm = {} if MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set() else {"max_retries": RETRIES, "backoff_factor": BACKOFF}
    wait = MLFLOW_HTTP_REQUEST_TIMEOUT.get() if MLFLOW_HTTP_REQUEST_TIMEOUT.is_set() else (CONNECT_S, ANSWER_S)
    search = {"endpoint": "/api/2.0/mlflow/experiments/search", "method": "POST", "json": {"max_results": 1}}
    try:
        answer = http_request(get_default_host_creds(uri), **search, **calm, timeout=wait, raise_on_status=False)
    except MlflowException as error:
        raise ServerError(
            _masked(f"{uri}: no MLflow server answers ({_reason(error)}); start it, or correct MLFLOW_TRACKING_URI")
        ) from error
    fault = _fault(answer)
    if fault:
        raise ServerError(_masked(f"{uri}: {fault}"))


def _fault(answer: Response) -> str | None:
    """Return what is wrong with a server's answer to a search for experiments."""
    answer_text = f"{answer.status_code} {answer.reason}".strip()
    user = read_mlflow_creds().username
    if answer.status_code == 401:
        return f"the server refuses {f'the user {user!r}' if user else 'a user without a name'} ({answer_text}); {USER}"
    if answer.status_code == 403:
        words = " ".join(answer.text.split())[:120]
        return f"the server forbids {user or 'this machine'} to use it ({answer_text}: {words}); ask its administrator"
    if answer.status_code in BUSY:
        return f"the server is in trouble ({answer_text}); see its log, or try again later"
    try:
        ours = answer.ok and json.loads(answer.text).keys() <= {"experiments", "next_page_token"}
    except (ValueError, AttributeError):
        ours = False
    return None if ours else f"answers, but is no MLflow server ({answer_text}); correct MLFLOW_TRACKING_URI"


def _reason(error: Exception) -> str:
    """Return why a request failed, out of what MLflow, requests and urllib3 wrapped around it."""
    cause = error.__cause__ or error.__context__ or error
    inner = getattr(cause.args[0] if cause.args else None, "reason", None) or cause
    words = str(inner).split(": ")[-1].strip(" .")
    return re.sub(r"\[Errno -?\d+\] ", "", words)


def _check_schema(uri: str) -> None:
    """Raise unless a database opens with the installed MLflow's schema, or none; MLflow would upgrade it unasked."""
    found = _revision(uri)
    if found is None:
        return
    known = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    if found == known.get_current_head():
        return
    has = f"{_masked(uri)}: the database has MLflow's schema {found}"
    try:
        known.get_revision(found)
    except CommandError as error:
        raise ServerError(
            f"{has}, which the installed MLflow {mlflow.__version__} does not know, so a newer one wrote it; install "
            "that version, or set MLFLOW_TRACKING_URI to another database"
        ) from error
    raise ServerError(
        f"{has}, older than that of the installed MLflow {mlflow.__version__}; back it up, then run "
        f"'mlflow db upgrade {_masked(uri)}'"
    )


def _revision(uri: str) -> str | None:
    """Return the schema's revision, or None in an empty database; one that cannot be reached is tried again."""
    try:
        patience = {"connect_timeout": int(CONNECT_S)} if uri.startswith("postgresql") else {}
        engine = create_engine(uri, poolclass=NullPool, connect_args=patience)
        for left in reversed(range(RETRIES + 1)):
            try:
                with engine.connect() as connection:
                    found = MigrationContext.configure(connection).get_current_revision()
                return None if found is None else str(found)
            except OperationalError:
                if not left:
                    raise
                time.sleep(BACKOFF)
    except ImportError as error:
        raise ServerError(f"{_masked(uri)}: {error}; install it with pip install 'brain2video[server]'") from error
    except ArgumentError as error:
        raise ServerError(
            f"MLFLOW_TRACKING_URI is {_masked(uri)}: {error}; expected http://… or sqlite:///…"
        ) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise ServerError(
            _masked(
                f"{uri}: the database cannot be opened ({reason}); correct MLFLOW_TRACKING_URI, or start its server"
            )
        ) from error
    return None


def _masked(text: str) -> str:
    """Return a text without the passwords of the addresses in it."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)


def local_database(uri: str) -> Path | None:
    """Return the file of a local database, or None for any other address."""
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
