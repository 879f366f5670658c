"""Metrics of vectors: identification, retrieval, correlation and R² of whatever a stimulus's features are.

All but R² rest on the correlations of every prediction with every truth, which are computed once and shared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import comb, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.registry import Array, Function, OfSimilarity, PerStimulus, register

Floats = NDArray[np.float64]
TIE = 1e-9
"""Correlations closer than this are equal: a blocked matrix product may round equal columns differently."""
BLOCK = 2**13
"""Features in one block: long clips need no copy in double precision, and a block stays in the processor's cache."""


@dataclass(frozen=True)
class _Moments:
    """Rows with their means (`middle`) and largest deviations (`scale`, 0 for a constant row)."""

    rows: Array
    finite: NDArray[np.bool_]
    middle: Floats
    scale: Floats

    @classmethod
    def of(cls, array: Array) -> "_Moments":
        rows = array.reshape(len(array), -1)
        finite = np.asarray(np.isfinite(rows).all(axis=1)) if rows.dtype.kind == "f" else np.ones(len(rows), bool)
        known = np.where(finite[:, None], rows, 0) if not finite.all() else rows
        middle = known.mean(axis=1, dtype=np.float64)
        # Compare the values themselves: a constant less its rounded mean may leave a residue that looks like a pattern
        high, low = known.max(axis=1).astype(np.float64), known.min(axis=1).astype(np.float64)
        scale = np.where(high == low, 0.0, np.maximum(high - middle, middle - low))
        return cls(known, finite, middle, scale)

    def blocks(self) -> Iterator[Floats]:
        """Yield deviations from the mean, the largest of a row 1, some features at a time."""
        scale = np.where(self.scale == 0.0, np.inf, self.scale)[:, None]
        for start in range(0, self.rows.shape[1], BLOCK):
            yield (self.rows[:, start : start + BLOCK].astype(np.float64) - self.middle[:, None]) / scale


def similarity(prediction: Array, truth: Array) -> Floats:
    """Return Pearson's r of every prediction with every truth, (n, ...) each, over all features of a stimulus.

    Entry (i, j) of (n, n) is corr(prediction i, truth j), from −1 to 1. A constant row correlates 0 with everything;
    the entries of a row that is not finite are NaN.
    """
    ours, theirs = _Moments.of(prediction), _Moments.of(truth)
    products = np.zeros((len(prediction), len(truth)))
    squares = np.zeros((2, len(prediction)))
    for predicted, true in zip(ours.blocks(), theirs.blocks(), strict=True):
        products += predicted @ true.T
        squares[0] += np.einsum("nf,nf->n", predicted, predicted)
        squares[1] += np.einsum("nf,nf->n", true, true)
    lengths = np.sqrt(np.where(squares == 0.0, 1.0, squares))
    r = products / lengths[0][:, None] / lengths[1]
    r[~ours.finite] = np.nan
    r[:, ~theirs.finite] = np.nan
    return np.asarray(r)


def leads(r: Floats) -> Floats:
    """Return by how much each prediction's own stimulus leads over every stimulus, of (n, n) as of `similarity`.

    Entry (i, j) is ``corr(prediction i, truth i) - corr(prediction i, truth j)``, zero on the diagonal; the row of a
    prediction that is not finite is NaN. Leads within `TIE` of zero are ties.
    """
    return np.asarray(np.diag(r)[:, None] - r)


def register_of_similarity(
    name: str, *, influence: OfSimilarity | None = None, **settings: Any
) -> Callable[[OfSimilarity], OfSimilarity]:
    """Register a function ``(r, groups) -> (n,)`` of the correlations (n, n) as a metric; for settings see `Metric`.

    `influence` is a function of the same; see `Metric.influences`.
    """

    def add(of_similarity: OfSimilarity) -> OfSimilarity:
        register(
            name,
            of_similarity=of_similarity,
            influence_of_similarity=influence,
            influence=None if influence is None else _from_arrays(influence),
            **settings,
        )(_from_arrays(of_similarity))
        return of_similarity

    return add


