"""Workers of a dask cluster, by the address of its scheduler.

The scheduler hands the work of a lost worker to another. Workers must see the folders that are written under the same
paths, and run this project's code as it is here; both are looked at before each piece of work.
"""

import functools
import importlib
import pickle
import pickletools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from core.checkout import CODE_ROOT
from core.code import code_digest
from core.errors import Brain2VideoError, ConfigError, ServerError
from core.files import write_bytes
from core.progress import listening

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = tuple[str, int]

ANSWER_S = 10.0
"""Seconds within which a scheduler must answer."""
WORKER_S = 60.0
"""Seconds without any worker after which no result is expected any more."""
EVERY_S = 0.5
"""Seconds between two reports of the same work that are handed on."""


@dataclass(frozen=True)
class Parcel:
    """One piece of work as it travels.

    Attributes
    ----------
    key : of the piece
    work : the function and its item, pickled; unpacked only once the code is known to be the same
    modules : this project's modules that `work` names
    code : what `core.code.code_digest` says of them where the work comes from
    mark : a file that is there as long as the work is wanted, in a folder that all must see
    """

    key: Key
    work: bytes
    modules: tuple[str, ...]
    code: str
    mark: Path


class Carried(Exception):
    """An error on its way from a worker, pickled: dask itself brings not every class back as it was."""

    def __str__(self) -> str:
        return "an error from a worker"


class DaskWorkers:
    """The workers of a scheduler; also the one crew that there ever is, for the scheduler replaces them by itself."""

    def __init__(self, address: str) -> None:
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise ConfigError(
                "executor dask: the package 'distributed' is not installed here; install it with "
                "'pip install distributed', or take the executor processes"
            ) from error
        self._address = address
        try:
            self._client = distributed.Client(address, timeout=ANSWER_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ServerError(
                f"{address}: no dask scheduler answers there; start one with 'dask scheduler', or fix the address"
            ) from error
        self._killed: type[Exception] = distributed.KilledWorker
        self._executor = self._client.get_executor(pure=False)
        self._marks: dict[str, Path] = {}
        self._alone_since: float | None = None

    def crew(self) -> "DaskWorkers":
        """Return these workers."""
        return self

    @property
    def room(self) -> int:
        """Twice as many pieces as the workers have threads: one is worked on while the next is on its way."""
        threads: dict[str, int] = self._ask(self._client.nthreads)
        return 2 * max(1, sum(threads.values()))

    @contextmanager
    def hearing(self, run: str, hear: Callable[..., None], mark: Path) -> Iterator[None]:
        """Tell `hear` what the workers report of a run, and mark the folder that they must see."""
        self._marks[run] = mark
        write_bytes(mark, b"")
        self._ask(lambda: self._client.subscribe_topic(run, lambda event: hear(*event[1])))
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)
            del self._marks[run]
            if self._client.status == "running":
                self._client.unsubscribe_topic(run)

    def submit(self, key: Key, function: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Hand out one piece."""
        work = pickle.dumps((function, item))
        modules = _modules_in(work)
        parcel = Parcel(key, work, modules, _code_of(modules), self._marks[key[0]])
        future: Future[Result] = self._ask(lambda: self._executor.submit(do_parcel, parcel))
        return future

    def check(self) -> None:
        """Raise where the scheduler is gone, or has had no worker for `WORKER_S`."""
        if self._client.status != "running":
            raise self._lost()
        if self._ask(self._client.nthreads):
            self._alone_since = None
            return
        self._alone_since = self._alone_since or time.monotonic()
        if time.monotonic() - self._alone_since > WORKER_S:
            raise ServerError(
                f"{self._address}: the scheduler has had no worker for {WORKER_S:.0f} s; start some with "
                f"'dask worker {self._address}', and run again, which goes on where this stopped"
            )

    def blames(self, key: Key) -> bool:
        """Say so: dask itself tells when a piece of work has cost too many workers."""
        del key
        return True

    def explained(self, error: BaseException, what: str) -> BaseException:
        """Return what dask says as one line."""
        if isinstance(error, Carried):
            carried: BaseException = pickle.loads(error.args[0])
            return carried
        if isinstance(error, self._killed):
            return ServerError(
                f"{what}: several workers of {self._address} died of it one after another; look whether their machines "
                "ran out of memory"
            )
        if isinstance(error, CancelledError):
            return self._lost()
        if isinstance(error, ModuleNotFoundError) or "deserialization" in str(error):
            return ServerError(
                f"{self._address}: a worker cannot read the work that it is given ({_line_of(error)}); start workers "
                "from a checkout like this one, with the packages that it needs"
            )
        return error

    def close(self, *, kill: bool) -> None:
        """Leave the scheduler; a piece that is under way there ends by itself, and nobody waits for it."""
        del kill
        self._client.close(timeout=ANSWER_S)

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            raise self._lost() from error

    def _lost(self) -> ServerError:
        return ServerError(
            f"{self._address}: the connection to the dask scheduler is lost; look whether it runs, and run again, "
            "which goes on where this stopped"
        )


def do_parcel(parcel: Parcel) -> Any:
    """Do one piece of work in a worker.

    Raises
    ------
    Carried
        What the work raised, or `ServerError`: this worker does not see the folder, or its code is not the caller's.
    """
    try:
        return _done(parcel)
    except Brain2VideoError as error:
        carried = pickle.dumps(error)
    raise Carried(carried)  # out here, so that what dask cannot bring back is not its context


def _done(parcel: Parcel) -> Any:
    me = f"dask worker on {socket.gethostname()}"
    if not parcel.mark.is_file():
        raise ServerError(
            f"{me}: does not see the folder {parcel.mark.parent} as the process that asked for the work does; share it "
            "among all machines under the same path"
        )
    if _code_of(parcel.modules) != parcel.code:
        raise ServerError(
            f"{me}: its code in {CODE_ROOT} is not that of the process that asked for the work; bring both to the same "
            "version and start the worker again"
        )
    function, item = pickle.loads(parcel.work)
    with listening(_forwarder(parcel.key)):
        return function(item)


def _forwarder(key: Key) -> Callable[[str, int, int, str], None]:
    """Return a listener that hands on what this thread reports, not too often."""
    worker = importlib.import_module("distributed").get_worker()
    me, last = threading.get_ident(), dict[str, float]()

    def forward(what: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        # A worker may do several pieces at once, each in a thread of its own.
        if threading.get_ident() != me or (done < total and now - last.get(what, 0.0) < EVERY_S):
            return
        last[what] = now
        worker.log_event(key[0], (key[1], what, int(done), int(total), note))

    return forward


def _modules_in(work: bytes) -> tuple[str, ...]:
    """Return this project's modules that a pickle names."""
    named = {value for _, value, _ in pickletools.genops(work) if isinstance(value, str) and value.isascii()}
    ours = {name for name in named if all(part.isidentifier() for part in name.split(".")) and _is_ours(name)}
    return tuple(sorted(ours))


def _is_ours(module: str) -> bool:
    return CODE_ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()


@functools.cache
def _code_of(modules: tuple[str, ...]) -> str:
    """Return the digest of modules as this process knows them: files that change later are not looked at again."""
    return code_digest(*map(ModuleType, modules))


def _line_of(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
