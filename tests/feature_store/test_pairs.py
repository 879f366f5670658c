"""The join of several subjects: by stimulus, with ids, what is dropped counted; as torch batches and as an xarray."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from core.errors import StoreMissing
from feature_store import Pairs, Store
from feature_store.rows import RowView
from feature_store.torch_data import PairsDataset, SubjectBatches
from feature_store.writer import GroupWriter

STIMULI = [f"s{index}" for index in range(6)]
TARGETS = {name: np.full((2, 3), index, "f2") for index, name in enumerate(STIMULI)}


@pytest.fixture
def betas(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"sub-01": rng.normal(size=(12, 5)).astype("f4"), "sub-02": rng.normal(size=(9, 7)).astype("f4")}


@pytest.fixture
def seen() -> dict[str, list[str]]:
    """Each subject saw the stimuli in an order of its own; s5 has no target, and nobody saw s0."""
    return {
        "sub-01": ["s3", "s1", "s4", "s1", "s2", "s3", "s2", "s4", "s5", "s1", "s2", "s3"],
        "sub-02": ["s2", "s5", "s1", "s2", "s1", "s3", "s3", "s5", "s1"],
    }


@pytest.fixture
def store(tmp_path: Path, betas: dict[str, np.ndarray], seen: dict[str, list[str]]) -> Store:
    path = tmp_path / "features.zarr"
    for subject, values in betas.items():
        with GroupWriter(path, f"responses/{subject}", encoding_type="responses", fingerprint="f") as group:
            group.array("train/betas", values.shape, "float32", lambda a, b, v=values: v[a:b], ("trial", "voxel"))
            trials = pd.DataFrame({"stimulus": seen[subject]})
            trials["repetition"] = trials.groupby("stimulus").cumcount()
            group.table("train/trials", trials)
            group.table("voxels", pd.DataFrame({"roi": ["V1"] * values.shape[1]}))
    names = list(reversed(STIMULI[:5]))
    rows = np.stack([TARGETS[name] for name in names])
    with GroupWriter(path, "targets/latents", encoding_type="targets", fingerprint="f") as group:
        group.array("train/values", rows.shape, "float16", lambda a, b: rows[a:b], ("stimulus", "frame", "x"))
        group.table("train/stimuli", pd.DataFrame({"stimulus": names}))
    return Store(path)


@pytest.fixture
def pairs(store: Store) -> Pairs:
    return store.pairs(["sub-01", "sub-02"], "latents", "train", repeats="single")


def test_each_row_has_the_target_of_what_was_seen(
    pairs: Pairs, betas: dict[str, np.ndarray], seen: dict[str, list[str]]
) -> None:
    for subject, part in pairs.items():
        kept = [row for row, name in enumerate(seen[subject]) if name != "s5"]
        assert part.stimuli == [seen[subject][row] for row in kept]
        assert np.array_equal(part.responses, betas[subject][kept])
        assert np.array_equal(part.targets, np.stack([TARGETS[name] for name in part.stimuli]))
    assert list(pairs.ids.columns) == ["subject", "stimulus", "repetition"]
    assert pairs.ids.iloc[3].tolist() == ["sub-01", "s1", 1]
    assert pairs.ids.iloc[11].tolist() == ["sub-02", "s2", 0]
    assert len(pairs.ids) == 11 + 7
    assert pairs.dropped.loc["sub-01"].to_dict() == {"responses": 1, "targets": 1}
    assert pairs.dropped.loc["sub-02"].to_dict() == {"responses": 2, "targets": 2}


def test_means_have_one_row_a_stimulus(store: Store, betas: dict[str, np.ndarray], seen: dict[str, list[str]]) -> None:
    part = store.pairs(["sub-01"], "latents", "train")["sub-01"]
    assert part.stimuli == ["s3", "s1", "s4", "s2"]
    assert list(part.ids.columns) == ["stimulus"]
    of_s1 = betas["sub-01"][[row for row, name in enumerate(seen["sub-01"]) if name == "s1"]]
    assert np.allclose(part.responses[1], of_s1.mean(axis=0), atol=1e-6)


def test_what_does_not_fit_into_memory_is_joined_on_disk(
    store: Store, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 8})())
    for repeats in ("single", "mean"):
        there = store.pairs(["sub-02"], "latents", "train", repeats=repeats)["sub-02"]
        assert isinstance(there.responses, RowView)
        assert isinstance(there.targets, RowView)
    assert np.array_equal(
        np.asarray(store.pairs(["sub-02"], "latents", "train", repeats="single")["sub-02"].responses),
        pairs["sub-02"].responses,
    )
    batch = PairsDataset(store.pairs(["sub-01", "sub-02"], "latents", "train", repeats="single")).__getitems__([0, 3])
    assert np.array_equal(batch["response"].numpy(), pairs["sub-01"].responses[[0, 3]])


def test_absent_groups_are_named(store: Store) -> None:
    with pytest.raises(StoreMissing, match="targets/latent: not in .*did you mean 'latents'"):
        store.pairs(["sub-01"], "latent", "train")
    with pytest.raises(StoreMissing, match="responses/sub-03: not in .*did you mean 'sub-0"):
        store.pairs(["sub-01", "sub-03"], "latents", "train")


def test_torch_batches_hold_every_row_once_and_one_subject_each(pairs: Pairs) -> None:
    data = PairsDataset(pairs)
    assert len(data) == len(pairs.ids)
    sampler = SubjectBatches(pairs, size=4, seed=3)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=data.collate)
    met = []
    for batch in loader:
        assert batch["response"].shape == (len(batch["stimulus"]), pairs[batch["subject"]].responses.shape[1])
        assert batch["target"].dtype == torch.float16
        for name, target in zip(batch["stimulus"], batch["target"], strict=True):
            assert np.array_equal(target.numpy(), TARGETS[name])
        met += [(batch["subject"], name) for name in batch["stimulus"]]
    assert len(list(loader)) == len(sampler) == 3 + 2
    assert sorted(met) == sorted(zip(pairs.ids["subject"], pairs.ids["stimulus"], strict=True))
    one = data[12]
    assert (one["subject"], one["stimulus"]) == ("sub-02", pairs.ids["stimulus"][12])
    assert np.array_equal(one["response"].numpy(), pairs["sub-02"].responses[1])


def test_torch_batches_are_drawn_by_seed_and_epoch(pairs: Pairs) -> None:
    sampler = SubjectBatches(pairs, size=4, seed=3)
    first = list(sampler)
    assert list(SubjectBatches(pairs, size=4, seed=3)) == first
    assert list(SubjectBatches(pairs, size=4, seed=4)) != first
    sampler.epoch = 1
    assert list(sampler) != first


def test_a_batch_of_two_subjects_or_a_row_outside_is_refused(pairs: Pairs) -> None:
    data = PairsDataset(pairs)
    with pytest.raises(IndexError, match="rows of one subject; draw it with SubjectBatches"):
        data.__getitems__([0, 12])
    with pytest.raises(IndexError, match="rows 40 to 40 of 18"):
        _ = data[40]


def test_xarray_has_trials_and_voxels_as_coordinates(
    store: Store, betas: dict[str, np.ndarray], seen: dict[str, list[str]]
) -> None:
    pytest.importorskip("xarray")
    array = store.responses("sub-01").to_xarray("train")
    assert array.dims == ("trial", "voxel")
    assert np.array_equal(array.values, betas["sub-01"])
    of_s1 = array.where(array["stimulus"] == "s1", drop=True)
    assert np.array_equal(of_s1.values, betas["sub-01"][[name == "s1" for name in seen["sub-01"]]])
    assert set(array["roi"].values) == {"V1"}
    assert array.attrs["encoding-type"] == "responses"
