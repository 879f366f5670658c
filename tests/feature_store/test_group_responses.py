"""Several subjects' responses side by side, read as those of one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, StoreError
from core.subjects import group_of, is_group, members_of, subject_label
from feature_store import Store
from feature_store.rows import select
from feature_store.side_by_side import SideBySide, common_trials
from feature_store.writer import GroupWriter

SEEN = {
    "sub-01": ["a", "b", "a", "c", "b", "a", "b", "c", "d"],  # three of a and b, two of c, one of d
    "sub-02": ["c", "b", "b", "a", "e", "a", "c", "c", "c"],  # two of a and b, four of c
}
GROUP = group_of(list(SEEN))


def trials_of(names: list[str], **columns: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"stimulus": names, **columns})
    table.insert(1, "repetition", table.groupby("stimulus").cumcount())
    return table


@pytest.fixture
def betas(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"sub-01": rng.normal(size=(9, 5)).astype("f4"), "sub-02": rng.normal(size=(9, 3)).astype("f4")}


def write(path: Path, betas: dict[str, np.ndarray], tables: dict[str, pd.DataFrame]) -> Store:
    for subject, values in betas.items():
        with GroupWriter(path, f"responses/{subject}", encoding_type="responses", fingerprint=subject) as group:
            axes = ("trial", "voxel") if values.ndim == 2 else ("trial", "time", "voxel")
            group.array("train/betas", values.shape, "float32", lambda a, b, v=values: v[a:b], axes)
            group.table("train/trials", tables[subject])
            count = values.shape[-1]
            group.table("voxels", pd.DataFrame({"roi": ["V1"] * 2 + ["V2"] * (count - 2)}))
    rows = np.arange(4, dtype="f4")[:, None]
    with GroupWriter(path, "targets/t", encoding_type="targets", fingerprint="t") as group:
        group.array("train/values", rows.shape, "float32", lambda a, b: rows[a:b], ("stimulus", "x"))
        group.table("train/stimuli", pd.DataFrame({"stimulus": list("abcd")}))
    return Store(path)


@pytest.fixture
def store(tmp_path: Path, betas: dict[str, np.ndarray]) -> Store:
    return write(tmp_path / "features.zarr", betas, {name: trials_of(seen) for name, seen in SEEN.items()})


def test_a_groups_name_holds_its_members() -> None:
    assert members_of(GROUP) == ["sub-01", "sub-02"]
    assert members_of("sub-01") == ["sub-01"]
    assert is_group(GROUP)
    assert not is_group("sub-01")
    assert subject_label(GROUP) == "group decoder of 2 subjects (sub-01, sub-02)"
    assert subject_label("sub-01") == "sub-01"
    with pytest.raises(ConfigError, match=r"needs at least 2 subjects, found 1 \(sub-01\); name more"):
        group_of(["sub-01"])
    with pytest.raises(ConfigError, match=r"a\+b: a subject of a group decoder must not have"):
        group_of(["a+b", "c"])


def test_rows_hold_every_trial_of_all_members_to_the_common_stimuli(store: Store, betas: dict[str, np.ndarray]) -> None:
    values, stimuli = store.responses(GROUP).values("train")
    one, two = betas["sub-01"], betas["sub-02"]
    expected = {
        ("a", 0): (one[[0, 5]].mean(0), two[3]),
        ("a", 1): (one[2], two[5]),
        ("b", 0): (one[[1, 6]].mean(0), two[1]),
        ("b", 1): (one[4], two[2]),
        ("c", 0): (one[3], two[[0, 7]].mean(0)),
        ("c", 1): (one[7], two[[6, 8]].mean(0)),
    }
    table = store.responses(GROUP).trials("train")
    assert stimuli == table["stimulus"].tolist() == ["a", "b", "a", "c", "b", "c"], "as the first member saw them"
    found = {key: values[row] for row, key in enumerate(zip(stimuli, table["repetition"], strict=True))}
    assert set(found) == set(expected)
    for key, parts in expected.items():
        assert np.allclose(found[key], np.concatenate(parts), atol=1e-6)


def test_means_are_those_of_each_members_trials(store: Store, betas: dict[str, np.ndarray]) -> None:
    values, stimuli = store.responses(GROUP).values("train", repeats="mean")
    assert stimuli == ["a", "b", "c"]
    for row, name in zip(values, stimuli, strict=True):
        parts = [betas[s][[n == name for n in seen]].mean(0) for s, seen in SEEN.items()]
        assert np.allclose(row, np.concatenate(parts), atol=1e-6)


def test_regions_and_voxels_are_those_of_all_members(store: Store) -> None:
    group = store.responses(GROUP)
    assert group.voxels["subject"].tolist() == ["sub-01"] * 5 + ["sub-02"] * 3
    everything, _ = group.values("train")
    some, _ = group.values("train", rois=["V1"])
    assert np.array_equal(some, everything[:, [0, 1, 5, 6]])
    assert group.unlabelled() is None
    assert group.digest != store.responses("sub-01").digest
    assert store.names("responses") == ["sub-01", "sub-02"]


def test_a_group_joins_targets_by_stimulus(store: Store) -> None:
    pairs = store.pairs([GROUP], "t", "train", repeats="single")[GROUP]
    assert pairs.responses.shape == (6, 8)
    assert pairs.targets[:, 0].tolist() == [0, 1, 0, 2, 1, 2]
    assert pairs.dropped == {"responses": 0, "targets": 1}, "d was not seen by both"


def test_views_read_what_the_whole_holds(store: Store, rng: np.random.Generator) -> None:
    view, _ = store.responses(GROUP).view("train")
    whole = view[:]
    assert isinstance(view, SideBySide)
    assert (view.shape, view.ndim, view.nbytes) == (whole.shape, 2, whole.nbytes)
    assert np.array_equal(np.asarray(view), whole)
    chosen = np.array([4, 0, 3])
    assert np.array_equal(np.asarray(select(view, chosen)), whole[chosen])
    for columns in (slice(0, 3), slice(4, 7), slice(6, 8), slice(5, 5), slice(None)):
        assert np.array_equal(view.narrow(columns)[1:4], whole[1:4, columns])
    out = np.empty_like(whole)
    view.read_into(out)
    assert np.array_equal(out, whole)


def test_what_all_trials_agree_in_is_kept() -> None:
    tables = {
        "a": trials_of(["x", "y"], onset_s=[0.0, 3.0], run=[1, 1]),
        "b": trials_of(["x", "y"], onset_s=[0.0, 3.0], run=[1, 2]),
    }
    assert list(common_trials(tables, "here")[0]) == ["stimulus", "repetition"], "an onset in no run says nothing"
    tables["b"] = trials_of(["x", "y"], onset_s=[0.0, 3.0], run=[1, 1])
    assert list(common_trials(tables, "here")[0]) == ["stimulus", "repetition", "onset_s", "run"]
    tables["a"]["session"], tables["b"]["session"] = ["1", "2"], ["1", "1"]
    assert list(common_trials(tables, "here")[0]) == ["stimulus", "repetition"], "runs of other sessions are others"


def test_what_cannot_be_read_together_is_refused(
    tmp_path: Path, betas: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    apart = {"sub-01": trials_of(["a"] * 9), "sub-02": trials_of(["b"] * 9)}
    store = write(tmp_path / "apart.zarr", betas, apart)
    with pytest.raises(StoreError, match=r"no stimulus was seen by all of sub-01, sub-02; a group decoder needs"):
        store.responses(GROUP).trials("train")
    windows = {"sub-01": rng.normal(size=(9, 2, 5)).astype("f4"), "sub-02": rng.normal(size=(9, 4, 3)).astype("f4")}
    store = write(tmp_path / "times.zarr", windows, {name: trials_of(seen) for name, seen in SEEN.items()})
    with pytest.raises(StoreError, match="cannot lie side by side; expected the same number of time points"):
        store.responses(GROUP).view("train")
