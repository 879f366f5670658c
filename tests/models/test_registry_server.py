"""The registry on real servers: all that the local store can, and what only a server can get wrong, in one line."""

import http.server
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.errors import RegistryError, ServerError
from models.registry import client as connecting
from models.registry.client import client, versions_of
from models.registry.production import aliased, fetch, read_artifact, resolve, set_production
from models.registry.register import register
from models.registry.sets import ModelSet, find_registered

from ..servers import (
    BUCKET,
    POSTGRES,
    TEAM_SCRIPT,
    Tracking,
    as_administrator,
    clean_environment,
    free_port,
    owner,
    serving_team,
    sql,
    team_settings,
)
from .test_registry import PARTS, trained

UNKNOWN = "ffffffffffff"
OLD = "acf3f17fdcc7"
"""A schema of MLflow 2."""


@pytest.fixture(scope="module")
def registered(tracking: Tracking, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ModelSet]]:
    """Two trainings, registered on a server by a user who is no administrator; nothing is in production."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        tracking.use(patch)
        yield [register(trained(folder, f"run{i}", f"f{i}", offset=i)) for i in (1, 2)]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address has been looked at yet."""
    monkeypatch.setattr(connecting, "_sound", set())


def promote(chosen: ModelSet) -> None:
    """Set the alias on a whole set, whatever had it before."""
    before = {part: int(version.version) if version else None for part, version in aliased("demo", PARTS).items()}
    set_production(chosen, None, expected=before, why="test")


def test_registered_promoted_resolved_and_fetched(tracking: Tracking, registered: list[ModelSet]) -> None:
    one, two = registered
    assert one.versions == {"encoder": 1, "regressor-z": 1}
    assert two.versions == {"encoder": 2, "regressor-z": 2}
    assert find_registered("demo", PARTS, "f1") == one
    for chosen in (two, one):
        promote(chosen)
        assert resolve("demo", PARTS) == chosen
    encoder, regressors = fetch(one)
    features = encoder.encode("sub-01", np.zeros((3, 5)))
    assert regressors["z"].predict("sub-01", features).shape == (3, 2, 2)
    assert read_artifact(one, "scores.json") == b"{}"


def test_the_artifacts_lie_where_the_server_keeps_them(tracking: Tracking, registered: list[ModelSet]) -> None:
    assert tracking.edit("regressor-z/model.safetensors", lambda content: content) >= 2
    assert str(client().get_experiment_by_name("demo").artifact_location).startswith("mlflow-artifacts:")


def test_an_artifact_edited_on_the_server_is_refused(tracking: Tracking, registered: list[ModelSet]) -> None:
    two = registered[1]
    assert tracking.edit("regressor-z/config.json", lambda content: content.replace(b'"latents"', b'"latentz"'))
    with pytest.raises(RegistryError, match=r"demo-regressor-z v2: its files are not those that were registered"):
        fetch(two)
    tracking.edit("regressor-z/config.json", lambda content: content.replace(b'"latentz"', b'"latents"'))
    fetch(two)


