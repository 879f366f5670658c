"""What workers do in tests of the executors: they import it by this name."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import threadpoolctl

from core.errors import SourceError, StoreMissing
from core.executors import ExecutorConfig, open_executor
from core.progress import report


def square(item: int) -> tuple[int, int]:
    """Return a square, and who made it; every piece reports its way."""
    for done in range(3):
        report(f"squaring {item}", done + 1, 3, "well")
    return item * item, os.getpid()


def die_once(folder: Path, item: int) -> int:
    """Kill the worker at item 3, the first time, once item 0 was received; every item that is done leaves a line."""
    if item == 3 and not (folder / "died").exists():
        while not (folder / "received").exists():
            time.sleep(0.01)
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with (folder / "done.log").open("a") as log:
        log.write(f"{item}\n")
    return item


def die_always(item: int) -> int:
    """Kill the worker at item 2, whenever it comes; the others take their time."""
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return item


def fail(item: int) -> None:
    """Raise what a person can mend."""
    raise (
        SourceError(f"stimulus '{item}' has no clip; add its file") if item else StoreMissing("s.zarr: not there; run")
    )


def threads(item: int) -> list[int]:
    """Return with how many threads this process would compute."""
    del item
    import torch

    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpoolctl.threadpool_info())]


def linger(folder: Path, item: int) -> None:
    """Say who works, and work for long."""
    (folder / f"{item}.pid").write_text(str(os.getpid()))
    time.sleep(120)


if __name__ == "__main__":  # a process that the test kills while its workers are at it
    here = Path(sys.argv[1])
    from functools import partial

    from tests.core.executor_work import linger as lingering

    with open_executor(ExecutorConfig(kind="processes", workers=2)) as executor:
        list(executor.run(partial(lingering, here), [0, 1], "lingering", shared=here))
