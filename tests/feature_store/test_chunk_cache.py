"""Chunks of all arrays share one cache in memory; the least recently used are evicted first."""

import gc
from pathlib import Path

import numpy as np
import pytest

from feature_store import rows as stored_rows
from feature_store.rows import Chunk, ChunkCache

from ..core.test_mapped import resident
from .test_views import rows_of


def decompressed() -> Chunk:
    return Chunk(np.zeros(100, np.uint8), mapped=False)


def test_the_least_recently_used_is_evicted() -> None:
    one, two, three = decompressed(), decompressed(), decompressed()
    cache = ChunkCache(250)
    for chunk in (one, two, one, three):
        cache.use(chunk, 100)
    assert [chunk.values is None for chunk in (one, two, three)] == [False, True, False]
    cache.use(three, 100)
    assert one.values is not None, "what is used again takes nothing more"


def test_only_what_is_touched_counts() -> None:
    chunks = [decompressed() for _ in range(5)]
    cache = ChunkCache(100)
    for chunk in chunks:
        cache.use(chunk, 20)
    assert all(chunk.values is not None for chunk in chunks)
    cache.use(chunks[4], 1)
    assert [chunk.values is None for chunk in chunks] == [True, False, False, False, False]


def test_the_chunk_in_use_is_held_however_large_it_is() -> None:
    cache, one = ChunkCache(1), decompressed()
    cache.use(one, 100)
    assert one.values is not None


def test_chunks_that_are_gone_take_no_room() -> None:
    cache, one = ChunkCache(250), decompressed()
    cache.use(one, 100)
    for _ in range(5):
        cache.use(decompressed(), 100)
        gc.collect()
    assert one.values is not None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up by Linux's means")
def test_reading_a_large_array_leaves_little_of_it_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(64, 2**17)).astype("f4")  # 32 MB in 16 chunks
    stored = rows_of(tmp_path, values, 4)
    monkeypatch.setattr(stored_rows.MAPPED, "max_bytes", 2**22)
    before = resident()
    for start in range(0, 64, 4):
        assert np.array_equal(stored[start : start + 4], values[start : start + 4])
    assert resident() - before < values.nbytes / 4
    assert np.array_equal(stored[:], values), "what was evicted comes back"
    assert resident() - before < values.nbytes / 4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is looked up by Linux's means")
def test_reading_scattered_rows_leaves_little_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A touched row brings more than itself: where the file's cache has pages of 2 MB, all of one."""
    values = np.random.default_rng(0).normal(size=(192, 2**17)).astype("f4")  # 96 MB in 6 chunks
    stored = rows_of(tmp_path, values, 32)
    monkeypatch.setattr(stored_rows.MAPPED, "max_bytes", 0)
    for index in range(6):
        assert np.array_equal(stored[32 * index], values[32 * index])  # every chunk's checksum
    monkeypatch.setattr(stored_rows.MAPPED, "max_bytes", 2**25)
    before = resident()
    for first in range(0, 32, 4):  # each time 2 MB further on
        rows = np.arange(first, 192, 32)
        assert np.array_equal(stored[rows], values[rows])
        assert resident() - before < values.nbytes / 2


def test_arrays_share_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows.DECOMPRESSED, "max_bytes", 3 * 4 * 20)
    values = np.random.default_rng(0).normal(size=(8, 5)).astype("f4")
    arrays = [rows_of(tmp_path / name, values, 4) for name in "abc"]
    for stored in arrays:
        stored._decode = np.array  # as if its chunks were packed
    for _ in range(2):
        for stored in arrays:
            assert np.array_equal(stored[:], values)
    kept = [chunk for stored in arrays for chunk in stored._chunks.values() if chunk.values is not None]
    assert len(kept) == 3, "of six chunks of four rows"
