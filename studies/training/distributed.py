"""Trains a study with one or several processes: starts torchrun, passes progress on, explains why it failed."""

import json
import math
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
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, NamedTuple

import psutil
import torch
import yaml

import core.errors
from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError, ModelError, TrainingStopped
from core.files import digest_json, read_json
from core.progress import report
from core.threads import LIBRARY_VARIABLES, VARIABLE, threads
from models.training.distributed import PEER_TIMEOUT_S
from models.training.settings import ONE_PROCESS, DistributedConfig
from studies.runs import TRAINING, UNFINISHED, TrainingRef, in_turn
from studies.study import Study
from studies.training.distributed_worker import PROGRESS, RESULT
from studies.training.fit import fit

CHECKOUT = Path(__file__).resolve().parents[2]
STUDY, TORCHRUN_LOG = "study.yaml", "torchrun.log"
FAILURE = re.compile(r"rank\s*: (\d+) .*\s+exitcode\s*: (-?\d+).*\s+error_file: (.+)")
"""An entry of the table of this node's failed processes that torchrun ends with."""
SEEN_S = 60.0
"""Seconds in which a shared filesystem must show what another node has written."""


def fit_distributed(study: Study, distributed: DistributedConfig = ONE_PROCESS) -> TrainingRef:
    """Fit a study, see `studies.training.fit.fit`: in this process where one is wanted, else with several.

    Every node returns the same reference, to the run that the first process has written where all nodes see it.

    Raises
    ------
    ModelError
        More processes than GPUs.
    Brain2VideoError
        What any process found that a user can fix, as an error of the same class.
    TrainingStopped
        A process died or was lost: which, where, why, and where the checkpoints are. The others have ended too.
    """
    turn = in_turn(study.outputs / TRAINING, digest_json(study.model_dump(mode="json"))[:12], "training")
    # Of several nodes, each may have a process here, which must not wait for another's.
    with turn if distributed.nodes == 1 else nullcontext():
        if distributed.world_size == 1:
            return fit(study)
        _require_devices(distributed)
        with _folder_of(study.study) as folder:
            (folder / STUDY).write_text(yaml.safe_dump(study.model_dump(mode="json")), encoding="utf-8")
            training, code = _run(study.study, distributed, folder)
            if code or training is None:
                raise why_stopped(folder, study.outputs / TRAINING, distributed, code)
        _wait_for(project_root() / training.folder)
        return training


