"""Real servers on the loopback: MLflow on SQLite, MLflow as a team runs it, on PostgreSQL and S3, with users; MariaDB.

`tests/conftest.py` imports the fixtures, so that the whole session shares each server.
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
TEAM_SCRIPT = CHECKOUT / "mlflow" / "serve_team.sh"
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
MARIADB = Path("/usr/sbin/mariadbd")
PATIENCE_S = 180
BUCKET = "team-artifacts"
ADMIN, USER, OTHER = ("admin", "first-password-of-all"), ("ada", "ada-has-a-password"), ("grace", "grace-has-one-too")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Tracking:
    """An MLflow server that runs.

    Attributes
    ----------
    kind : "sqlite" or "team"
    uri : its address
    log : what it says
    folder : where its artifacts lie, on disk
    s3 : the address of the server that holds its artifacts in a bucket
    users : name and password of who registers and who promotes, where it asks for them
    """

    kind: str
    uri: str
    log: Path
    folder: Path | None = None
    s3: str | None = None
    users: tuple[tuple[str, str], ...] = ()

    def use(self, patch: pytest.MonkeyPatch, who: int = 0) -> None:
        """Make this process a client, as one of the users where the server knows any."""
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", self.uri)
        if self.users:
            patch.setenv("MLFLOW_TRACKING_USERNAME", self.users[who][0])
            patch.setenv("MLFLOW_TRACKING_PASSWORD", self.users[who][1])

    def edit(self, ending: str, change: Callable[[bytes], bytes]) -> int:
        """Change the artifacts with such names where the server keeps them; return how many there were."""
        if self.folder is not None:
            paths = [path for path in self.folder.rglob("*") if path.as_posix().endswith(ending)]
            for path in paths:
                path.write_bytes(change(path.read_bytes()))
            return len(paths)
        bucket = owner(str(self.s3))
        pages = bucket.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        keys = [item["Key"] for page in pages for item in page["Contents"] if item["Key"].endswith(ending)]
        for key in keys:
            content = bucket.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            bucket.put_object(Bucket=BUCKET, Key=key, Body=change(content))
        return len(keys)


def owner(url: str) -> Any:
    """The client of whoever owns the bucket."""
    import boto3

    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", **secrets)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether anything answers there without an error."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings of MLflow and S3, and with the virtual environment's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", **more}


@contextmanager
def running(
    command: list[str], ready: Callable[[], bool], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server until the block ends, then end it with all its children."""
    with log.open("wb") as said:
        server = subprocess.Popen(
            command, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[:3]} did not start:\n{log.read_text()[-3000:]}")
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.1)
        yield server
    finally:
        end(server)


