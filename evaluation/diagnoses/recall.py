"""Recall in place of reconstruction: predictions of few dimensions, scores that fall with the distance to training.

A model that was trained on clustered targets can learn to predict the cluster and nothing else; its predictions for new
stimuli then vary along few dimensions, however many the targets have. A model that recalls the nearest training
stimulus scores well where test stimuli lie near training stimuli; farther away its score falls. Where the score is
Pearson's r in the space of the distances, recall of the right neighbour scores 1 − distance. K. Shirakawa et al.,
*Spurious reconstruction from brain activity*, arXiv 2405.10078.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from core.seeds import rng_for
from evaluation.metrics import Groups, Metric, PerStimulus, metric
from evaluation.metrics.frames import or_one
from evaluation.statistics.counting import Defined, Mask
from evaluation.statistics.intervals import Span, mean_interval
from evaluation.statistics.spaces import chance_of

Array = NDArray[Any]
Floats = NDArray[np.float64]

BLOCK = 64
"""Training stimuli in one block."""
PARTS: dict[int, tuple[str, ...]] = {1: ("all",), 2: ("near", "far"), 3: ("near", "middle", "far")}
MIN_OF_A_PART = 2
MIN_TO_RANK = 3
DRAWS = 2000


@dataclass(frozen=True)
class Nearest:
    """The training stimulus most like each of some stimuli: names, rows and distances; see `nearest_training`."""

    stimuli: list[str]
    rows: NDArray[np.int64]
    distance: Floats

    @classmethod
    def among(cls, test: Array, train: Array, names: Sequence[str]) -> "Nearest":
        """Find it for rows (n, …) among training rows (m, …) with their names (m,)."""
        rows, distance = nearest_training(test, train)
        return cls([names[row] for row in rows], rows, distance)


def nearest_training(test: Array, train: Array, *, block: int = BLOCK) -> tuple[NDArray[np.int64], Floats]:
    """Return the training stimulus nearest to each test stimulus, and its distance.

    The distance is 1 − Pearson's r between rows less the training mean: 0 for a copy, about 1 for a stimulus that
    is unlike all training stimuli, 2 at most. A row that is the training mean has distance 1 from all.

    Parameters
    ----------
    test : true targets or predictions, shape (n, ...)
    train : array, shape (m, ...)
    block : training rows that are compared at once; memory is that of the test rows in float32 and of two such blocks

    Returns
    -------
    index : array, shape (n,)
        Rows of `train`; the first of several that are equally near.
    distance : array, shape (n,)

    Raises
    ------
    ValueError
        There is no training row, the rows' shapes differ, or one is not finite.
    """
    if not len(train) or test.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"nearest training stimulus: test {test.shape} and train {train.shape}; expected rows of one shape"
        )
    mean = train.mean(axis=0, dtype=np.float64)
    ours = [_deviations(test[start : start + block], mean, "test", start) for start in range(0, len(test), block)]
    best, index = np.full(len(test), -np.inf), np.zeros(len(test), dtype=np.int64)
    for start in range(0, len(train) if ours else 0, block):
        theirs = _deviations(train[start : start + block], mean, "training", start)
        likeness = np.concatenate([rows @ theirs.T for rows in ours])
        nearest = likeness.argmax(axis=1)
        value = likeness[np.arange(len(test)), nearest]
        index[value > best] = nearest[value > best] + start
        best = np.maximum(best, value)
    return index, (1.0 - best).clip(0.0, 2.0)


def _unit_rows(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return (n, features) whose products are Pearson correlations; constant rows are zeros, others not finite NaN."""
    rows = np.array(array.reshape(len(array), -1), dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = 0.0
    # Compare the values themselves: a constant minus its rounded mean may leave a residue that looks like a pattern.
    constant = rows.max(axis=1) == rows.min(axis=1)
    rows -= rows.mean(axis=1, keepdims=True)
    rows[constant] = 0.0
    rows /= or_one(np.abs(rows).max(axis=1))[:, None]  # so that squaring tiny values does not underflow
    rows /= or_one(np.sqrt(np.einsum("nf,nf->n", rows, rows)))[:, None]
    rows[~finite] = np.nan
    return rows


def _deviations(rows: Array, mean: Floats, what: str, start: int) -> NDArray[np.float32]:
    """Return rows less the mean as unit vectors, (row, feature)."""
    unit = _unit_rows(rows - mean)
    if not np.isfinite(unit).all():
        wrong = start + int(np.argmin(np.isfinite(unit).all(axis=1)))
        raise ValueError(
            f"nearest training stimulus: {what} row {wrong} is not finite; check what it was computed from"
        )
    return unit.astype(np.float32)


def split_by_distance(
    values: Mapping[str, PerStimulus],
    distance: Floats,
    *,
    seed: int,
    chances: Mapping[str, float | None] | None = None,
    groups: Groups | None = None,
    defined: Defined | None = None,
) -> dict[str, dict[str, Any]]:
    """Return how every metric's score depends on the distance to the nearest training stimulus.

    Stimuli are ranked by distance (those at one distance keep their order) and cut into three parts of equal size, to
    within one. A part has at least two stimuli: four or five make two parts, near and far, and fewer make one, all.
    Identification stays among all stimuli; only the mean is taken over a part.

    Parameters
    ----------
    values : arrays (n,) by `space.metric`
        One row's scores of every stimulus.
    distance : array, shape (n,)
        That of the *true* targets, as `nearest_training` returns it: near and far mean the same for every model.
    chances : by `space.metric`, null where there is none; each metric's own by default
    groups, defined : the class of each stimulus, and which truths give a metric a value; stimuli that a metric does
        not count are skipped, as in `evaluation.statistics.scores.summarise`

    Returns
    -------
    dict
        By metric ``{"parts": [{"name", "n", "distance": [low, high], "value", "ci95", "chance"}],
        "rank_correlation": {"value", "ci95"}}``. The rank correlation is Spearman's between distance and how *good* the
        score is, with a bootstrap interval over stimuli: positive means better the farther, negative worse the farther,
        also where lower is better. A score that is NaN makes its part and the rank correlation null, and `undefined`
        beside them is the number of such scores; none is dropped.

    Raises
    ------
    ValueError
        There is not one finite distance for each value.
    """
    if not np.isfinite(distance).all():
        raise ValueError("scores by distance: a distance is not finite; expected what nearest_training returns")
    known = {name: chance_of(name) for name in values} if chances is None else dict(chances)
    return {
        name: _metric_by_distance(
            metric(name), scores, distance, seed, known.get(name), groups, (defined or {}).get(name)
        )
        for name, scores in values.items()
    }


def _metric_by_distance(
    chosen: Metric,
    values: PerStimulus,
    distance: Floats,
    seed: int,
    chance: float | None,
    groups: Groups | None,
    defined: Mask | None,
) -> dict[str, Any]:
    if values.shape != distance.shape:
        raise ValueError(
            f"{chosen.name}: values {values.shape} and distances {distance.shape}; expected one of each a stimulus"
        )
    counts = chosen.counted(len(values), groups)
    counts = counts if defined is None else counts & defined
    values, distance = values[counts], distance[counts]
    better = values if chosen.higher_is_better else -values
    return {
        "parts": [
            {"name": name, **_part(values[rows], distance[rows], chosen.span), "chance": chance}
            for name, rows in parts_by_distance(distance).items()
        ],
        "rank_correlation": _rank_correlation(better, distance, seed) | _undefined(values),
    }


def parts_by_distance(distance: Floats) -> dict[str, NDArray[np.int64]]:
    """Return which stimuli are near, in the middle and far; see `split_by_distance`."""
    if not len(distance):
        return {}
    names = PARTS[min(max(len(distance) // MIN_OF_A_PART, 1), 3)]
    order = np.argsort(distance, kind="stable")
    return dict(zip(names, np.array_split(order, len(names)), strict=True))


def _part(values: PerStimulus, distance: Floats, span: Span) -> dict[str, Any]:
    return {
        "n": len(values),
        "distance": [float(distance.min()), float(distance.max())],
        "value": _number(float(values.mean())),
        "ci95": [_number(bound) for bound in mean_interval(values, span=span)],
        **_undefined(values),
    }


def _undefined(values: PerStimulus) -> dict[str, int]:
    count = int((~np.isfinite(values)).sum())
    return {"undefined": count} if count else {}


def _rank_correlation(values: PerStimulus, distance: Floats, seed: int) -> dict[str, Any]:
    """Return Spearman's correlation with the percentile interval of its bootstrap over stimuli.

    A draw without variation counts as 0.
    """
    n = len(values)
    if n < MIN_TO_RANK or not np.isfinite(values).all() or np.ptp(values) == 0 or np.ptp(distance) == 0:
        return {"value": None, "ci95": [None, None]}
    drawn = rng_for(seed, "bootstrap").integers(0, n, size=(DRAWS, n))
    bounds = np.quantile(_spearman(values[drawn], distance[drawn]), [0.025, 0.975])
    return {"value": float(_spearman(values[None], distance[None])[0]), "ci95": [float(bound) for bound in bounds]}


def _spearman(one: Floats, other: Floats) -> Floats:
    """Return Spearman's correlation of every row, (draw, n) and (draw, n) to (draw,)."""
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (rankdata(one, axis=1), rankdata(other, axis=1)))
    lengths = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.asarray((a * b).sum(axis=1) / np.where(lengths == 0.0, 1.0, lengths))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


FEATURES = 8192
"""Features in one block, so that wide targets are not copied whole."""
MIN_STIMULI = 3
"""Stimuli that a dimension needs: two always differ along exactly one."""
SHARE = 0.9


def effective_dimension(rows: Array) -> float:
    """Return the participation ratio of the rows' covariance: (Σ λ)² / Σ λ² over its eigenvalues λ.

    It is k where the variance lies evenly in k dimensions, and less where a few of them hold most of it. It does
    not depend on whether the rows are right.

    Noise spreads predictions as well: a low value is a sign of collapse, a high one is no proof of its absence.
    n rows span n − 1 dimensions at most, so the value is bounded by n − 1 and grows with n: it is no property of a
    model. Compare it only with the value of the true targets of the same n stimuli.

    Returns
    -------
    float
        From 1 to n − 1 for rows (n, ...); 0 where all rows are equal.

    Raises
    ------
    ValueError
        A row is not finite.

    References
    ----------
    The ratio: P. Gao et al., bioRxiv 214262, *A theory of multineuronal dimensionality, dynamics and measurement*. Its
    use against predictions that collapse: K. Shirakawa et al., arXiv 2405.10078.
    """
    gram = _gram(rows, "rows")
    total, squares = float(np.trace(gram)), float((gram * gram).sum())  # Σ λ and Σ λ², without the eigenvalues
    return total * total / squares if squares else 0.0


def components_for(rows: Array, share: float = SHARE) -> int:
    """Return how many principal components hold a share of the rows' variance; n − 1 at most, 0 where rows are equal.

    For its bound, its use and its errors see `effective_dimension`.
    """
    return _reaches(cumulative_share(rows), share)


def cumulative_share(rows: Array) -> Floats:
    """Return which share of the rows' variance the first 1, 2, … n − 1 principal components hold, shape (n − 1,).

    Zeros where all rows are equal. Raises as `effective_dimension` does.
    """
    values = np.linalg.eigvalsh(_gram(rows, "rows"))[::-1][: max(len(rows) - 1, 0)].clip(0.0)
    total = values.sum()
    return np.asarray(values.cumsum() / total) if total else np.zeros_like(values)


def _reaches(shares: Floats, share: float) -> int:
    if not len(shares) or not shares[-1]:
        return 0
    return int(np.searchsorted(shares, share - 1e-12)) + 1


def dimension_report(prediction: Array, target: Array) -> dict[str, Any]:
    """Compare the dimensions of predictions (n, ...) with those of the true targets of the same stimuli, (n, ...).

    Returns
    -------
    dict
        ``{"prediction", "target", "ratio", "components_90": [prediction, target], "n"}``: effective dimensions, their
        ratio (well below 1: the predictions have collapsed), and the components that hold 90 % of the variance. Null
        below three stimuli; the ratio also where the targets do not vary.

    Raises
    ------
    ValueError
        The shapes differ, or a row is not finite.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"dimension: prediction {prediction.shape} and target {target.shape}; expected one shape")
    _require_finite(prediction, "prediction")
    _require_finite(target, "target")
    n = len(target)
    if n < MIN_STIMULI:
        return {"prediction": None, "target": None, "ratio": None, "components_90": [None, None], "n": n}
    ours, theirs = effective_dimension(prediction), effective_dimension(target)
    return {
        "prediction": ours,
        "target": theirs,
        "ratio": ours / theirs if theirs else None,
        "components_90": [components_for(prediction), components_for(target)],
        "n": n,
    }


def _gram(rows: Array, what: str) -> Floats:
    """Return the products of the centred rows, (n, n): the covariance's non-zero eigenvalues, largest variance 1."""
    _require_finite(rows, what)
    gram = np.zeros((len(rows), len(rows)))
    largest = float(np.abs(rows).max(initial=0.0))
    for part in _blocks(rows):
        varies = part.max(axis=0) > part.min(axis=0)  # the rounded mean of a constant would leave a residue
        scaled = part[:, varies] / (largest or 1.0)
        scaled -= scaled.mean(axis=0)
        gram += scaled @ scaled.T
    return gram / (np.diag(gram).max(initial=0.0) or 1.0)


def _require_finite(rows: Array, what: str) -> None:
    for part in _blocks(rows):
        finite = np.isfinite(part).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"dimension: {what} {int(np.argmin(finite))} is not finite; check what it was computed from"
            )


def _blocks(rows: Array) -> Iterator[Floats]:
    flat = rows.reshape(len(rows), -1) if len(rows) else rows.reshape(0, 0)
    for start in range(0, flat.shape[1], FEATURES):
        yield flat[:, start : start + FEATURES].astype(np.float64)
