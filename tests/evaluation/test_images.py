"""The metrics of images and motion against scikit-image, torchmetrics, colorsys and OpenCV itself."""

import colorsys

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift
from skimage.color import rgb2gray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr

from core.seeds import rng_for
from evaluation.metrics import metric
from evaluation.metrics.frames import FLOOR

FRAME_METRICS = ("ssim", "ssim_gaussian", "psnr", "hue", "hue_pcc", "epe", "epe_512", "epe_512_luma")


@pytest.fixture(scope="module")
def clips():
    rng = rng_for(0, "clips")
    truth = rng.integers(0, 256, size=(3, 2, 24, 20, 3), dtype=np.uint8)
    noise = rng.normal(0, 30, size=truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


def frame_means(clips, score):
    return [np.mean([score(p, t) for p, t in zip(*pair, strict=True)]) for pair in zip(*clips, strict=True)]


def test_ssim_is_that_of_scikit_image(clips):
    wanted = frame_means(clips, lambda p, t: structural_similarity(p, t, channel_axis=-1, data_range=255))
    np.testing.assert_allclose(metric("ssim").per_stimulus(*clips), wanted, rtol=1e-9)


def test_gaussian_ssim_is_that_of_scikit_image_as_the_field_calls_it(clips):
    def grey(p, t):
        settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        return structural_similarity(rgb2gray(p), rgb2gray(t), **settings)

    np.testing.assert_allclose(metric("ssim_gaussian").per_stimulus(*clips), frame_means(clips, grey), rtol=1e-7)


def test_psnr_is_that_of_scikit_image_and_torchmetrics(clips):
    wanted = frame_means(clips, lambda p, t: peak_signal_noise_ratio(t, p, data_range=255))
    values = metric("psnr").per_stimulus(*clips)
    np.testing.assert_allclose(values, wanted, rtol=1e-12)
    pairs = [[torch.from_numpy(clip / 255.0) for clip in pair] for pair in zip(*clips, strict=True)]
    other = [np.mean([float(torch_psnr(*two, data_range=1.0)) for two in zip(*pair, strict=True)]) for pair in pairs]
    np.testing.assert_allclose(values, other, rtol=1e-6)


def test_hue_is_the_cosine_of_angles_weighed_by_chroma(clips):
    def place(pixel):
        r, g, b = pixel / 255
        return complex(r - (g + b) / 2, np.sqrt(3) / 2 * (g - b))

    prediction, truth = (array[:, :1, :5, :4] for array in clips)
    for one, other, value in zip(prediction, truth, metric("hue").per_stimulus(prediction, truth), strict=True):
        pairs = [(place(p), place(t)) for p, t in zip(one.reshape(-1, 3), other.reshape(-1, 3), strict=True)]
        wanted = sum(abs(t) * np.cos(np.angle(p) - np.angle(t)) for p, t in pairs) / sum(abs(t) for _, t in pairs)
        assert value == pytest.approx(wanted, abs=1e-9)


def test_hue_is_that_of_hsv_but_for_a_degree(rng):
    pixels = rng.integers(0, 256, (200, 1, 1, 1, 3), dtype=np.uint8)
    red = np.broadcast_to(np.array([255, 0, 0], np.uint8), pixels.shape)
    angles = np.array([colorsys.rgb_to_hsv(*(pixel.ravel() / 255))[0] * 2 * np.pi for pixel in pixels])
    np.testing.assert_allclose(metric("hue").per_stimulus(pixels, red), np.cos(angles), atol=np.deg2rad(1.2))


def colour(*rgb: int) -> np.ndarray:
    return np.broadcast_to(np.array(rgb, np.uint8), (1, 2, 16, 16, 3)).copy()


def test_hue_is_a_circle_and_grey_has_none():
    red, orange, cyan, grey = colour(255, 0, 3), colour(255, 3, 0), colour(0, 255, 255), colour(90, 90, 90)
    assert metric("hue").per_stimulus(red, orange)[0] > 0.99
    assert metric("hue").per_stimulus(cyan, colour(255, 0, 0))[0] == pytest.approx(-1)
    assert metric("hue").per_stimulus(grey, orange)[0] == 0
    assert np.isnan(metric("hue").per_stimulus(orange, grey)[0]), "a truth without colour cannot be asked"
    assert metric("hue_pcc").per_stimulus(red, orange)[0] == pytest.approx(1), "as published, any two flat clips agree"


def test_hue_pcc_is_what_is_published(clips):
    """Hue images of RGB that is read as BGR, their cosine, frame by frame."""

    def published(p, t):
        a, b = (cv2.cvtColor(x, cv2.COLOR_BGR2HSV)[:, :, 0] / 360.0 for x in (p, t))
        return np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)))

    np.testing.assert_allclose(metric("hue_pcc").per_stimulus(*clips), frame_means(clips, published), rtol=1e-12)


