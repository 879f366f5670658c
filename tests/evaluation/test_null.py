"""Guesses land on the chance level that a metric states: a simulation of the null, for every metric that has one."""

import re

import numpy as np
import pytest

from core.seeds import rng_for
from evaluation.metrics import metric, metric_names
from evaluation.metrics.registry import Metric

N = 60
REPEATS = 40
WIDEST = 0.06
"""The widest interval that still tells a right level from a wrong one, such as .75 from .50."""
WITH_CHANCE = [name for name in metric_names() if metric(name).chance is not None]
WORDS = ("a", "small", "large", "red", "blue", "star", "ring", "moving", "left", "growing")


def draw(chosen: Metric, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions that know nothing of the truth, and the truth, in the view that the metric looks at."""
    if chosen.view in ("vectors", "centred"):
        prediction, truth = rng.normal(size=(2, N, 40))
        # R² has its level at the training mean, which is 0 here; the others ask in which direction a guess lies.
        return (np.zeros_like(truth) if chosen.name == "r2" else prediction), truth
    if chosen.view == "frames":
        shown = rng.integers(0, 256, (2, N, 2, 12, 12, 3), dtype=np.uint8)
        return shown[0], shown[1]
    if chosen.view == "classes":
        scores = rng.normal(size=(2, N, 200))
        return scores[0], scores[1]
    if chosen.view == "labels":
        truth = rng.integers(0, (2, 3, 4), (N, 3))
        return truth[deal(rng)], truth
    assert chosen.view == "words", f"{chosen.view}: say how a guess looks"
    truth = np.array([" ".join(rng.choice(WORDS, 6)) for _ in range(N)], dtype=object)
    return truth[deal(rng)], truth


def deal(rng: np.random.Generator) -> np.ndarray:
    """Return an order in which no stimulus has its own place."""
    while True:
        order = rng.permutation(N)
        if (order != np.arange(N)).all():
            return order


@pytest.mark.parametrize("name", WITH_CHANCE)
def test_guesses_land_on_chance(name: str) -> None:
    chosen, rng = metric(name), rng_for(0, "null", name)
    groups = np.arange(N) % 4 if chosen.needs_groups else None
    found, stated = [], []
    for _ in range(REPEATS):
        prediction, truth = draw(chosen, rng)
        found.append(chosen.per_stimulus(prediction, truth, groups).mean())
        stated.append(chosen.chance_of(truth))
    off = np.array(found) - np.array(stated, np.float64)
    half = 3.3 * off.std(ddof=1) / np.sqrt(REPEATS) + 1e-9
    assert abs(off.mean()) <= half, f"{np.mean(found):.4f} by simulation, {np.mean(stated):.4f} stated"
    assert half < WIDEST


def test_the_published_levels_are_what_they_are() -> None:
    """.75 for "2-way" is no half: who forgets it calls guessing a result."""
    assert metric("published_2_way").chance == 0.75
    assert metric("published_50_way").chance == pytest.approx(0.0577, abs=1e-4)
    assert metric("top_1_of_2").chance == 0.5
    assert metric("top_1_of_50").chance == 0.02


def test_a_metric_without_a_level_names_the_row_to_hold_it_against() -> None:
    for name in sorted(set(metric_names()) - set(WITH_CHANCE)):
        assert re.search(r"\brows?\b|the metric to read", metric(name).source), name
