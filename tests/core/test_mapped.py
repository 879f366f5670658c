"""Mapped files: what is let go of leaves the process's memory, and is read again unharmed."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from core.files import release_pages

SIZE = 2**25


def resident() -> int:
    """Return how many bytes of files' pages this process has."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="the system cannot release pages")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up by Linux's means")
def test_pages_of_a_mapped_file_leave_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(bytes(range(256)) * (SIZE // 256))
    values = np.asarray(np.memmap(tmp_path / "values", np.uint8, "r"))
    part = values[256:].reshape(-1, 256)
    total = int(part.sum(dtype=np.int64))
    before = resident()
    release_pages(part)
    assert before - resident() > SIZE / 2
    assert int(part.sum(dtype=np.int64)) == total


def test_what_may_be_written_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "values").write_bytes(bytes(2**14))
    own = np.memmap(tmp_path / "values", np.uint8, "c")  # changes stay with the process
    own[:] = 7
    release_pages(own)
    assert (own == 7).all()
    plain = np.ones(5)
    release_pages(plain)
    assert (plain == 1).all()