def moving(dx: float, dy: float, *, side: int = 128, frames: int = 3) -> np.ndarray:
    """A texture that moves by (dx, dy) pixels a frame."""
    texture = gaussian_filter(np.random.default_rng(0).normal(size=(side, side)), 3, mode="wrap")
    texture = 127 + 100 * texture / np.abs(texture).max()
    shown = [shift(texture, (k * dy, k * dx), order=3, mode="grid-wrap") for k in range(frames)]
    return np.repeat(np.stack(shown)[None, ..., None], 3, axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize(("ours", "true", "error"), [((2, 0), (2, 0), 0), ((0, 0), (3, 0), 3), ((2, 1), (-1, 1), 3)])
def test_flow_error_is_the_difference_of_known_motions(ours, true, error):
    value = metric("epe").per_stimulus(moving(*ours), moving(*true))[0]
    assert value == pytest.approx(100 * error / 128, abs=0.35)


@pytest.mark.parametrize(("name", "grey"), [("epe_512", cv2.COLOR_BGR2GRAY), ("epe_512_luma", cv2.COLOR_RGB2GRAY)])
def test_epe_512_is_opencvs_flow_as_published_and_of_luminance(clips, name, grey):
    def flow(clip):
        shown = [cv2.cvtColor(cv2.resize(frame, (512, 512)), grey) for frame in clip]
        return cv2.calcOpticalFlowFarneback(shown[0], shown[1], None, 0.5, 3, 15, 3, 5, 1.2, 0)

    wanted = [np.mean(np.linalg.norm(flow(t) - flow(p), axis=-1)) for p, t in zip(*clips, strict=True)]
    np.testing.assert_allclose(metric(name).per_stimulus(*clips), wanted, rtol=1e-6)


def test_flow_error_is_the_same_share_of_a_larger_frame():
    small = metric("epe").per_stimulus(moving(0, 0), moving(3, 0))[0]
    large = metric("epe").per_stimulus(
        *(array.repeat(3, axis=2).repeat(3, axis=3) for array in (moving(0, 0), moving(3, 0)))
    )
    assert large[0] == pytest.approx(small, rel=0.02)


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_floats_from_0_to_1_score_as_their_bytes(clips, name):
    prediction, truth = clips
    as_floats = metric(name).per_stimulus(prediction / 255, truth)
    np.testing.assert_allclose(as_floats, metric(name).per_stimulus(prediction, truth), atol=1e-9)


BEST = {"ssim": 1.0, "ssim_gaussian": 1.0, "psnr": -10 * np.log10(FLOOR), "hue": 1.0, "hue_pcc": 1.0, "epe": 0.0}


@pytest.mark.parametrize("name", [*BEST, "epe_512"])
def test_equal_clips_earn_the_best_value_and_others_less(clips, name):
    chosen = metric(name)
    np.testing.assert_allclose(chosen.per_stimulus(clips[1], clips[1]), BEST.get(name, 0.0), atol=1e-6)
    worse = chosen.per_stimulus(*clips)
    assert ((worse < BEST[name]) if chosen.higher_is_better else (worse > 0)).all()


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_a_prediction_that_is_not_finite_has_no_value(clips, name):
    prediction = clips[0] / 255
    prediction[1, 0, 0, 0, 0] = np.nan
    values = metric(name).per_stimulus(prediction, clips[1])
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


@pytest.mark.parametrize("name", FRAME_METRICS)
def test_the_number_of_threads_does_not_show(clips, name, monkeypatch):
    monkeypatch.setenv("BRAIN2VIDEO_THREADS", "1")
    one = metric(name).per_stimulus(*clips)
    monkeypatch.setenv("BRAIN2VIDEO_THREADS", "4")
    assert one.tobytes() == metric(name).per_stimulus(*clips).tobytes()


@pytest.mark.parametrize("name", ["ssim", "psnr", "hue_pcc", "epe", "epe_512"])
def test_black_clips_have_values(name):
    black = np.zeros((2, 2, 24, 24, 3), np.uint8)
    assert np.isfinite(metric(name).per_stimulus(black, black)).all()
