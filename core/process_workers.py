"""Workers as processes of this machine: a pool that is replaced as a whole when one of them dies.

A worker ends with the process that started it, however that ends; it leaves Ctrl-C to it; and it takes no more threads
than its share of the cores. What it reports comes back through a pipe, each message in one piece: a write of at most
`PIPE_BUF` bytes is atomic, so a worker that is killed leaves neither half a message nor a lock that it held.
"""

import json
import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from core.errors import ServerError
from core.progress import listening

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = tuple[str, int]
Ears = dict[str, Callable[..., None]]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Where libraries read how many threads they may take."""


class ProcessWorkers:
    """A pool of processes, and the one after it."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._crew: ProcessCrew | None = None
        self._closed = False
        self._ears: Ears = {}

    def crew(self) -> "ProcessCrew":
        """Return the pool, a new one where it broke."""
        with self._lock:
            if self._closed:
                raise ServerError("the workers were ended; run again, which goes on where this stopped")
            if self._crew is None or self._crew.broken:
                if self._crew is not None:
                    self._crew.retire()
                self._crew = ProcessCrew(self._workers, self._ears)
            return self._crew

    @contextmanager
    def hearing(self, run: str, hear: Callable[..., None], mark: Path) -> Iterator[None]:
        """Tell `hear` what the workers report of a run; every process of this machine sees the folder of `mark`."""
        del mark
        self._ears[run] = hear
        try:
            yield
        finally:
            if self._crew is not None:
                self._crew.catch_up()
            del self._ears[run]

    def close(self, *, kill: bool) -> None:
        """End the processes."""
        with self._lock:
            self._closed = True
            if self._crew is not None:
                self._crew.retire(kill=kill)


class ProcessCrew:
    """One pool of processes, and what it says."""

    def __init__(self, workers: int, ears: Ears) -> None:
        from core.executors import cores

        context = get_context("spawn")
        reader, self._writer = context.Pipe(duplex=False)
        threads = max(1, cores() // workers)
        self._pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(self._writer, threads))
        self.room = 2 * workers
        self.broken = False
        self._retired = False
        self._lock = threading.Lock()
        self._children: dict[int, BaseProcess] = {}
        self._at_work: dict[Key, int] = {}
        self._asking = deque[threading.Event]()
        self._listener = threading.Thread(target=self._listen, args=(reader, ears), name="progress", daemon=True)
        self._listener.start()

    def submit(self, key: Key, function: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Hand out one piece."""
        try:
            return self._pool.submit(_work, key, function, item)
        except (BrokenProcessPool, RuntimeError) as error:
            future: Future[Result] = Future()
            future.set_exception(error if isinstance(error, BrokenProcessPool) else BrokenProcessPool(str(error)))
            return future

    def check(self) -> None:
        """Do nothing: a process that dies is noticed at once."""

    def blames(self, key: Key) -> bool:
        """Wait until the pool has ended, and say whether a process may have died of this piece.

        The pool ends the processes that are left by SIGTERM: what those were at is not to blame. Where nobody knows
        better, everything is.
        """
        self.broken = True
        self.retire()
        ended = {pid: child.exitcode for pid, child in self._children.items()}
        guilty = {one for one, pid in self._at_work.items() if ended.get(pid) != -signal.SIGTERM}
        return key in (guilty or self._at_work or {key})

    def explained(self, error: BaseException, what: str) -> BaseException:
        """Return the error as it is: it is the work's own."""
        del what
        return error

    def catch_up(self) -> None:
        """Wait until all is heard that was said so far: a result may come sooner than what was reported on the way."""
        heard = threading.Event()
        with self._lock:
            if self._retired:
                return
            self._asking.append(heard)
            self._writer.send_bytes(json.dumps(["asks"]).encode())
        while self._listener.is_alive() and not heard.wait(1.0):
            pass

    def retire(self, *, kill: bool = False) -> None:
        """End the pool and wait until its processes are gone."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            if kill:
                for child in list(self._children.values()):
                    child.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._writer.send_bytes(b"")
            self._listener.join()
            self._writer.close()

    def _listen(self, reader: Connection, ears: Ears) -> None:
        with reader:
            while raw := reader.recv_bytes():
                kind, *said = json.loads(raw)
                if kind == "born":
                    self._children.update((said[0], child) for child in active_children() if child.pid == said[0])
                elif kind == "begins":
                    self._at_work[said[0], said[1]] = said[2]
                elif kind == "ends":
                    self._at_work.pop((said[0], said[1]), None)
                elif kind == "asks":
                    self._asking.popleft().set()
                elif (hear := ears.get(said[0])) is not None:
                    hear(*said[1:])


_pipe: Connection | None = None


def _begin(pipe: Connection, threads: int) -> None:
    """Make a process a worker; the first that it does."""
    global _pipe
    _pipe = pipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    for name in THREADS:
        asked = os.environ.get(name, "")
        os.environ[name] = str(min(threads, int(asked)) if asked.isdigit() and int(asked) else threads)
    # For libraries that are loaded later it is in the environment; those that are there were asked before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threadpool_limits(int(os.environ["OMP_NUM_THREADS"]))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    _say("born", os.getpid())


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(key: Key, function: Callable[[Item], Result], item: Item) -> Result:
    """Do one piece of work in a worker."""
    _say("begins", *key, os.getpid())
    with listening(lambda *said: _say("reports", *key, *said)):
        result = function(item)
    _say("ends", *key)
    return result


def _say(*said: Any) -> None:
    """Send a message to the parent in one piece; what is too long for that is left out."""
    message = json.dumps(said, default=int).encode()
    if _pipe is not None and len(message) + 4 <= select.PIPE_BUF:
        with suppress(OSError):  # the parent is gone, and this process soon will be
            _pipe.send_bytes(message)
