"""The table of a report as it grows: the shuffled brain, the comparisons, the values that runs are compared by."""

import numpy as np
import pytest

from evaluation.config import EvaluationConfig
from evaluation.report.verdict import verdict
from evaluation.statistics.scores import (
    MEAN,
    ORACLE,
    PRIOR,
    RECONSTRUCTION,
    SHUFFLED,
    by_subject,
    comparisons,
    report,
    summarise,
)
from evaluation.statistics.table import Table

N = 30
CONFIG = EvaluationConfig(metrics=("two_way", "correlation", "psnr"), permutations=10, frame_permutations=2)


def clips(rng: np.random.Generator, n: int = N) -> np.ndarray:
    return rng.integers(0, 256, (n, 2, 8, 8, 3), dtype=np.uint8)


def noisy(rng: np.random.Generator, truth: np.ndarray, share: float) -> np.ndarray:
    other = rng.integers(0, 256, truth.shape)
    return np.rint((1 - share) * truth + share * other).astype(np.uint8)


@pytest.fixture
def truth(rng: np.random.Generator) -> np.ndarray:
    return clips(rng)


def test_what_comes_from_the_brain_is_above_its_shuffled_self(rng: np.random.Generator, truth: np.ndarray) -> None:
    table = Table({"pixels": truth}, CONFIG, seed=0)
    table.add(RECONSTRUCTION, {"pixels": noisy(rng, truth, 0.7)})
    table.add(MEAN, {"pixels": np.broadcast_to(truth.mean(axis=0).astype(np.uint8), truth.shape)})
    made = table.report()
    assert list(made["rows"]) == [RECONSTRUCTION, MEAN, SHUFFLED]
    shuffled = made["rows"][SHUFFLED]["pixels.two_way"]
    assert shuffled["ci95"][0] < 0.5 < shuffled["ci95"][1]
    assert made["comparisons"][SHUFFLED]["pixels.two_way"]["p"] < 0.001
    assert made["permutations"] == 10
    assert "above the shuffled brain and the mean predictor (adjusted p < .001)" in verdict(report("x", "r", N, **made))


def test_a_generator_that_ignores_the_brain_is_not_above_chance(rng: np.random.Generator, truth: np.ndarray) -> None:
    """It draws sharp clips of the very distribution that was shown; only which clip when says anything of a brain."""
    table = Table({"pixels": truth}, CONFIG, seed=0)
    table.add(RECONSTRUCTION, {"pixels": truth[rng.permutation(N)]})
    made = table.report()
    assert made["comparisons"][SHUFFLED]["pixels.two_way"]["p"] >= 0.05
    said = verdict(report("x", "r", N, **made))
    assert said.startswith("Reconstructions are not shown to be above the shuffled brain:")


def test_the_test_keeps_its_level_when_nothing_is_there(rng: np.random.Generator) -> None:
    """Of many studies without any signal, about one in twenty may be told from chance."""
    quick = EvaluationConfig(metrics=("correlation",), permutations=20)
    above = 0
    for _ in range(200):
        table = Table({"latents": rng.normal(size=(20, 40))}, quick, seed=int(rng.integers(1 << 30)))
        table.add(RECONSTRUCTION, {"latents": rng.normal(size=(20, 40))})
        above += table.report()["comparisons"][SHUFFLED]["latents.correlation"]["p"] < 0.05
    assert 2 <= above <= 20, above


def test_values_are_kept_by_stimulus_and_what_is_missing_is_null(rng: np.random.Generator, truth: np.ndarray) -> None:
    table = Table({"latents": truth.reshape(N, -1).astype(np.float32)}, CONFIG, seed=0)
    predicted = rng.normal(size=(N, truth[0].size)).astype(np.float32)
    predicted[3] = np.nan
    table.add(RECONSTRUCTION, {"latents": predicted})
    table.add(ORACLE, {"latents": truth.reshape(N, -1).astype(np.float32)})
    names = [f"s{index}" for index in range(N)]
    record = table.record(names)
    assert record["stimuli"] == names
    assert record["rows"][RECONSTRUCTION]["latents.correlation"][3] is None
    assert record["rows"][ORACLE]["latents.correlation"] == pytest.approx([1.0] * N)
    assert record["directions"] == {"latents.two_way": True, "latents.correlation": True}
    entry = table.report()["rows"][RECONSTRUCTION]["latents.correlation"]
    assert (entry["value"], entry["undefined"]) == (None, 1)


def test_a_row_of_which_nothing_can_be_compared_leaves_the_rest_as_it_is(truth: np.ndarray) -> None:
    table = Table({"pixels": truth[:1]}, CONFIG, seed=0)
    table.add(RECONSTRUCTION, {"pixels": truth[:1]})
    table.add(PRIOR, {"text": np.zeros((1, 3))})
    made = table.report()
    assert SHUFFLED not in made["rows"], "one stimulus cannot be shuffled"
    assert made["rows"][PRIOR] == {}


def test_subjects_are_drawn_as_well_as_stimuli(rng: np.random.Generator) -> None:
    """Two subjects who differ: an interval over stimuli alone would promise more than it knows."""
    one, other = 0.3 + 0.01 * rng.normal(size=(2, 40)), 0.7 + 0.01 * rng.normal(size=(2, 40))
    parts = [{"row": {"latents.correlation": values}} for values in (*one, *other)]
    together = summarise(by_subject(parts))["row"]["latents.correlation"]
    assert together["value"] == pytest.approx(0.5, abs=0.01)
    assert together["ci95"][1] - together["ci95"][0] > 0.2
    alone = summarise(by_subject(parts[:1]))["row"]["latents.correlation"]
    assert alone["ci95"][1] - alone["ci95"][0] < 0.02


def test_comparisons_point_in_the_direction_that_is_better(rng: np.random.Generator) -> None:
    base = rng.normal(size=40)
    values = {
        RECONSTRUCTION: {"latents.correlation": base + 1, "frames.psnr": base - 1},
        MEAN: {"latents.correlation": base, "frames.psnr": base},
    }
    found = comparisons(values, seed=0)[MEAN]
    assert found["latents.correlation"]["p"] < 0.001
    assert found["latents.correlation"]["p_adjusted"] >= found["latents.correlation"]["p"]
    assert found["frames.psnr"]["p"] == found["latents.correlation"]["p"], "two-sided: the sign is in the difference"
    assert found["frames.psnr"]["value"] == pytest.approx(-1)
