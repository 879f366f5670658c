"""Paired comparisons: the interval against scipy's and in simulation, and which rows are compared with which."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from core.seeds import rng_for
from evaluation.statistics.intervals import mean_interval, paired_interval
from evaluation.statistics.scores import differences


def test_the_interval_is_scipys(rng: np.random.Generator):
    a = rng.normal(0.6, 0.2, size=60)
    b = a - rng.normal(0.05, 0.1, size=60)
    wanted = ttest_rel(a, b).confidence_interval(0.95)
    difference, low, high = paired_interval(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    np.testing.assert_allclose((low, high), wanted, rtol=1e-9)
    assert paired_interval(b, a) == pytest.approx([-one for one in np.take(paired_interval(a, b), [0, 2, 1])])


def test_it_covers_a_known_difference():
    """About 95 of 100 intervals hold the difference; a and b share most of what makes a stimulus hard."""
    rng = rng_for(0, "coverage")
    covered, narrower = 0, 0
    for _ in range(400):
        hard = rng.normal(0, 1.0, size=100)
        a, b = hard + 0.3 + rng.normal(0, 0.5, size=100), hard + rng.normal(0, 0.5, size=100)
        _, low, high = paired_interval(a, b)
        covered += low <= 0.3 <= high
        narrower += high - low < np.ptp(mean_interval(a))
    assert 0.91 <= covered / 400 <= 0.985
    assert narrower / 400 > 0.99


def test_what_has_no_interval():
    one = np.array([1.0])
    assert paired_interval(one, one - 0.25)[0] == 0.25
    assert np.isnan(paired_interval(one, one)[1:]).all()
    assert np.isnan(paired_interval(one[:0], one[:0])).all()
    assert np.isnan(paired_interval(np.array([1.0, np.nan, 2.0]), np.ones(3))).all()
    with pytest.raises(ValueError, match="2 and 3 values"):
        paired_interval(np.ones(2), np.ones(3))


NAME = "latents_centred.correlation"


def test_every_model_is_compared_with_the_baseline(rng: np.random.Generator):
    base = rng.normal(0.2, 0.1, size=50)
    values = {
        "ridge": {NAME: base, "latents.two_way": base},
        "mlp": {NAME: base + 0.05 + rng.normal(0, 0.01, size=50), "latents_centred.r2": base},
        "mean_predictor": {NAME: base},
        "shuffled_brain": {NAME: base},
        "oracle": {NAME: base},
        "noise_ceiling": {NAME: base},
    }
    found = differences(values, "ridge")
    assert {row: list(one) for row, one in found.items()} == {"mlp": [NAME]}
    entry = found["mlp"][NAME]
    assert entry.keys() == {"value", "ci95", "higher_is_better"}
    assert entry["value"] == pytest.approx(0.05, abs=0.005)
    assert 0.04 < entry["ci95"][0] < entry["value"] < entry["ci95"][1] < 0.06
    assert entry["higher_is_better"] is True
    assert differences(values, "mlp")["ridge"][NAME]["value"] == pytest.approx(-entry["value"])
    with pytest.raises(ValueError, match="no row 'mbm' to compare with; found ridge, mlp"):
        differences(values, "mbm")


def test_nan_is_null_and_counted_and_who_is_alone_is_not_asked():
    name = "latents.two_way_within_class"
    base = np.array([0.5, 0.5, 0.5, np.nan])
    values = {"ridge": {name: base}, "mlp": {name: base + 0.25}}
    entry = differences(values, "ridge", groups=["a", "a", "a", "b"])["mlp"][name]
    assert entry == {"value": 0.25, "ci95": [0.25, 0.25], "higher_is_better": True, "n": 3}
    values["mlp"][name][0] = np.nan
    entry = differences(values, "ridge", groups=["a", "a", "a", "b"])["mlp"][name]
    assert entry == {"value": None, "ci95": [None, None], "higher_is_better": True, "n": 3, "undefined": 1}
