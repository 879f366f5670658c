"""One of several processes that train a study, run by torchrun: ``-m studies.training.distributed_worker -c STUDY``.

Every process trains the networks on its share of each batch and computes what has a closed form by itself; the first
process writes. `brain2video train` then finds the run and registers it. `brain2video train --processes N` does it all
at once; see `studies.training.distributed`.
"""

import argparse
import os
import socket
import sys
import threading
import traceback

import torch.distributed
from torch.distributed.elastic.multiprocessing.errors import record

from core.checkout import project_root
from core.errors import Brain2VideoError
from core.files import canonical_json, disk_explained
from core.progress import listening, report
from feature_store import Store
from models.training.distributed import broadcast, require_alike, workers
from studies.decoding.training_data import stored_subjects
from studies.runs import TrainingRef
from studies.study import Study, load_study
from studies.training.fit import fit, training_made_from

PROGRESS, RESULT = "@progress", "@result"
"""How a line begins by which a process reports to `studies.training.distributed`; JSON follows."""


def main() -> int:
    """Train as the command line asks, and return the exit code: 2 for an error that a user can fix."""
    parser = argparse.ArgumentParser(prog="studies.training.distributed_worker", description=__doc__.splitlines()[0])
    parser.add_argument("-c", "--config", required=True, help="the study's YAML")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument(
        "--launched", action="store_true", help="by `studies.training.distributed`, which reads the output"
    )
    try:
        record(_train)(parser.parse_args())  # which writes an error where torchrun looks for it
    except Brain2VideoError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return 0


def _train(chosen: argparse.Namespace) -> None:
    """Train the study; report to the launcher as lines of JSON, or to a person what is finished."""
    output = sys.stderr
    if chosen.launched:
        threading.Thread(target=_end_with_the_launcher, daemon=True).start()
        output = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # so that what a library prints is not among the lines

    def tell(what: str, done: int, total: int, note: str) -> None:
        if workers().is_main_process and chosen.launched:
            print(PROGRESS, canonical_json([what, done, total, note]), file=output)
        elif workers().is_main_process and done >= total:
            finished = f"{what}: {total:,} by {workers().num_processes} processes {note}".rstrip()
            print(finished, file=output, flush=True)

    with listening(tell), disk_explained(project_root()):
        training = fit_in_step(load_study(chosen.config, chosen.overrides))
    if chosen.launched and workers().is_local_main_process:  # every node has a launcher
        print(RESULT, training.model_dump_json(), file=output)


def fit_in_step(study: Study) -> TrainingRef:
    """Fit a study as one of several processes, and return the run's reference in each.

    Raises
    ------
    ModelError
        Fewer processes take part than were launched, or they do not have the same study, stores and code.
    """
    count, device = workers().num_processes, workers().device
    store = Store(study.store)
    made_from = training_made_from(study, store, stored_subjects(store, study.source.named_subjects))
    own = {part: made_from[part] for part in ("settings", "stores", "code")}
    require_alike("training before it", own, "run the same study, stores and code on every node")
    report(f"training by {count} processes", 1, 1, f"the first on {socket.gethostname()} ({device})")
    return broadcast(fit(study))


def _end_with_the_launcher() -> None:
    """End this process when its standard input closes, as it does however the launcher ends.

    It uses `os.read`, as a thread may not hold the lock of `sys.stdin` when Python ends.
    """
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without Python's cleaning up, which may wait for processes that are lost
