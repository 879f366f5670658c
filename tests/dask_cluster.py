"""A dask scheduler and its workers as processes that speak over TCP, for tests."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass
class Cluster:
    """What runs: where the scheduler listens, and its workers."""

    address: str
    workers: "list[subprocess.Popen[bytes]]"


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, **environment: str) -> Iterator[Cluster]:
    """Start a scheduler and workers with one thread each; all ends with the block."""
    if importlib.util.find_spec("distributed") is None:
        pytest.skip("the package 'distributed' is not installed")
    folder.mkdir(parents=True)
    settings = {**os.environ, "PYTHONPATH": str(CHECKOUT), "DASK_CONFIG": str(folder / "config"), **environment}
    told = folder / "scheduler.json"
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> None:
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard", "--scheduler-file", str(told)]
        with (folder / f"{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, env=settings, cwd=folder, stdout=log, stderr=log))

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0")
        while not told.is_file():
            assert started[0].poll() is None, (folder / "0.log").read_text()
            time.sleep(0.05)
        for _ in range(workers):
            start("worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder))
        yield Cluster(json.loads(told.read_text())["address"], started[1:])
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
