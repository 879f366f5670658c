"""ZenML's server on MariaDB, as `docs/scale.md` starts it, with the key of a service account for its clients."""

import importlib.util
import json
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .servers import answers, clean_environment, free_port, mysql, running

DATABASE = "zenml"
WHO, PASSWORD = "admin", "first-password-of-zenml"
NEEDED = ("jwt", "multipart", "secure", "tldextract")


@dataclass(frozen=True)
class ZenMLServer:
    """A ZenML server that runs.

    Attributes
    ----------
    uri : its address
    database : the address of the database that holds its rows
    key : what a client shows, a service account's key
    """

    uri: str
    database: str
    key: str

    def client(self) -> dict[str, str]:
        """Return what a client sets; without the last, ZenML would write the key into a file of its own."""
        settings = {"ZENML_STORE_URL": self.uri, "ZENML_STORE_API_KEY": self.key}
        return {**settings, "DISABLE_CREDENTIALS_DISK_CACHING": "true"}


@pytest.fixture(scope="session")
def zenml_server(tmp_path_factory: pytest.TempPathFactory, mariadb: str) -> Iterator[ZenMLServer]:
    """ZenML's server on a database of its own, activated, with one service account."""
    if not all(importlib.util.find_spec(name) for name in NEEDED):
        pytest.skip("ZenML's server is not installed (pip install -c constraints.txt '.[server]')")
    folder, port = tmp_path_factory.mktemp("zenml-server"), free_port()
    uri, database = f"http://127.0.0.1:{port}", f"{mariadb}/{DATABASE}"
    command = [sys.executable, "-m", "uvicorn", "zenml.zen_server.zen_server_api:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    environment = without_zenml(
        ZENML_SERVER="true",
        ZENML_STORE_URL=database,
        ZENML_SERVER_JWT_SECRET_KEY="a text of 32 letters or more, the same at every start",
        ZENML_SECRETS_STORE_TYPE="sql",
        ZENML_SECRETS_STORE_ENCRYPTION_KEY="another such text, without which secrets are readable",
        ZENML_CONFIG_PATH=str(folder / "state"),
        ZENML_ANALYTICS_OPT_IN="false",
        BRAIN2VIDEO_HOME=str(folder),
    )
    with running(command, lambda: answers(f"{uri}/health"), environment, folder / "log"):
        ask(uri, "PUT", "activate", {"admin_username": WHO, "admin_password": PASSWORD})
        yield ZenMLServer(uri, database, account(uri, "lab"))


def without_zenml(**more: str) -> dict[str, str]:
    """The environment without settings of ZenML, MLflow and S3."""
    kept = {name: value for name, value in clean_environment().items() if not name.startswith("ZENML_")}
    return {**kept, **more}


def account(uri: str, name: str) -> str:
    """Make a service account as the administrator, and return its key."""
    form = f"username={WHO}&password={PASSWORD}".encode()
    token = ask(uri, "POST", "login", form)["access_token"]
    made = ask(uri, "POST", "service_accounts", {"name": name, "active": True}, token)
    key = ask(uri, "POST", f"service_accounts/{made['id']}/api_keys", {"name": "first"}, token)
    return str(key["body"]["key"])


def ask(uri: str, method: str, path: str, content: dict[str, Any] | bytes, token: str | None = None) -> Any:
    """Ask ZenML's server and return its answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    kind = "application/x-www-form-urlencoded" if isinstance(content, bytes) else "application/json"
    headers = {"Content-Type": kind, **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(f"{uri}/api/v1/{path}", data=body, headers=headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return json.load(answer)


def rows(server: ZenMLServer, statement: str) -> list[tuple[Any, ...]]:
    """What the database itself says."""
    found = mysql(server.database, statement)
    assert found is not None
    return found
