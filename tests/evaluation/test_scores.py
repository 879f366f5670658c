"""From predictions to the report: schema, what is skipped, what is null, averages, intervals, controls."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigError
from core.seeds import rng_for
from evaluation.config import EvaluationConfig
from evaluation.metrics import metric, metric_names
from evaluation.statistics.controls import mean_prediction, shuffle_stimuli
from evaluation.statistics.scores import (
    ROWS,
    average,
    by_subject,
    per_stimulus,
    report,
    summarise,
)
from evaluation.statistics.spaces import applicable

N = 8
BASIC = ["two_way", "two_way_within_class", "correlation", "ssim", "psnr"]
GROUPS = [k % 2 for k in range(N)]


@pytest.fixture(scope="module")
def world():
    """Rows and truth of a small study: clips, latents, and a text space that the truth alone has."""
    rng = rng_for(0, "world")
    pixels = rng.integers(0, 256, size=(N, 2, 8, 8, 3), dtype=np.uint8)
    latents = rng.normal(size=(N, 2, 4, 2, 2)).astype(np.float16)
    near = {"pixels": pixels ^ 7, "latents": latents + rng.normal(size=latents.shape) / 2}
    order = shuffle_stimuli(N, 0)
    rows = {
        "reconstruction": near,
        "mean_predictor": {name: mean_prediction(array[::-1], N) for name, array in near.items()},
        "shuffled_brain": {name: array[order] for name, array in near.items()},
        "oracle": {"pixels": pixels},
    }
    return rows, {"pixels": pixels, "latents": latents, "text": latents}


def test_the_report_is_what_others_rely_on(world):
    rows = summarise(per_stimulus(*world, metrics=BASIC, groups=GROUPS), groups=GROUPS, truth=world[1])
    whole = report("demo", "run-1", N, rows, commit="abc")
    assert whole.keys() == {"schema", "study", "run", "n_test", "rows", "commit"}
    assert (whole["schema"], whole["study"], whole["run"], whole["n_test"]) == (1, "demo", "run-1", N)
    assert set(whole["rows"]) < set(ROWS)
    of_pixels = {"pixels.two_way", "pixels.two_way_within_class", "pixels.correlation", "frames.ssim", "frames.psnr"}
    assert whole["rows"]["oracle"].keys() == of_pixels
    of_latents = {"latents.two_way", "latents.two_way_within_class", "latents.correlation"}
    assert whole["rows"]["reconstruction"].keys() == of_pixels | of_latents
    for entries in whole["rows"].values():
        for entry in entries.values():
            assert entry.keys() == {"value", "ci95", "chance", "higher_is_better"}
            assert entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole
    assert whole["rows"]["oracle"]["pixels.two_way"] == {
        "value": 1.0,
        "ci95": [pytest.approx(0.05 ** (1 / N)), 1.0],
        "chance": 0.5,
        "higher_is_better": True,
    }


def test_metrics_are_asked_for_by_short_or_whole_name(world):
    _, truth = world
    assert applicable(["two_way"], truth) == ["pixels.two_way", "latents.two_way", "text.two_way"]
    assert applicable(["latents.two_way", "two_way"], truth)[0] == "latents.two_way"
    assert applicable(["two_way_within_class", "clip.two_way"], truth) == []
    assert applicable(["ssim", "psnr"], {"pixels": truth["pixels"][:, :, :4]}) == ["frames.psnr"]
    assert applicable(["ssim"], {"pixels": np.zeros((3, 784))}) == []
    with pytest.raises(ConfigError, match=r"'pixels.ssim' does not exist; did you mean 'frames.ssim'"):
        applicable(["pixels.ssim"], truth)
    with pytest.raises(ConfigError, match=r"did you mean 'pixels.two_way'"):
        applicable(["frames.two_way"], truth)
    with pytest.raises(ConfigError, match="unknown metric"):
        applicable(["fid"], truth)


def test_what_is_held_against_the_training_mean_needs_a_centred_space(world):
    _, truth = world
    both = {"latents": np.zeros((10, 4)), "latents_centred": np.zeros((10, 4))}
    assert applicable(["r2", "retrieval_10", "retrieval_50"], truth) == []
    assert applicable(["r2", "retrieval_10", "retrieval_50"], both) == [
        "latents_centred.r2",
        "latents_centred.retrieval_10",
    ]
    assert applicable(["correlation"], both) == ["latents.correlation", "latents_centred.correlation"]
    assert applicable(["latents_centred.r2"], truth) == []
    with pytest.raises(ConfigError, match=r"'latents.r2' does not exist; did you mean 'latents_centred.r2'"):
        applicable(["latents.r2"], both)
    with pytest.raises(ConfigError, match=r"'frames.retrieval_10' does not exist; did you mean 'pixels_centred.retrie"):
        applicable(["frames.retrieval_10"], both)
    with pytest.raises(ConfigError, match=r"'latents_centred.ssim' does not exist; did you mean 'frames.ssim'"):
        applicable(["latents_centred.ssim"], both)


def test_the_default_metrics_are_known_and_add_nothing_where_no_space_is_centred(world):
    _, truth = world
    asked = EvaluationConfig().metrics
    assert set(asked) <= set(metric_names())
    assert not any(name.rpartition(".")[0].endswith("_centred") for name in applicable(asked, truth, GROUPS))


def test_a_shape_that_differs_says_where(world):
    rows, truth = world
    with pytest.raises(ValueError, match="row 'oracle', space 'pixels': two_way: prediction"):
        per_stimulus({"oracle": {"pixels": rows["oracle"]["pixels"][:3]}}, truth, metrics=["two_way"])


def test_nan_is_null_and_counted(world):
    _, truth = world
    broken = truth["latents"].astype(np.float32)
    broken[:2] = np.nan
    rows = summarise(per_stimulus({"reconstruction": {"latents": broken}}, truth, metrics=["two_way"]))
    entry = report("s", "r", N, rows)["rows"]["reconstruction"]["latents.two_way"]
    assert entry == {"value": None, "ci95": [None, None], "chance": 0.5, "higher_is_better": True, "undefined": 2}


def test_a_stimulus_alone_in_its_class_is_not_counted(world):
    rows, truth = world
    groups = [0, 0, 0, 0, 0, 0, 0, 1]
    values = per_stimulus(rows, truth, metrics=["pixels.two_way_within_class"], groups=groups)
    scored = summarise(values, groups=groups)
    entry = scored["oracle"]["pixels.two_way_within_class"]
    assert (entry["value"], entry["n"], "undefined" in entry) == (1.0, 7, False)


def test_orders_are_averaged_and_subjects_are_kept_apart(world):
    rows, truth = world
    some = ("reconstruction", "mean_predictor", "shuffled_brain")
    one = per_stimulus(rows, truth, metrics=["two_way"])
    other = per_stimulus({row: rows[row] for row in some}, truth, metrics=["pixels.two_way"])
    both, apart = average([one, other]), by_subject([one, other])
    for joined, shape in ((both, (N,)), (apart, (2, N))):
        assert {row: list(scored) for row, scored in joined.items()} == {row: ["pixels.two_way"] for row in some}
        assert joined["shuffled_brain"]["pixels.two_way"].shape == shape
        summary = summarise(joined)["shuffled_brain"]["pixels.two_way"]
        assert summary["value"] == pytest.approx(one["shuffled_brain"]["pixels.two_way"].mean())
    with pytest.raises(ValueError, match="no values to join"):
        average([])


def test_correlations_have_a_chance_level_only_less_their_training_mean(world):
    """The mean predictor correlates .6 and more with clips that resemble each other: guessing earns no 0 there."""
    rng = rng_for(0, "uncentred")
    shared = 2 * rng.normal(size=40)
    truth = {"latents": shared + rng.normal(size=(N, 40))}
    truth["latents_centred"] = truth["latents"] - shared
    guess = {"mean_predictor": {space: np.broadcast_to(rows.mean(axis=0), rows.shape) for space, rows in truth.items()}}
    rows = summarise(per_stimulus(guess, truth, metrics=["correlation", "two_way"]), truth=truth)["mean_predictor"]
    assert rows["latents.correlation"]["value"] > 0.5
    assert rows["latents.correlation"]["chance"] is None
    assert rows["latents_centred.correlation"]["chance"] == 0.0
    assert rows["latents.two_way"]["chance"] == 0.5


def test_a_report_holds_plain_json_only():
    whole = report("s", "r", 1, {}, seeds=np.arange(2), share=np.float32("nan"), deep=({"x": float("inf")},))
    assert (whole["seeds"], whole["share"], whole["deep"]) == ([0, 1], None, [{"x": None}])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**31))
def test_a_shuffle_is_an_order_and_repeats_by_seed(n, seed):
    order = shuffle_stimuli(n, seed)
    assert sorted(order) == list(range(n))
    np.testing.assert_array_equal(order, shuffle_stimuli(n, seed))


@pytest.mark.parametrize("n", [3, 8, 30])
def test_a_perfect_model_on_shuffled_stimuli_is_at_chance(n):
    """Orders without a fixed point would put it below: at 3/7 for 8 stimuli."""
    truth = rng_for(0, "null").normal(size=(n, 200))
    values = [
        metric("latents.two_way").per_stimulus(truth[shuffle_stimuli(n, seed)], truth).mean() for seed in range(2000)
    ]
    assert np.mean(values) == pytest.approx(0.5, abs=4 * np.std(values) / np.sqrt(len(values)))
    assert np.std(values) > 0


def test_one_stimulus_cannot_be_shuffled():
    with pytest.raises(ValueError, match="2 or more"):
        shuffle_stimuli(1, 0)


def test_the_mean_predictor():
    training = np.array([[[0, 255]], [[1, 254]], [[1, 250]]], dtype=np.uint8)
    predicted = mean_prediction(training, 4)
    assert (predicted.shape, predicted.dtype) == ((4, 1, 2), np.uint8)
    np.testing.assert_array_equal(predicted[2], [[1, 253]])
    large = np.full((4000, 1), 60_000, dtype=np.float16)  # sums past float16's range on the way
    assert mean_prediction(large, 1)[0, 0] == np.float16(60_000)
    with pytest.raises(ValueError, match="no training targets"):
        mean_prediction(training[:0], 2)
