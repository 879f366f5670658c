"""The ceiling that test noise sets, against predictions whose noise is known and readers that make no other error."""

from dataclasses import dataclass

import numpy as np
import pytest

from evaluation.metrics import metric
from evaluation.statistics.ceilings import (
    Ceiling,
    RepeatedPredictions,
    RepeatNoise,
    prediction_ceiling,
    repeat_noise,
    widened,
    with_test_noise,
)
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.scores import NOISE_CEILING, ORACLE, SHUFFLED, summarise


@dataclass(frozen=True)
class Shown:
    """Stimuli that were shown several times, and what a perfect linear reader predicts of them."""

    truth: np.ndarray
    predicted: np.ndarray
    noise: RepeatNoise

    @property
    def zero(self) -> np.ndarray:
        return np.zeros(self.truth.shape[1:], np.float32)

    def reached(self) -> float:
        return correlation(self.predicted, self.truth)

    def ceiling(self) -> Ceiling:
        return prediction_ceiling(self.truth, self.predicted, self.noise, self.zero)

    def rendered(self) -> float:
        """What the row that is rendered scores before it is rendered."""
        return correlation(with_test_noise(self.truth, self.predicted, self.noise, self.zero), self.truth)


def correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    """The mean correlation over stimuli; `test_correlations_are_those_of_the_metric` compares it with the metric."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (predicted.astype("f8"), truth.astype("f8")))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / lengths))


def shown(
    rng: np.random.Generator, n: int, features: int, repetitions: int | np.ndarray, snr: float, gain: float = 1.0
) -> Shown:
    truth = rng.standard_normal((n, features), np.float32)
    return read(rng, truth, repetitions, snr, gain)


def read(rng: np.random.Generator, truth: np.ndarray, repetitions: int | np.ndarray, snr: float, gain=1.0) -> Shown:
    """Predict every repetition by a reader whose only error is noise of variance 1, then times the gain."""
    n, features = truth.shape
    counts = np.broadcast_to(repetitions, n)
    rows = np.repeat(np.arange(n), counts)
    trials = rng.standard_normal((len(rows), features), np.float32)
    trials += np.float32(np.sqrt(snr)) * truth[rows]
    trials *= np.float32(gain)
    starts = np.cumsum(counts) - counts
    mean = np.add.reduceat(trials, starts, axis=0) / counts[:, None].astype(np.float32)
    return Shown(truth, mean, repeat_noise(trials, rows))


def measured(seed: int, runs: int, n: int, features: int, repetitions: int, snr: float) -> dict[str, float]:
    """Return how a perfect reader's score lies to the ceiling over many experiments."""
    rng = np.random.default_rng([seed, n, features, repetitions, round(1000 * snr)])
    rows = []
    for _ in range(runs):
        own = shown(rng, n, features, repetitions, snr)
        ceiling, reached = own.ceiling(), own.reached()
        rows.append((reached, ceiling.value, ceiling.low, ceiling.high, own.rendered()))
    reached, value, low, high, rendered = np.array(rows).T
    return {
        "reached": reached.mean(),
        "ceiling": value.mean(),
        "rendered": rendered.mean(),
        "within": np.mean((low <= reached) & (reached <= high)),
        "not above": np.mean(reached <= high),
    }


def test_correlations_are_those_of_the_metric(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 5, 7))
    assert correlation(a, b) == pytest.approx(metric("correlation").per_stimulus(a, b).mean())


REPETITIONS, SNRS, FEATURES = (2, 3, 4, 10), (0.05, 0.5, 2.0), (10, 100, 1000)
STIMULI = {10: 400, 100: 400, 1000: 200}
RUNS = {10: 300, 100: 150, 1000: 60}


@pytest.mark.parametrize(
    ("repetitions", "snr", "features"), [(2, 0.5, 10), (3, 0.05, 100), (3, 0.5, 10), (4, 2.0, 30), (10, 0.2, 10)]
)
def test_a_perfect_reader_lies_within_the_interval(repetitions: int, snr: float, features: int) -> None:
    found = measured(0, 60, 150, features, repetitions, snr)
    assert found["within"] >= 0.85, found
    assert found["reached"] - found["ceiling"] < 0.02, found
    assert found["rendered"] == pytest.approx(found["reached"], abs=0.02), found


