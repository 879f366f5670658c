"""Progress without printing: library code reports, the program that runs it installs a listener.

Any thread may report and listen; listeners are called by one thread at a time.

`Stopwatch` measures how long at least one thread was at work.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str, int, int, str], None]
"""Called with what is being done, how many are done, how many there are, and a note such as the loss."""

_listeners: list[Listener] = []
_calling = threading.RLock()


def report(what: str, done: int, total: int, note: str = "") -> None:
    """Report to the listeners, if any, that `done` of `total` are done."""
    for listener in tuple(_listeners):
        with _calling:
            listener(what, done, total, note)


def track(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, reporting after each; `total` is needed where the items have no length."""
    count = total if total is not None else len(items) if isinstance(items, Sized) else 0
    report(what, 0, count)
    for done, item in enumerate(items, start=1):
        yield item
        report(what, done, count)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Install a listener for the length of a ``with`` block."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Stopwatch:
    """Runs while at least one ``with`` block is open; two that overlap count once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start again from zero; no block may be open."""
        self._open, self._since, self.seconds = 0, 0.0, 0.0  # of the blocks that have ended
        self.up_to_date = 0  # how many results were found so

    def count(self, *, up_to_date: bool) -> None:
        """Count one result, which was found up to date or has been made."""
        with self._lock:
            self.up_to_date += up_to_date

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
                    self.seconds += time.monotonic() - self._since


WORK = Stopwatch()
"""Runs while a pipeline's steps work or look whether their results are up to date; the rest is orchestration."""
