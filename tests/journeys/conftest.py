"""Clones of this checkout as it lies here, and what a person types in them."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..pipelines.conftest import browser  # noqa: F401 - a fixture

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "brain2video": "from brain2video.cli.app import main",
    "dvc": "from dvc.cli import main as dvc\n\ndef main():\n    sys.exit(dvc(sys.argv[1:]))",
    "git": "import subprocess\n\ndef main():\n    sys.exit(subprocess.run(sys.argv).returncode)",
}
TYPE = """
import contextlib, io, json, sys
import core.environment
done = []
for program, start, arguments in json.load(sys.stdin):
    space = {"sys": sys}
    exec(start, space)
    sys.argv, code, said = [program, *arguments], 0, io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            space["main"]()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
    done.append([code, said.getvalue()])
print(json.dumps(done))
"""
"""Runs commands one after the other in one process, which imports the libraries once."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code, and what it said on both channels."""

    code: int
    said: str

    @property
    def errors(self) -> list[str]:
        """The lines that name an error."""
        return [line for line in self.said.splitlines() if line.startswith("error:")]


@dataclass(frozen=True)
class Clone:
    """A clone of the project, and the terminal in it; its code is the clone's own."""

    folder: Path

    def type(self, *lines: str, code: int | None = 0) -> list[Outcome]:
        """Type commands, one after the other; each must end with the exit code, unless that is None."""
        asked = []
        for line in lines:
            program, *arguments = line.split()
            asked.append((program, PROGRAMS[program], arguments))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("BRAIN2VIDEO_", "ZENML_", "MLFLOW_", "DVC_", "AUTO_OPEN", "GIT_"))
        }
        done = subprocess.run(
            [sys.executable, "-c", TYPE],
            input=json.dumps(asked),
            cwd=self.folder,
            env={**environment, "PYTHONPATH": str(self.folder), "HOME": str(self.folder.parent), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=550,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        outcomes = [Outcome(*each) for each in json.loads(done.stdout.splitlines()[-1])]
        for line, outcome in zip(lines, outcomes, strict=True):
            assert code is None or outcome.code == code, f"{line}: {outcome.said}"
        return outcomes

    def git(self, *arguments: str) -> str:
        """Run git in the clone and return what it printed."""
        settings = ["-c", "user.name=Ada", "-c", "user.email=ada@lab", "-c", "init.defaultBranch=main"]
        command = ["git", *settings, *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Clone]:
    """Return what makes a new clone of the checkout as it lies here, changes that are not committed included."""

    def make() -> Clone:
        made = Clone(tmp_path_factory.mktemp("clone") / "brain2video")
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
        for name in filter(None, files.split("\0")):
            source, copy = CHECKOUT / name, made.folder / name
            if source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
        made.git("init", "-q")
        made.git("add", "-A")
        made.git("commit", "-qm", "a clone")
        return made

    return make
