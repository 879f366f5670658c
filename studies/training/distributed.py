"""Fits a study by as many processes as are wanted: this one, or several on one or more nodes, through torchrun.

Why several processes that trained together have stopped: one line, from what each has said and how it ended.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

import core.errors
from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError, ModelError, TrainingStopped
from core.executors import cores
from core.files import read_json, write_json
from core.progress import report
from models.training.distributed import PEER_TIMEOUT_S
from models.training.settings import ONE_PROCESS, TogetherConfig
from studies.references import TrainingRef
from studies.study import Study
from studies.training.fit import fit

CHECKOUT = Path(__file__).resolve().parents[2]
ENDING_S = 20.0
"""Seconds that processes have to end after they were asked to, before they are killed."""
SEEN_S = 60.0
"""Seconds in which a shared filesystem must show what another node has written."""


def fit_by(study: Study, together: TogetherConfig = ONE_PROCESS) -> TrainingRef:
    """Fit a study, see `studies.training.fit.fit`: in this process where one is wanted, else by several.

    Every node returns the same reference, to the run that the first process has written where all nodes see it.

    Parameters
    ----------
    study : Study
    together : TogetherConfig

    Raises
    ------
    ModelError
        More processes than GPUs, or what any process found that a user can mend; that error itself, of its own class.
    TrainingStopped
        A process died or was lost: which, where, why, and where the checkpoints are. The others have ended too.
    """
    if together.world == 1:
        return fit(study)
    _require_devices(together)
    with _folder_of(study) as folder:
        write_json(folder / "study.json", study.model_dump(mode="json"))
        made = _run(study, together, folder)
    _wait_for(project_root() / made.folder)
    return made


def _require_devices(together: TogetherConfig) -> None:
    """Refuse more processes than GPUs, where there are GPUs."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices and together.processes > devices:
        raise ModelError(
            f"training: {together.processes} processes on {socket.gethostname()}, which has {devices} "
            f"GPU{'s' if devices > 1 else ''}; each needs one of its own: ask for {devices} at most, or hide the GPUs "
            "with CUDA_VISIBLE_DEVICES=''"
        )


@contextmanager
def _folder_of(study: Study) -> Iterator[Path]:
    """Yield a folder for messages and logs; it stays where training fails, until the next one on this host.

    Its name ends in this process's number, by which the next one tells that nobody uses it any more.
    """
    place, name = project_root() / ".state" / "together", f"{study.study}-{socket.gethostname()}-"
    for old in place.glob(f"{name}*"):
        if not psutil.pid_exists(int(old.name.removeprefix(name).partition("-")[0])):
            shutil.rmtree(old, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}{os.getpid()}-", dir=place))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _run(study: Study, together: TogetherConfig, folder: Path) -> TrainingRef:
    """Run torchrun to its end, pass on what the first process reports, and return what was made."""
    made: TrainingRef | None = None
    with (folder / AGENT_LOG).open("wb") as log, _ended(_start(study, together, folder, log)) as agent:
        assert agent.stdout is not None
        for line in agent.stdout:
            message = _read(line)
            if "progress" in message:
                report(*message["progress"])
            if "made" in message:
                made = TrainingRef.model_validate(message["made"])
        code = agent.wait()
    if code or made is None:
        raise why_stopped(folder, study.outputs / "training", together, code)
    return made


def _start(study: Study, together: TogetherConfig, folder: Path, log: Any) -> "subprocess.Popen[str]":
    """Start torchrun in a session of its own, so that Ctrl-C reaches it by us alone."""
    fit_them = ["-m", "studies.training.distributed_worker", "--launched", str(folder), "--world", str(together.world)]
    command = [sys.executable, "-m", "torch.distributed.run", *_options(study, together, folder), *fit_them]
    return subprocess.Popen(
        command,
        env=_environment(together),
        stdin=subprocess.PIPE,  # all processes read it, and end when it closes
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,
    )


def _options(study: Study, together: TogetherConfig, folder: Path) -> list[str]:
    """Return torchrun's options: where nodes meet, no restarts, and each process's errors into a file of its own."""
    several = ["--nproc-per-node", str(together.processes), "--nnodes", str(together.nodes), "--max-restarts", "0"]
    several += ["--log-dir", str(folder / "logs"), "--redirects", "2"]
    patience = str(max(1, round(together.timeout_s)))
    if together.rendezvous is None:
        return [*several, "--standalone"]
    if together.node_rank is not None:
        host, _, port = together.rendezvous.rpartition(":")
        where = ["--node-rank", str(together.node_rank), "--master-addr", host, "--master-port", port]
        return [*several, *where, "--rdzv-conf", f"timeout={patience}"]
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", together.rendezvous, "--rdzv-id", study.study]
    return [*several, *where, "--rdzv-conf", f"join_timeout={patience}"]


def _environment(together: TogetherConfig) -> dict[str, str]:
    """Return what the processes find: this checkout's code, their share of the cores, how long to wait for others."""
    threads = max(1, cores() // together.processes)
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",  # the folder that somebody happens to be in holds no code of ours
        PEER_TIMEOUT_S: str(together.timeout_s),
    }


@contextmanager
def _ended(agent: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """Yield torchrun, and leave nothing of it behind, however the block ends and whoever of them is killed first.

    The processes hold the other end of its standard output, and end when its standard input closes.
    """
    threading.Thread(target=_close_when_over, args=(agent,), daemon=True).start()
    try:
        yield agent
    finally:
        _close(agent)
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()
        if agent.stdout is not None:
            agent.stdout.close()


def _close_when_over(agent: "subprocess.Popen[str]") -> None:
    agent.wait()
    _close(agent)


def _close(agent: "subprocess.Popen[str]") -> None:
    with suppress(OSError, ValueError):
        assert agent.stdin is not None
        agent.stdin.close()


def _read(line: str) -> dict[str, Any]:
    """Return a message; what is none is nothing."""
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _wait_for(folder: Path) -> None:
    """Wait until the run that the first process has written is seen here too."""
    until = time.monotonic() + SEEN_S
    while not folder.is_dir():
        if time.monotonic() > until:
            raise TrainingStopped(
                f"{relative_to_root(folder)}: trained and written by the first node, not seen on "
                f"{socket.gethostname()}; "
                "outputs/ must be the same folder on all nodes"
            )
        time.sleep(0.2)


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
        return _stopped(f"{what} (all it said: {relative_to_root(folder)})", runs)
    unsaid = [end for end in silent if end.code != -signal.SIGTERM]
    if unsaid:
        what = f"rank {unsaid[0].rank} on {here} failed: {_last_words(folder, unsaid[0])}"
        return _stopped(f"{what} (all it said: {relative_to_root(folder)})", runs)
    if lost := by_kind.get("lost"):
        others = "the other nodes say why" if together.nodes > 1 else f"see {relative_to_root(folder)}"
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
        f"training: {what}; checkpoints are in {relative_to_root(newest)}, and the same command goes on from there"
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
    last = words[-1].strip() if words else "it said nothing"
    return f"torchrun on {here} ended with {code}: {last} ({relative_to_root(folder)})"


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
