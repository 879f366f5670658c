"""Correlation against numpy and scipy, what every metric says of itself, and what it refuses."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from core.errors import ConfigError
from core.seeds import rng_for
from evaluation.metrics import metric, metric_names, register, vectors
from evaluation.metrics.registry import Metric
from evaluation.statistics.intervals import mean_interval


@pytest.fixture(scope="module")
def clips():
    rng = rng_for(0, "clips")
    truth = rng.integers(0, 256, size=(3, 2, 24, 20, 3), dtype=np.uint8)
    noise = rng.normal(0, 30, size=truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8), truth


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
    low, high = mean_interval(metric("correlation").per_stimulus(prediction, truth))
    assert low < 0 < high


def test_a_prediction_that_is_not_finite_has_no_value(clips):
    prediction = clips[0] / 255
    prediction[1, 0, 0, 0, 0] = np.nan
    values = metric("correlation").per_stimulus(prediction, clips[1])
    np.testing.assert_array_equal(np.isnan(values), [False, True, False])


def test_wide_rows_are_looked_at_block_by_block(monkeypatch):
    prediction, truth = rng_for(0, "wide").normal(size=(2, 6, 1000))
    monkeypatch.setattr(vectors, "BLOCK", 64)
    wanted = np.corrcoef(prediction, truth)[:6, 6:]
    np.testing.assert_allclose(vectors.similarity(prediction, truth), wanted, atol=1e-12)


VECTORS = [name for name in metric_names() if metric(name).view in ("vectors", "centred", "frames")]


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_says_what_it_is(name):
    chosen = metric(name)
    assert len(chosen.source) > 80
    assert re.search(r"(18|19|20)\d\d|arXiv|[Ss]cikit", chosen.source + chosen.protocol), "after whom"
    low, high = chosen.span
    assert low < high
    assert chosen.label
    if isinstance(chosen.chance, float):
        assert low <= chosen.chance <= high


WORDS = ("a", "small", "large", "red", "blue", "star", "ring", "moving")
OF_PREDICTION_ALONE = ("consistency_adjacent", "consistency_all")
BEST_IS_ANOTHER = ("clip_score",)
"""Metrics that a prediction equal to the truth need not be the best of: they ask something else."""


def drawn(chosen: Metric, rng: np.random.Generator, size: float = 1.0) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return a random prediction, a random truth and groups, as the metric's view has them."""
    n = max(6, chosen.min_stimuli)
    groups = [index % 2 for index in range(n)]
    if chosen.view == "frames":
        clips = rng.integers(0, 1 + int(254 * size), (2, n, 2, 16, 17, 3), dtype=np.uint8)
        return clips[0], clips[1], groups
    if chosen.view == "labels":
        return rng.integers(0, 3, (n, 4)), rng.integers(0, 3, (n, 4)), groups
    if chosen.view == "words":
        said = [[" ".join(rng.choice(WORDS, 1 + int(7 * size))) for _ in range(n)] for _ in range(2)]
        return np.array(said[0], dtype=object), np.array(said[1], dtype=object), groups
    shape = {"frame_vectors": (n, 3, 8), "caption_score": (n, 3, 8), "classes": (n, 2, 60)}.get(chosen.view, (n, 3, 8))
    prediction, truth = size * rng.normal(size=(2, *shape))
    return (prediction[:, 0] if chosen.view == "caption_score" else prediction), truth, groups


@pytest.mark.parametrize("name", [name for name in metric_names() if not name.startswith("epe_512")])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([0.01, 0.3, 1.0]))
def test_values_stay_within_their_span(name: str, seed: int, size: float):
    chosen = metric(name)
    prediction, truth, groups = drawn(chosen, np.random.default_rng(seed), size)
    values = chosen.per_stimulus(prediction, truth, groups)
    known = values[np.isfinite(values)]
    assert values.shape == (len(truth),)
    assert chosen.span[0] - 1e-9 <= known.min(initial=chosen.span[1])
    assert known.max(initial=chosen.span[0]) <= chosen.span[1] + 1e-9


ASKED_OF_THE_TRUTH = [name for name in metric_names() if name not in (*OF_PREDICTION_ALONE, *BEST_IS_ANOTHER)]


@pytest.mark.parametrize("name", ASKED_OF_THE_TRUTH)
def test_no_guess_is_better_than_the_truth(name: str):
    chosen, rng = metric(name), rng_for(0, "direction", name)
    _, truth, groups = drawn(chosen, rng)
    best = chosen.per_stimulus(truth, truth, groups)
    guesses = [chosen.per_stimulus(drawn(chosen, rng)[0], truth, groups) for _ in range(3)]
    sign = 1 if chosen.higher_is_better else -1
    assert np.isfinite(best).all()
    assert (sign * best >= sign * np.array(guesses) - 1e-9).all()
    assert sign * best.mean() > sign * np.mean(guesses)


@pytest.mark.parametrize("name", VECTORS)
def test_every_metric_refuses_what_does_not_fit(clips, name):
    chosen = metric(name)
    n = max(3, chosen.min_stimuli)
    prediction, truth = (array[np.arange(n) % 3] for array in clips)
    groups = [0] * n
    with pytest.raises(ValueError, match="expected one shape"):
        chosen.per_stimulus(prediction[:, :1], truth, groups)
    with pytest.raises(ValueError, match=rf"2 groups for {n} stimuli"):
        chosen.per_stimulus(prediction, truth, groups[:2])
    broken = truth / 255
    broken[1, 0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="truth row 1 is not finite"):
        chosen.per_stimulus(prediction, broken, groups)


def test_shapes_and_ranges_that_do_not_suit(clips):
    with pytest.raises(ValueError, match=r"expected clips \(n, frame, height, width, 3\) with sides from 7"):
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
        register("two_way", label="", chance=None, span=(0.0, 1.0))(metric("two_way").function)
