"""Trial betas: nilearn's own, trial by trial; those that a simulated run was made from; confounds as written."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, compute_regressor, make_first_level_design_matrix

from core.errors import SourceError
from feature_store.sources.bids.confounds import read_confounds
from feature_store.sources.timeseries import (
    Events,
    GlmConfig,
    Timing,
    standardised,
    trial_betas,
    trial_weights,
)

TIMING = Timing(volumes=150, tr_s=1.75, start_s=0.4)


def events_of(onset_s: np.ndarray, duration_s: np.ndarray) -> Events:
    return Events(onset_s, duration_s, [f"events.tsv line {row + 2}" for row in range(len(onset_s))])


@pytest.fixture
def events(rng: np.random.Generator) -> Events:
    return events_of(3 + 20.3 * np.arange(12) + rng.uniform(0, 8, 12), rng.uniform(0.5, 4, 12))


@pytest.fixture
def series(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(1000, 20, (TIMING.volumes, 30)).astype(np.float32)


def nilearns(
    series: np.ndarray, events: Events, trial: int, config: GlmConfig, confounds: np.ndarray, timing: Timing = TIMING
) -> np.ndarray:
    """Fit the model of one trial as nilearn does."""
    kinds = ["trial" if index == trial else "others" for index in range(len(events.places))]
    table = pd.DataFrame({"onset": events.onset_s, "duration": events.duration_s, "trial_type": kinds})
    design = make_first_level_design_matrix(
        timing.times_s,
        table,
        hrf_model=config.hrf,
        drift_model=config.drift,
        drift_order=config.drift_order,
        high_pass=config.high_pass_hz,
        add_regs=confounds,
        add_reg_names=[f"confound{index}" for index in range(confounds.shape[1])],
    )
    voxels = series.shape[1]
    image = nibabel.Nifti1Image(series.T.reshape(voxels, 1, 1, -1), np.eye(4))
    mask = nibabel.Nifti1Image(np.ones((voxels, 1, 1), np.uint8), np.eye(4))
    model = FirstLevelModel(t_r=timing.tr_s, noise_model="ols", mask_img=mask, signal_scaling=False)
    model.fit(image, design_matrices=design)
    return np.asarray(model.compute_contrast("trial", output_type="effect_size").dataobj)[:, 0, 0]


@pytest.mark.parametrize(
    "config",
    [
        GlmConfig(standardise="none"),
        GlmConfig(standardise="none", hrf="spm + derivative", drift="polynomial", drift_order=3),
        GlmConfig(standardise="none", hrf="glover + derivative + dispersion", drift=None),
    ],
    ids=lambda config: f"{config.hrf}, {config.drift}",
)
@pytest.mark.filterwarnings("ignore")
def test_betas_are_nilearns(series: np.ndarray, events: Events, config: GlmConfig, rng: np.random.Generator) -> None:
    confounds = rng.normal(size=(TIMING.volumes, 3))
    betas = trial_betas(series, events, TIMING, config, confounds)
    assert (betas.shape, betas.dtype) == ((12, 30), np.float32)
    for trial in range(12):
        expected = nilearns(series, events, trial, config, confounds)
        np.testing.assert_allclose(betas[trial], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_simulated_betas_are_recovered(rng: np.random.Generator) -> None:
    timing = Timing(volumes=400, tr_s=1.5)
    events = events_of(5 + 9.5 * np.arange(60), np.full(60, 3.0))
    truth = rng.normal(size=(60, 25))
    regressors = [compute_regressor(([on], [3.0], [1.0]), "glover", timing.times_s)[0][:, 0] for on in events.onset_s]
    signal = np.stack(regressors, axis=1) @ truth
    drift = np.outer(np.cos(np.pi * np.arange(400) / 400), rng.normal(size=25)) * 3
    motion = rng.normal(size=(400, 2))
    noise = 0.1 * signal.std() * rng.normal(size=signal.shape)
    series = (500 + signal + drift + motion @ rng.normal(size=(2, 25)) + noise).astype(np.float32)
    betas = trial_betas(series, events, timing, GlmConfig(standardise="none"), motion)
    assert np.corrcoef(betas.ravel(), truth.ravel())[0, 1] > 0.9
    blind = trial_betas(series, events, timing, GlmConfig(standardise="none"), motion[:, :0])
    assert np.corrcoef(blind.ravel(), truth.ravel())[0, 1] < np.corrcoef(betas.ravel(), truth.ravel())[0, 1]


@pytest.mark.filterwarnings("ignore")
def test_a_single_trial_has_no_others(series: np.ndarray) -> None:
    events, none = events_of(np.array([40.0]), np.array([3.0])), np.zeros((TIMING.volumes, 0))
    config = GlmConfig(standardise="none")
    model = make_first_level_design_matrix(
        TIMING.times_s, pd.DataFrame({"onset": [40.0], "duration": [3.0], "trial_type": ["trial"]})
    )
    expected = np.linalg.lstsq(model.to_numpy(), series.astype(np.float64))[0][0]
    np.testing.assert_allclose(trial_betas(series, events, TIMING, config, none)[0], expected, rtol=1e-4)


def test_confounds_that_depend_on_each_other_count_once(
    series: np.ndarray, events: Events, rng: np.random.Generator
) -> None:
    config, confounds = GlmConfig(), rng.normal(size=(TIMING.volumes, 2))
    twice = np.column_stack([confounds, confounds.sum(axis=1) * 1e6, np.zeros(TIMING.volumes)])
    expected = trial_betas(series, events, TIMING, config, confounds)
    np.testing.assert_allclose(trial_betas(series, events, TIMING, config, twice), expected, rtol=1e-4, atol=1e-6)


def test_per_cent_does_not_depend_on_the_scanners_gain(series: np.ndarray, events: Events) -> None:
    none = np.zeros((TIMING.volumes, 0))
    for standardise in ("psc", "zscore"):
        config = GlmConfig(standardise=standardise)
        once, thrice = (trial_betas(gain * series, events, TIMING, config, none) for gain in (1, np.float32(3)))
        np.testing.assert_allclose(thrice, once, rtol=1e-3, atol=1e-4)
    still = np.full_like(series, 700.1)
    assert not trial_betas(still, events, TIMING, GlmConfig(standardise="zscore"), none).any()


def test_per_cent_needs_a_mean(series: np.ndarray) -> None:
    centred = series - series.mean(axis=0)
    with pytest.raises(
        SourceError, match="sub-01: already centred: in 30 of 30 voxels .*; set .*standardise to zscore"
    ):
        standardised(centred, "psc", "sub-01")
    few = np.where(np.arange(30) < 14, -series, series)
    few[:, 14] = 0
    scaled = standardised(few, "psc", "sub-01")
    assert not scaled[:, :15].any(), "a mean of 0 or less is no scale"
    np.testing.assert_allclose(scaled[:, 15:], 100 * (series / series.mean(axis=0) - 1)[:, 15:], atol=1e-3)
    for how in ("none", "zscore"):
        np.testing.assert_allclose(standardised(centred, how, "").mean(axis=0), 0, atol=1e-3)
    still = np.zeros_like(series)
    still[:, :3] = series[:, :3]
    assert standardised(still, "psc", "")[:, :3].any(), "voxels without any signal do not count"


def test_one_duration_for_all(series: np.ndarray, events: Events) -> None:
    none = np.zeros((TIMING.volumes, 0))
    unknown = events_of(events.onset_s, np.full(12, np.nan))
    given = trial_weights(unknown, TIMING, GlmConfig(duration_s=2), none)
    np.testing.assert_array_equal(
        given, trial_weights(events_of(events.onset_s, np.full(12, 2.0)), TIMING, GlmConfig(), none)
    )
    with pytest.raises(SourceError, match=r"events.tsv line 2: duration is n/a; .* source.response.duration_s"):
        trial_weights(unknown, TIMING, GlmConfig(), none)


def test_a_trial_without_a_response_of_its_own_is_refused(events: Events, rng: np.random.Generator) -> None:
    many = rng.normal(size=(TIMING.volumes, TIMING.volumes))
    with pytest.raises(SourceError, match=r"events.tsv line 2: this event's regressor is made up of"):
        trial_weights(events, TIMING, GlmConfig(), many)
    late = events_of(np.array([3.0, 60.0, 262.0]), np.full(3, 2.0))
    with pytest.raises(SourceError, match=r"events.tsv line 4: the run ends before the response"):
        trial_weights(late, TIMING, GlmConfig(), many[:, :0])


def test_confounds_by_pattern(tmp_path: Path) -> None:
    table = tmp_path / "confounds.tsv"
    table.write_text("trans_x\ttrans_x_derivative1\trot_x\tcsf\n1\tn/a\t3\t4\n5\t6\t7\t8\n")
    asked = ["csf", "trans_*", "trans_x"]
    found = read_confounds(table, asked, volumes=2, image=tmp_path / "bold.nii.gz")
    assert found.tolist() == [[4, 1, 0], [8, 5, 6]]
    assert read_confounds(None, [], volumes=2, image=tmp_path).shape == (2, 0)


def test_fmriprep_writes_such_confounds(shared_data: Path) -> None:
    folder = shared_data / "bold-moments/ds005165/derivatives/versionB/fmriprep/sub-01/ses-02/func"
    table = folder / "sub-01_ses-02_task-test_run-3_desc-confounds_timeseries.tsv"
    if not table.is_file():
        pytest.skip("the real confounds are not here")
    asked = ["trans_[xyz]", "rot_?", "framewise_displacement", "a_comp_cor_0[0-4]"]
    found = read_confounds(table, asked, volumes=268, image=table)
    assert found.shape == (268, 12)
    assert found[0, 6] == 0
    assert np.isfinite(found).all()
