"""Effective dimensions against numpy's eigenvalues and known values, and against what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import PCA

from evaluation.diagnoses.recall import (
    BLOCK,
    components_for,
    cumulative_share,
    dimension_report,
    effective_dimension,
)

tables = st.tuples(st.integers(3, 8), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-9, 9).map(float))
)


def by_hand(rows: np.ndarray) -> float:
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(rows, rowvar=False)))
    return float(values.sum() ** 2 / (values**2).sum())


@pytest.mark.parametrize("shape", [(20, 7), (6, 30), (40, 40)])
def test_equals_the_eigenvalues_of_the_covariance(rng, shape):
    rows = rng.normal(size=shape) * rng.uniform(0.2, 3, shape[1]) + 5
    assert effective_dimension(rows) == pytest.approx(by_hand(rows))
    shares = PCA().fit(rows).explained_variance_ratio_.cumsum()
    np.testing.assert_allclose(cumulative_share(rows)[: shape[1]], shares[: shape[0] - 1], atol=1e-12)
    assert components_for(rows, 0.9) == int((shares < 0.9).sum()) + 1


def test_an_even_spread_has_as_many_dimensions_as_it_is_wide(rng):
    assert effective_dimension(rng.normal(size=(3000, 6))) == pytest.approx(6, abs=0.05)
    n, width = 50, 400  # of the sample covariance of n rows: n' p / (n' + p + 1) with n' = n − 1
    measured = np.mean([effective_dimension(rng.normal(size=(n, width))) for _ in range(20)])
    assert measured == pytest.approx((n - 1) * width / (n + width), rel=0.01)


def test_one_direction_is_one_dimension(rng):
    line = rng.normal(size=30)[:, None] * rng.normal(size=200) + rng.normal(size=200)
    assert effective_dimension(line) == pytest.approx(1)
    assert components_for(line) == 1


@pytest.mark.parametrize("clusters", [2, 5, 11])
def test_predictions_that_name_a_cluster_have_a_dimension_less_than_there_are_clusters(rng, clusters):
    centres = rng.normal(size=(clusters, 5000))
    truth = centres[np.arange(110) % clusters] + rng.normal(size=(110, 5000))
    report = dimension_report(centres[np.arange(110) % clusters], truth)
    assert report["prediction"] == pytest.approx(clusters - 1, rel=0.03)
    assert report["components_90"][0] <= clusters - 1 < report["components_90"][1]
    assert report["ratio"] == pytest.approx(report["prediction"] / report["target"])
    assert report["ratio"] < 0.5
    assert report["n"] == 110


def test_rows_that_do_not_vary_have_no_dimension(rng):
    same = np.full((5, 40), 0.1, np.float32)  # 0.1 has no exact mean
    assert (effective_dimension(same), components_for(same)) == (0.0, 0)
    report = dimension_report(rng.normal(size=(5, 40)).astype(np.float32), same)
    assert (report["target"], report["ratio"]) == (0.0, None)


@settings(max_examples=60, deadline=None)
@given(tables, st.sampled_from([-1e30, 1e-30, 3.0]), st.integers(0, 2**31), st.floats(-50, 50))
def test_scale_shift_rotation_and_order_do_not_matter(rows, scale, seed, shift):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(rows.shape[1],) * 2))[0]
    expected = effective_dimension(rows)
    assert 0 <= expected <= min(len(rows) - 1, rows.shape[1]) + 1e-9
    assert effective_dimension(rows * scale) == pytest.approx(expected)
    if expected:
        assert effective_dimension(rng.permutation(rows @ rotation + shift)) == pytest.approx(expected, abs=1e-6)


def test_wide_targets_of_any_form_are_looked_at_in_blocks(rng):
    rows = rng.normal(size=(6, 3, BLOCK)).astype(np.float16)
    assert effective_dimension(rows) == pytest.approx(by_hand_wide(rows))
    assert effective_dimension(rows) == effective_dimension(rows.reshape(6, -1))


def by_hand_wide(rows: np.ndarray) -> float:
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    values = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    return float(values.sum() ** 2 / (values**2).sum())


def test_too_few_stimuli_say_nothing(rng):
    nulls = {"prediction": None, "target": None, "ratio": None, "components_90": [None, None]}
    for n in (0, 1, 2):
        assert dimension_report(rng.normal(size=(n, 4)), rng.normal(size=(n, 4))) == {**nulls, "n": n}


def test_what_cannot_be_is_one_clear_line(rng):
    rows = rng.normal(size=(4, 3))
    broken = rows.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="dimension: prediction 2 is not finite; check what it was computed from"):
        dimension_report(broken, rows)
    with pytest.raises(ValueError, match="dimension: target 2 is not finite"):
        dimension_report(rows, broken)
    with pytest.raises(ValueError, match=r"prediction \(4, 3\) and target \(4, 2\); expected one shape"):
        dimension_report(rows, rows[:, :2])
