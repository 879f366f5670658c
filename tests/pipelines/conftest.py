"""The command line in processes of its own, as a person runs it, with one home for all tests of the room."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from playwright.sync_api import Browser, sync_playwright

from brain2video.cli import app

from ..conftest import write_arrays
from ..studies.conftest import STUDY

CHECKOUT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
Here = Callable[..., "Outcome"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def cli_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a small study of arrays; ZenML's database is set up there once."""
    folder = tmp_path_factory.mktemp("cli") / "home"
    (folder / "configs").mkdir(parents=True)
    source = write_arrays(folder / "recordings", np.random.default_rng(1))
    content = {**STUDY, "source": {"kind": "arrays", "path": str(source)}}
    (folder / "configs" / "small.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(scope="session")
def environment(cli_home: Path) -> dict[str, str]:
    """The environment of a user who has set nothing but the home."""
    ours = ("ZENML_", "MLFLOW_", "DVC_", "AUTO_OPEN")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "BRAIN2VIDEO_HOME": str(cli_home), "HOME": str(cli_home.parent), "PYTHONPATH": str(CHECKOUT)}


@pytest.fixture(scope="session")
def run(cli_home: Path, environment: dict[str, str]) -> Run:
    """Run a Python module as a command: ``run("brain2video", "status")``."""
    modules = {
        "brain2video": "from brain2video.cli.app import main; main()",
        "zenml": "from zenml.cli.cli import cli; cli()",
    }

    def run(program: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        code = f"import sys, core.environment; sys.argv[0] = {program!r}; {modules[program]}"
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(
            command, cwd=cli_home, env={**environment, **more}, capture_output=True, text=True, timeout=300
        )

    return run


@dataclass(frozen=True)
class Outcome:
    """What a command that ran in this process left."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def here(
    cli_home: Path, quick_mlflow: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Here:
    """Run the command line in this process, which spares the imports: ``here("status")``."""
    monkeypatch.setenv("BRAIN2VIDEO_HOME", str(cli_home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{cli_home}/mlflow/store/mlflow.db")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.chdir(cli_home)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["brain2video", *arguments])
        code = 0
        try:
            app.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run
