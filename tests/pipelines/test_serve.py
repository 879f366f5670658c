"""`brain2video ui`: a real server that answers, says where, and is gone with all its processes after Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import pytest

from brain2video.cli import mlflow_ui as serving
from core.errors import ServerError

from ..servers import answers, end, free_port

PATIENCE_S = 120


def group_of_the_server(pid: int) -> list[int]:
    """The processes that a command started, and theirs."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listed.splitlines())}
    found, added = {pid}, True
    while added:
        more = {child for child, parent in parents.items() if parent in found} - found
        found, added = found | more, bool(more)
    return sorted(found - {pid})


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminated"])
def test_it_answers_says_where_and_ends_with_all_its_processes(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    port, said = free_port(), tmp_path / "said"
    code = "import sys, core.environment; sys.argv[0] = 'brain2video'; from brain2video.cli.app import main; main()"
    changed = {"BRAIN2VIDEO_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with said.open("wb") as output:
        command = subprocess.Popen(
            [sys.executable, "-c", code, "ui", "--port", str(port)],
            env={**environment, **changed},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while f"MLflow http://127.0.0.1:{port}" not in said.read_text():
            assert command.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            try:
                command.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
        assert answers(f"http://127.0.0.1:{port}/health")
        assert (tmp_path / "mlflow" / "store" / "mlflow.db").is_file(), "the store of the checkout that it serves"
        started = group_of_the_server(command.pid)
        assert len(started) >= 2, "MLflow and its worker"
        os.kill(command.pid, number)
        assert command.wait(60) == 0, said.read_text()
    finally:
        end(command)
    assert not [pid for pid in started if exists(pid)]
    assert not answers(f"http://127.0.0.1:{port}/health")
    assert "Traceback" not in re.sub(r"(?s).*ending MLflow", "", said.read_text())


@pytest.mark.parametrize(
    ("terminal", "display", "opened"), [(True, ":0", True), (True, "", False), (False, ":0", False)]
)
def test_a_browser_is_opened_for_a_person_alone(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, display: str, opened: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(asked.append(address)) or True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert serving.open_browser("http://127.0.0.1:5000") is opened
    assert asked == (["http://127.0.0.1:5000"] if opened else [])


def test_a_database_that_cannot_be_served_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlflow.db").write_text("something else, and long enough to be read as a header of a database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(ServerError, match="mlflow.db: the database cannot be opened .file is not a database"):
        serving.serve(free_port(), browser=False)
