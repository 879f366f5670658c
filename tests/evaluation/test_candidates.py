"""Values among fewer stimuli are those of a score of these alone, from what a run kept."""

import numpy as np
import pytest

from core.seeds import rng_for
from evaluation.config import EvaluationConfig
from evaluation.metrics import metric, metric_names
from evaluation.metrics.vectors import similarity
from evaluation.statistics.candidates import kept_bytes, pack_outcomes, powers, read_kept, restricted, unpack_outcomes
from evaluation.statistics.scores import RECONSTRUCTION
from evaluation.statistics.table import Table

from .test_metrics import drawn

N = 70
SET_DEPENDENT = [name for name in metric_names() if metric(name).depends_on_set]


@pytest.mark.parametrize("name", [name for name in metric_names() if not name.startswith("epe_512")])
def test_a_metric_states_whether_its_values_depend_on_the_set(name: str) -> None:
    """Brute force: the same stimuli are scored with the others and without them."""
    chosen = metric(name)
    parts = [drawn(chosen, rng_for(0, "set", name, index)) for index in range(2)]
    prediction, truth = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    groups = parts[0][2] + parts[1][2]
    few = np.arange(len(parts[0][1]))
    together = chosen.per_stimulus(prediction, truth, groups)[few]
    alone = chosen.per_stimulus(prediction[few], truth[few], groups[: len(few)])
    assert np.allclose(together, alone, rtol=1e-9, atol=1e-12, equal_nan=True) is not chosen.depends_on_set


def test_all_that_rest_on_other_candidates_are_named() -> None:
    assert SET_DEPENDENT == ["two_way", "two_way_within_class", "retrieval_10", "retrieval_50", "r2"]


@pytest.fixture
def spaces(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Predictions with ties, one that is constant and one that is not finite; truths; classes."""
    truth = rng.normal(size=(N, 12))
    prediction = truth + 2 * rng.normal(size=truth.shape)
    truth[7] = truth[3]  # a tie for every prediction
    prediction[5] = 1.0
    prediction[9, 0] = np.nan
    return prediction, truth, [str(index % 3) for index in range(N)]


@pytest.mark.parametrize("name", SET_DEPENDENT)
def test_values_among_fewer_are_those_of_a_score_of_these_alone(
    name: str, spaces: tuple[np.ndarray, np.ndarray, list[str]], rng: np.random.Generator
) -> None:
    prediction, truth, groups = spaces
    stimuli = [f"s{index}" for index in range(N)]
    config = EvaluationConfig(metrics=(name,), permutations=1)
    space = "x_centred" if metric(name).view == "centred" else "x"
    table = Table({space: truth}, config, seed=0, groups=groups)
    table.add(RECONSTRUCTION, {space: prediction})
    kept = read_kept(kept_bytes(table.kept(stimuli)))
    few = np.sort(rng.permutation(N)[:55])
    values = table.values[RECONSTRUCTION][f"{space}.{name}"][few]
    names, classes = [stimuli[k] for k in few], [groups[k] for k in few]
    found = restricted(f"{space}.{name}", values, kept, RECONSTRUCTION, names, classes)
    wanted = metric(name).per_stimulus(prediction[few], truth[few], classes)
    moved = metric(name).influences(prediction[few], truth[few], np.array(classes))
    assert not isinstance(found, str)
    np.testing.assert_allclose(found.values, wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.influences, moved, rtol=1e-9, atol=1e-9)
    assert not np.allclose(found.values, values, equal_nan=True), "among fewer it is another score"


def test_what_cannot_be_computed_again_is_explained(spaces: tuple[np.ndarray, np.ndarray, list[str]]) -> None:
    prediction, truth, _ = spaces
    kept = {"stimuli": np.array(list("abc")), "row/x": pack_outcomes(similarity(prediction[:3], truth[:3]))}
    values = np.zeros(2)
    assert restricted("x_centred.retrieval_10", values, kept, "row", ["a", "b"]) == "needs 10 stimuli, found 2"
    assert restricted("x.two_way_within_class", values, kept, "row", ["a", "b"]) == (
        "the classes of the stimuli were not kept"
    )
    for name, row, stimuli in (("y.two_way", "row", "ab"), ("x.two_way", "other", "ab"), ("x.two_way", "row", "ad")):
        assert restricted(name, values, kept, row, list(stimuli)) == "what it takes was not kept"
    assert restricted("x_centred.r2", values, kept, "row", ["a", "b"]) == "what it takes was not kept"
    flat = {"stimuli": np.array(["a", "b"]), "power/x_centred": np.zeros(2)}
    assert restricted("x_centred.r2", values, flat, "row", ["a", "b"]) == "every truth is the training mean"
    with pytest.raises(ValueError, match=r"outcomes \(2, 2\) of 9 stimuli; expected \(2, 11\)"):
        unpack_outcomes(pack_outcomes(np.eye(3)), 9)


def test_two_bits_a_pair_are_kept_and_the_same_arrays_give_the_same_bytes(rng: np.random.Generator) -> None:
    r = rng.normal(size=(102, 102))
    assert pack_outcomes(r).nbytes == 2 * -(-102 * 102 // 8)
    kept = {"row/x": pack_outcomes(r), "power/x": powers(r), "stimuli": np.array(["a", "bb"])}
    assert kept_bytes(kept) == kept_bytes(dict(reversed(kept.items())))


def test_what_is_kept_is_bounded(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.statistics.table.MAX_BYTES", 500)
    truth = {"one": rng.normal(size=(40, 5)), "two": rng.normal(size=(40, 5))}
    table = Table(truth, EvaluationConfig(metrics=("two_way", "correlation"), permutations=1), seed=0)
    table.add(RECONSTRUCTION, truth)
    assert set(table.kept([str(index) for index in range(40)])) == {"stimuli", f"{RECONSTRUCTION}/one"}
