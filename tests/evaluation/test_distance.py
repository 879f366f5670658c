"""Distance to the nearest training stimulus, against scipy; a model that recalls, and one that reconstructs."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import bootstrap, spearmanr

from evaluation.diagnoses.recall import nearest_training, parts_by_distance, split_by_distance
from evaluation.metrics import metric
from evaluation.statistics.intervals import mean_interval
from evaluation.statistics.spaces import centre

CORRELATION = "latents_centred.correlation"


def by_distance(values, distance, name=CORRELATION, **settings):
    return split_by_distance({name: np.asarray(values, float)}, np.asarray(distance, float), seed=3, **settings)[name]


@pytest.mark.parametrize("block", [1, 4, 64])
def test_equals_correlations_less_the_training_mean(rng, block):
    test, train = rng.normal(size=(9, 2, 5)) + 3, rng.normal(size=(23, 2, 5)) + 3
    index, distance = nearest_training(test, train, block=block)
    mean = train.mean(axis=0)
    expected = cdist((test - mean).reshape(9, -1), (train - mean).reshape(23, -1), "correlation")
    np.testing.assert_array_equal(index, expected.argmin(axis=1))
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-6)


def test_copies_are_at_zero_the_first_of_twins_is_named_and_the_mean_is_far_from_all(rng):
    train = rng.normal(size=(7, 30)).astype(np.float16)
    train[5] = train[2]
    test = np.stack([train[2], train[6], train.mean(axis=0, dtype=np.float64)]).astype(np.float64)
    index, distance = nearest_training(test, train, block=2)
    np.testing.assert_array_equal(index, [2, 6, 0])
    np.testing.assert_allclose(distance, [0, 0, 1], atol=1e-6)


def test_what_cannot_be_compared_is_one_clear_line(rng):
    rows = rng.normal(size=(5, 4))
    broken = rows.copy()
    broken[3, 0] = np.nan
    with pytest.raises(ValueError, match="test row 3 is not finite"):
        nearest_training(broken, rows, block=2)
    with pytest.raises(ValueError, match="row 0 is not finite|training row"):
        nearest_training(rows, broken, block=2)
    with pytest.raises(ValueError, match=r"test \(5, 4\) and train \(5, 3\)"):
        nearest_training(rows, rows[:, :3])
    with pytest.raises(ValueError, match=r"train \(0, 4\)"):
        nearest_training(rows, rows[:0])
    with pytest.raises(ValueError, match=r"correlation: values \(4,\) and distances \(5,\)"):
        by_distance(np.zeros(4), np.zeros(5))
    with pytest.raises(ValueError, match="a distance is not finite"):
        by_distance(np.zeros(2), [np.nan, 1])
    assert nearest_training(rows[:0], rows)[0].shape == (0,)


@pytest.fixture
def clustered(rng):
    """Training stimuli in clusters, and test stimuli at all distances from them."""
    centres = rng.normal(size=(12, 40))
    train = centres[rng.integers(0, 12, 300)] + 0.4 * rng.normal(size=(300, 40))
    test = centres[rng.integers(0, 12, 48)] + rng.uniform(0.2, 2.5, (48, 1)) * rng.normal(size=(48, 40))
    return train, test, *nearest_training(test, train)


def test_recall_is_worse_the_farther(clustered):
    train, test, index, distance = clustered
    mean = train.mean(axis=0)
    values = metric(CORRELATION).per_stimulus(centre(train[index], mean), centre(test, mean))
    found = by_distance(values, distance)
    assert found["rank_correlation"]["value"] == pytest.approx(-1, abs=0.01), "recall scores 1 − distance"
    assert found["rank_correlation"]["ci95"][1] < 0
    near, middle, far = found["parts"]
    assert near["ci95"][0] > middle["ci95"][1] > middle["ci95"][0] > far["ci95"][1]
    recalled = metric("latents.two_way").per_stimulus(train[index], test)
    assert by_distance(recalled, distance, "latents.two_way")["rank_correlation"]["ci95"][1] < 0


def test_an_honest_model_is_as_good_far_away(clustered, rng):
    train, test, _, distance = clustered
    mean = train.mean(axis=0)
    truth = centre(test, mean)
    size = np.linalg.norm(truth, axis=1, keepdims=True) / np.sqrt(truth.shape[1])
    values = metric(CORRELATION).per_stimulus(truth + size * rng.normal(size=truth.shape).astype(np.float32), truth)
    found = by_distance(values, distance)
    low, high = found["rank_correlation"]["ci95"]
    assert low < 0 < high
    assert found["parts"][2]["ci95"][0] > 0.5


def test_parts_and_rank_correlation_equal_scipy_and_the_report_s_intervals(rng):
    distance, values = rng.uniform(size=31).round(1), rng.uniform(-0.9, 0.9, size=31).round(1)
    found = by_distance(values, distance)
    order = np.argsort(distance, kind="stable")
    for part, rows in zip(found["parts"], (order[:11], order[11:21], order[21:]), strict=True):
        assert part["n"] == len(rows)
        assert part["distance"] == [distance[rows].min(), distance[rows].max()]
        assert part["value"] == pytest.approx(values[rows].mean())
        assert part["ci95"] == list(mean_interval(values[rows], span=(-1.0, 1.0)))
        assert part["chance"] == 0
    assert [part["name"] for part in found["parts"]] == ["near", "middle", "far"]
    assert found["rank_correlation"]["value"] == pytest.approx(spearmanr(distance, values).statistic)
    theirs = bootstrap(
        (distance, values), lambda x, y: spearmanr(x, y).statistic, paired=True, vectorized=False, n_resamples=1500,
        method="percentile", rng=rng,
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(found["rank_correlation"]["ci95"], theirs, atol=0.05)


def test_positive_means_better_the_farther_also_where_lower_is_better(monkeypatch):
    distance, values = np.arange(12.0), np.arange(12.0)
    assert by_distance(values, distance)["rank_correlation"]["value"] == pytest.approx(1)
    lower = metric("correlation").__class__("lower", "lower", None, lambda *_: values, higher_is_better=False)
    monkeypatch.setattr("evaluation.diagnoses.recall.metric", lambda _: lower)
    monkeypatch.setattr("evaluation.statistics.spaces.metric", lambda _: lower)
    found = by_distance(values, distance, "latents.lower")
    assert found["rank_correlation"]["value"] == pytest.approx(-1)
    assert found["parts"][2]["value"] == pytest.approx(9.5), "values stay as the metric has them"


@pytest.mark.parametrize(
    ("n", "names"),
    [(0, []), (1, ["all"]), (3, ["all"]), (4, ["near", "far"]), (5, ["near", "far"]), (6, ["near", "middle", "far"])],
)
def test_few_stimuli_make_fewer_parts(n, names):
    assert list(parts_by_distance(np.arange(float(n)))) == names
    found = by_distance(np.arange(float(n)), np.arange(float(n)))
    assert [part["name"] for part in found["parts"]] == names
    assert sum(part["n"] for part in found["parts"]) == n
    assert (found["rank_correlation"]["value"] is None) == (n < 3)


def test_a_score_that_is_undefined_is_counted_and_never_dropped():
    values = np.r_[np.nan, np.arange(8.0)]
    found = by_distance(values, np.arange(9.0))
    near, middle, far = found["parts"]
    assert (near["n"], near["value"], near["ci95"], near["undefined"]) == (3, None, [None, None], 1)
    assert middle["value"] == 3
    assert "undefined" not in far
    assert found["rank_correlation"] == {"value": None, "ci95": [None, None], "undefined": 1}


def test_without_variation_there_is_no_rank_correlation():
    for values, distance in ((np.ones(8), np.arange(8.0)), (np.arange(8.0), np.ones(8))):
        assert by_distance(values, distance)["rank_correlation"] == {"value": None, "ci95": [None, None]}


def test_chance_is_the_metric_s_own_or_given_and_those_without_a_question_do_not_count():
    values = np.linspace(0, 1, 8)
    assert by_distance(values, values, "pixels.two_way")["parts"][0]["chance"] == 0.5
    assert by_distance(values, values, "pixels.two_way", chances={"pixels.two_way": 0.4})["parts"][0]["chance"] == 0.4
    groups = ["a", "a", "b", "b", "c", "c", "c", "alone"]
    values[7] = np.nan
    found = by_distance(values, np.arange(8.0), "pixels.two_way_within_class", groups=groups)
    assert sum(part["n"] for part in found["parts"]) == 7
    assert found["rank_correlation"]["value"] == pytest.approx(1)
