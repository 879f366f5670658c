"""Independent walks of brain and targets, from the rows of a store to the test against the shuffled brain."""

import numpy as np
import pytest

from core.times import Times
from evaluation.config import EvaluationConfig
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED
from evaluation.statistics.spaces import centre
from evaluation.statistics.table import Table
from models.decoders.build import predict_stimuli
from models.decoders.rows import BrainRows
from models.training.loop import Context
from studies.decoding.training_data import Target, TrainingData, with_reach
from studies.study import RouteConfig
from studies.training.fitted import fit_route

from .timed_source import ar1

SPACE = "seen_centred"
TWO_WAY, CORRELATION = METRICS = (f"{SPACE}.two_way", f"{SPACE}.correlation")
TRAIN, TEST, STEP_S = 300, 102, 4.0
NAMES = [f"c{index:04d}" for index in range(TRAIN + TEST)]


def of_a_later_part(seed: int, rho: float, *, in_time: bool = True) -> dict[str, float]:
    """Return by metric the p of ridge against the shuffled brain, on the last 102 clips.

    The gap before them is as long as the reach of autocorrelation that the project measures and reports.
    """
    rng = np.random.default_rng(seed)
    brain, seen = (ar1(rng, TRAIN + TEST, width, rho).astype(np.float32) for width in (60, 20))
    times = Times.of(["run-1"] * (TRAIN + TEST), STEP_S * np.arange(TRAIN + TEST))
    train, test = np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST)
    whole = with_reach(times.take(train), brain[train], NAMES[:TRAIN], [Target.of(seen[train], NAMES[:TRAIN])])
    assert whole is not None
    train = np.flatnonzero(~whole.near(times.take(test), whole.purge_s))
    names = NAMES[: len(train)]
    target, when = Target.of(seen[train], names), whole.take(train)
    data = TrainingData({"sub-01": BrainRows(brain[train], names, times=when)}, {"seen": target})
    fitted = fit_route(RouteConfig(), {"z": "seen"}, data, Context(seed))
    _, predicted = predict_stimuli(fitted.encoder, fitted.regressors["z"], "sub-01", brain[test], NAMES[TRAIN:])
    order = TimeOrder(times.segment[test], times.start_s[test]) if in_time else None
    mean, config = target.mean(names), EvaluationConfig(metrics=METRICS)
    table = Table({SPACE: centre(seen[test], mean)}, config, seed=seed, order=order)
    table.add(RECONSTRUCTION, {SPACE: centre(predicted, mean)})
    return {name: entry["p"] for name, entry in table.report()["comparisons"][SHUFFLED].items()}


def test_walks_are_rarely_above_the_shifted_brain_and_often_above_the_shuffled_one() -> None:
    shifted = [of_a_later_part(seed, 0.9)[TWO_WAY] for seed in range(6)]
    shuffled = [of_a_later_part(seed, 0.9, in_time=False)[TWO_WAY] for seed in range(6)]
    assert sum(p <= 0.05 for p in shifted) <= 1
    assert sum(p <= 0.05 for p in shuffled) >= 2, "stimuli taken for exchangeable are not"


@pytest.mark.full
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_a_later_part_is_found_as_often_as_stated(rho: float) -> None:
    found = [of_a_later_part(seed, rho) for seed in range(600)]
    for name in METRICS:
        assert 0.03 <= np.mean([p[name] <= 0.05 for p in found]) <= 0.07, name
