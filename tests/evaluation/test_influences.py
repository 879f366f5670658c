"""How much each stimulus moves a mean, against leaving it out of the arrays one by one."""

import numpy as np
import pytest

from evaluation.config import EvaluationConfig
from evaluation.metrics import metric, metric_names
from evaluation.statistics.scores import (
    RECONSTRUCTION,
    Similarities,
    by_subject,
    influences_of,
    per_stimulus,
    summarise,
)
from evaluation.statistics.table import Table

JOINT = ["two_way", "two_way_within_class", "retrieval_10", "r2"]


def pseudo(name: str, prediction: np.ndarray, truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return pseudo-values by the definition: the metric without each stimulus, NaN where it does not count."""
    chosen = metric(name)
    counted = chosen.counted(len(truth), groups)

    def mean(kept: np.ndarray) -> float:
        values = chosen.per_stimulus(prediction[kept], truth[kept], groups[kept])
        return float(values[chosen.counted(len(values), groups[kept])].mean())

    n, whole = counted.sum(), mean(np.ones(len(truth), bool))
    found = np.full(len(truth), np.nan)
    for k in np.flatnonzero(counted):
        kept = np.arange(len(truth)) != k
        found[k] = n * whole - (n - 1) * mean(kept)
    return found + (whole - np.nanmean(found))


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("ties", [False, True])
def test_they_are_the_jackknifes(rng: np.random.Generator, name: str, ties: bool):
    truth = rng.normal(size=(16, 6))
    prediction = truth + 2 * rng.normal(size=(16, 6))
    if ties:
        truth[5], truth[9], prediction[3] = truth[4], truth[4], 0.0
    groups = np.array(list("aaaaabbbbccddef" + "f"))
    found = metric(name).influences(prediction, truth, groups)
    wanted = pseudo(name, prediction, truth, groups)
    if name == "two_way":  # of n - 1 stimuli in place of n - 2, which errs less at small n
        wanted = wanted.mean() + (wanted - wanted.mean()) * 14 / 15
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    values = metric(name).per_stimulus(prediction, truth, groups)
    assert np.nanmean(found) == pytest.approx(np.nanmean(values))


def test_fifty_ways_as_well(rng: np.random.Generator):
    truth = rng.normal(size=(54, 20))
    prediction = truth + 2 * rng.normal(size=(54, 20))
    found = metric("retrieval_50").influences(prediction, truth)
    np.testing.assert_allclose(found, pseudo("retrieval_50", prediction, truth, np.zeros(54)), atol=1e-9)


def test_they_are_the_values_where_other_stimuli_do_not_matter_or_too_few_remain(rng: np.random.Generator):
    truth, prediction = rng.normal(size=(2, 10, 8))
    for name in ("correlation", "retrieval_10"):
        chosen = metric(name)
        np.testing.assert_array_equal(chosen.influences(prediction, truth), chosen.per_stimulus(prediction, truth))
    for name in ("two_way", "two_way_within_class"):
        chosen, groups = metric(name), np.zeros(2)
        np.testing.assert_array_equal(
            chosen.influences(prediction[:2], truth[:2], groups), chosen.per_stimulus(prediction[:2], truth[:2], groups)
        )


def test_metrics_that_depend_on_other_candidates_have_them():
    """A metric of the correlations with all truths has to state what leaving a stimulus out does."""
    of_all = {name for name in metric_names() if metric(name).of_similarity is not None} - {"correlation"}
    assert {name for name in metric_names() if metric(name).influence is not None} == of_all | {"r2"}


@pytest.mark.parametrize("name", ["two_way", "two_way_within_class", "retrieval_10", "correlation", "r2"])
def test_every_prediction_is_scored_for_every_truth(rng: np.random.Generator, name: str):
    truth = rng.normal(size=(12, 6))
    guess, groups = truth + rng.normal(size=(12, 6)), np.arange(12) % 3
    pairs = Similarities().pairs(f"z.{name}", guess, truth, groups)
    assert pairs is not None
    for _ in range(5):
        order = rng.permutation(12)
        wanted = metric(name).per_stimulus(guess[order], truth, groups)
        np.testing.assert_allclose(pairs[order, np.arange(12)], wanted, atol=1e-12)
    assert Similarities().pairs("frames.psnr", guess, truth) is None


def test_the_interval_of_r2_resamples_both_sums(rng: np.random.Generator):
    """A stimulus of large variance has large errors: the two sums go together, and their ratio is sharp."""
    truth = rng.normal(size=(102, 50)) * np.exp(0.3 * rng.normal(size=(102, 1)))
    guess = 0.3 * truth + 0.15 * rng.normal(size=truth.shape)
    spaces = {"mean_predictor": {"z_centred": 0 * truth}, "reconstruction": {"z_centred": guess}}
    rows = summarise(per_stimulus(spaces, {"z_centred": truth}, metrics=["r2"]))
    assert rows["mean_predictor"]["z_centred.r2"]["ci95"] == pytest.approx([0.0, 0.0], abs=1e-12)
    errors, squares = np.square(guess - truth).sum(axis=1), np.square(truth).sum(axis=1)
    drawn = rng.integers(0, 102, (4000, 102))
    wanted = np.quantile(1 - errors[drawn].sum(axis=1) / squares[drawn].sum(axis=1), [0.025, 0.975])
    np.testing.assert_allclose(rows["reconstruction"]["z_centred.r2"]["ci95"], wanted, atol=0.001)


def test_a_sharp_r2_is_told_sharply():
    """The audit's numbers: .487 to .497 by resampling both sums, where .420 to .558 was reported."""
    r = np.random.default_rng(0)
    truth = r.normal(size=(102, 50)) * np.exp(0.3 * r.normal(size=(102, 1)))
    rows = {"reconstruction": {"z_centred": 0.3 * truth + 0.15 * r.normal(size=truth.shape)}}
    entry = summarise(per_stimulus(rows, {"z_centred": truth}, metrics=["r2"]))["reconstruction"]["z_centred.r2"]
    np.testing.assert_allclose(entry["ci95"], [0.487, 0.497], atol=0.002)


def test_they_travel_with_the_values(rng: np.random.Generator):
    truth = {"latents": rng.normal(size=(12, 5))}
    made = [{"row": {"latents": truth["latents"] + rng.normal(size=(12, 5))}} for _ in range(2)]
    parts = [per_stimulus(rows, truth, metrics=["two_way", "correlation"]) for rows in made]
    joined = by_subject(parts)["row"]
    assert influences_of(joined, "latents.two_way").shape == (2, 12)
    for part, found in zip(parts, influences_of(joined, "latents.two_way"), strict=True):
        np.testing.assert_array_equal(found, influences_of(part["row"], "latents.two_way"))
    assert influences_of(joined, "latents.correlation") is joined["latents.correlation"]
    assert influences_of({"latents.two_way": truth["latents"][0]}, "latents.two_way") is not None, "of older runs"


def test_the_record_holds_them_beside_the_values(rng: np.random.Generator):
    truth = rng.normal(size=(12, 5))
    table = Table({"latents": truth}, EvaluationConfig(metrics=("two_way", "correlation")), seed=0)
    guess = truth + rng.normal(size=(12, 5))
    table.add(RECONSTRUCTION, {"latents": guess})
    record = table.record([str(index) for index in range(12)])
    assert list(record["influences"][RECONSTRUCTION]) == ["latents.two_way"]
    np.testing.assert_allclose(
        record["influences"][RECONSTRUCTION]["latents.two_way"], metric("two_way").influences(guess, truth)
    )
    assert np.mean(record["influences"]["shuffled_brain"]["latents.two_way"]) == pytest.approx(
        np.mean(record["rows"]["shuffled_brain"]["latents.two_way"])
    )
