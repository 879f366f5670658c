"""Serves the MLflow UI on this machine, with the light settings of `mlflow/serve.sh`."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

from rich.console import Console

from core.errors import ServerError
from studies.home import home

HOST = "127.0.0.1"
PATIENCE_S = 120


def serve(port: int) -> None:
    """Start the server, say when it answers, and stay until it ends.

    Raises
    ------
    ServerError
        The port is in use, a server is configured already, or this one ends before it answers.
    """
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith(("http:", "https:")):
        raise ServerError(f"MLFLOW_TRACKING_URI names a server already, {uri}: open it in a browser, or unset it")
    check_port(port)
    command = ["sh", str(home() / "mlflow" / "serve.sh"), HOST, str(port)]
    server = subprocess.Popen(command)
    try:
        _wait_until_it_answers(server, port)
        Console().print(f"[green]MLflow[/] http://{HOST}:{port} [dim](Ctrl-C ends it)[/]")
        server.wait()
    finally:
        server.terminate()


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


def _wait_until_it_answers(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServerError(f"the MLflow server ended with code {server.returncode}; its lines above say why")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise ServerError(f"the MLflow server did not answer on port {port} within {PATIENCE_S} s; see its lines above")
