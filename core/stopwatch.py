"""How long something was under way, whoever did it: the union of all the times, over threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Runs while at least one ``with`` block is open; two that overlap count once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start again from zero; no block may be open."""
        self._open, self._since, self._seconds = 0, 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Seconds so far, of the blocks that have ended."""
        return self._seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of a block."""
        with self._lock:
            if not self._open:
                self._since = time.monotonic()
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._seconds += time.monotonic() - self._since


WORK = Stopwatch()
"""Runs while a pipeline's steps work or look whether their results stand; what is left of a run is orchestration."""
