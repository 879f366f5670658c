"""Why several processes that trained together have stopped: one line, from what each has said and how it ended."""

import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import core.errors
from core.errors import Brain2VideoError, TrainingStopped
from core.files import read_json
from models.training.config import TogetherConfig
from studies.home import shown

AGENT_LOG = "torchrun.log"

ENDED = re.compile(r"rank\s*: (\d+) \(local_rank: (\d+)\)\s+exitcode\s*: (-?\d+)")
"""An entry of the table that torchrun ends with, of this node's processes; the host in it may read ``localhost``."""


@dataclass(frozen=True)
class _End:
    """How a process of this node ended: its exit code, or minus the signal that killed it."""

    rank: int
    local: int
    code: int


def why_stopped(folder: Path, runs: Path, together: TogetherConfig, code: int) -> Brain2VideoError:
    """Return the error that says what has ended a training.

    What a user can mend goes before a process that was killed, this before one that failed, and last is one that has
    only lost the others.

    Parameters
    ----------
    folder : where the processes left messages and logs
    runs : where the checkpoints lie
    together : TogetherConfig
    code : torchrun's exit code
    """
    log = _text(folder / AGENT_LOG)
    said = [read_json(path) for path in sorted(folder.glob("rank-*.json"))]
    ends = {end.rank: end for end in (_End(*map(int, numbers)) for numbers in ENDED.findall(log))}
    here = socket.gethostname()
    by_kind: dict[str, dict[str, Any]] = {one["kind"]: one for one in reversed(said)}
    if mendable := by_kind.get("mendable"):
        return _as_it_was(mendable)
    silent = [end for end in ends.values() if end.rank not in {one["rank"] for one in said}]
    killed = [end for end in silent if end.code < 0 and end.code != -signal.SIGTERM]
    if killed:
        return _stopped(f"rank {killed[0].rank} on {here} was killed by {_name(killed[0].code)}", runs)
    if failed := by_kind.get("failed"):
        what = f"rank {failed['rank']} on {failed['host']} failed: {failed['error']}: {failed['message']}"
        return _stopped(f"{what} (all it said: {shown(folder)})", runs)
    unsaid = [end for end in silent if end.code != -signal.SIGTERM]
    if unsaid:
        what = f"rank {unsaid[0].rank} on {here} failed: {_last_words(folder, unsaid[0])}"
        return _stopped(f"{what} (all it said: {shown(folder)})", runs)
    if lost := by_kind.get("lost"):
        others = "the other nodes say why" if together.nodes > 1 else f"see {shown(folder)}"
        return _stopped(f"rank {lost['rank']} on {lost['host']} lost the others ({lost['message']}); {others}", runs)
    return _stopped(_of_the_agent(log, folder, together, code), runs)


def _as_it_was(said: dict[str, Any]) -> Brain2VideoError:
    kind = getattr(core.errors, said["error"], None)
    known = isinstance(kind, type) and issubclass(kind, Brain2VideoError)
    return kind(said["message"]) if known and kind is not None else TrainingStopped(said["message"])


def _stopped(what: str, runs: Path) -> TrainingStopped:
    """Return the whole line: what has happened, and what to do."""
    kept = [path for path in runs.glob(".unfinished-*[0-9a-f]") if any(path.rglob("*.pt"))]
    if not kept:
        return TrainingStopped(f"training: {what}; there was no checkpoint yet: run the same command again")
    newest = max(kept, key=lambda path: path.stat().st_mtime)
    return TrainingStopped(
        f"training: {what}; checkpoints are in {shown(newest)}, and the same command goes on from there"
    )


def _of_the_agent(log: str, folder: Path, together: TogetherConfig, code: int) -> str:
    """Say what ended torchrun itself, before or beside its processes."""
    here = socket.gethostname()
    if code < 0:
        return f"torchrun on {here} was killed by {_name(code)}"
    if together.nodes > 1 and re.search(r"Rendezvous\w*Error|DistStoreError|DistNetworkError|timed out", log):
        return (
            f"{together.nodes} nodes have not met at {together.rendezvous} within {together.timeout_s:.0f} s, as seen "
            f"from {here}; start the same command on all, and see that they reach that port"
        )
    words = [line for line in log.splitlines() if line.strip()]
    return (
        f"torchrun on {here} ended with {code}: {words[-1].strip() if words else 'it said nothing'} ({shown(folder)})"
    )


def _last_words(folder: Path, end: _End) -> str:
    """Return the last line of a process's errors, or its exit code where it said nothing."""
    for path in folder.glob(f"logs/**/{end.local}/stderr.log"):
        if words := [line.strip() for line in _text(path).splitlines() if line.strip()]:
            return words[-1]
    return f"exit code {end.code}"


def _name(code: int) -> str:
    """Return a signal's name; the commonest is explained."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
    return f"{name}, as the system does where memory runs out" if name == "SIGKILL" else name


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
