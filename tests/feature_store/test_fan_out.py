"""A group whose chunks several processes write: the bytes of one, whoever dies, and nothing written twice."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import SourceError
from core.executors import ExecutorConfig
from core.files import digest_folder
from core.progress import listening
from feature_store import schema, verify

from ..dask_cluster import CHECKOUT, Cluster, dask_cluster


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the rows, under the name by which workers find it; chunks are small in this process alone."""
    monkeypatch.syspath_prepend(CHECKOUT)
    import tests.feature_store.fan_out_rows as module

    monkeypatch.setattr(schema, "CHUNK_BYTES", module.STEP * module.WIDTH * 4)
    return module


@pytest.fixture
def expected(known: ModuleType, tmp_path: Path) -> str:
    """The digest of the store that one process writes."""
    known.write(tmp_path / "alone" / "s.zarr", known.KnownRows(tmp_path / "alone.log"), None)
    assert len(made(tmp_path / "alone.log")) > 10
    return digest_folder(tmp_path / "alone" / "s.zarr")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as running:
        yield running


def made(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


def check(store: Path, expected: str) -> None:
    assert digest_folder(store) == expected
    assert list(verify(store)) == []
    assert list((store.parent / ".staging").iterdir()) == []


def test_processes_write_the_bytes_of_one(known: ModuleType, expected: str, tmp_path: Path) -> None:
    store, log, told, heard = tmp_path / "s.zarr", tmp_path / "log", list[tuple[int, int]](), list[tuple]()
    with listening(lambda *said: heard.append(said)):
        known.write(store, known.KnownRows(log), known.TWO, told)
    check(store, expected)
    assert sorted(made(log)) == sorted(made(tmp_path / "alone.log")), "each chunk's rows are made once"
    assert sorted({row for start, stop in told for row in range(start, stop)}) == list(range(known.ROWS))
    for split in ("train", "test"):
        counts = [done for what, done, *_ in heard if what == f"writing t/{split}/values"]
        assert max(counts) == counts[-1] == known.ROWS


@pytest.mark.servers
def test_dask_workers_write_the_bytes_of_one(
    known: ModuleType, expected: str, cluster: Cluster, tmp_path: Path
) -> None:
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    known.write(store, known.KnownRows(log), ExecutorConfig(kind="dask", address=cluster.address))
    check(store, expected)
    assert sorted(made(log)) == sorted(made(tmp_path / "alone.log"))


@pytest.mark.parametrize("moment", ["kill_at", "kill_after"])
def test_a_worker_that_dies_changes_nothing(moment: str, known: ModuleType, expected: str, tmp_path: Path) -> None:
    store, log, told = tmp_path / "s.zarr", tmp_path / "log", list[tuple[int, int]]()
    chunk = chunks_of(known)[2]
    known.write(store, known.KnownRows(log, **{moment: chunk}), known.TWO, told)
    assert log.with_suffix(".died").exists()
    check(store, expected)
    counts = made(log)
    assert set(counts) == set(made(tmp_path / "alone.log"))
    if moment == "kill_after":
        assert counts.count(chunk) == 2, "once for each array: what was whole is not made again"
    assert counts.count(0) == 2, "it was whole long before"
    assert len(told) >= len(made(tmp_path / "alone.log"))


@pytest.mark.servers
def test_a_dask_worker_that_dies_changes_nothing(known: ModuleType, expected: str, tmp_path: Path) -> None:
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    chunk = chunks_of(known)[2]
    with dask_cluster(tmp_path / "cluster") as running:
        config = ExecutorConfig(kind="dask", address=running.address)
        known.write(store, known.KnownRows(log, kill_after=chunk), config)
        assert sum(worker.poll() is not None for worker in running.workers) == 1
    check(store, expected)
    assert made(log).count(chunk) == 2


def test_a_run_that_is_killed_goes_on_where_it_stopped(known: ModuleType, expected: str, tmp_path: Path) -> None:
    store, log = tmp_path / "s.zarr", tmp_path / "log"
    command = [sys.executable, "-m", "tests.feature_store.fan_out_rows", str(store), str(log)]
    run = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(CHECKOUT)})
    try:
        end = time.monotonic() + 60
        while not log.exists() or len(made(log)) < 4:
            assert run.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        run.kill()
        run.wait()
    assert not store.exists()
    known.write(store, known.KnownRows(log), known.TWO)
    check(store, expected)
    # What the two workers were at when they lost their parent, and no more, may have been made again.
    assert len(made(log)) <= len(made(tmp_path / "alone.log")) + 2


def test_what_is_there_already_tells_too(known: ModuleType, tmp_path: Path) -> None:
    rows, told = known.KnownRows(tmp_path / "log"), list[tuple[int, int]]()
    chunks = chunks_of(known)

    class StopsAtThird(list[tuple[int, int]]):
        def append(self, said: tuple[int, int]) -> None:
            if said[0] == chunks[2]:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        known.write(tmp_path / "s.zarr", rows, None, StopsAtThird())
    assert made(tmp_path / "log") == chunks[:3]
    known.write(tmp_path / "s.zarr", rows, None, told)
    assert made(tmp_path / "log") == [*chunks, *chunks]
    assert [start for start, _ in told] == [*chunks, *chunks]


def test_an_error_in_a_worker_leaves_nothing(known: ModuleType, tmp_path: Path) -> None:
    rows = known.KnownRows(tmp_path / "log", fail_at=chunks_of(known)[2])
    with pytest.raises(SourceError, match=r"^s07\.mp4: not a video; replace the file$"):
        known.write(tmp_path / "s.zarr", rows, known.TWO)
    assert not (tmp_path / "s.zarr").exists()
    assert [path for path in (tmp_path / ".staging").rglob("*") if path.is_file()] == []


def chunks_of(known: ModuleType) -> list[int]:
    """Return the first row of every chunk."""
    return list(range(0, known.ROWS, schema.chunk_rows(known.ROWS, known.WIDTH * 4)))
