"""Noise ceilings: the published formula, and a fake brain whose signal-to-noise ratio is known."""

import numpy as np
import pandas as pd
import pytest

from feature_store import noise_ceiling as nc


class Rows:
    """Trials in memory, read as those on disk are."""

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.shape, self.is_mapped = values, values.shape, True

    def take(self, rows: np.ndarray, columns: slice) -> np.ndarray:
        return self._values[rows][..., columns]


def published(betas: np.ndarray) -> np.ndarray:
    """The dataset's own formula, for betas (voxel, repeat, stimulus)."""
    noise = np.sqrt(np.mean(np.std(betas, axis=1, ddof=1) ** 2, axis=1))
    total = np.std(betas.reshape(len(betas), -1), axis=1) ** 2
    return np.sqrt(np.maximum(total - noise**2, 0)) / noise


def test_it_is_the_published_formula_in_any_order_of_trials(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nc, "BLOCK_BYTES", 8 * 60 * 4)  # four voxels at a time
    betas = rng.normal(size=(20, 3, 10)) + rng.normal(size=(20, 1, 10)) * rng.uniform(0, 2, (20, 1, 1))
    trials = betas.transpose(2, 1, 0).reshape(30, 20)
    stimuli = [f"s{row // 3}" for row in range(30)]
    order = rng.permutation(30)
    found = nc.ncsnr(Rows(trials[order].astype("f4")), [stimuli[row] for row in order])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, published(betas), rtol=1e-4, atol=1e-4)


def test_a_known_ratio_is_recovered(rng: np.random.Generator) -> None:
    known = np.linspace(0.2, 2, 200)
    signal = rng.normal(size=(300, 200)) * known
    trials = np.repeat(signal, 3, axis=0) + rng.normal(size=(900, 200))
    found = nc.ncsnr(Rows(trials.astype("f4")), [str(row // 3) for row in range(900)])
    assert np.corrcoef(found, known)[0, 1] > 0.98
    assert np.abs(found / known - 1).mean() < 0.1
    silent = nc.ncsnr(Rows(rng.normal(size=(900, 500)).astype("f4")), [str(row // 3) for row in range(900)])
    assert np.median(silent) < 0.15, "noise alone has next to no ceiling"


def test_windows_are_averaged_over_time(rng: np.random.Generator) -> None:
    windows, stimuli = rng.normal(size=(12, 4, 6)).astype("f4"), list("abcdef") * 2
    expected = nc.ncsnr(Rows(windows.astype("f8").mean(axis=1)), stimuli)
    np.testing.assert_allclose(nc.ncsnr(Rows(windows), stimuli), expected, rtol=1e-5)


def test_what_cannot_be_estimated_is_nan(rng: np.random.Generator) -> None:
    trials, stimuli = rng.normal(size=(12, 3)).astype("f4"), list("abcdef") * 2
    trials[4, 0], trials[:, 1] = np.nan, 7
    assert np.isnan(nc.ncsnr(Rows(trials), stimuli)).tolist() == [True, True, False]
    assert np.isnan(nc.ncsnr(Rows(trials), [str(row) for row in range(12)])).all(), "nothing was repeated"
    once = nc.ncsnr(Rows(trials), [*stimuli[:-1], "g"])
    twice = nc.ncsnr(Rows(trials[[0, 1, 2, 3, 4, 6, 7, 8, 9, 10]]), [*"abcde", *"abcde"])
    np.testing.assert_array_equal(once, twice), "stimuli shown once tell nothing about noise"


def test_the_ceiling_grows_with_the_repeats_averaged() -> None:
    np.testing.assert_allclose(nc.noise_ceiling(np.array([0, 1.0]), 1), [0, 50])
    np.testing.assert_allclose(nc.noise_ceiling(np.array([1.0]), 3), 75)


def test_what_is_packed_is_read_in_few_blocks(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, stimuli = Rows(rng.normal(size=(12, 40)).astype("f4")), list("abcdef") * 2
    expected = nc.ncsnr(rows, stimuli)
    rows.is_mapped, taken, take = False, [], rows.take
    monkeypatch.setattr(rows, "take", lambda chosen, columns: (taken.append(columns), take(chosen, columns))[1])
    monkeypatch.setattr(nc, "BLOCK_BYTES", 1)
    assert np.array_equal(nc.ncsnr(rows, stimuli), expected)
    assert len(taken) == 1


def test_missing_values_are_counted_by_voxel(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nc, "BLOCK_BYTES", 4 * 3 * 2)
    trials = rng.normal(size=(7, 3))
    trials[1, 0], trials[5, 0], trials[:, 2] = np.nan, np.inf, np.nan
    assert nc.missing_values(Rows(trials)).tolist() == [2, 0, 7]
    assert nc.missing_values(Rows(np.stack([trials, np.ones_like(trials)], axis=1))).tolist() == [2, 0, 7]


def test_ours_is_held_against_the_published_one(rng: np.random.Generator) -> None:
    ours = rng.uniform(0, 1, 50).astype("f4")
    voxels = pd.DataFrame({"roi": "V1", "ncsnr_train": ours, "ncsnr_train_published": ours + 0.25, "ncsnr_test": ours})
    voxels.loc[3, "ncsnr_train"] = np.nan
    assert nc.agreement(voxels) == {"train": {"voxels": 49, "correlation": 1.0, "median_difference": -0.25}}
    assert nc.agreement(voxels[["roi", "ncsnr_train"]]) == {}
    assert nc.agreement(voxels.assign(ncsnr_train=0.5))["train"]["correlation"] == 0.0