def _from_arrays(of_similarity: OfSimilarity) -> Function:
    def function(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:
        return of_similarity(similarity(prediction, truth), groups)

    function.__doc__ = of_similarity.__doc__
    return function


def pseudo_values(values: PerStimulus, without: Floats) -> PerStimulus:
    """Return the jackknife's pseudo-values, (n,), of the mean of values (n,); see `Metric.influences`.

    Parameters
    ----------
    without : (n,) the mean without each stimulus; where one is not finite, the values themselves are returned
    """
    n, mean = len(values), values.mean() if len(values) else 0.0
    if not np.isfinite(without).all() or not np.isfinite(mean):
        return values
    found = n * mean - (n - 1) * without
    return np.asarray(found + (mean - found.mean()))


def wins(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return which stimulus wins each comparison, shape (n, n), of correlations as `similarity` returns them.

    Entry (i, j) is 1 where ``corr(prediction i, truth i) > corr(prediction i, truth j)``, 0 where it is less, one half
    where the two are equal, and NaN along the row of a prediction that is not finite.
    """
    lead = leads(r)
    won = np.where(np.abs(lead) <= TIE, 0.5, (lead > 0).astype(np.float64))
    return np.where(np.isnan(lead), np.nan, won)


def _two_way_influence(r: Floats, groups: Array | None = None) -> PerStimulus:
    """Return each stimulus's share in `two_way`, as a prediction and as a candidate: (wins + others' wins over it) - θ.

    Leaving it out moves the mean by (n - 1) / (n - 2) times as much; without this factor the jackknife overstates the
    variance of few stimuli less (Efron and Stein 1981, *Annals of Statistics* 9:586).
    """
    values, n = two_way(r, groups), len(r)
    if n < 3:
        return values
    won = wins(r)
    np.fill_diagonal(won, 0.0)
    return np.asarray(values + won.sum(axis=0) / (n - 1) - values.mean())


@register_of_similarity(
    "two_way", label="two-way identification", chance=0.5, span=(0.0, 1.0), influence=_two_way_influence
)
def two_way(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Identify each prediction among two: the mean over j ≠ i of [corr(p_i, t_i) > corr(p_i, t_j)], ties one half.

    Pearson correlation over all features of a stimulus. Chance is .50 exactly: one prediction for all, or constant
    rows, earn .50 on average. A single stimulus has nothing to be compared with: its value is NaN.

    After the pairwise identification of Ozcelik and VanRullen (2023, *Scientific Reports* 13:15666) and Takagi and
    Nishimoto (CVPR 2023); nothing is drawn at random: every ordered pair is compared.
    """
    won = wins(r)
    n = len(won)
    if n < 2:
        return np.full(n, np.nan)
    return np.asarray((won.sum(axis=1) - np.diag(won)) / (n - 1))


def _within_class_influence(r: Floats, groups: Array | None = None) -> PerStimulus:
    """Return the pseudo-values of `two_way_within_class`, NaN for stimuli that are alone in their class.

    Without one of two stimuli of a class, the other does not count either.
    """
    values = two_way_within_class(r, groups)
    if groups is None:
        return values
    same = (groups[:, None] == groups[None, :]) & ~np.eye(len(groups), dtype=bool)
    others, won = same.sum(axis=1), np.where(same, wins(r), 0.0)
    counted = others > 0
    wide = np.where(others > 1, others - 1, 1)
    # what class-mates' values add up to without k: each has one comparison less
    mates = np.where(others > 1, (same @ won.sum(axis=1) - won.sum(axis=0)) / wide, 0.0)
    total = values[counted].sum()
    rest = total - values[counted] - (same @ np.where(counted, values, 0.0))[counted] + mates[counted]
    count = counted.sum() - 1 - (others[counted] == 1)
    without = np.where(count > 0, rest / np.maximum(count, 1), np.nan)
    found = np.full(len(values), np.nan)
    found[counted] = pseudo_values(values[counted], without)
    return found


@register_of_similarity(
    "two_way_within_class",
    influence=_within_class_influence,
    label="two-way identification within class",
    chance=0.5,
    span=(0.0, 1.0),
    needs_groups=True,
)
def two_way_within_class(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:
    """Identify each prediction between its own stimulus and another of the same class; ties one half, chance .50.

    As `two_way` with j restricted to i's class. A model that decodes the category and nothing else earns .50 here
    (Shirakawa et al., arXiv 2405.10078). A stimulus alone in its class has the value NaN and is not counted
    (`Metric.counted`).
    """
    if groups is None:
        raise ValueError("two_way_within_class: groups are missing; expected one class a stimulus")
    same = (groups[:, None] == groups[None, :]) & ~np.eye(len(groups), dtype=bool)
    others = same.sum(axis=1)
    won = np.where(same, wins(r), 0.0).sum(axis=1)
    return np.where(others > 0, won / np.maximum(others, 1), np.nan)


WAYS = (10, 50)


def retrieval(ways: int) -> OfSimilarity:
    """Return the metric that retrieves each stimulus from among `ways` candidates; chance is 1 / `ways`."""

    def retrieve(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
        """Retrieve each prediction's own stimulus from among w: the chance that corr(p_i, t_i) beats all w − 1 others.

        The w − 1 others are other test stimuli, drawn without replacement. Nothing is drawn here: a value is the
        expectation over all draws, C(L, w − 1) / C(n − 1, w − 1) where L of the n − 1 other stimuli correlate less
        with the prediction than its own does; n counts the stimuli. Others that tie with the own one share the
        first place with it. Pearson correlation over all features of a stimulus, in spaces less their training mean.
        The value falls with w: compare it only with values of the same w.

        Chance is 1 / w exactly: one prediction for all, or constant rows, earn it on average. After the identification
        among sets of growing size of Kay et al. (2008, *Nature* 452:352); it is not the n-way top-1 accuracy of
        MinD-Vis and MinD-Video, whose candidates are a classifier's labels.
        """
        return np.array([_success(lead, ways) for lead in leads(r)])

    return retrieve


def _retrieval_influence(ways: int) -> OfSimilarity:
    """Return the function of the pseudo-values of `retrieval`: without k, those it beats have one candidate less."""

    def influence(r: Floats, groups: Array | None = None) -> PerStimulus:
        values, n = retrieval(ways)(r, groups), len(r)
        if n <= ways or not np.isfinite(values).all():
            return values
        lead = leads(r)
        equal, beaten = np.abs(lead) <= TIE, lead > TIE
        np.fill_diagonal(equal, False)
        losers, equals = beaten.sum(axis=1), equal.sum(axis=1)
        table = {(int(a), int(b)): _share(int(a), int(b) + 1, n - 1, ways)
                 for i, j in zip(losers, equals, strict=True) for a, b in ((i, j), (i - 1, j), (i, j - 1))
                 if a >= 0 and b >= 0}  # fmt: skip
        none, loser, tied = (
            np.array([table.get((int(i) - a, int(j) - b), 0.0) for i, j in zip(losers, equals, strict=True)])
            for a, b in ((0, 0), (1, 0), (0, 1))
        )
        left = np.where(beaten, loser[:, None], np.where(equal, tied[:, None], none[:, None]))
        np.fill_diagonal(left, 0.0)
        return pseudo_values(values, left.sum(axis=0) / (n - 1))

    return influence


def _success(lead: NDArray[np.float64], ways: int) -> float:
    """Return the chance that a stimulus leads over `ways` - 1 others drawn, ties shared fairly.

    `lead` (n,) is one row of `leads`: L others lose, T tie. With t of these drawn, which happens with the chance
    C(T, t) C(L, w - 1 - t) / C(n - 1, w - 1), the own stimulus is first with 1 / (t + 1). As
    C(T, t) / (t + 1) = C(T + 1, t + 1) / (T + 1), Vandermonde's identity gives the sum over t in closed form. The
    integers are exact, whatever their size, and are divided once.
    """
    if np.isnan(lead).any():
        return float("nan")
    return _share(int((lead > TIE).sum()), int((np.abs(lead) <= TIE).sum()), len(lead), ways)


def _share(losers: int, equals: int, n: int, ways: int) -> float:
    """Return the chance of success among n stimuli where `equals`, the own one among them, tie; see `_success`."""
    return (comb(losers + equals, ways) - comb(losers, ways)) / (equals * comb(n - 1, ways - 1))


for _ways in WAYS:
    register_of_similarity(
        f"retrieval_{_ways}",
        label=f"{_ways}-way retrieval",
        chance=1 / _ways,
        span=(0.0, 1.0),
        view="centred",
        min_stimuli=_ways,
        influence=_retrieval_influence(_ways),
    )(retrieval(_ways))


@register_of_similarity("correlation", label="correlation", chance=0.0, span=(-1.0, 1.0), chance_in_centred=True)
def correlation(r: NDArray[np.float64], groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Correlate each flattened prediction with its flattened truth (Pearson's r, 1895), −1 to 1.

    A constant row, predicted or true, has no correlation; its value is 0, so that a constant prediction earns chance.
    Chance is 0 in spaces less their training mean. In others clips resemble each other and so does any guess: there is
    no chance level, and the rows of the mean predictor and the shuffled brain show what guessing earns.
    """
    return np.asarray(np.clip(np.diag(r), -1.0, 1.0))


def _r2_influence(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:
    """Return the pseudo-values of the pooled R²: each stimulus leaves both sums, of errors and of deviations."""
    wanted = truth.reshape(len(truth), -1).astype(np.float64)
    return ratio_influences(r2(prediction, truth, groups), np.einsum("nf,nf->n", wanted, wanted))


def ratio_influences(values: PerStimulus, squares: Floats) -> PerStimulus:
    """Return the pseudo-values of the mean of values (n,), each 1 − error / mean of the squares (n,)."""
    if len(values) < 2 or not np.isfinite(values).all() or not (squares.sum() - squares > 0).all():
        return values
    errors = (1.0 - values) * squares.mean()
    return pseudo_values(values, 1.0 - (errors.sum() - errors) / (squares.sum() - squares))


def _r2_pairs(prediction: Array, truth: Array, groups: Array | None = None) -> Floats:  # noqa: ARG001
    """Return the R² of every prediction, (row), for every truth, (column)."""
    wanted = truth.reshape(len(truth), -1).astype(np.float64)
    predicted = prediction.reshape(len(prediction), -1).astype(np.float64)
    squares, own = (np.einsum("nf,nf->n", rows, rows) for rows in (wanted, predicted))
    errors = own[:, None] + squares - 2 * predicted @ wanted.T
    return np.asarray(1.0 - errors / squares.mean()) if squares.any() else np.full_like(errors, np.nan)


@register("r2", label="R²", chance=0.0, span=(-inf, 1.0), view="centred", influence=_r2_influence, pairs=_r2_pairs)
def r2(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each prediction's squared error with that of the training mean: 1 − |p_i − t_i|² / mean_j |t_j|².

    In spaces less their training mean, so that |t_j|² is the training mean's squared error. The mean over stimuli is
    the pooled R², 1 − Σ|p_i − t_i|² / Σ|t_j|²: features of large variance count more, and one stimulus's value may lie
    far below 0. The training mean earns 0 exactly; guessing anything else earns less. It is the out-of-sample R² of
    Campbell and Thompson (2008, *Review of Financial Studies* 21:1509) over all features. Its interval leaves a
    stimulus out of both sums, so that of the training mean has no width. Where every truth is the training mean, it is
    NaN.
    """
    wanted = truth.reshape(len(truth), -1).astype(np.float64)
    predicted = prediction.reshape(len(prediction), -1).astype(np.float64)
    finite = np.asarray(np.isfinite(predicted).all(axis=1))
    spread = np.einsum("nf,nf->n", wanted, wanted).mean() if len(wanted) else 0.0
    if spread == 0.0:
        return np.full(len(wanted), np.nan)
    error = np.where(finite[:, None], predicted, 0.0) - wanted
    return np.where(finite, 1.0 - np.einsum("nf,nf->n", error, error) / spread, np.nan)
