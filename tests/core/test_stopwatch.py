"""What several do at the same time is counted once."""

import pytest

from core import progress
from core.progress import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until somebody sets it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_blocks_that_overlap_count_once_and_the_time_between_does_not_count(clock: list[float]) -> None:
    watch = Stopwatch()
    first, second = watch.running(), watch.running()
    first.__enter__()
    clock[0] = 102.0
    second.__enter__()
    clock[0] = 103.0
    first.__exit__(None, None, None)
    assert watch.seconds == 0, "of blocks that have ended"
    clock[0] = 107.0
    second.__exit__(None, None, None)
    assert watch.seconds == 7
    clock[0] = 200.0
    with watch.running():
        clock[0] = 201.0
    assert watch.seconds == 8
    watch.reset()
    assert watch.seconds == 0


def test_a_block_that_fails_is_counted_too(clock: list[float]) -> None:
    watch = Stopwatch()

    def fail() -> None:
        with watch.running():
            clock[0] = 101.0
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert watch.seconds == 1
