"""Runs under `outputs/`: their names, their `latest` link, and where they come from."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from core.files import digest_file, point_link, read_json
from studies.home import home


def run_name(fingerprint: str) -> str:
    """Return a name that sorts by time and ends in what the run was made from: ``20260314-092653-1a2b3c``."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{fingerprint[:6]}"


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a run, by its relative name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def find_run(runs: Path, record: str, fingerprint: str) -> Path | None:
    """Return the newest run that was made from exactly this and whose files are all as they were written.

    Parameters
    ----------
    runs : Path
        The folder of the runs.
    record : str
        The file in each that holds its `fingerprint` and the digests of its `files`.
    """
    for path in sorted(runs.glob(f"[0-9]*/{record}"), reverse=True):
        try:
            content = read_json(path)
            if content["fingerprint"] == fingerprint and _is_whole(path.parent, content["files"]):
                return path.parent
        except (ValueError, KeyError, TypeError):
            continue  # a damaged record is no run; it stays for a person to look at
    return None


def _is_whole(folder: Path, files: dict[str, str]) -> bool:
    return all((folder / name).is_file() and digest_file(folder / name) == told for name, told in files.items())


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
