"""How many threads compute: a fixed number for each piece of work, several pieces at once, and who says how many."""

import os
import threading
import time

import pytest
import threadpoolctl
import torch

from core.errors import ConfigError
from core.threads import VARIABLE, computing, cores, pieces_in_memory, side_by_side, threads


def counts() -> set[int]:
    """Return with how many threads this one would compute."""
    limited = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return {torch.get_num_threads(), *limited}


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surroundings of a user who has set nothing, with two threads for every library."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpoolctl.threadpool_limits(2):
        yield
    torch.set_num_threads(before)


def test_a_block_computes_with_its_own_number_and_leaves_that_of_the_process() -> None:
    with computing():
        assert counts() == {1}
        with computing(3):
            assert counts() == {3}
        assert counts() == {1}
    assert counts() == {2}
    with pytest.raises(ValueError, match="inside"), computing():
        raise ValueError("inside")
    assert counts() == {2}


def test_two_threads_that_compute_do_not_change_each_others_number() -> None:
    seen: list[set[int]] = []

    def work() -> None:
        with computing():
            time.sleep(0.02)
            seen.append(counts())
            time.sleep(0.02)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == [{1}] * 3
    assert counts() == {2}


def test_pieces_are_worked_on_at_once_by_one_thread_each_and_come_in_order() -> None:
    met = threading.Barrier(3, timeout=20)

    def work(item: int) -> tuple[int, int]:
        met.wait()  # only three at once get past it
        time.sleep(0.01 * (item % 2))
        return item, torch.get_num_threads()

    with computing():
        assert list(side_by_side(work, range(9), 3)) == [(item, 1) for item in range(9)]
    assert torch.get_num_threads() == 2
    assert list(side_by_side(lambda item: threading.get_ident(), range(2), 1)) == [threading.get_ident()] * 2


def test_what_fails_in_a_thread_is_raised_in_its_place() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise RuntimeError("of the second")
        return item

    came: list[int] = []
    with pytest.raises(RuntimeError, match="of the second"):
        came.extend(side_by_side(work, range(100), 2))
    assert came == [0, 1]


def test_the_variable_comes_before_the_libraries_own_and_both_before_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads() == cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads() == 5
    monkeypatch.setenv(VARIABLE, "3")
    assert threads() == 3
    for wrong in ("0", "-1", "two", "1.5", "100000", "²"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match=rf"^{VARIABLE} {wrong}: expected a whole number of threads from 1 to"):
            threads()
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_as_many_pieces_as_memory_holds() -> None:
    assert pieces_in_memory(1 << 50) == 1
    assert pieces_in_memory(1 << 20) > 1
