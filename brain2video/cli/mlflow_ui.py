"""Serves the MLflow UI on this machine, with the light settings of `mlflow/serve.sh`, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rich.console import Console

from core.errors import ServerError

HOST = "127.0.0.1"
START_TIMEOUT_S = 120
TRAININGS = "/#/experiments?workflowType=machine_learning"
"""The page of experiments with MLflow's *Model training* chosen; its first page is about language models' traces."""
STOP_TIMEOUT_S = 10
"""How long the server may take to end before it is killed."""
SCRIPT = Path(__file__).resolve().parents[2] / "mlflow" / "serve.sh"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Server = subprocess.Popen[bytes]


def serve(port: int, *, browser: bool = True) -> None:
    """Start the server, print its address when it answers, show it in a browser, and serve until Ctrl-C.

    Raises
    ------
    ServerError
        The port is in use, a server is configured already, or this one ends before it answers.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith(("http:", "https:")):
        raise ServerError(f"MLFLOW_TRACKING_URI names a server already, {uri}: open it in a browser, or unset it")
    check_port(port)
    console, address = Console(soft_wrap=True), f"http://{HOST}:{port}"
    with _running(["sh", str(SCRIPT), HOST, str(port)]) as server:
        console.print("[dim]starting MLflow, which takes some seconds …[/]")
        _wait_until_it_answers(server, port)
        console.print(f"[green]MLflow[/] {address}{TRAININGS} [dim](Ctrl-C ends it)[/]")
        if browser:
            open_browser(f"{address}{TRAININGS}")
        try:
            code = server.wait()
        except KeyboardInterrupt:
            console.print("[dim]ending MLflow[/]")
            return
    raise ServerError(f"the MLflow server ended by itself with code {code}; see its lines above")


def open_browser(address: str) -> bool:
    """Open an address in a browser where stdout is a terminal with a display; return whether it was opened."""
    display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(sys.stdout.isatty() and display) and webbrowser.open(address)


def check_port(port: int) -> None:
    """Raise `ServerError` where the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port} on {HOST} is in use ({error.strerror}); choose another with --port, or end that server"
            ) from error


@contextmanager
def _running(command: list[str]) -> Iterator[Server]:
    """Run a server in a process group of its own, and end all of it with the block or with this process's end."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        server = subprocess.Popen(command, start_new_session=True)
        try:
            yield server
        finally:
            for number in STOP_SIGNALS:  # a second Ctrl-C must not leave the server behind
                signal.signal(number, signal.SIG_IGN)
            _end(server)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: Server) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline and _alive(server):
            time.sleep(0.1)


def _alive(server: Server) -> bool:
    """Return whether any process of the server's group is left."""
    server.poll()
    with suppress(ProcessLookupError):
        os.killpg(server.pid, 0)
        return True
    return False


def _wait_until_it_answers(server: Server, port: int) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # without the proxy of HTTP_PROXY
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            _explain_the_database()
            raise ServerError(f"the MLflow server ended with code {server.returncode}; see its lines above")
        try:
            with direct.open(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ServerError(
        f"the MLflow server did not answer on port {port} within {START_TIMEOUT_S} s; see its lines above"
    )


def _explain_the_database() -> None:
    """Raise where the server ended because of the database, such as one with another version's schema."""
    from models.registry.client import client

    client()
