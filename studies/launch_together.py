"""Fits a study by as many processes as are wanted: this one, or several on one or more nodes, through torchrun."""

import json
import os
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
from pathlib import Path
from typing import Any

import psutil
import torch

from core.errors import ModelError, TrainingStopped
from core.executors import cores
from core.files import write_json
from core.progress import report
from models.training.config import ONE_PROCESS, TogetherConfig
from models.training.workers import PEER_TIMEOUT_S
from studies.fit import fit
from studies.home import home, shown
from studies.references import TrainingRef
from studies.study import Study
from studies.why_stopped import AGENT_LOG, why_stopped

CHECKOUT = Path(__file__).resolve().parents[1]
ENDING_S = 20.0
"""Seconds that processes have to end after they were asked to, before they are killed."""
SEEN_S = 60.0
"""Seconds in which a shared filesystem must show what another node has written."""


def fit_by(study: Study, together: TogetherConfig = ONE_PROCESS) -> TrainingRef:
    """Fit a study, see `studies.fit.fit`: in this process where one is wanted, else by several.

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
    _wait_for(home() / made.folder)
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
    place, name = home() / ".state" / "together", f"{study.study}-{socket.gethostname()}-"
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
    fit_them = ["-m", "studies.fit_together", "--launched", str(folder), "--world", str(together.world)]
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
                f"{shown(folder)}: trained and written by the first node, not seen on {socket.gethostname()}; "
                "outputs/ must be the same folder on all nodes"
            )
        time.sleep(0.2)
