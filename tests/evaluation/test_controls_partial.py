"""Controls that know a part: the category, the time, nuisance signals, one frame; residuals of low-level features."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.stats
from sklearn.linear_model import LinearRegression

from evaluation.config import CONTROLS_BY_NAME, DEFAULT_CONTROLS, LOW_LEVEL, EvaluationConfig
from evaluation.metrics import metric
from evaluation.metrics.vectors import similarity, two_way
from evaluation.statistics.controls_partial import (
    ALPHAS,
    Residual,
    category_prediction,
    cluster_labels,
    held_frame,
    linear_prediction,
    low_level_features,
    shuffle_frames,
    standardised,
    time_features,
)
from evaluation.statistics.intervals import paired_p
from evaluation.statistics.scores import CONTROLS, PARTIAL, RECONSTRUCTION, REFERENCES, SHUFFLED_FRAMES, STILL
from evaluation.statistics.table import Table


def test_every_control_of_the_settings_is_a_row_or_the_space_of_residuals() -> None:
    assert set(PARTIAL) | {LOW_LEVEL} == {*DEFAULT_CONTROLS, *CONTROLS_BY_NAME}
    assert set(PARTIAL) <= set(REFERENCES)
    assert set(PARTIAL) <= set(CONTROLS)


def test_settings_name_controls_one_by_one_or_together() -> None:
    assert EvaluationConfig().controls == DEFAULT_CONTROLS
    assert EvaluationConfig(controls=()).controls == ()
    assert EvaluationConfig(controls=("z_only", "default")).controls == (*DEFAULT_CONTROLS, "z_only")
    assert EvaluationConfig(controls=("all",)).controls == (*DEFAULT_CONTROLS, *CONTROLS_BY_NAME)
    assert EvaluationConfig(controls=("all",)).controls_left_out() == []
    assert EvaluationConfig(controls=()).controls_left_out()[0].startswith("not computed: category, time_only, ")
    with pytest.raises(ValueError, match="unknown control 'nuissance'; did you mean 'nuisance'"):
        EvaluationConfig(controls=("nuissance",))
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        EvaluationConfig(clusters=1)


def test_category_is_the_mean_of_the_true_class() -> None:
    targets = np.array([[[0.0, 2.0]], [[2.0, 4.0]], [[9.0, 9.0]]], np.float32)
    predicted = category_prediction(targets, ["a", "a", "b"], ["b", "a", "unknown"])
    np.testing.assert_allclose(predicted, [[[9, 9]], [[1, 3]], [[11 / 3, 5]]], rtol=1e-6)
    assert category_prediction(np.array([[1], [2]], np.uint8), ["a", "a"], ["a"]).item() == 1.5
    with pytest.raises(ValueError, match="2 labels of 3 training targets"):
        category_prediction(targets, ["a", "b"], ["a"])


def test_category_on_real_handwritten_digits(shared_data: Path) -> None:
    """The mean training six and the mean training nine: what was measured by hand on the given split."""
    data = scipy.io.loadmat(shared_data / "digits69" / "digit69_28x28.mat")
    train, test = data["stimTrn"].astype(np.float64), data["stimTest"].astype(np.float64)
    labels, truth = data["labelTrn"].ravel(), data["labelTest"].ravel()
    predicted = category_prediction(train, labels, truth)
    assert metric("correlation").per_stimulus(predicted, test).mean() == pytest.approx(0.736, abs=5e-4)
    assert two_way(similarity(predicted, test)).mean() == pytest.approx(0.778, abs=5e-4)
    within = metric("two_way_within_class").per_stimulus(predicted, test, truth)
    assert within.mean() == 0.5
    mean = np.broadcast_to(train.mean(axis=0), test.shape)
    against = metric("correlation").per_stimulus(predicted, test), metric("correlation").per_stimulus(mean, test)
    assert paired_p(*against, seed=0) < 0.02


@pytest.mark.parametrize("width", [6, 4000])
def test_clusters_are_found_again_whatever_the_width(rng: np.random.Generator, width: int) -> None:
    """Blobs with known members: k-means must find them, and put each true target into its own."""
    centres = rng.normal(size=(4, width)) * 3
    members, wanted = rng.integers(0, 4, 80), rng.integers(0, 4, 20)
    training = (centres[members] + 0.3 * rng.normal(size=(80, width))).reshape(80, 2, -1)
    truth = (centres[wanted] + 0.3 * rng.normal(size=(20, width))).reshape(20, 2, -1)
    labels, found = cluster_labels(training, truth, clusters=4, seed=0)
    of_member = {int(member): int(label) for member, label in zip(members, labels, strict=True)}
    assert len(set(of_member.values())) == 4
    assert labels.tolist() == [of_member[int(member)] for member in members]
    assert found.tolist() == [of_member[int(member)] for member in wanted]


def test_there_are_no_more_clusters_than_different_targets() -> None:
    labels, found = cluster_labels(np.repeat([[0.0], [1.0]], 5, axis=0), np.array([[0.9]]), clusters=10, seed=0)
    assert len(set(labels.tolist())) == 2
    assert found[0] == labels[-1]


def clips(rng: np.random.Generator, n: int = 6, frames: int = 5) -> np.ndarray:
    return rng.integers(0, 256, (n, frames, 8, 8, 3), dtype=np.uint8)


def test_a_still_is_the_middle_frame_and_shuffled_frames_are_the_same_frames(rng: np.random.Generator) -> None:
    made = clips(rng)
    still = held_frame(made)
    assert still.shape == made.shape
    assert all((still[:, frame] == made[:, 2]).all() for frame in range(5))
    names = [f"s{index}" for index in range(6)]
    mixed = shuffle_frames(made, names, seed=0)
    for clip, other in zip(made, mixed, strict=True):
        assert sorted(frame.tobytes() for frame in clip) == sorted(frame.tobytes() for frame in other)
    assert (mixed != made).any()
    np.testing.assert_array_equal(shuffle_frames(made[3:4], ["s3"], seed=0)[0], mixed[3])
    with pytest.raises(ValueError, match="argument 2 is"):
        shuffle_frames(made, names[:2], seed=0)


def test_a_reconstruction_that_is_a_photo_scores_as_its_still_does(rng: np.random.Generator) -> None:
    truth = clips(rng, n=12)
    photo = np.broadcast_to(truth[:, :1] // 2 + 40, truth.shape).astype(np.uint8)
    table = Table({"pixels": truth}, EvaluationConfig(metrics=("two_way", "correlation", "psnr")), seed=0)
    table.add(RECONSTRUCTION, {"pixels": photo})
    table.add(STILL, {"pixels": held_frame(photo)})
    table.add(SHUFFLED_FRAMES, {"pixels": shuffle_frames(photo, [str(row) for row in range(12)], seed=0)})
    report = table.report()
    for row in (STILL, SHUFFLED_FRAMES):
        for name, entry in report["rows"][row].items():
            assert entry["value"] == report["rows"][RECONSTRUCTION][name]["value"]
            assert report["comparisons"][row][name]["value"] == 0
            assert report["comparisons"][row][name]["p"] == pytest.approx(1)


def test_a_moving_reconstruction_is_above_its_still(rng: np.random.Generator) -> None:
    truth = clips(rng, n=12)
    table = Table({"pixels": truth}, EvaluationConfig(metrics=("correlation",)), seed=0)
    table.add(RECONSTRUCTION, {"pixels": truth ^ 31})
    table.add(STILL, {"pixels": held_frame(truth ^ 31)})
    compared = table.report()["comparisons"][STILL]["pixels.correlation"]
    assert compared["value"] > 0.5
    assert compared["p"] < 0.001


def test_linear_prediction_is_ridge_with_the_penalty_of_least_held_out_error(rng: np.random.Generator) -> None:
    features, wanted = rng.normal(size=(40, 5)), rng.normal(size=(7, 5))
    targets = features @ rng.normal(size=(5, 12)) + 3 + 2 * rng.normal(size=(40, 12))

    def fitted(known: np.ndarray, values: np.ndarray, alpha: float, asked: np.ndarray) -> np.ndarray:
        middle, offset = known.mean(axis=0), values.mean(axis=0)
        centred = known - middle
        slopes = np.linalg.solve(centred.T @ centred + alpha * np.eye(5), centred.T @ (values - offset))
        return offset + (asked - middle) @ slopes

    errors = []
    for alpha in ALPHAS:
        left = [np.delete(np.arange(40), row) for row in range(40)]
        held_out = [fitted(features[rows], targets[rows], alpha, features[[row]]) for row, rows in enumerate(left)]
        errors.append(np.square(np.concatenate(held_out) - targets).sum())
    expected = fitted(features, targets, ALPHAS[int(np.argmin(errors))], wanted)
    predicted = linear_prediction(features, targets.reshape(40, 3, 4), wanted)
    assert predicted.shape == (7, 3, 4)
    np.testing.assert_allclose(predicted.reshape(7, 12), expected, rtol=1e-4, atol=1e-4)


def test_features_that_know_nothing_predict_about_the_mean(rng: np.random.Generator) -> None:
    features, targets = rng.normal(size=(200, 3)), rng.normal(size=(200, 300)) + 5
    predicted = linear_prediction(features, targets, rng.normal(size=(20, 3)))
    assert np.abs(predicted - targets.mean(axis=0)).max() < 0.3


def test_features_are_standardised_by_training_and_constant_ones_are_zero() -> None:
    known, wanted = standardised(np.array([[1.0, 7], [3, 7]]), np.array([[5.0, 8]]))
    np.testing.assert_allclose(known, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(wanted, [[3, 0]])


def drift(rng: np.random.Generator, n: int, runs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets that drift slowly within each run, AR(1) at .97, and nothing else; run and onset of each."""
    run, onset = np.repeat(np.arange(runs), n // runs), np.tile(np.arange(n // runs) * 4.0, runs)
    targets = np.empty((n, 30))
    for row in range(n):
        before = targets[row - 1] if onset[row] > 0 else rng.normal(size=30)
        targets[row] = 0.97 * before + np.sqrt(1 - 0.97**2) * rng.normal(size=30) if onset[row] > 0 else before
    return targets, run, onset


def test_time_alone_predicts_a_drift_and_shuffled_time_does_not(rng: np.random.Generator) -> None:
    targets, run, onset = drift(rng, 240, 6)
    test = np.zeros(240, bool)
    test[rng.permutation(240)[:40]] = True

    def score(order: np.ndarray) -> np.ndarray:
        features = time_features(run[order], onset[order])
        predicted = linear_prediction(features[~test], targets[~test], features[test])
        return two_way(similarity(predicted, targets[test]))

    known = score(np.arange(240))
    assert known.mean() > 0.9
    none = [score(rng.permutation(240)).mean() for _ in range(5)]
    assert 0.4 < np.mean(none) < 0.6


def test_time_is_the_run_where_there_are_no_onsets() -> None:
    np.testing.assert_array_equal(time_features(["a", "b", "a"], None), [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal(time_features(["a", "b"], np.array([3.0, 3.0])), np.eye(2))


def test_many_runs_take_a_bounded_number_of_columns() -> None:
    run, onset = np.repeat(np.arange(200), 20), np.tile(np.arange(20) * 4.0, 200)
    assert time_features(run, onset).shape[1] <= 2000 + 2 * 200 + 11 + 200


def test_low_level_features_measure_luminance_contrast_and_motion() -> None:
    plain = np.full((1, 4, 8, 8, 3), 128, np.uint8)
    np.testing.assert_allclose(low_level_features(plain)[0], [128 / 255, 0, 0] * 4, atol=1e-6)
    flicker = plain.copy()
    flicker[:, ::2] = 0
    of_cell = low_level_features(flicker)[0, :3]
    np.testing.assert_allclose(of_cell, [64 / 255, 0, 128 / 255], atol=1e-6)
    grating = plain.copy()
    grating[:, :, ::2] = 0  # every second line: half of each cell's pixels
    np.testing.assert_allclose(low_level_features(grating)[0, :3], [64 / 255, 64 / 255, 0], atol=1e-6)
    half = plain.copy()
    half[:, :, :4] = 255  # the upper half is white
    np.testing.assert_allclose(low_level_features(half)[0, ::3], [1, 1, 128 / 255, 128 / 255], atol=1e-6)
    still = low_level_features(plain[:, :1])
    np.testing.assert_allclose(still[0], [128 / 255, 0, 0] * 4, atol=1e-6)


def test_residuals_are_those_of_least_squares_where_there_is_no_noise(rng: np.random.Generator) -> None:
    features = rng.normal(size=(60, 12)) * np.geomspace(0.01, 10, 12) + 4
    slopes = rng.normal(size=(12, 5, 4)) / np.geomspace(0.01, 10, 12)[:, None, None]
    noise = 0.01 * rng.normal(size=(60, 5, 4))
    targets = np.tensordot(features, slopes, axes=(1, 0)) + 2 + noise
    fit = Residual.fit(targets[:50], features[:50])
    oracle = LinearRegression().fit(features[:50], targets[:50].reshape(50, -1))
    expected = targets[50:].reshape(10, -1) - oracle.predict(features[50:])
    np.testing.assert_allclose(fit.of(targets[50:], features[50:]).reshape(10, -1), expected, atol=5e-3)


def test_what_knows_only_low_level_features_is_not_identified_by_residuals(rng: np.random.Generator) -> None:
    """Targets are low-level features plus something else: a reader of the former is identified, until they are out."""
    features, other = rng.normal(size=(400, 12)), rng.normal(size=(400, 20))
    mix, own = rng.normal(size=(12, 80)), rng.normal(size=(20, 80)) * 0.5
    targets = features @ mix + other @ own
    train, test = slice(0, 300), slice(300, 400)
    fit = Residual.fit(targets[train], features[train])
    truth = fit.of(targets[test], features[test])
    # A clip with the right low-level features and someone else's content, against one with the right content.
    shallow = features[test] @ mix + other[test][::-1] @ own
    deep_features = features[test][::-1]
    deep = deep_features @ mix + other[test] @ own
    assert two_way(similarity(shallow, targets[test])).mean() > 0.95
    assert 0.4 < two_way(similarity(fit.of(shallow, features[test]), truth)).mean() < 0.6
    assert two_way(similarity(fit.of(deep, deep_features), truth)).mean() > 0.95


def test_a_prediction_gets_nothing_of_the_truth_by_its_residual(rng: np.random.Generator) -> None:
    """Unrelated clips, residuals of both by their own features: no correlation is made."""
    features, targets = rng.normal(size=(300, 12)), rng.normal(size=(300, 12)) @ rng.normal(size=(12, 40))
    targets = features @ rng.normal(size=(12, 40)) + targets
    fit = Residual.fit(targets[:200], features[:200])
    truth, guess = fit.of(targets[200:250], features[200:250]), fit.of(targets[250:], features[250:])
    r = metric("correlation").per_stimulus(guess, truth)
    assert scipy.stats.ttest_1samp(r, 0).pvalue > 0.01
