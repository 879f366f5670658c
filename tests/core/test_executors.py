"""Executors: work is spread, errors keep their class, workers that die are replaced, and none outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from core import executors
from core.errors import ServerError, SourceError, StoreMissing
from core.executors import IN_PROCESS, ExecutorConfig, end_workers, open_executor
from core.progress import listening, report
from core.threads import LIBRARY_VARIABLES, VARIABLE, cores

from ..dask_cluster import CHECKOUT, Cluster, dask_cluster

TWO = ExecutorConfig(kind="processes", workers=2)
ITEMS = list(range(8))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch):
    """The module of what workers do, under the name by which they find it."""
    monkeypatch.syspath_prepend(CHECKOUT)
    import tests.core.executor_work as module

    return module


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are kept from one test to the next, although pytest puts each test's name into the environment."""
    surroundings = executors._surroundings

    def without_the_test() -> tuple[object, ...]:
        environment, *others = surroundings()
        return {name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"}, *others

    monkeypatch.setattr(executors, "_surroundings", without_the_test)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as running:
        yield running


def on(running: Cluster) -> ExecutorConfig:
    return ExecutorConfig(kind="dask", address=running.address)


@pytest.fixture(params=["here", "processes", pytest.param("dask", marks=pytest.mark.servers)])
def config(request: pytest.FixtureRequest) -> ExecutorConfig:
    return {"here": lambda: IN_PROCESS, "processes": lambda: TWO}.get(
        request.param, lambda: on(request.getfixturevalue("cluster"))
    )()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "dask"}, "executor dask: the scheduler's address is missing"),
        ({"address": "tcp://h:1"}, "executor here: takes no address, found tcp://h:1"),
        ({"kind": "dask", "address": "tcp://h:1", "workers": 2}, "executor dask: takes no number of workers, found 2"),
        ({"kind": "processes", "workers": 0}, "greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ExecutorConfig.model_validate(wrong)


def test_work_is_spread_and_its_progress_heard(config: ExecutorConfig, work, tmp_path: Path) -> None:
    heard = []
    with listening(lambda *said: heard.append(said)), open_executor(config) as executor:
        made = dict(executor.run(work.square, ITEMS, "squaring", shared=tmp_path))
        until(lambda: {(f"squaring {item}", 3, 3, "well") for item in ITEMS} <= set(heard))
    assert {item: square for item, (square, _) in made.items()} == {item: item * item for item in ITEMS}
    assert [said for said in heard if said[0] == "squaring"] == [("squaring", n, 8, "") for n in range(1, 9)]
    workers = {pid for _, pid in made.values()}
    assert (os.getpid() in workers) == (config == IN_PROCESS)
    assert len(workers) <= 2
    assert list(tmp_path.iterdir()) == []


def test_all_that_processes_reported_is_heard_before_the_work_is_done(work, tmp_path: Path) -> None:
    heard = []

    def slow(what: str, done: int, total: int, note: str) -> None:
        time.sleep(0.02)
        heard.append((what, done, total, note))

    with listening(slow), open_executor(TWO) as executor:
        for _ in executor.run(work.square, ITEMS, "squaring", shared=tmp_path):
            pass
        assert {(f"squaring {item}", 3, 3, "well") for item in ITEMS} <= set(heard)


def test_errors_of_the_work_keep_their_class_and_message(config: ExecutorConfig, work, tmp_path: Path) -> None:
    with (
        pytest.raises(SourceError, match=r"^stimulus '7' has no clip; add its file$"),
        open_executor(config) as executor,
    ):
        list(executor.run(work.fail, [7], "failing", shared=tmp_path))
    with pytest.raises(StoreMissing, match=r"^s\.zarr: not there; run$"), open_executor(config) as executor:
        list(executor.run(work.fail, [0], "failing", shared=tmp_path))


def die_once(executor: executors.Executor, work, folder: Path) -> dict[int, int]:
    """Return what items make of which one kills its worker, once item 0 was received."""
    made = {}
    for item, result in executor.run(partial(work.die_once, folder), ITEMS, "dying", shared=folder):
        made[item] = result
        if item == 0:
            (folder / "received").touch()
    return made


def test_a_worker_that_dies_is_replaced_and_only_what_is_missing_is_done_again(work, tmp_path: Path) -> None:
    with open_executor(TWO) as executor:
        made = die_once(executor, work, tmp_path)
    assert made == {item: item for item in ITEMS}
    assert (tmp_path / "died").exists()
    done = (tmp_path / "done.log").read_text().split()
    assert set(done) == {str(item) for item in ITEMS}
    assert done.count("0") == 1, "its result was received"


def test_a_piece_that_kills_every_worker_is_named(work, tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="dying, 2: 3 workers died of it one after another"),
        open_executor(TWO) as executor,
    ):
        list(executor.run(work.die_always, ITEMS, "dying", shared=tmp_path))


