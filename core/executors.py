"""Run a function over many items: in this thread, in processes of this machine, or on a dask cluster.

The processes are a `distributed.LocalCluster` that listens on 127.0.0.1 alone, so that one client serves both. dask
replaces a worker that dies and runs its piece again, a bounded number of times. The processes start when they are first
needed, are shared by all threads that ask for the same configuration, and are kept until `end_workers` or the end of
this process, however that comes.
"""

import atexit
import functools
import logging
import os
import pickle
import pickletools
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Literal, Self, TypeVar

from pydantic import PositiveInt, model_validator
from threadpoolctl import threadpool_limits

from core.checkout import CODE_ROOT
from core.code import code_digest
from core.config import Config
from core.errors import Brain2VideoError, ServerError
from core.files import digest_json, write_bytes
from core.progress import listening, report
from core.threads import LIBRARY_VARIABLES, VARIABLE, threads

Item = TypeVar("Item")
Result = TypeVar("Result")
ProgressListener = Callable[[Any, str, int, int, str], None]
"""Called with an item and its worker's report: what is being done, how many are done, how many there are, a note."""

ATTEMPTS = 3
"""How many worker processes may die of one piece of work before it is given up; a cluster's scheduler has its own."""
ANSWER_S, CHECK_S, NO_WORKER_S, REPORT_EVERY_S = 10.0, 2.0, 60.0, 0.5
"""Seconds: within which a scheduler must answer; between two checks of silent workers; without any worker before the
run fails; between two reports of the same work."""
LOCAL_CLUSTER: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": ATTEMPTS - 1,
    "distributed.scheduler.worker-saturation": 1.0,  # only the piece that a worker is at is suspected when it dies
    "distributed.scheduler.worker-ttl": None,  # a computation may keep a worker from answering
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    # dask would set its defaults in this process too, one thread among them, and a fixed seed for this name.
    "distributed.nanny.pre-spawn-environ": {"PYTHONHASHSEED": "random"},
}
"""dask's configuration of the processes on this machine."""