def test_another_user_may_promote(
    tracking: Tracking, registered: list[ModelSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.use(monkeypatch, who=1)
    promote(registered[1])
    assert resolve("demo", PARTS) == registered[1]


@pytest.mark.usefixtures("fresh")
def test_a_wrong_password_is_one_line(team_server: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    team_server.use(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-adas-password")
    line = refusal(rf"{team_server.uri}: the server refuses the user 'ada' \(401.*MLFLOW_TRACKING_PASSWORD")
    assert "not-adas-password" not in line
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    refusal("the server refuses a user without a name.*set MLFLOW_TRACKING_USERNAME")


def test_a_password_that_is_withdrawn_later_is_one_line_too(
    team_server: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    team_server.use(monkeypatch)
    client()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-adas-password")
    with pytest.raises(ServerError, match="does not know this user; set MLFLOW_TRACKING_USERNAME"):
        versions_of("demo-encoder")


def refusal(message: str) -> str:
    """Return the one line with which the registry refuses to connect, within the time that a person waits."""
    with pytest.raises(ServerError, match=message) as refused:
        client()
    line = str(refused.value)
    assert "\n" not in line
    return line


@pytest.mark.usefixtures("fresh")
def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "RETRIES", 1)
    monkeypatch.setattr(connecting, "CONNECT_S", 0.5)
    monkeypatch.setattr(connecting, "ANSWER_S", 0.5)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{free_port()}")
    assert "secret" not in refusal("no MLflow server answers .Connection refused.; start it, or correct MLFLOW_TRACK")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:secret@127.0.0.1:{free_port()}/mlflow")
    assert "secret" not in refusal("the database cannot be opened .*[Cc]onnection refused")


@pytest.mark.usefixtures("fresh")
def test_another_kind_of_server_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a page</html>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        refusal("answers, but is no MLflow server .200 OK.; correct MLFLOW_TRACKING_URI")
        server.shutdown()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, quick_mlflow: None) -> Path:
    """A database of the installed MLflow."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        client()
    return path


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("table_gone", [False, True])
def test_a_database_of_another_version_is_one_line_and_stays_as_it_is(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table_gone: bool
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(database, path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    for revision, message in (
        (UNKNOWN, f"MLflow's schema {UNKNOWN}, which the installed MLflow .* does not know, so a newer one wrote it"),
        (OLD, f"MLflow's schema {OLD}, older than .*; back it up, then run 'mlflow db upgrade sqlite:///"),
    ):
        with sqlite3.connect(path) as changed:
            changed.execute("update alembic_version set version_num = ?", [revision])
            if table_gone:  # then MLflow would upgrade it, or fail while it tries
                changed.execute("drop table if exists webhook_events")
        before = path.read_bytes()
        refusal(message)
        assert path.read_bytes() == before


@pytest.mark.usefixtures("fresh")
def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("something else, and long enough to be read as a header of a database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    refusal("the database cannot be opened .file is not a database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/nowhere/mlflow.db")
    refusal("/proc/nowhere: No such file or directory; set MLFLOW_TRACKING_URI elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "lab:5000")
    refusal("MLFLOW_TRACKING_URI is lab:5000: .*; expected http")


def test_an_address_is_looked_at_once(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(connecting, "_sound", set())
    monkeypatch.setattr(connecting, "_check_schema", looked.append)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    for _ in range(3):
        client()
    assert len(looked) == 1


MISSING = [
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_AUTH_DATABASE_URI",
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
]


def start_team_server(state: Path, **changed: str) -> str:
    """Return the one line with which the team's server refuses to start."""
    settings = team_settings("postgresql://mlflow:secret@127.0.0.1:9", "http://127.0.0.1:9", free_port(), state)
    environment = clean_environment(**{**settings, **changed})
    done = subprocess.run(["sh", str(TEAM_SCRIPT)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "secret@" not in done.stderr
    return done.stderr


@pytest.mark.servers
@pytest.mark.parametrize("name", MISSING)
def test_the_teams_server_names_a_setting_that_is_missing(tmp_path: Path, name: str) -> None:
    assert f"{name} is not set; set it to" in start_team_server(tmp_path, **{name: ""})
    assert not list(tmp_path.iterdir())


@pytest.mark.servers
def test_the_teams_server_refuses_other_stores(tmp_path: Path) -> None:
    refused = start_team_server(tmp_path, MLFLOW_BACKEND_STORE_URI="sqlite:///mlflow.db")
    assert "MLFLOW_BACKEND_STORE_URI is no PostgreSQL database; expected postgresql://" in refused
    refused = start_team_server(tmp_path, MLFLOW_ARTIFACTS_DESTINATION="/srv/artifacts")
    assert "MLFLOW_ARTIFACTS_DESTINATION is /srv/artifacts; expected s3://BUCKET/FOLDER" in refused
    assert "MLFLOW_BACKEND_STORE_URI: the database cannot be opened" in start_team_server(tmp_path)


def test_the_teams_first_start_wants_an_administrators_password(tmp_path: Path, postgres: str) -> None:
    for database in ("empty", "empty_users"):
        sql(f"{postgres}/postgres", f"create database {database}")
    stores = {"MLFLOW_BACKEND_STORE_URI": f"{postgres}/empty", "MLFLOW_AUTH_DATABASE_URI": f"{postgres}/empty_users"}
    refused = start_team_server(tmp_path, **stores, MLFLOW_AUTH_ADMIN_PASSWORD="")
    assert "MLFLOW_AUTH_ADMIN_PASSWORD is not set; the first start needs it" in refused


def test_the_teams_passwords_are_for_its_own_user_alone(team_server: Tracking) -> None:
    written = next(team_server.log.parent.glob("state/basic_auth.ini"))
    assert written.stat().st_mode & 0o077 == 0
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "mlflow server" in shown
    assert "mlflow:secret@" not in shown


def test_users_are_added_by_the_administrator_and_change_their_passwords(team_server: Tracking) -> None:
    uri, first, second = team_server.uri, ("eve", "eves-first-password"), ("eve", "eves-second-password")
    new = {"username": "eve", "password": first[1]}
    assert as_administrator(uri, "POST", "users/create", new, who=team_server.users[0]) == 403
    assert as_administrator(uri, "POST", "users/create", new) == 200
    changed = {"username": "eve", "current_password": first[1], "password": second[1]}
    assert as_administrator(uri, "PATCH", "users/update-password", changed, who=first) == 200
    changed |= {"current_password": second[1], "password": first[1]}
    assert as_administrator(uri, "PATCH", "users/update-password", changed, who=first) == 401
    assert as_administrator(uri, "PATCH", "users/update-password", changed, who=second) == 200


def test_a_restored_server_has_everything(
    team_server: Tracking, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back up and restore as mlflow/README.md says, into another bucket's folder."""
    team_server.use(monkeypatch)
    monkeypatch.setattr(connecting, "_sound", set())
    saved = register(trained(tmp_path, "kept", "kept").model_copy(update={"study": "kept"}))
    for database in ("mlflow", "mlflow_users"):
        dump = tmp_path / f"{database}.dump"
        sql(f"{postgres}/postgres", f"create database restored_{database}")
        for command in (
            ["pg_dump", "-Fc", f"{postgres}/{database}", "-f", str(dump)],
            ["pg_restore", "-d", f"{postgres}/restored_{database}", str(dump)],
        ):
            subprocess.run([POSTGRES[-1].with_name(command[0]), *command[1:]], check=True, capture_output=True)
    artifacts = owner(str(team_server.s3))
    for page in artifacts.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="artifacts/"):
        for item in page["Contents"]:
            source = {"Bucket": BUCKET, "Key": item["Key"]}
            artifacts.copy(source, BUCKET, item["Key"].replace("artifacts/", "restored/", 1))
    restored = {
        "MLFLOW_BACKEND_STORE_URI": f"{postgres}/restored_mlflow",
        "MLFLOW_AUTH_DATABASE_URI": f"{postgres}/restored_mlflow_users",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/restored",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "",
    }
    with serving_team(tmp_path, postgres, str(team_server.s3), **restored) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert find_registered("kept", PARTS, "kept") == saved
        encoder, regressors = fetch(saved)
        assert encoder.subjects == ["sub-01"]
        assert list(regressors) == ["z"]