def _require_devices(distributed: DistributedConfig) -> None:
    """Refuse more processes than GPUs, where there are GPUs."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if devices and distributed.processes > devices:
        raise ModelError(
            f"training: {distributed.processes} processes on {socket.gethostname()}, which has {devices} "
            f"GPU{'s' if devices > 1 else ''}; each needs one of its own: ask for {devices} at most, or hide the GPUs "
            "with CUDA_VISIBLE_DEVICES=''"
        )


@contextmanager
def _folder_of(study: str) -> Iterator[Path]:
    """Yield a folder for the study and logs; where training fails it stays, until the next training on this host.

    Its name ends in this process's number, which shows the next training whether it is still in use.
    """
    parent, name = project_root() / ".state" / "together", f"{study}-{socket.gethostname()}-"
    for old in parent.glob(f"{name}*"):
        if not psutil.pid_exists(int(old.name.removeprefix(name).partition("-")[0])):
            shutil.rmtree(old, ignore_errors=True)
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}{os.getpid()}-", dir=parent))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _run(study: str, distributed: DistributedConfig, folder: Path) -> tuple[TrainingRef | None, int]:
    """Run torchrun to its end, report its progress, and return the training's reference and torchrun's exit code."""
    training: TrainingRef | None = None
    with (folder / TORCHRUN_LOG).open("wb") as log, _torchrun(study, distributed, folder, log) as torchrun:
        assert torchrun.stdout is not None
        for line in torchrun.stdout:
            kind, _, content = line.partition(" ")
            if kind == PROGRESS:
                report(*json.loads(content))
            elif kind == RESULT:
                training = TrainingRef.model_validate_json(content)
        return training, torchrun.wait()


@contextmanager
def _torchrun(
    study: str, distributed: DistributedConfig, folder: Path, log: IO[bytes]
) -> "Iterator[subprocess.Popen[str]]":
    """Yield torchrun, and leave none of its processes behind, whatever ends the block, torchrun or this process.

    The processes end when their standard input closes. They hold torchrun's standard output open, also where torchrun
    itself was killed; so a thread closes their input then.
    """
    training = ["-m", "studies.training.distributed_worker", "--launched", "-c", str(folder / STUDY)]
    with subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *_options(study, distributed, folder), *training],
        env=_environment(distributed),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,  # Ctrl-C reaches this process alone
    ) as torchrun:
        assert torchrun.stdin is not None
        close = torchrun.stdin.close
        threading.Thread(target=lambda: (torchrun.wait(), close()), daemon=True).start()
        try:
            yield torchrun
        finally:
            close()
            torchrun.terminate()  # it kills, after a while, what does not end
            torchrun.wait()


def _options(study: str, distributed: DistributedConfig, folder: Path) -> list[str]:
    """Return torchrun's options: where nodes meet, no restarts, and each process's errors into a file of its own."""
    options = ["--nproc-per-node", str(distributed.processes), "--nnodes", str(distributed.nodes)]
    options += ["--max-restarts", "0", "--log-dir", str(folder / "logs"), "--redirects", "2"]
    timeout = str(max(1, round(distributed.timeout_s)))
    if distributed.rendezvous is None:
        return [*options, "--standalone"]
    if distributed.node_rank is not None:
        host, _, port = distributed.rendezvous.rpartition(":")
        where = ["--node-rank", str(distributed.node_rank), "--master-addr", host, "--master-port", port]
        return [*options, *where, "--rdzv-conf", f"timeout={timeout}"]
    where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", distributed.rendezvous, "--rdzv-id", study]
    return [*options, *where, "--rdzv-conf", f"join_timeout={timeout}"]


def _environment(distributed: DistributedConfig) -> dict[str, str]:
    """Return the processes' environment: this checkout's code, a share of the threads, how long to wait for others."""
    share = str(max(1, threads() // distributed.processes))
    return {
        **os.environ,
        **dict.fromkeys((VARIABLE, *LIBRARY_VARIABLES), share),
        "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONSAFEPATH": "1",  # the working directory holds no code of ours
        PEER_TIMEOUT_S: str(distributed.timeout_s),
    }


def _wait_for(folder: Path) -> None:
    """Wait until the run that the first process has written is seen here too."""
    until = time.monotonic() + SEEN_S
    while not folder.is_dir():
        if time.monotonic() > until:
            raise TrainingStopped(
                f"{relative_to_root(folder)}: trained and written by the first node, not seen on "
                f"{socket.gethostname()}; outputs/ must be the same folder on all nodes"
            )
        time.sleep(0.2)


class _Failure(NamedTuple):
    """How a process of this node failed: its exit code, or minus the signal that ended it, and what `record` wrote."""

    rank: int
    code: int
    error_file: Path

    def order(self) -> float:
        """Return when it failed: first what ended without a word, last what torchrun ended because of the others.

        The first one is the cause: a process loses the connection to another only after that one has ended, or has
        written its error. Torchrun's own order counts whole seconds, in which both may lie.
        """
        if self.error_file.is_file():
            return self.error_file.stat().st_mtime
        return math.inf if self.code == -signal.SIGTERM else 0.0


def why_stopped(folder: Path, runs: Path, distributed: DistributedConfig, code: int) -> Brain2VideoError:
    """Return the error that explains what ended a training.

    Parameters
    ----------
    folder : where torchrun and its processes left their logs
    runs : where the checkpoints are
    distributed : DistributedConfig
    code : torchrun's exit code
    """
    here = socket.gethostname()
    log = (folder / TORCHRUN_LOG).read_text(encoding="utf-8", errors="replace")
    failures = [_Failure(int(rank), int(ended), Path(path)) for rank, ended, path in FAILURE.findall(log)]
    if failures:
        cause = min(failures, key=_Failure.order)
        what = f"rank {cause.rank} on {here} "
        if not cause.error_file.is_file():
            what += _ended(cause.code)
        else:
            name, _, message = read_json(cause.error_file)["message"]["message"].partition(": ")
            error = getattr(core.errors, name, None)
            if isinstance(error, type) and issubclass(error, Brain2VideoError):
                return error(" ".join(message.split()))
            what += f"failed: {name}: {next(iter(message.strip().splitlines()), '')}"
            what += "; if it only lost the others, the other nodes show why" if distributed.nodes > 1 else ""
    elif code > 0 and distributed.nodes > 1 and re.search(r"Rendezvous\w*Error|Dist\w+Error|timed out", log):
        what = (
            f"{distributed.nodes} nodes have not met at {distributed.rendezvous} within {distributed.timeout_s:.0f} s, "
            f"as seen from {here}; start the same command on all, and see that they reach that port"
        )
    else:
        what = ": ".join([f"torchrun on {here} {_ended(code)}", *log.splitlines()[-1:]])
    kept = [path for path in runs.glob(f"{UNFINISHED}*[0-9a-f]") if any(path.rglob("*.pt"))]
    there = "there was no checkpoint yet: run the same command again"
    if kept:
        newest = max(kept, key=lambda path: path.stat().st_mtime)
        there = f"checkpoints are in {relative_to_root(newest)}, and the same command goes on from there"
    return TrainingStopped(f"training: {what} (logs: {relative_to_root(folder)}); {there}")


def _ended(code: int) -> str:
    """Return how a process ended, by its exit code; the commonest signal is explained."""
    if code >= 0:
        return f"failed with exit code {code}"
    reason = ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{reason}"
