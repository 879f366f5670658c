"""SSIM where rounding could show, and what the published call on grey frames computes instead."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from evaluation.metrics import metric

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def flat(value: int) -> np.ndarray:
    return np.full((1, 1, 24, 31, 3), value, np.uint8)


def specks(value: int, other: int) -> np.ndarray:
    clip = flat(value)
    clip[0, 0, ::9, ::7] = other
    return clip


@pytest.mark.parametrize(
    "pair",
    [
        (flat(255), specks(255, 254)),
        (flat(255), flat(0)),
        (specks(0, 255), specks(255, 0)),
        (specks(3, 250), flat(200)),
        (flat(200), flat(200)),
    ],
)
def test_flat_and_glaring_frames_are_those_of_scikit_image(pair: tuple[np.ndarray, np.ndarray]) -> None:
    one, other = (clip[0, 0] for clip in pair)
    wanted = structural_similarity(one, other, channel_axis=-1, data_range=255)
    assert metric("ssim").per_stimulus(*pair)[0] == pytest.approx(wanted, abs=1e-9)
    wanted = structural_similarity(rgb2gray(one), rgb2gray(other), **GAUSSIAN)
    assert metric("ssim_gaussian").per_stimulus(*pair)[0] == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("name", ["ssim", "ssim_gaussian"])
def test_views_of_an_array_score_as_copies(name: str, rng: np.random.Generator) -> None:
    clips = rng.integers(0, 256, (2, 2, 3, 24, 40, 3), dtype=np.uint8)
    one, other = clips[:, :, :, :, ::2, ::-1]
    wanted = metric(name).per_stimulus(one.copy(), other.copy())
    np.testing.assert_array_equal(metric(name).per_stimulus(one, other), wanted)
    same_for_all = np.broadcast_to(one[0], one.shape)
    assert np.isfinite(metric(name).per_stimulus(same_for_all, other)).all()


def test_grey_frames_with_a_channel_axis_are_compared_column_by_column(rng: np.random.Generator) -> None:
    """NEURONS passes `channel_axis=-1` with grey frames: why its figures are not those of `ssim_gaussian`."""
    seen = gaussian_filter(rng.uniform(0, 255, (48, 40, 3)), (2, 2, 0))
    one, other = seen.astype(np.uint8), gaussian_filter(seen, (3, 3, 0)).astype(np.uint8)
    grey = rgb2gray(one), rgb2gray(other)
    columns = [structural_similarity(*column, **GAUSSIAN) for column in zip(grey[0].T, grey[1].T, strict=True)]
    published = structural_similarity(*grey, channel_axis=-1, **GAUSSIAN)
    assert published == pytest.approx(np.mean(columns), abs=1e-12)
    ours = metric("ssim_gaussian").per_stimulus(one[None, None], other[None, None])[0]
    assert abs(ours - published) > 0.02