class ExecutorConfig(Config):
    """Where work is done."""

    kind: Literal["here", "processes", "dask"] = "here"
    """In the calling thread, one piece at a time; in processes of this machine; by the workers of a dask scheduler."""
    workers: PositiveInt | None = None
    """How many processes; by default as many as there are threads to use, see `core.threads`."""
    address: str | None = None
    """Where the scheduler listens, for example ``"tcp://host:8786"``."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "dask" and not self.address:
            raise ValueError("executor dask: the scheduler's address is missing; give one such as tcp://host:8786")
        if self.kind != "dask" and self.address is not None:
            raise ValueError(
                f"executor {self.kind}: takes no address, found {self.address}; take dask, or leave it out"
            )
        if self.kind != "processes" and self.workers is not None:
            raise ValueError(f"executor {self.kind}: takes no number of workers, found {self.workers}; leave it out")
        return self


IN_PROCESS = ExecutorConfig()


class Executor:
    """Runs a function over items in this thread."""

    def run(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        what: str,
        *,
        shared: Path,
        listener: ProgressListener | None = None,
    ) -> Generator[tuple[Item, Result]]:
        """Yield every item with its result, as they are completed.

        Parameters
        ----------
        function, items : picklable; the function is called again with an item whose worker died
        what : what is being done, for progress and errors
        shared : a folder on this machine that every worker must see under the same path
        listener : called in this thread with what workers report, all of it before the item's result is yielded; by
            default the listeners of this process are called, as if the work was done here

        Raises
        ------
        ServerError
            Workers cannot be had, do not see `shared`, run other code, or died of one piece too often.
        Exception
            What the function raised in a worker, with its class and its message. No further piece is started then.
        """
        del shared, listener
        for done, item in enumerate(items, start=1):
            yield item, function(item)
            _report_count(what, done, len(items))


class WorkerPool(Executor):
    """Runs a function over items in the workers of a dask scheduler, on this machine or elsewhere."""

    def __init__(self, config: ExecutorConfig) -> None:
        import dask.config

        if "distributed" not in sys.modules:  # what a user has imported keeps its own settings
            dask.config.set({"logging": {"distributed": "critical", "distributed.client": "critical"}})
        import distributed

        atexit.unregister(end_workers)
        atexit.register(end_workers)  # after dask's own, so that it is called before them
        self._killed: type[Exception] = distributed.KilledWorker
        self.config, self._address, self._threads, self._cluster = config, config.address, 0, None
        self._closing, self._closed, self._no_worker_since, self.users = threading.RLock(), False, 0.0, 0
        if config.address is None:
            workers, self._threads = config.workers or threads(), threads_each(config)
            share = dict.fromkeys((VARIABLE, *LIBRARY_VARIABLES), self._threads)
            with dask.config.set(LOCAL_CLUSTER):
                self._cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                    memory_limit=0,
                    preload=[__name__],
                    env={"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), **share},
                )
        try:
            self._client = distributed.Client(self._cluster or config.address, timeout=ANSWER_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ServerError(
                f"{config.address}: no dask scheduler answers there; start one with 'dask scheduler', or fix the "
                "address"
            ) from error
        self._started_in = _surroundings()

    @property
    def is_current(self) -> bool:
        """Whether new work may go to these workers: they run, and in the surroundings that this process has now."""
        return not self._closed and self._client.status == "running" and self._started_in == _surroundings()

    def run(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        what: str,
        *,
        shared: Path,
        listener: ProgressListener | None = None,
    ) -> Generator[tuple[Item, Result]]:
        """Yield every item with its result, as they are completed; see `Executor.run`."""
        events: SimpleQueue[Any] = SimpleQueue()  # of reports and finished futures, in the order in which they came
        # One that a killed process left behind is replaced, and removed, by the same work.
        marker = shared / f".{digest_json([what, [str(item) for item in items]])[:16]}.partial"
        with self._subscribed(events, marker) as topic:
            pending = self._submit(topic, function, items, marker, events)
            try:
                while pending:
                    try:
                        event = events.get(timeout=CHECK_S)
                    except Empty:
                        self._check()
                        continue
                    if isinstance(event, tuple):
                        index, *progress = event
                        report(*progress) if listener is None else listener(items[index], *progress)
                        continue
                    index, _ = pending.pop(event.key)
                    yield items[index], self._result(event, f"{what}, {items[index]}")
                    if listener is None:
                        _report_count(what, len(items) - len(pending), len(items))
            finally:
                if pending and self._client.status == "running":
                    self._client.cancel([future for _, future in pending.values()])

    def close(self) -> None:
        """End the worker processes at once, or leave the cluster, whose workers complete what they have begun."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for nanny in [] if self._cluster is None else list(self._cluster.workers.values()):
                nanny.close_gracefully()  # it does not replace its worker any more
                if (pid := nanny.pid) is not None:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            for ours in filter(None, (self._client, self._cluster)):
                with suppress(OSError, RuntimeError):  # what does not answer is gone
                    ours.close(timeout=ANSWER_S)

    @contextmanager
    def _subscribed(self, events: "SimpleQueue[Any]", marker: Path) -> Iterator[str]:
        """Yield a topic whose events go to a queue, while the workers can see a marker file."""
        topic = f"brain2video-{uuid.uuid4().hex}"
        if self._cluster is None:
            write_bytes(marker, b"")
        try:
            self._ask(lambda: self._client.subscribe_topic(topic, lambda event: events.put(tuple(event[1]))))
            yield topic
        finally:
            if self._cluster is None:
                marker.unlink(missing_ok=True)
            if self._client.status == "running":
                self._client.unsubscribe_topic(topic)

    def _submit(
        self, topic: str, function: Callable[[Item], Any], items: Sequence[Item], marker: Path, events: Any
    ) -> dict[str, tuple[int, Any]]:
        """Hand out every item; return their indices and futures by key. Finished futures are put among the events."""
        modules = _modules_in(pickle.dumps((function, list(items)))) if self._cluster is None else ()
        seen = marker if self._cluster is None else None
        pending: dict[str, tuple[int, Any]] = {}
        for index, item in enumerate(items):
            work, key = pickle.dumps((function, item)), f"{topic}-{index}"
            task = Task(topic, index, work, modules, _code_of(modules), seen, self._threads)
            # A "data producer" waits at the scheduler until a worker is free, as dask's own reading of files does.
            submit = functools.partial(self._client.submit, perform, task, key=key, pure=False, _data_producer=True)
            pending[key] = index, self._ask(submit)
            pending[key][1].add_done_callback(events.put)
        return pending

    def _result(self, future: Any, what: str) -> Any:
        try:
            result, error = future.result()
        except self._killed as killed:
            raise ServerError(
                f"{what}: {killed.allowed_failures + 1} workers died of it one after another; look whether the machine "  # type: ignore[attr-defined]
                "ran out of memory, and take fewer workers"
            ) from killed
        except CancelledError as cancelled:
            raise self._lost() from cancelled
        except Exception as other:
            if self._address and (isinstance(other, ModuleNotFoundError) or "deserialization" in str(other)):
                raise ServerError(
                    f"{self._address}: a worker cannot read its task ({' '.join(str(other).split())[:200]}); start "
                    "workers from a checkout like this one, with the packages that it needs"
                ) from other
            raise
        if error is not None:
            kind, arguments = pickle.loads(error)
            raise kind(*arguments)
        return result

    def _check(self) -> None:
        """Raise `ServerError` where the scheduler is gone, or has had no worker for `NO_WORKER_S`."""
        if self._closed or self._client.status != "running":
            raise self._lost()
        if self._ask(self._client.nthreads):
            self._no_worker_since = 0.0
            return
        self._no_worker_since = self._no_worker_since or time.monotonic()
        if time.monotonic() - self._no_worker_since > NO_WORKER_S:
            where = self._address or "this machine"
            hint = f"start some with 'dask worker {where}'" if self._address else "look whether its memory is full"
            raise ServerError(
                f"{where}: the scheduler has had no worker for {NO_WORKER_S:.0f} s; {hint}, and run again, which "
                "resumes where this stopped"
            )

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (OSError, RuntimeError, CancelledError) as error:
            raise self._lost() from error

    def _lost(self) -> ServerError:
        if self._address is None or self._closed:
            return ServerError("the workers were ended; run again, which resumes where this stopped")
        return ServerError(
            f"{self._address}: the connection to the dask scheduler is lost; look whether it runs, and run again, "
            "which resumes where this stopped"
        )


