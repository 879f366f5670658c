"""How many threads compute: one for each piece of work, and several pieces at once.

A sum that several threads share is rounded otherwise than the sum of one, so the bytes of a result would depend on how
many threads a machine has or a shell allows. So each piece (a clip, a batch of clips, a fit) is computed by a fixed
number of threads, whatever `OMP_NUM_THREADS` is, and `threads` says how many pieces are worked on side by side.
"""

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from core.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "BRAIN2VIDEO_THREADS"
"""How many threads a command may use; the option `--threads` sets it."""
LIBRARY_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Where libraries read how many threads they may use."""
MAX_THREADS = 1024
_computing = threading.RLock()
"""The number of threads is the process's, so only one thread at a time computes in a block of `computing`."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads() -> int:
    """Return how many threads may work at once: `BRAIN2VIDEO_THREADS`, else `OMP_NUM_THREADS`, else the cores.

    Raises `ConfigError` where `BRAIN2VIDEO_THREADS` is no number from 1.
    """
    if asked := os.environ.get(VARIABLE, "").strip():
        return read_threads(asked, VARIABLE)
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdecimal() and int(allowed) else cores()


def read_threads(text: str, name: str) -> int:
    """Return a number of threads from its text; raises `ConfigError`, which names where it was found."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
        raise ConfigError(f"{name} {text}: expected a whole number of threads from 1 to {MAX_THREADS}, such as 2")
    return int(text)


def pieces_in_memory(size: int) -> int:
    """Return how many pieces of work of so many bytes a quarter of the free memory holds, at least one."""
    import psutil

    return max(1, int(psutil.virtual_memory().available) // 4 // max(1, size))


def use_threads(count: int) -> None:
    """Let this process, and those that it starts, use so many threads."""
    os.environ.update(dict.fromkeys((VARIABLE, *LIBRARY_VARIABLES), str(count)))


@contextmanager
def computing(count: int = 1, blas: int | None = None) -> Iterator[None]:
    """Compute with so many threads for the length of a block, or of a function that this decorates.

    The process's own numbers are restored at the end. Threads that want to compute at the same time wait for each
    other; what a block starts by `side_by_side` works at once.

    Parameters
    ----------
    blas : threads of linear algebra, where they are others
    """
    with _computing:
        setters = list(_libraries())
        try:
            for kind, _, limit in setters:
                limit((blas or count) if kind == "blas" else count)
            yield
        finally:
            for _, before, limit in setters:
                limit(before)


def _libraries() -> Iterator[tuple[str, int, Callable[[int], object]]]:
    """Yield, for each library that is loaded, its kind, its number of threads now, and what sets this number.

    By itself, threadpoolctl lets a single thread of the process set OpenBLAS's number for as long as that thread lives,
    and ignores the others; ZenML runs each step in a thread of its own.
    """
    from threadpoolctl import ThreadpoolController

    for library in ThreadpoolController().lib_controllers:
        yield library.user_api, library.num_threads, getattr(library, "_real_set_num_threads", library.set_num_threads)
    if (torch := sys.modules.get("torch")) is not None:
        yield "torch", torch.get_num_threads(), torch.set_num_threads


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """Yield the results of a function over items, in their order, so many at once, each computed by one thread.

    Call it in a block of `computing`. Items are taken as results are used, `count` ahead.
    """
    if count <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max_workers=count, initializer=_compute_alone) as workers:
        try:
            for item in items:
                waiting.append(workers.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _compute_alone() -> None:
    """Let the calling thread, which is new, compute by itself: OpenMP keeps the number of each thread."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
