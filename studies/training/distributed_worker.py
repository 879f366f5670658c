"""Fits a study with several processes: ``torchrun --nproc_per_node N -m studies.training.distributed_worker -c STUDY``.

The networks are trained by all; what has a closed form is computed by each; the first writes. `brain2video train` then
finds the run and registers it. `brain2video train --processes N` does it all at once; see
`studies.training.distributed`.
"""

import argparse
import os
import re
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn, TextIO

import torch.distributed
from accelerate.utils import broadcast_object_list

from core.checkout import project_root
from core.errors import Brain2VideoError
from core.files import canonical_json, disk_explained, read_json, write_json
from core.progress import listening, report
from feature_store import Store
from models.training.distributed import require_alike, require_world, workers
from studies.decoding.training_data import stored_subjects
from studies.references import TrainingRef
from studies.study import Study, load_study
from studies.training.fit import fit, training_made_from

LOST = re.compile(r"connection (closed|reset|refused)|broken pipe|timed out|gloo|nccl|socket|store", re.IGNORECASE)
"""What a process says that hears no more of the others."""


def main() -> int:
    """Fit, say what is done, and return the exit code: 2 for what a person can mend."""
    parser = argparse.ArgumentParser(prog="studies.training.distributed_worker", description=__doc__.splitlines()[0])
    parser.add_argument("-c", "--config", help="the study's YAML")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument(
        "--launched", type=Path, metavar="FOLDER", help="by `studies.training.distributed`, which listens"
    )
    parser.add_argument("--world", type=int, metavar="N", help="refuse to train with another number of processes")
    chosen = parser.parse_args()
    if (chosen.config is None) == (chosen.launched is None):
        parser.error("name a study with -c")
    if chosen.launched is not None:
        return _launched(chosen.launched, chosen.world)
    try:
        with listening(_say):
            fit_in_step(load_study(chosen.config, chosen.overrides), chosen.world)
    except Brain2VideoError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 2
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


def fit_in_step(study: Study, world: int | None = None) -> TrainingRef:
    """Fit a study as one of several processes, and return the run's reference in each.

    Parameters
    ----------
    world : processes that must take part; as many as the launcher says by default

    Raises
    ------
    ModelError
        Another number takes part, or the processes have not the same study, stores and code before them.
    """
    with disk_explained(project_root()):
        require_world(workers().num_processes if world is None else world)
        store = Store(study.store)
        made_from = training_made_from(study, store, stored_subjects(store, study.source.named_subjects))
        own = {part: made_from[part] for part in ("settings", "stores", "code")}
        require_alike("training before it", own, "run the same study, stores and code on every node")
        device = workers().device
        report(
            f"training by {workers().num_processes} processes", 1, 1, f"the first on {socket.gethostname()} ({device})"
        )
        shared: list[Any] = [fit(study).model_dump(mode="json")]
        if workers().num_processes > 1:
            broadcast_object_list(shared, from_process=0)
        return TrainingRef.model_validate(shared[0])


def _say(what: str, done: int, total: int, note: str) -> None:
    """Tell of everything that is finished, once, whatever the number of processes."""
    if done >= total and workers().is_main_process:
        told = f"{what}: {total:,} by {workers().num_processes} processes {note}".rstrip()
        print(told, file=sys.stderr, flush=True)  # noqa: T201 - this is a program


def _launched(folder: Path, world: int | None) -> int:
    """Fit what the launcher put into a folder; tell it of progress by lines of JSON, and why it failed by a file."""
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no message
    try:
        with listening(lambda *told: _send(lines, {"progress": told})):
            made = fit_in_step(Study.model_validate(read_json(folder / "study.json")), world)
        if workers().is_local_main_process:
            _send_reference(lines, made)
        torch.distributed.destroy_process_group()
    except Exception as error:
        _fail(folder, error)
    return 0


def _send(lines: TextIO, message: dict[str, Any]) -> None:
    """Send a message, as the first of all processes: one speaks."""
    if os.environ.get("RANK", "0") == "0":
        lines.write(f"{canonical_json(message)}\n")


def _send_reference(lines: TextIO, made: TrainingRef) -> None:
    """Send what was made, as the first process of each node: every launcher hands it on."""
    lines.write(f"{canonical_json({'made': made.model_dump(mode='json')})}\n")


def _end_with_the_launcher() -> None:
    """End this process when the launcher is gone, however it went: the other end of the standard input closes then.

    A plain read of the descriptor, as `sys.stdin` may not be left locked by a thread when Python ends.
    """
    while os.read(0, 1):
        pass
    os._exit(1)


def _fail(folder: Path, error: Exception) -> NoReturn:
    """Say why this process ends, and end it without waiting for the others."""
    mendable = isinstance(error, Brain2VideoError)
    said = next(iter(str(error).strip().splitlines()), "")
    lost = isinstance(error, RuntimeError) and not mendable and LOST.search(str(error)) is not None
    why = {
        "kind": "mendable" if mendable else "lost" if lost else "failed",
        "error": type(error).__name__,
        "message": " ".join(str(error).split()) if mendable else said,
        "rank": int(os.environ.get("RANK", "0")),
        "host": socket.gethostname(),
    }
    traceback.print_exc()
    write_json(folder / f"rank-{why['rank']}.json", why)
    sys.stderr.flush()
    os._exit(2 if mendable else 1)


if __name__ == "__main__":
    sys.exit(main())
