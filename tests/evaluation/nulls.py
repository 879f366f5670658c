"""Simulated decoders with a known answer, and how the project's own functions score them.

Each function draws many small studies and returns how often something was found. Tests with few draws and the long
counts share them.
"""

from collections.abc import Iterator

import numpy as np
from scipy.signal import lfilter

from core.seeds import rng_for
from evaluation.config import EvaluationConfig
from evaluation.statistics.order import TimeOrder
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED, Values, by_subject, per_stimulus, summarise
from evaluation.statistics.table import Table

FEATURES = 20
SPACE = "z_centred"
TWO_WAY, CORRELATION, R2 = NAMES = tuple(f"{SPACE}.{name}" for name in ("two_way", "correlation", "r2"))
ALPHA = 0.05
Arrays = tuple[list[np.ndarray], np.ndarray]


def decode(rng: np.random.Generator, n: int, gain: float, subjects: int = 1, apart: float = 0.0) -> Arrays:
    """Return predictions of each subject, (n, feature), and the truth that they share.

    A prediction is a share of the truth and noise; `gain` says how much, and subjects differ in its logarithm by
    `apart`. Stimuli differ in how far they lie from the training mean.
    """
    truth = rng.normal(size=(n, FEATURES)) * np.exp(0.3 * rng.normal(size=(n, 1)))
    gains = gain * np.exp(apart * rng.normal(size=subjects))
    return [0.3 * own * truth + 0.3 * rng.normal(size=truth.shape) for own in gains], truth


def score(predictions: list[np.ndarray], truth: np.ndarray, names: tuple[str, ...] = NAMES) -> Values:
    """Return the values of the subjects' predictions under the row `row`."""
    return by_subject([per_stimulus({"row": {SPACE: own}}, {SPACE: truth}, metrics=names) for own in predictions])


def population(gain: float, apart: float, *, draws: int = 30) -> dict[str, float]:
    """Return what scores would be over all subjects and stimuli, from large samples."""
    rng, found = rng_for(0, "population", str(gain), str(apart)), []
    errors = squares = 0.0
    for _ in range(draws):
        predictions, truth = decode(rng, 300, gain, subjects=8, apart=apart)
        found.append([score(predictions, truth, (name,))["row"][name].mean() for name in (TWO_WAY, CORRELATION)])
        errors += sum(float(np.square(own - truth).sum()) for own in predictions)
        squares += len(predictions) * float(np.square(truth).sum())
    return dict(zip(NAMES, [*np.mean(found, axis=0), 1 - errors / squares], strict=True))


def coverage(
    n: int, draws: int, *, gain: float, subjects: int = 1, apart: float = 0.0, wanted: dict[str, float]
) -> dict[str, float]:
    """Return how often the interval of each metric holds its value over all subjects and stimuli."""
    rng = rng_for(0, "coverage", n, subjects, str(gain))
    held = dict.fromkeys(wanted, 0)
    for _ in range(draws):
        row = summarise(score(*decode(rng, n, gain, subjects, apart), tuple(wanted)))["row"]
        for name, value in wanted.items():
            low, high = row[name]["ci95"]
            held[name] += low <= value <= high
    return {name: count / draws for name, count in held.items()}


def exchangeable(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and truths that know nothing of each other, with a mean in common."""
    shared = rng.normal(size=FEATURES)
    return shared + rng.normal(size=(n, FEATURES)), shared + rng.normal(size=(n, FEATURES))


def autoregressive(rng: np.random.Generator, n: int, rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions of a ridge on a brain that knows nothing of the targets, and these, of the last n clips.

    Brain and targets are independent AR(1) series. Ridge is fitted on 300 clips, a gap is dropped, and the n clips
    after it are predicted, all less the training means.
    """
    voxels, train, gap = 40, 300, 60
    length = train + gap + n
    brain, targets = (_series(rng, rho, length, width) for width in (voxels, FEATURES))
    brain, targets = brain - brain[:train].mean(axis=0), targets - targets[:train].mean(axis=0)
    x, y = brain[:train], targets[:train]
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(voxels), x.T @ y)
    return brain[-n:] @ weights, targets[-n:]


def _series(rng: np.random.Generator, rho: float, n: int, width: int) -> np.ndarray:
    noise = rng.normal(size=(n + 200, width))
    return np.asarray(lfilter([np.sqrt(1 - rho**2)], [1, -rho], noise, axis=0)[200:])


def in_time(n: int) -> TimeOrder:
    """Return the order of n clips of one film."""
    return TimeOrder(np.full(n, "film"), 3.0 * np.arange(n))


def reports(pairs: Iterator[tuple[np.ndarray, np.ndarray]], order: TimeOrder | None = None) -> Iterator[dict]:
    """Yield the report of each pair of predictions and truths."""
    config = EvaluationConfig(metrics=NAMES)
    for seed, (prediction, truth) in enumerate(pairs):
        table = Table({SPACE: truth}, config, seed=seed, order=order)
        table.add(RECONSTRUCTION, {SPACE: prediction})
        yield table.report()


def false_alarms(found: list[dict], control: str = SHUFFLED) -> dict[str, float]:
    """Return how often a row is told from a control, by metric, where nothing is there."""
    tested = {name: [one["comparisons"][control][name]["p"] for one in found] for name in NAMES}
    return {name: float(np.mean([p is not None and p < ALPHA for p in ps])) for name, ps in tested.items()}