@pytest.mark.full
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_a_perfect_reader_lies_within_the_interval_everywhere(repetitions: int, features: int) -> None:
    for snr in SNRS:
        found = measured(0, RUNS[features], STIMULI[features], features, repetitions, snr)
        assert found["within"] >= 0.9, (snr, found)
        assert found["not above"] >= 0.93, (snr, found)
        assert found["reached"] - found["ceiling"] < 0.02, (snr, found)
        assert abs(found["rendered"] - found["ceiling"]) < 0.02, (snr, found)


@pytest.mark.parametrize(("repetitions", "features"), [(2, 10), (3, 10), (3, 100), (10, 10)])
def test_without_a_signal_the_ceiling_is_near_zero(repetitions: int, features: int) -> None:
    found = measured(1, 60, 200, features, repetitions, 0.0)
    assert found["ceiling"] <= 0.05, found
    assert abs(found["rendered"]) <= 0.05, found
    assert found["not above"] >= 0.9, found


@pytest.mark.full
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("repetitions", REPETITIONS)
def test_without_a_signal_the_ceiling_is_near_zero_everywhere(repetitions: int, features: int) -> None:
    found = measured(1, RUNS[features], STIMULI[features], features, repetitions, 0.0)
    assert found["ceiling"] <= 0.05, found
    assert abs(found["rendered"]) <= 0.05, found


@pytest.mark.parametrize("snr", [0.1, 0.5])
def test_three_repetitions_of_1000_features(snr: float) -> None:
    """With halves of one repetition each and the formula for 2k, the ceiling was .706 where .775 was reached."""
    own = shown(np.random.default_rng(0), 400, 1000, 3, snr)
    true = np.sqrt(snr / (snr + 1 / 3))
    assert own.reached() == pytest.approx(true, abs=0.003)
    assert own.ceiling().value == pytest.approx(true, abs=0.006)
    assert own.ceiling().low < own.reached() < own.ceiling().high
    assert own.rendered() == pytest.approx(true, abs=0.006)


def test_stimuli_differ_in_how_often_they_were_shown(rng: np.random.Generator) -> None:
    inside, gaps = [], []
    for _ in range(20):
        own = shown(rng, 400, 40, rng.choice([1, 2, 3, 5], size=400, p=[0.3, 0.3, 0.2, 0.2]), 0.3)
        ceiling = own.ceiling()
        inside.append(ceiling.low < own.reached() < ceiling.high)
        gaps.append((ceiling.value - own.reached(), own.rendered() - own.reached()))
    assert np.mean(inside) >= 0.9
    assert np.abs(np.mean(gaps, axis=0)).max() < 0.008


@pytest.mark.parametrize("gain", [1.0, 0.3, 0.02, 5.0])
def test_the_strength_of_the_predictions_does_not_matter(gain: float) -> None:
    plain, own = (shown(np.random.default_rng(3), 100, 50, 3, 0.5, gain=g) for g in (1.0, gain))
    assert own.ceiling().value == pytest.approx(plain.ceiling().value, abs=1e-5)
    noisy = with_test_noise(own.truth, own.predicted, own.noise, own.zero)
    assert noisy.dtype == np.float32
    assert np.mean(noisy**2) == pytest.approx(np.mean(own.predicted**2), rel=0.02)


def test_a_worse_model_has_the_ceiling_of_its_noise_and_not_of_its_own_faults(rng: np.random.Generator) -> None:
    own = shown(rng, 200, 200, 3, 0.5)
    wrong = np.roll(own.truth, 1, axis=-1)  # what it predicts reliably is another feature
    ceiling = prediction_ceiling(wrong, own.predicted, own.noise, own.zero)
    assert abs(correlation(own.predicted, wrong)) < 0.05
    assert ceiling.value == pytest.approx(own.ceiling().value, abs=0.01)


