"""Views: rows, means and some voxels of arrays on disk are what numpy makes of the same arrays in memory."""

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import StoreError
from feature_store import Store
from feature_store import schema as layout
from feature_store.rows import ChunkedRows, RowView, loaded, mean_over_repeats, select
from feature_store.writer import GroupWriter


def rows_of(folder: Path, values: np.ndarray, chunk_rows: int) -> ChunkedRows:
    """Write an array in chunks of that many rows, and open it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_BYTES", chunk_rows * values[0].nbytes)
        store = folder / "s.zarr"
        with GroupWriter(store, "targets/t", encoding_type="targets", fingerprint="f") as group:
            group.array(
                "train/values", values.shape, "float32", lambda a, b: values[a:b], ("a", "b", "c")[: values.ndim]
            )
    return Store(store).target("t").rows("train/values")


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(2, 30), chunk=st.integers(1, 9), time=st.sampled_from([(), (3,)]))
def test_views_are_what_numpy_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int, chunk: int, time: tuple[int, ...]
) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, *time, 7)).astype("f4")
    stored = rows_of(tmp_path_factory.mktemp("views"), values, chunk)
    index = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=20)))
    columns = data.draw(st.sampled_from([slice(None), slice(2, 5), np.array([0, 6, 3])]))
    view = RowView(stored, index, columns)
    expected = values[index][..., columns]
    assert (view.shape, view.nbytes, view.ndim, len(view)) == (expected.shape, expected.nbytes, values.ndim, len(index))
    assert np.array_equal(np.asarray(view), expected)
    assert np.array_equal(view[1:], expected[1:])
    assert np.array_equal(view[np.arange(len(index)) % 2 == 0], expected[::2])
    chosen = np.array(data.draw(st.lists(st.integers(0, len(index) - 1), max_size=5)), dtype=np.int64)
    assert np.array_equal(view.select(chosen)[:], expected[chosen])
    narrow = data.draw(st.sampled_from([slice(0, 2), slice(1, None), slice(None)]))
    assert np.array_equal(view.narrow(narrow)[:], expected[..., narrow])
    assert np.array_equal(select(view, chosen)[:], select(expected, chosen))
    into = np.empty_like(expected)
    view.read_into(into)
    assert np.array_equal(into, expected)


@settings(deadline=None)
@given(stimuli=st.lists(st.sampled_from("abcd"), min_size=1, max_size=24), chunk=st.integers(1, 5))
def test_means_are_those_of_each_stimulus(
    tmp_path_factory: pytest.TempPathFactory, stimuli: list[str], chunk: int
) -> None:
    values = np.random.default_rng(len(stimuli)).normal(size=(len(stimuli), 5)).astype("f4")
    stored = rows_of(tmp_path_factory.mktemp("means"), values, chunk)
    expected, names = mean_over_repeats(values, stimuli)
    for row, name in enumerate(names):
        of_it = [index for index, one in enumerate(stimuli) if one == name]
        assert np.allclose(expected[row], values[of_it].astype("f8").mean(axis=0), atol=1e-6)
    order = np.argsort([names.index(name) for name in stimuli], kind="stable")
    counts = np.array([stimuli.count(name) for name in names])
    view = RowView(stored, order, counts=counts)
    assert np.array_equal(view[:], expected), "by blocks or at once, to the last bit"
    assert np.array_equal(view[len(names) - 1 :], expected[-1:])
    assert np.array_equal(view.select(np.array([0]))[:], expected[:1])


def test_a_whole_view_within_a_chunk_is_the_mapped_file(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(8, 5)).astype("f4")
    stored = rows_of(tmp_path, values, 4)
    block = RowView(stored, np.arange(8))[0:4]
    assert not block.flags.owndata
    assert not block.flags.writeable
    assert np.array_equal(block, values[:4])


def test_rows_outside_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = rows_of(tmp_path, rng.normal(size=(8, 5)).astype("f4"), 3)
    assert np.array_equal(stored[np.array([-1])], stored[7:8])
    for rows in (stored, RowView(stored, np.arange(8)), RowView(stored, np.arange(8), counts=np.full(4, 2))):
        with pytest.raises(IndexError, match="index 8 is out of bounds"):
            rows[np.array([2, 8])]
        with pytest.raises(IndexError, match="indexed along the first axis; index what comes back"):
            rows[2, 5]  # type: ignore[index]


def test_masks_and_single_positions_are_numpys(tmp_path: Path, rng: np.random.Generator) -> None:
    values = rng.normal(size=(10, 5)).astype("f4")
    stored = rows_of(tmp_path, values, 3)
    means = values.reshape(5, 2, 5).mean(axis=1, dtype="f8").astype("f4")
    views = ((stored, values), (RowView(stored, np.arange(10)), values))
    for view, known in (*views, (RowView(stored, np.arange(10), counts=np.full(5, 2)), means)):
        mask = np.arange(len(known)) % 3 == 1
        assert np.array_equal(view[mask], known[mask])
        assert np.array_equal(view[3], known[3])
        assert np.array_equal(view[-1], known[-1])
        assert np.array_equal(view[::-2], known[::-2])
        assert view[np.zeros(len(known), dtype=bool)].shape == (0, 5)
        if isinstance(view, RowView):
            assert np.array_equal(view.select(mask)[:], known[mask])


def test_more_chunks_than_files_may_be_open(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = rows_of(tmp_path, rng.normal(size=(300, 5)).astype("f4"), 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, before[1]))
    try:
        assert stored[:].shape == (300, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_fits_is_loaded_and_what_does_not_stays_on_disk(store: Path) -> None:
    view, stimuli = Store(store).responses("sub-01").view("train")
    assert isinstance(loaded(view), np.ndarray)
    assert loaded(view, available=view.nbytes) is view, "a fourth of what is free is the limit"
    assert len(stimuli) == len(view)


def test_voxels_of_regions(tmp_path: Path) -> None:
    """A voxel may lie in several regions; a name without a side means both."""
    import pandas as pd

    regions = ["lV1v", "lV1v+lEBA", "rV1v", "rEBA", "none", "lLOC"]
    with GroupWriter(tmp_path / "s.zarr", "responses/sub-01", encoding_type="responses", fingerprint="f") as group:
        group.table("voxels", pd.DataFrame({"roi": regions}))
    responses = Store(tmp_path / "s.zarr").responses("sub-01")

    def chosen(*rois: str) -> list[int]:
        return np.arange(len(regions))[responses.voxels_in(list(rois))].tolist()

    assert responses.voxels_in(["V1v"]) == slice(0, 3)
    assert chosen("EBA") == [1, 3]
    assert chosen("lEBA", "LOC") == [1, 5]
    with pytest.raises(StoreError, match="has no ROI 'EBB'; did you mean 'rEBA'|has no ROI 'EBB'; did you mean 'lEBA'"):
        responses.voxels_in(["EBB"])