def end(server: "subprocess.Popen[bytes]") -> None:
    """End a server and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)


@pytest.fixture(scope="session")
def sqlite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """MLflow's plain server on SQLite, which hands on artifacts of a folder of its own."""
    folder, port = tmp_path_factory.mktemp("sqlite-server"), free_port()
    uri = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = clean_environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with running(command, lambda: answers(f"{uri}/health"), environment, folder / "log"):
        yield Tracking("sqlite", uri, folder / "log", folder=folder / "artifacts")


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server, without a database's name."""
    if not POSTGRES:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # PostgreSQL refuses to run as root, and its own user cannot reach into the tests' own folder.
    folder, port = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp")), free_port()
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    try:
        (folder / "password").write_text("secret")
        if as_user:
            shutil.chown(folder, "postgres", "postgres")
            shutil.chown(folder / "password", "postgres", "postgres")
        programs = POSTGRES[-1].parent
        options = ["-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={folder}/password", "--no-sync", "--locale=C"]
        made = [*as_user, str(programs / "initdb"), "-D", str(folder / "cluster"), "-E", "UTF8", *options]
        subprocess.run(made, check=True, capture_output=True, cwd="/tmp")
        settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "shared_buffers=16MB"]
        settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        command = [*as_user, str(programs / "postgres"), "-D", str(folder / "cluster")]
        command += [word for setting in settings for word in ("-c", setting)]
        address = f"postgresql://mlflow:secret@127.0.0.1:{port}"
        log = tmp_path_factory.mktemp("postgres") / "log"
        with running(command, lambda: sql(f"{address}/postgres", "select 1"), os.environ, log):
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sql(uri: str, statement: str) -> bool:
    """Run a statement; False where the database does not answer."""
    import psycopg2

    try:
        connection = psycopg2.connect(uri, connect_timeout=5)
    except psycopg2.OperationalError:
        return False
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()
    return True


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MariaDB server, without a database's name; the user may make databases."""
    if not MARIADB.exists():
        pytest.skip("MariaDB is not installed (Debian: apt-get install mariadb-server)")
    # As PostgreSQL above: not as root, and in a folder that its own user reaches.
    folder, port = Path(tempfile.mkdtemp(prefix="mariadb-", dir="/tmp")), free_port()
    data, first = folder / "data", folder / "first.sql"
    first.write_text(
        "create user zenml@'127.0.0.1' identified by 'secret';\n"
        "grant all on *.* to zenml@'127.0.0.1';\n"
        "delete from mysql.global_priv where User = 'root';\n"
        "flush privileges;\n"
    )
    as_user = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"] if os.geteuid() == 0 else []
    try:
        if as_user:
            shutil.chown(folder, "mysql", "mysql")
            shutil.chown(first, "mysql", "mysql")
        made = [*as_user, "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        environment = {**os.environ, "TMPDIR": str(folder)}  # the tests' own may lie where that user cannot reach
        subprocess.run(made, check=True, capture_output=True, cwd="/tmp", env=environment)
        command = [*as_user, str(MARIADB), "--no-defaults", f"--datadir={data}", f"--init-file={first}"]
        command += ["--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder}/socket", "--skip-name-resolve"]
        command += ["--skip-log-bin", "--performance-schema=off", "--innodb-buffer-pool-size=64M"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=nosync"]
        address = f"mysql://zenml:secret@127.0.0.1:{port}"
        log = tmp_path_factory.mktemp("mariadb") / "log"
        with running(command, lambda: mysql(address, "select 1") is not None, environment, log):
            yield address
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mysql(uri: str, statement: str) -> list[tuple[Any, ...]] | None:
    """Run a statement and return its rows; None where the database does not answer."""
    import pymysql

    to = urllib.parse.urlsplit(uri)
    who = {"user": to.username, "password": to.password or "", "database": to.path.removeprefix("/") or None}
    try:
        connection = pymysql.connect(host=str(to.hostname), port=int(to.port or 3306), autocommit=True, **who)
    except pymysql.OperationalError:
        return None
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks S3 and holds an empty bucket; a process of its own, which no test resets."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    url, log = f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("s3") / "log"
    with running(command, lambda: answers(f"{url}/moto-api/data.json"), clean_environment(), log):
        owner(url).create_bucket(Bucket=BUCKET)
        yield url


def team_settings(postgres: str, bucket: str, port: int, state: Path) -> dict[str, str]:
    """What an administrator sets before the team's server starts."""
    return {
        "MLFLOW_BACKEND_STORE_URI": f"{postgres}/mlflow",
        "MLFLOW_AUTH_DATABASE_URI": f"{postgres}/mlflow_users",
        "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a text that is the same at every start",
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_S3_ENDPOINT_URL": bucket,
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_TEAM_STATE": str(state),
        **KEYS,
    }


@pytest.fixture(scope="session")
def team_server(tmp_path_factory: pytest.TempPathFactory, postgres: str, bucket: str) -> Iterator[Tracking]:
    """MLflow as `mlflow/serve_team.sh` starts it, with two users who are no administrators."""
    folder = tmp_path_factory.mktemp("team-server")
    for database in ("mlflow", "mlflow_users"):
        assert sql(f"{postgres}/postgres", f"create database {database}")
    with serving_team(folder, postgres, bucket) as uri:
        for name, password in (USER, OTHER):
            asked = as_administrator(uri, "POST", "users/create", {"username": name, "password": password})
            assert asked == 200
        yield Tracking("team", uri, folder / "log", s3=bucket, users=(USER, OTHER))


@contextmanager
def serving_team(folder: Path, postgres: str, bucket: str, **changed: str) -> Iterator[str]:
    """Run the team's server and yield its address."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    environment = clean_environment(**{**team_settings(postgres, bucket, port, folder / "state"), **changed})
    with running(["sh", str(TEAM_SCRIPT)], lambda: answers(f"{uri}/health"), environment, folder / "log"):
        yield uri


def as_administrator(uri: str, method: str, path: str, content: dict[str, str], who: tuple[str, str] = ADMIN) -> int:
    """Ask a team's server for something about its users, as mlflow/README.md shows; return the status."""
    secret = base64.b64encode(":".join(who).encode()).decode()
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{path}",
        data=json.dumps(content).encode(),
        headers={"Authorization": f"Basic {secret}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="session", params=[pytest.param("sqlite", marks=pytest.mark.full), "team"])
def tracking(request: pytest.FixtureRequest) -> Tracking:
    """Each of the two servers."""
    server: Tracking = request.getfixturevalue(f"{request.param}_server")
    return server
