"""The other metrics against numpy and scikit-image, and what every metric refuses."""

import numpy as np
import pytest
from scipy.stats import pearsonr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from core.errors import ConfigError
from core.seeds import rng_for
from evaluation.intervals import bootstrap_interval
from evaluation.metrics import metric, metric_names, register
from evaluation.metrics.psnr import FLOOR


@pytest.fixture(scope="module")
def clips():
    rng = rng_for(0, "clips")
    truth = rng.integers(0, 256, size=(3, 2, 16, 20, 3), dtype=np.uint8)
    noise = rng.normal(0, 30, size=truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def frame_means(clips, score):
    return [np.mean([score(p, t) for p, t in zip(*pair, strict=True)]) for pair in zip(*clips, strict=True)]


def test_ssim_is_that_of_scikit_image(clips):
    wanted = frame_means(clips, lambda p, t: structural_similarity(p, t, channel_axis=-1, data_range=255))
    np.testing.assert_allclose(metric("ssim").per_stimulus(*clips), wanted, rtol=1e-9)


def test_psnr_is_that_of_scikit_image(clips):
    wanted = frame_means(clips, lambda p, t: peak_signal_noise_ratio(t, p, data_range=255))
    np.testing.assert_allclose(metric("psnr").per_stimulus(*clips), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["ssim", "psnr"])
def test_floats_from_0_to_1_score_as_their_bytes(clips, name):
    prediction, truth = clips
    as_floats = metric(name).per_stimulus(prediction / 255, truth)
    np.testing.assert_allclose(as_floats, metric(name).per_stimulus(prediction, truth))


@pytest.mark.parametrize(("name", "best"), [("ssim", 1.0), ("psnr", -10 * np.log10(FLOOR)), ("correlation", 1.0)])
def test_equal_clips_earn_the_best_value(clips, name, best):
    np.testing.assert_allclose(metric(name).per_stimulus(clips[1], clips[1]), best)


def test_correlation_is_pearsons(clips):
    wanted = [pearsonr(p.ravel() / 1.0, t.ravel() / 1.0).statistic for p, t in zip(*clips, strict=True)]
    np.testing.assert_allclose(metric("correlation").per_stimulus(*clips), wanted, rtol=1e-9)


def test_a_constant_row_correlates_0():
    truth = rng_for(0, "constant").normal(size=(2, 1000))
    prediction = np.full_like(truth, 0.1)  # its mean is not exactly 0.1: a residue must not pass for a pattern
    np.testing.assert_array_equal(metric("correlation").per_stimulus(prediction, truth), np.zeros(2))


def test_tiny_values_still_correlate():
    truth = rng_for(0, "tiny").normal(size=(2, 10))
    np.testing.assert_allclose(metric("correlation").per_stimulus(truth * 1e-200, truth), 1.0)


def test_noise_correlates_by_chance():
    prediction, truth = rng_for(0, "null").normal(size=(2, 200, 50))
    low, high = bootstrap_interval(metric("correlation").per_stimulus(prediction, truth), seed=0)
    assert low < 0 < high


@pytest.mark.parametrize("name", ["ssim", "psnr", "correlation"])
def test_a_prediction_that_is_not_finite_has_no_value(clips, name):
    prediction = clips[0] / 255
    prediction[1, 0, 0, 0, 0] = np.nan
    values = metric(name).per_stimulus(prediction, clips[1])
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_says_what_it_is_and_refuses_what_does_not_fit(clips, name):
    chosen = metric(name)
    n = max(3, chosen.fewest)
    prediction, truth = (array[np.arange(n) % 3] for array in clips)
    groups = [0] * n
    assert len(chosen.source) > 80
    with pytest.raises(ValueError, match="expected one shape"):
        chosen.per_stimulus(prediction[:, :1], truth, groups)
    with pytest.raises(ValueError, match=rf"2 groups for {n} stimuli"):
        chosen.per_stimulus(prediction, truth, groups[:2])
    broken = truth / 255
    broken[1, 0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="truth row 1 is not finite"):
        chosen.per_stimulus(prediction, broken, groups)


def test_shapes_and_ranges_that_do_not_suit(clips):
    with pytest.raises(ValueError, match="expected clips with sides from 7"):
        metric("ssim").per_stimulus(clips[0][:, :, :6], clips[1][:, :, :6])
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        metric("psnr").per_stimulus(clips[0].astype(np.float32), clips[1])
    with pytest.raises(ValueError, match="with n from 10"):
        metric("retrieval_10").per_stimulus(*clips)
    with pytest.raises(ValueError, match="and groups"):
        metric("two_way_within_class").per_stimulus(*clips)


def test_the_register():
    with pytest.raises(ConfigError, match="unknown metric 'two_wya'; did you mean 'two_way'"):
        metric("pixels.two_wya")
    with pytest.raises(ValueError, match="registered twice"):
        register("two_way", label="", chance=None)(metric("two_way").function)
