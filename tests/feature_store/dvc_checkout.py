"""A git checkout with DVC in it, and commands run there, for tests of what is versioned."""

import subprocess
import sys
from pathlib import Path

STAGES = """\
stages:
  responses:
    matrix: {subject: [1, 2]}
    cmd: brain2video responses -c configs/demo.yaml --subject sub-0${item.subject}
    outs:
      - data/features.zarr/responses/sub-0${item.subject}
"""


def run(folder: Path, *command: str, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done


def dvc(folder: Path, *arguments: str, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    return run(folder, sys.executable, "-m", "dvc", *arguments, fails=fails)


def save(folder: Path) -> None:
    """Commit everything to git."""
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x")


def clone_of(folder: Path, name: str = "clone") -> Path:
    run(folder.parent, "git", "clone", "-q", str(folder), name)
    return folder.parent / name
