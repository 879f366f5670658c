"""How long work reports its progress without printing: library code reports, whoever runs it installs a listener.

Any thread may report and listen; listeners are called by one thread at a time.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

Listener = Callable[[str, int, int, str], None]
"""Called with what is being done, how many are done, how many there are, and a note such as the loss."""

_listeners: list[Listener] = []
_calling = threading.RLock()


def report(what: str, done: int, total: int, note: str = "") -> None:
    """Tell the listeners, if any, that `done` of `total` are done."""
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
