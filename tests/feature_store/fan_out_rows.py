"""Rows that any process can make, for tests of writing by several: ``python -m tests.feature_store.fan_out_rows S L``.

As a program it writes a group by two processes, until somebody kills it.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.errors import SourceError
from core.executors import ExecutorConfig, open_executor
from core.progress import report
from feature_store import schema
from feature_store.writer import GroupWriter

ROWS, WIDTH, STEP = 45, 400, 6
TWO = ExecutorConfig(kind="processes", workers=2)


@dataclass(frozen=True)
class KnownRows:
    """Rows that follow from their number; each time some are made, a line is added to the log.

    Attributes
    ----------
    kill_at : the first row of a chunk; the first process that makes it dies before it returns
    kill_after : the same, but it dies once the chunk is on the disk
    fail_at : the same, but making it raises
    """

    log: Path
    pause_s: float = 0.0
    kill_at: int = -1
    kill_after: int = -1
    fail_at: int = -1

    def __call__(self, start: int, stop: int, /) -> np.ndarray:
        time.sleep(self.pause_s)
        if start == self.fail_at:
            raise SourceError("s07.mp4: not a video; replace the file")
        if start == self.kill_at:
            self._die_once()
        with self.log.open("a") as log:
            log.write(f"{start}\n")
        report("making rows", stop, ROWS)
        return np.random.default_rng(start).standard_normal((stop - start, WIDTH), dtype=np.float32)

    def summary(self, start: int, stop: int, /) -> tuple[int, int]:
        if start == self.kill_after:
            self._die_once()
        return start, stop

    def _die_once(self) -> None:
        died = self.log.with_suffix(".died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def write(store: Path, rows: KnownRows, config: ExecutorConfig | None, told: list | None = None) -> None:
    """Write a group of two arrays, one of them compressed, and a table; here where there is no config."""
    heard = (lambda said: None) if told is None else told.append
    with open_executor(config or ExecutorConfig()) as executor:
        hand_out = None if config is None else executor.run
        with GroupWriter(store, "targets/t", encoding_type="targets", fingerprint="f") as group:
            for name, packed in (("train/values", "none"), ("test/values", "lz4")):
                shape, axes = (ROWS, WIDTH), ("stimulus", "x")
                given = {"compression": packed, "on_summary": heard, "hand_out": hand_out}
                group.array(name, shape, "float32", rows, axes, **given)
            group.table("train/stimuli", pd.DataFrame({"stimulus": [f"s{row}" for row in range(ROWS)]}))


if __name__ == "__main__":
    from tests.feature_store.fan_out_rows import KnownRows as Rows

    schema.CHUNK_BYTES = STEP * WIDTH * 4
    write(Path(sys.argv[1]), Rows(Path(sys.argv[2]), pause_s=0.15), TWO)  # type: ignore[arg-type]
