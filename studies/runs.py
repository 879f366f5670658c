"""Runs under `outputs/`: their names, their `latest` link, and where they come from."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from core.files import point_link
from studies.home import home


def run_name(fingerprint: str) -> str:
    """Return a name that sorts by time and ends in what the run was made from: ``20260314-092653-1a2b3c``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{fingerprint[:6]}"


def publish_latest(folder: Path) -> None:
    """Point the `latest` link beside a run at it."""
    point_link(folder.parent / "latest", folder)


def git_commit() -> str:
    """Return the checkout's commit, with ``+changes`` where the tree differs from it, or ``unknown`` without git."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}+changes" if _git("status", "--porcelain") else commit


def _git(*command: str) -> str:
    try:
        done = subprocess.run(["git", *command], cwd=home(), capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
