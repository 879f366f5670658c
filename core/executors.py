"""Spreads pieces of work over workers: in this thread, over processes of this machine, or over a dask cluster.

Whoever wants work done opens an engine and runs a function over items, all of them picklable. Everybody in this process
who asks for the same workers shares them. A worker that dies is replaced, and only what has no result yet is handed out
again; what a worker reports of its progress reaches the listeners of this process.

>>> with opened(ExecutorConfig(kind="processes", workers=2)) as engine:      # doctest: +SKIP
...     for item, result in engine.run(function, items, "working", shared=folder):
...         ...
"""

import os
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeVar

from pydantic import PositiveInt, model_validator

from core.config import Config
from core.errors import ServerError
from core.files import digest_json
from core.progress import report

Item = TypeVar("Item")
Result = TypeVar("Result")
Key = tuple[str, int]
"""Names a piece of work: the run it belongs to, and its place among the run's items."""
Heard = Callable[[Any, str, int, int, str], None]
"""Called with an item and what its worker reports: what is being done, how many are done, how many there are, and a
note."""

TRIES = 3
"""How often a worker may die of one piece of work before that is given up."""
LOOK_S = 5.0
"""Seconds without a result after which the workers are looked at."""


class ExecutorConfig(Config):
    """Where work is done."""

    kind: Literal["here", "processes", "dask"] = "here"
    """In the calling thread, one piece at a time; in processes of this machine; by the workers of a dask scheduler."""
    workers: PositiveInt | None = None
    """How many processes; by default as many as there are cores."""
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


HERE = ExecutorConfig()


class Crew(Protocol):
    """Workers that live and, where they are processes of one pool, die together."""

    @property
    def room(self) -> int:
        """How many pieces may be under way: those that are worked on, and as many again that wait."""
        ...

    def submit(self, key: Key, function: Callable[[Item], Result], item: Item) -> "Future[Result]":
        """Hand out one piece; its future holds `BrokenProcessPool` where the workers died."""
        ...

    def check(self) -> None:
        """Raise `ServerError` where no result can be expected any more."""
        ...

    def blames(self, key: Key) -> bool:
        """Wait until dead workers are gone altogether, and say whether one may have died of this piece."""
        ...

    def explained(self, error: BaseException, what: str) -> BaseException:
        """Return an error of the workers themselves as one line; any other as it is."""
        ...


class Workers(Protocol):
    """Crews, one after another."""

    def crew(self) -> Crew:
        """Return the crew at work, or a new one."""
        ...

    def hearing(self, run: str, hear: Callable[..., None], mark: Path) -> AbstractContextManager[None]:
        """Tell `hear` for the length of a block what the workers report of a run.

        `mark` may be written for that long, in a folder that all of them must see.
        """
        ...

    def close(self, *, kill: bool) -> None:
        """End the workers, in the middle of their work where `kill` is set."""
        ...


class Engine:
    """Runs a function over items in this thread."""

    def run(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        what: str,
        *,
        shared: Path,
        heard: Heard | None = None,
    ) -> Generator[tuple[Item, Result]]:
        """Yield every item with its result, as they come.

        Parameters
        ----------
        function : picklable; called again with an item whose worker died, so it must bear that
        items : picklable
        what : str
            What is being done, for progress and errors.
        shared : Path
            A folder that is here, and that every worker must see under the same path.
        heard : callable, optional
            Called with what workers report, in any thread; by default the listeners of this process are told as if the
            work was done here.

        Raises
        ------
        ServerError
            Workers cannot be had, do not see `shared`, run other code, or died of one piece too often.
        Exception
            What the function raised in a worker, with its class and its message. Nothing more is begun then.
        """
        del shared, heard
        for done, item in enumerate(items, start=1):
            yield item, function(item)
            _count(what, done, len(items))


class SpreadEngine(Engine):
    """Runs a function over items in workers."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers

    def run(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        what: str,
        *,
        shared: Path,
        heard: Heard | None = None,
    ) -> Generator[tuple[Item, Result]]:
        """Yield every item with its result, as they come; see `Engine.run`."""
        run, tries = uuid.uuid4().hex, Counter[int]()
        waiting, running = deque(range(len(items))), dict[Future[Result], tuple[int, Crew]]()

        def hear(index: int, *said: Any) -> None:
            if heard is None:
                report(*said)
            else:
                heard(items[index], *said)

        # One that a killed process left behind is taken over, and goes, with the same work.
        mark = shared / f".{digest_json([what, [str(item) for item in items]])[:16]}.partial"
        with self.workers.hearing(run, hear, mark):
            try:
                while waiting or running:
                    crew = self.workers.crew()
                    while waiting and len(running) < crew.room:
                        index = waiting.popleft()
                        running[crew.submit((run, index), function, items[index])] = index, crew
                    finished = wait(running, LOOK_S, FIRST_COMPLETED).done
                    if not finished:
                        crew.check()
                    for future in finished:
                        index, by = running.pop(future)
                        try:
                            yield items[index], _result(future, by, f"{what}, {items[index]}")
                        except BrokenProcessPool:
                            tries[index] += by.blames((run, index))
                            _give_up(what, items[index], tries[index])
                            waiting.appendleft(index)
                            continue
                        if heard is None:
                            _count(what, len(items) - len(waiting) - len(running), len(items))
            finally:
                for future in running:
                    future.cancel()


def _result(future: "Future[Result]", by: Crew, what: str) -> Result:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except BaseException as error:
        explained = by.explained(error, what)
        if explained is error:
            raise
        raise explained from error


def _count(what: str, done: int, total: int) -> None:
    if total > 1:  # of a single piece its worker's own reports say more
        report(what, done, total)


def _give_up(what: str, item: object, tries: int) -> None:
    if tries >= TRIES:
        raise ServerError(
            f"{what}, {item}: {tries} workers died of it one after another; look whether the machine ran out of "
            "memory, and take fewer workers"
        )


_here = threading.RLock()
_opening = threading.Lock()
_open: dict[ExecutorConfig, tuple[SpreadEngine, int]] = {}
"""The engines in use, and by how many."""


@contextmanager
def opened(config: ExecutorConfig) -> Iterator[Engine]:
    """Yield what runs work as a config says; the last one to leave ends the workers.

    With kind ``"here"`` only one thread of this process is in such a block at a time; the others wait. A block that
    ends in an error ends the workers at once, unless others use them too; Ctrl-C ends them in any case.

    Raises
    ------
    ConfigError, ServerError
        The package is missing, or no scheduler answers.
    """
    if config.kind == "here":
        with _here:
            yield Engine()
        return
    with _opening:
        engine, users = _open[config] if config in _open else (SpreadEngine(_workers_of(config)), 0)
        _open[config] = engine, users + 1
    kill = True
    try:
        yield engine
        kill = False
    except BaseException as error:
        if not isinstance(error, Exception):
            engine.workers.close(kill=True)
        raise
    finally:
        with _opening:
            _, users = _open[config]
            _open[config] = engine, users - 1
            if users == 1:
                del _open[config]
                engine.workers.close(kill=kill)


def end_workers() -> None:
    """End the workers of all engines in this process at once; whoever waits for their work gets `ServerError`."""
    with _opening:
        engines = [engine for engine, _ in _open.values()]
    for engine in engines:
        engine.workers.close(kill=True)


def _workers_of(config: ExecutorConfig) -> Workers:
    if config.kind == "dask":
        from core.dask_workers import DaskWorkers

        return DaskWorkers(str(config.address))
    from core.process_workers import ProcessWorkers

    return ProcessWorkers(config.workers or cores())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