def test_threads_share_the_workers(work, tmp_path: Path) -> None:
    pids: set[int] = set()
    both = threading.Barrier(2)

    def ask() -> None:
        with open_executor(TWO) as executor:
            both.wait(60)
            pids.update(pid for _, (_, pid) in executor.run(work.square, ITEMS, "squaring", shared=tmp_path))
            both.wait(60)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(pids) <= 2


def test_a_piece_that_kills_its_workers_fails_alone(work, tmp_path: Path) -> None:
    outcomes = dict[int, object]()

    def ask(thread: int) -> None:
        function = work.die_always if thread == 1 else work.square
        try:
            with open_executor(TWO) as executor:
                outcomes[thread] = [item for item, _ in executor.run(function, [2], f"run {thread}", shared=tmp_path)]
        except ServerError as error:
            outcomes[thread] = str(error)

    threads = [threading.Thread(target=ask, args=(thread,)) for thread in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert str(outcomes.pop(1)).startswith("run 1, 2: 3 workers died of it")
    assert outcomes == {thread: [2] for thread in (0, 2, 3, 4, 5)}


def test_workers_are_kept_for_the_next_block_until_they_are_ended(work, tmp_path: Path) -> None:
    pids = []
    for _ in range(4):
        with open_executor(TWO) as executor:
            pids += [pid for _, (_, pid) in executor.run(work.square, ITEMS, "squaring", shared=tmp_path)]
    assert len(set(pids)) <= 2
    end_workers()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_start_anew_where_the_environment_changed(
    work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (str(tmp_path / "one"), str(tmp_path / "other")):
        monkeypatch.setenv("BRAIN2VIDEO_HOME", value)
        with open_executor(TWO) as executor:
            assert dict(executor.run(os.getenv, ["BRAIN2VIDEO_HOME"], "asking", shared=tmp_path)) == {
                "BRAIN2VIDEO_HOME": value
            }


def test_whoever_waits_for_workers_that_are_ended_is_told(work, tmp_path: Path) -> None:
    def end() -> None:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        end_workers()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(ServerError, match="the workers were ended; run again"), open_executor(TWO) as executor:
        list(executor.run(partial(work.linger, tmp_path), [0, 1], "lingering", shared=tmp_path))
    ending.join()


def test_processes_listen_on_this_machine_alone_and_change_nothing_here(work, tmp_path: Path) -> None:
    before, others = dict(os.environ), set(psutil.Process().children())
    with open_executor(TWO) as executor:
        list(executor.run(work.square, [1], "squaring", shared=tmp_path))
        family = {psutil.Process(), *psutil.Process().children()} - others
        listening_at = {
            connection.laddr.ip
            for process in family
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening_at == {"127.0.0.1"}
    assert {name: os.environ.get(name) for name in LIBRARY_VARIABLES} == {
        name: before.get(name) for name in LIBRARY_VARIABLES
    }


def test_the_module_itself_imports_nothing_heavy() -> None:
    code = "import sys, core.executors; print({'dask', 'distributed', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=CHECKOUT, text=True) == "set()\n"


def test_here_one_thread_works_at_a_time(tmp_path: Path) -> None:
    now, most = 0, 0

    def count(item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        time.sleep(0.005)
        now -= 1

    def ask() -> None:
        with open_executor(IN_PROCESS) as executor:
            list(executor.run(count, ITEMS, "counting", shared=tmp_path))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_worker_takes_its_share_of_the_threads(work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, *LIBRARY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    with open_executor(TWO) as executor:
        ((_, found),) = executor.run(work.threads, [0], "counting threads", shared=tmp_path)
    assert set(found) == {max(1, cores() // 2)}


def test_no_worker_outlives_a_parent_that_is_killed(work, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    parent = subprocess.Popen([sys.executable, "-m", "tests.core.executor_work", str(tmp_path)], env=environment)
    try:
        until(lambda: sum(bool(file.read_text()) for file in tmp_path.glob("*.pid")) == 2)
        workers = [psutil.Process(int(file.read_text())) for file in tmp_path.glob("*.pid")]
        assert all(worker.ppid() == parent.pid for worker in workers)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not any(alive(worker) for worker in workers))


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C means what it does on a terminal; a shell's job in the background is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_workers(work, tmp_path: Path, interruptible: None) -> None:
    def interrupt() -> None:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt), open_executor(TWO) as executor:
        list(executor.run(partial(work.linger, tmp_path), [0, 1], "lingering", shared=tmp_path))
    waiting.join()
    left = [int(file.read_text() or 0) for file in tmp_path.glob("*.pid")]
    assert not any(psutil.pid_exists(pid) for pid in left if pid)


def test_reports_of_many_threads_reach_a_listener_one_at_a_time() -> None:
    now, most, heard = 0, 0, 0

    def listen(what: str, done: int, total: int, note: str) -> None:
        nonlocal now, most, heard
        now += 1
        most = max(most, now)
        time.sleep(0.0005)
        heard += 1
        now -= 1

    def say() -> None:
        for done in range(20):
            with listening(lambda *said: None):
                report("saying", done, 20)

    with listening(listen):
        threads = [threading.Thread(target=say) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (most, heard) == (1, 80)


@pytest.mark.servers
def test_a_lost_dask_workers_work_is_done_by_another(work, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with dask_cluster(tmp_path / "cluster") as running, open_executor(on(running)) as executor:
        made = die_once(executor, work, tmp_path / "log")
        assert made == {item: item for item in ITEMS}
        until(lambda: sum(worker.poll() is not None for worker in running.workers) == 1)


def test_an_address_where_nobody_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "ANSWER_S", 0.3)
    nowhere = ExecutorConfig(kind="dask", address="tcp://127.0.0.1:9")
    with pytest.raises(ServerError, match="tcp://127.0.0.1:9: no dask scheduler answers there"), open_executor(nowhere):
        pass


@pytest.mark.servers
def test_a_scheduler_without_workers_is_said(work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "NO_WORKER_S", 0.0)
    monkeypatch.setattr("core.executors.CHECK_S", 0.1)
    with (
        dask_cluster(tmp_path / "cluster", workers=0) as running,
        pytest.raises(
            ServerError, match="the scheduler has had no worker for 0 s; start some with 'dask worker tcp://"
        ),
        open_executor(on(running)) as executor,
    ):
        list(executor.run(work.square, ITEMS, "squaring", shared=tmp_path))


@pytest.mark.servers
def test_a_worker_with_other_code_is_refused(
    cluster: Cluster, work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_code_of", lambda modules: "other")
    with (
        pytest.raises(ServerError, match="is not that of the process that asked for the work"),
        open_executor(on(cluster)) as e,
    ):
        list(e.run(work.square, [1], "squaring", shared=tmp_path))


@pytest.mark.servers
def test_a_worker_that_does_not_see_the_folder_is_refused(
    cluster: Cluster, work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "write_bytes", lambda path, content: None)  # as if it was on another disk
    with (
        pytest.raises(ServerError, match=f"does not see the folder {tmp_path} as"),
        open_executor(on(cluster)) as executor,
    ):
        list(executor.run(work.square, [1], "squaring", shared=tmp_path))


def test_the_code_that_travels_is_what_the_work_names(work) -> None:
    import pickle

    modules = executors._modules_in(pickle.dumps((partial(work.die_once, Path("/x")), 3)))
    assert modules == ("tests.core.executor_work",)


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds; fail where it never does."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