def _report_count(what: str, done: int, total: int) -> None:
    if total > 1:  # the worker's own reports say more of a single piece
        report(what, done, total)


def _surroundings() -> tuple[Any, ...]:  # what worker processes take over from this one when they start
    return dict(os.environ), list(sys.path), os.getcwd()  # noqa: PTH109 - compared, not used


_in_process, _lock = threading.RLock(), threading.RLock()
_pools: dict[ExecutorConfig, WorkerPool] = {}


@contextmanager
def open_executor(config: ExecutorConfig) -> Iterator[Executor]:
    """Yield what runs work as a configuration says.

    With kind ``"here"`` only one thread of this process is in such a block at a time; the others wait. A block that
    ends in an error ends its workers at once, unless others use them too; Ctrl-C ends them in any case. Otherwise
    processes are kept for the next block, see `end_workers`, and a cluster is left with its last user.

    Raises
    ------
    ServerError
        No scheduler answers.
    """
    if config.kind == "here":
        with _in_process:
            yield Executor()
        return
    with _lock:
        pool = _pools.get(config)
        if pool is not None and not pool.users and not pool.is_current:
            _end(pool)
            pool = None
        if pool is None:
            pool = _pools[config] = WorkerPool(config)
        pool.users += 1
    keep = False
    try:
        yield pool
        keep = config.kind == "processes"
    except BaseException as error:
        if not isinstance(error, Exception):
            _end(pool)
        raise
    finally:
        with _lock:
            pool.users -= 1
        if not keep:
            _end(pool, unused=True)