@pytest.mark.parametrize("features", [12, 200])
def test_targets_and_noise_of_uneven_strength(features: int) -> None:
    """Targets of many strengths, noise along few directions and of a strength that differs between stimuli."""
    rng = np.random.default_rng(7)
    inside, gaps = [], []
    for _ in range(40):
        n, repetitions = 200, 3
        truth = rng.normal(size=(n, features)) * np.exp(0.4 * rng.normal(size=(n, 1)))
        mixing = rng.normal(size=(features // 4, features)) / np.sqrt(features // 4)
        loud = np.exp(0.3 * rng.normal(size=(n, 1, 1)))
        noise = loud * (rng.normal(size=(n, repetitions, features // 4)) @ mixing)
        noise += loud * 0.5 * rng.normal(size=(n, repetitions, features))
        trials = (0.7 * truth[:, None] + noise).astype("f4")
        mean = trials.mean(axis=1)
        found = repeat_noise(trials.reshape(-1, features), np.repeat(np.arange(n), repetitions))
        own = Shown(truth.astype("f4"), mean, found)
        ceiling = own.ceiling()
        inside.append(ceiling.low <= own.reached() <= ceiling.high)
        gaps.append(own.reached() - ceiling.value)
    assert np.mean(inside) >= 0.9
    assert abs(np.mean(gaps)) < 0.01


def test_the_noise_is_what_repetitions_differ_by(rng: np.random.Generator) -> None:
    counts, features = np.array([2, 3, 4, 5, 1, 2]), 6
    rows = np.repeat(np.arange(6), counts)
    order = rng.permutation(len(rows))
    rows, trials = rows[order], rng.normal(size=(len(rows), features))
    noise = repeat_noise(trials, rows)
    patterns = trials - trials.mean(axis=1, keepdims=True)
    within = [np.var(patterns[rows == row], axis=0, ddof=1).sum() for row in range(6) if counts[row] > 1]
    degrees = (counts - 1)[counts > 1]
    expected = np.insert(within, 4, np.average(within, weights=degrees)) / counts
    np.testing.assert_allclose(noise.power, expected, rtol=1e-5)
    a, b = trials[rows == 0]
    np.testing.assert_allclose(noise.draw[0], (a - b) / 2, atol=1e-6)
    a, b, c = trials[rows == 1]
    np.testing.assert_allclose(noise.draw[1], ((a + c) / 2 - b) * np.sqrt(2) / 3, atol=1e-6)
    np.testing.assert_allclose(noise.draw[4], noise.draw[0] * np.sqrt(2), atol=1e-6)


def test_a_draw_is_as_large_as_the_noise_and_knows_nothing_of_the_mean(rng: np.random.Generator) -> None:
    for repetitions in (2, 3, 5, 7):
        trials = rng.normal(size=(2000 * repetitions, 20))
        rows = np.repeat(np.arange(2000), repetitions)
        noise = repeat_noise(trials, rows)
        assert np.mean(noise.draw**2) == pytest.approx(1 / repetitions, rel=0.03)
        mean = trials.reshape(2000, repetitions, 20).mean(axis=1)
        assert abs(np.corrcoef(mean.ravel(), noise.draw.ravel())[0, 1]) < 0.02


def test_trials_may_come_a_few_at_a_time(rng: np.random.Generator) -> None:
    rows = rng.permutation(np.repeat(np.arange(5), 3))
    trials = rng.normal(size=(15, 2, 4)).astype("f4")
    mean = np.stack([trials[rows == row].mean(axis=0) for row in range(5)])
    whole, repeated = repeat_noise(trials, rows), RepeatedPredictions(mean, rows)
    for block in (slice(0, 4), slice(4, 5), slice(5, 15)):
        repeated.add(block, trials[block])
    np.testing.assert_allclose(repeated.noise().draw, whole.draw, atol=1e-6)
    np.testing.assert_allclose(repeated.noise().power, whole.power, rtol=1e-5)
    np.testing.assert_array_equal(whole.take([3, 1]).draw, whole.draw[[3, 1]])


def test_the_interval_is_by_leaving_stimuli_out(rng: np.random.Generator) -> None:
    """By hand; with so many features the squared correlation is nearly the reliability, the same for all stimuli."""
    n, features, repetitions = 5, 4000, 3
    own = shown(rng, n, features, repetitions, 0.4)
    logs = []
    for left_out in (None, *range(n)):
        kept = np.arange(n) != left_out if left_out is not None else np.ones(n, bool)
        power = own.predicted[kept] - own.predicted[kept].mean(axis=1, keepdims=True)
        logs.append(np.log((power.astype("f8") ** 2).sum() / own.noise.power[kept].sum()))
    whole, parts = logs[0], np.array(logs[1:])
    error = np.sqrt(4 / 5 * ((parts - parts.mean()) ** 2).sum())
    middle = 5 * whole - 4 * parts.mean()
    expected = [np.sqrt(1 - np.exp(-(middle + side * 2.77645 * error))) for side in (0, -1, 1)]  # t of 4 at .975
    found = own.ceiling()
    np.testing.assert_allclose([found.value, found.low, found.high], expected, atol=4e-3)
    assert found.low < found.value < found.high


def test_neighbours_that_share_noise_widen_the_interval_by_blocks(rng: np.random.Generator) -> None:
    """The truth's strength drifts over runs of ten stimuli, so that these are not independent."""
    strength = np.repeat(np.exp(rng.normal(size=20)), 10)[:, None]
    own = read(rng, (strength * rng.standard_normal((200, 30))).astype("f4"), 3, 0.3)
    plain = own.ceiling()
    order = TimeOrder(np.repeat(["movie"], 200), np.arange(200.0))
    blocked = prediction_ceiling(own.truth, own.predicted, own.noise, own.zero, order=order)
    assert blocked.high - blocked.low > 1.3 * (plain.high - plain.low)
    alike = shown(rng, 200, 30, 3, 0.3)
    alone = prediction_ceiling(alike.truth, alike.predicted, alike.noise, alike.zero, order=order)
    assert alone.high - alone.low < 1.3 * (alike.ceiling().high - alike.ceiling().low)


def test_repetitions_that_agree_have_no_ceiling_below_one(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(6, 9)).astype("f4")
    own = Shown(truth, 3 * truth, repeat_noise(np.repeat(3 * truth, 2, axis=0), np.repeat(np.arange(6), 2)))
    assert own.ceiling() == Ceiling(1.0, 1.0, 1.0)
    np.testing.assert_allclose(with_test_noise(truth, 3 * truth, own.noise, own.zero), 3 * truth, rtol=1e-5)
    silent = Shown(truth, 0 * truth, repeat_noise(np.zeros((12, 9)), np.repeat(np.arange(6), 2)))
    assert silent.ceiling().value == 0.0


def test_the_training_mean_is_taken_off_and_put_back(rng: np.random.Generator) -> None:
    own, mean = shown(rng, 50, 40, 3, 0.5), 10 * rng.standard_normal(40, np.float32)
    moved = with_test_noise(own.truth + mean, own.predicted + mean, own.noise, mean)
    np.testing.assert_allclose(moved, with_test_noise(own.truth, own.predicted, own.noise, own.zero) + mean, atol=1e-4)
    every = np.broadcast_to(mean, own.truth.shape)
    ceiling = prediction_ceiling(own.truth + mean, own.predicted + mean, own.noise, every)
    assert ceiling.value == pytest.approx(own.ceiling().value, abs=1e-4)


def test_what_is_not_finite_has_no_ceiling(rng: np.random.Generator) -> None:
    own = shown(rng, 20, 10, 3, 0.5)
    own.predicted[2, 0] = np.nan
    found = own.ceiling()
    assert np.isnan(found.value)
    entry = found.entry()
    assert (entry["value"], entry["ci95"], entry["undefined"]) == (None, [None, None], 1)
    noisy = with_test_noise(own.truth, own.predicted, own.noise, own.zero)
    assert np.isfinite(noisy).all(), "of the others' powers"


@pytest.mark.parametrize(
    ("repetitions", "features", "snr"),
    [
        (2, 60, 0.1),
        pytest.param(2, 100, 0.05, marks=pytest.mark.full),
        pytest.param(3, 30, 0.5, marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("name", ["correlation", "two_way"])
def test_the_rendered_row_has_an_interval_that_holds_a_perfect_reader(
    repetitions: int, features: int, snr: float, name: str
) -> None:
    """Of a generator that changes nothing; the row's own interval holds the reader in 60 % where the noise is loud."""
    rng = np.random.default_rng(5)
    inside, plain = [], []
    for _ in range(40):
        own = shown(rng, 100, features, repetitions, snr)
        noisy = with_test_noise(own.truth, own.predicted, own.noise, own.zero)
        predictions = {NOISE_CEILING: noisy, ORACLE: own.truth, SHUFFLED: own.predicted[rng.permutation(100)]}
        values = {
            row: {f"z_centred.{name}": metric(name).per_stimulus(predicted, own.truth)}
            for row, predicted in predictions.items()
        }
        rows = summarise(values)
        (entry,) = widened(rows, [own.ceiling()]).values()
        reached = metric(name).per_stimulus(own.predicted, own.truth).mean()
        (low, high), (plain_low, plain_high) = entry["ci95"], rows[NOISE_CEILING][f"z_centred.{name}"]["ci95"]
        assert low <= plain_low <= plain_high <= high
        inside.append(low <= reached <= high)
        plain.append(plain_low <= reached <= plain_high)
    assert np.mean(inside) >= 0.9
    assert np.mean(plain) <= np.mean(inside)


def test_widening_goes_both_ways_and_copes_with_what_is_missing() -> None:
    entry = {"value": 0.4, "ci95": [0.35, 0.45], "chance": 0.9, "higher_is_better": False}  # an error: 0 is perfect
    rows = {NOISE_CEILING: {"a.mse": entry}, SHUFFLED: {"a.mse": {"value": 0.9}}, ORACLE: {"a.mse": {"value": 0.1}}}
    found = widened(rows, [Ceiling(0.5, 0.3, 0.6)])["a.mse"]
    assert found["ci95"] == pytest.approx([0.4 - np.hypot(0.05, 0.1), 0.4 + np.hypot(0.05, 0.2)])
    assert (found["value"], found["chance"]) == (0.4, 0.9)
    assert widened({NOISE_CEILING: {"a.mse": entry}}, [Ceiling(0.5, 0.3, 0.6)])["a.mse"] == entry
    nothing = {"value": None, "ci95": [None, None]}
    assert widened({**rows, NOISE_CEILING: {"a.mse": nothing}}, [Ceiling(0.5, 0.3, 0.6)])["a.mse"] == nothing
    assert widened(rows, [Ceiling(0.5, np.nan, np.nan)])["a.mse"] == entry
    assert widened({}, []) == {}


def test_several_subjects_are_averaged(rng: np.random.Generator) -> None:
    ceilings = [shown(rng, 100, 50, 3, snr).ceiling() for snr in (0.2, 0.6, 1.0)]
    mean = Ceiling.mean(ceilings)
    assert mean.value == pytest.approx(np.mean([own.value for own in ceilings]))
    widths = np.array([own.high - own.low for own in ceilings])
    assert mean.high - mean.low == pytest.approx(np.sqrt((widths**2).sum()) / 3, rel=0.02)
    assert Ceiling.mean([ceilings[0]]).low == pytest.approx(ceilings[0].low)
    entry = mean.entry()
    assert entry["ci95"] == [mean.low, mean.high]
    assert (entry["chance"], entry["higher_is_better"], "undefined" in entry) == (0.0, True, False)
    with pytest.raises(ValueError, match="no ceilings"):
        Ceiling.mean([])


def test_faulty_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    own = shown(rng, 6, 5, 2, 0.5)
    with pytest.raises(ValueError, match=r"truth \(5, 5\); expected one shape"):
        prediction_ceiling(own.truth[:5], own.predicted, own.noise, own.zero)
    with pytest.raises(ValueError, match="expected one shape"):
        with_test_noise(own.truth, own.predicted, own.noise.take([0, 1]), own.zero)
    rows = np.array([0, 0, 1, 2, 3])
    assert not RepeatedPredictions(np.zeros((4, 3)), rows).suffice
    with pytest.raises(ValueError, match="1 of 4 stimuli were repeated"):
        repeat_noise(np.zeros((5, 3)), rows)