def _end(pool: WorkerPool, *, unused: bool = False) -> None:
    with _lock:
        if unused and pool.users:
            return
        if _pools.get(pool.config) is pool:
            del _pools[pool.config]
    pool.close()  # outside the lock: Ctrl-C asks for it too


def end_workers(*, unused: bool = False) -> None:
    """End this process's workers at once, or only those that no thread uses; who waits for them gets `ServerError`."""
    for pool in list(_pools.values()):
        _end(pool, unused=unused)


def threads_each(config: ExecutorConfig) -> int:
    """Return how many threads each process of an executor may use: its share of this command's.

    A worker of a cluster has one; there are as many workers as threads to use.
    """
    if config.kind == "processes":
        return max(1, threads() // (config.workers or threads()))
    return threads() if config.kind == "here" else 1


@dataclass(frozen=True)
class Task:
    """One piece of work as it travels to a worker."""

    topic: str  # of the run that the task belongs to
    index: int  # the item's place in it
    work: bytes  # the function and its item, pickled; unpacked only once the code is known to be the same
    modules: tuple[str, ...]  # of this project, which `work` names; none where this process starts the workers
    code: str  # their digest here
    marker: Path | None  # a file that exists while the task is wanted, in a folder that all must see
    threads: int  # with how many to compute; 0 leaves it to the worker


def perform(task: Task) -> tuple[Any, bytes | None]:
    """Perform one task in a worker; return its result, or the pickled error that the user can fix.

    Such errors are returned, because dask does not restore every class of exception as it was.
    """
    try:
        _check_worker(task)
        if task.threads:  # libraries loaded from now on read the environment; these were loaded before it was set
            threadpool_limits(task.threads)
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(task.threads)
        function, item = pickle.loads(task.work)
        with listening(_forwarder(task)):
            return function(item), None
    except Brain2VideoError as error:
        return None, pickle.dumps((type(error), error.args))  # tblib, of dask, would not restore all classes


def _check_worker(task: Task) -> None:
    worker = f"dask worker on {socket.gethostname()}"
    if task.marker is not None and not task.marker.is_file():
        raise ServerError(
            f"{worker}: does not see the folder {task.marker.parent} as the process that asked for the work does; "
            "share it among all machines under the same path"
        )
    if _code_of(task.modules) != task.code:
        raise ServerError(
            f"{worker}: its code in {CODE_ROOT} is not that of the process that asked for the work; bring both to "
            "the same version and start the worker again"
        )


def _forwarder(task: Task) -> Callable[[str, int, int, str], None]:
    """Return a listener that sends reports to the task's topic, not too often."""
    import distributed

    worker, thread, last = distributed.get_worker(), threading.get_ident(), dict[str, float]()

    def forward(what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if worker.state.nthreads > 1 and threading.get_ident() != thread:
            return  # another piece's
        if done >= total or now - last.get(what, 0.0) >= REPORT_EVERY_S:
            last[what] = now
            worker.log_event(task.topic, (task.index, what, int(done), int(total), note))

    return forward


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the process that started this worker; dask calls this in each new worker process."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _modules_in(work: bytes) -> tuple[str, ...]:
    """Return this project's modules that a pickle names."""
    named = {value for _, value, _ in pickletools.genops(work) if isinstance(value, str) and value.isascii()}
    dotted = [name for name in named if all(part.isidentifier() for part in name.split("."))]
    return tuple(sorted(name for name in dotted if CODE_ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file()))


@functools.cache
def _code_of(modules: tuple[str, ...]) -> str:
    """Return the digest of modules as this process knows them: files that change later are not read again."""
    return code_digest(*map(ModuleType, modules))
