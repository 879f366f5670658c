r"""What each candidate penalty of a ridge would cost on stimuli that it was not fitted on.

With the centred features' Gram matrix :math:`U s U^T` and the targets rotated once, :math:`R = U^T Y_c`, the hat matrix
H (intercept included) leaves :math:`A = I - H = U \frac{\lambda}{s + \lambda} U^T - \frac{1}{n} 1 1^T`.

``leave_one_stimulus_out``: the error of its rows g, predicted from all others, is
:math:`e_g = A_{gg}^{-1} (A Y_c)_g`, exactly (the block form of the PRESS identity, Cook & Weisberg 1982). Leaving
single trials out would leak over repetitions. Per target it takes one (row, row) by (row, target) product for each
penalty; summed over targets it needs them only through :math:`R R^T`, however many they are.

Generalised cross-validation (``gcv``, Golub, Heath & Wahba 1979) replaces every :math:`A_{gg}` by the mean of A's
diagonal. Then all penalties and targets together are one (penalty, row) by (row, target) product with the squares of R.
It knows of no repetitions, so it is for stimuli that have one row each.

A grid whose best candidate is at an end is extended by `search_penalties`, by the grid's own step; what is at an end
all the same is counted (`Search.ends`). As λ grows without bound, predictions become the training mean: a target whose
error is least there holds no signal that these features predict.

`Centred` holds what a subject's features alone decide, computed once for all that is predicted from them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from models.decoders.rows import LeftOut
from models.regressors.basis import blocks

Array = NDArray[Any]
Criterion = Literal["leave_one_stimulus_out", "gcv"]
PenaltyPer = Literal["role", "target"]


@dataclass(frozen=True)
class Spectrum:
    """The eigendecomposition of centred features' Gram matrix.

    Attributes
    ----------
    values : (row,) float64, not below 0
    vectors : (row, row) float64, one eigenvector a column
    """

    values: Array
    vectors: Array

    @classmethod
    def of(cls, rows: Array) -> "Spectrum":
        """Return the spectrum of centred features (row, feature)."""
        gram = (rows @ rows.T).astype(np.float64)
        # The intercept's direction must have the eigenvalue 0: rounding in float32 would let A keep some of it.
        gram -= gram.mean(axis=0)
        gram -= gram.mean(axis=1, keepdims=True)
        values, vectors = scipy.linalg.eigh(gram, driver="evd")
        return cls(values.clip(0), vectors)

    def rotate(self, targets: Array, offset: Array, dtype: Any = np.float32) -> Array:
        """Return ``Uᵀ (targets - offset)`` (row, target), computed in float32 by default."""
        rotated = np.empty(targets.shape, dtype)
        turned = np.ascontiguousarray(self.vectors.T, dtype)
        for part in blocks(targets.shape[1]):
            rotated[:, part] = turned @ (targets[:, part] - offset[part]).astype(dtype)
        return rotated

    def kept(self, penalty: float) -> Array:
        """Return the share ``λ / (s + λ)`` (row,) that a penalty leaves of each eigenvector in the residuals.

        It is 1 for an infinite penalty: then predictions are the training mean.
        """
        return np.ones_like(self.values) if np.isinf(penalty) else np.asarray(penalty / (self.values + penalty))


FLAT = 1e-3
"""Errors, over that of the training mean, that differ by less than this are as good as equal at a grid's end."""
MORE = 20
"""Candidates by which a grid grows at either end, at most."""
LEAST, GREATEST = 1e-3, 1e12
"""No grid grows beyond these, in units of the mean eigenvalue. The Gram matrix is a product in float32, whose rounding
moves eigenvalues that are 0, as some are where features are fewer than rows: with 100 rows, 10 features and λ = 1e-5
an error is off by .004, at 1e-4 by .0004; weights are computed in float32, too."""
END_NAMES = ("lower_end", "upper_end", "no_signal")
"""What `Search.ends` counts, in this order."""
Evaluate = Callable[[Array, Array | None], Array]
"""Errors of some candidates, (candidate,) in units of the mean eigenvalue, over that of the targets' mean: (candidate,)
of all target values together, or (candidate, target) of some of these, by index, or of all (None)."""


def penalty_errors(
    spectrum: Spectrum,
    rotated: Array,
    stimuli: Sequence[str],
    *,
    criterion: Criterion = "leave_one_stimulus_out",
    penalty_per: PenaltyPer = "role",
) -> Evaluate:
    """Return the function of a penalty's squared error on held-out stimuli over that of the targets' mean.

    What all candidates need is computed once. An infinite candidate is the training mean.

    Parameters
    ----------
    spectrum : of the centred features
    rotated : (row, target)
        Centred targets, rotated by the spectrum.
    stimuli : one per row
        Rows of the same stimulus are left out together; of a `LeftOut`, rows of the same label, with those beside it.
    criterion, penalty_per : as in `RidgeConfig`
    """
    unit = spectrum.values.mean()
    if penalty_per == "target":

        def of_targets(candidates: Array, targets: Array | None) -> Array:
            if targets is None:
                return _errors_per_target(spectrum, rotated, stimuli, list(candidates * unit), criterion)
            penalties = list(candidates * unit)
            parts = (rotated[:, targets[part]] for part in blocks(len(targets)))
            return np.hstack([_errors_per_target(spectrum, part, stimuli, penalties, criterion) for part in parts])

        return of_targets
    squares = np.einsum("rt,rt->r", rotated, rotated, dtype=np.float64)
    outer = rotated @ rotated.T if criterion == "leave_one_stimulus_out" else None
    spread = float(squares.sum())

    def of_all(candidates: Array, targets: Array | None) -> Array:
        del targets
        penalties = list(candidates * unit)
        if outer is None:
            errors = gcv_errors(spectrum, squares[:, None], penalties)[:, 0]
        else:
            errors = left_out_errors(spectrum, outer, stimuli, penalties)
        return np.asarray(errors / (spread if spread > 0 else 1))

    return of_all


def _errors_per_target(
    spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalties: Sequence[float], criterion: Criterion
) -> Array:
    """Return each target's error by absolute λ, (penalty, target), over that of its mean."""
    spread = np.einsum("rt,rt->t", rotated, rotated)
    if criterion == "gcv":
        errors = np.empty((len(penalties), rotated.shape[1]), rotated.dtype)
        for part in blocks(rotated.shape[1]):
            errors[:, part] = gcv_errors(spectrum, rotated[:, part] ** 2, penalties)
    else:
        errors = left_out_errors_per_target(spectrum, rotated, stimuli, penalties)
    return np.asarray(errors / np.where(spread > 0, spread, 1))


def gcv_errors(spectrum: Spectrum, squares: Array, penalties: Sequence[float]) -> Array:
    """Return the generalised cross-validation error, summed over rows, (penalty, target); see `penalty_errors`.

    `squares` (row, target) are those of the rotated targets.
    """
    kept = np.array([spectrum.kept(penalty) for penalty in penalties])
    mean_diagonal = (kept.sum(axis=1, keepdims=True) - 1) / len(spectrum.values)
    return np.asarray(((kept / mean_diagonal) ** 2).astype(squares.dtype) @ squares)


def left_out_errors(spectrum: Spectrum, outer: Array, stimuli: Sequence[str], penalties: Sequence[float]) -> Array:
    """Return the leave-one-stimulus-out squared error, summed over rows and targets, (penalty,) float64.

    `outer` (row, row) is the Gram matrix ``R Rᵀ`` of the rotated targets; the others are as for `penalty_errors`.
    """
    groups, outer = _rows_by_size(stimuli), outer.astype(np.float64)
    return np.array([_left_out_error(spectrum, outer, groups, penalty) for penalty in penalties])


def left_out_errors_per_target(
    spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalties: Sequence[float]
) -> Array:
    """Return the leave-one-stimulus-out squared error, summed over rows, (penalty, target); see `penalty_errors`."""
    errors = np.empty((len(penalties), rotated.shape[1]), rotated.dtype)
    for error, penalty in zip(errors, penalties, strict=True):
        residuals = left_out_residuals(spectrum, rotated, stimuli, penalty)
        np.einsum("rt,rt->t", residuals, residuals, out=error)
    return errors


def left_out_residuals(spectrum: Spectrum, rotated: Array, stimuli: Sequence[str], penalty: float) -> Array:
    """Return what is left of the targets when each row is predicted from all other stimuli's rows, (row, target).

    The residuals have the precision of `rotated`; see `penalty_errors` for the parameters.
    """
    shrunk = spectrum.vectors * spectrum.kept(penalty)
    inverses = [
        (rows[:, :scored], rows, np.linalg.inv(_own_blocks(spectrum, shrunk, rows))[:, :scored].astype(rotated.dtype))
        for rows, scored in _rows_by_size(stimuli)
    ]
    shrunk = shrunk.astype(rotated.dtype)
    residuals = np.empty_like(rotated)
    for part in blocks(rotated.shape[1]):
        fitted = shrunk @ rotated[:, part]
        for scored_rows, rows, inverse in inverses:
            residuals[scored_rows, part] = inverse @ fitted[rows]
    return residuals


def _left_out_error(spectrum: Spectrum, outer: Array, groups: "list[tuple[Array, int]]", penalty: float) -> float:
    shrunk = spectrum.vectors * spectrum.kept(penalty)
    half = shrunk @ outer
    total = 0.0
    for rows, scored in groups:
        squared = _products(half[rows], shrunk[rows])
        inverse = np.linalg.inv(_own_blocks(spectrum, shrunk, rows))[:, :scored]
        if rows.shape[1] < FEW:
            total += float(np.einsum("gij,gjk,gik->", inverse, squared, inverse))
        else:
            total += float(np.einsum("gik,gik->", inverse @ squared, inverse))
    return total


def _own_blocks(spectrum: Spectrum, shrunk: Array, rows: Array) -> Array:
    """Return each stimulus's block of A, (stimulus, row, row)."""
    return np.asarray(_products(shrunk[rows], spectrum.vectors[rows]) - 1 / len(shrunk))


FEW = 16
"""Rows that are left out together, from which on products are left to BLAS, which a block of time needs."""


def _products(left: Array, right: Array) -> Array:
    """Return the products of every group's rows, (group, row, row), of (group, row, k) each."""
    if left.shape[1] < FEW:
        return np.asarray(np.einsum("gik,gjk->gij", left, right))
    return np.asarray(left @ right.transpose(0, 2, 1))


def _rows_by_size(stimuli: Sequence[str]) -> list[tuple[Array, int]]:
    """Return the rows of each stimulus, stacked as (stimulus, row) for stimuli with equally many rows.

    The first so many rows of each are scored, the others only left out with them: see `LeftOut`.
    """
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(stimuli):
        rows.setdefault(name, []).append(row)
    beside = stimuli.beside if isinstance(stimuli, LeftOut) else {}
    groups = [(len(own), [*own, *beside.get(name, ())]) for name, own in rows.items()]
    sizes = sorted({(len(together), scored) for scored, together in groups})
    return [
        (np.array([together for count, together in groups if (len(together), count) == (size, scored)]), scored)
        for size, scored in sizes
    ]


@dataclass(frozen=True)
class Search:
    """What a search of penalties found.

    Attributes
    ----------
    candidates : (candidate,) those of the grid in its order, then those it grew by, in units of the mean eigenvalue
    errors : (candidate,) or (candidate, target), NaN where a candidate was tried for other targets alone
    chosen : (1,) or (target,), of `candidates`
    ends : (3,) how many choices are at the lower end, at the upper end, and at the upper end with the training mean as
        good a prediction (`END_NAMES`); of a single candidate, which is no choice, none
    """

    candidates: Array
    errors: Array
    chosen: Array
    ends: Array


def search_penalties(evaluate: Evaluate, alphas: Sequence[float], *, grow: bool = True, squared: bool = True) -> Search:
    """Choose the candidate of least error, for all target values or for each, and extend the grid where that is an end.

    Where the best candidate is the smallest (largest), smaller (larger) ones are tried in the ratio of the grid's two
    outermost, for the targets concerned: until the error has risen by `FLAT`, or is that of the training mean and
    changes no more, or the candidate is `LEAST` (`GREATEST`), or `MORE` were tried. One that is not better by `FLAT`
    than the grid's own best is not taken. A target whose error falls up to the largest candidate, and no lower than the
    training mean's within `FLAT`, holds no signal that the features predict.

    A single candidate is a fixed penalty, and stays. The first of equally good candidates is chosen.

    Parameters
    ----------
    evaluate : see `Evaluate`
    alphas : candidates, above 0
    grow : whether to extend the grid; its ends are counted in any case
    squared : whether errors are squared ones; for these alone the training mean is the limit of large penalties, so
        that a grid of others is not extended, and none of its choices counts as no signal
    """
    candidates = np.asarray(alphas, dtype=np.float64)
    errors = evaluate(candidates, None)
    grid = _Grid(evaluate, candidates, errors if errors.ndim == 2 else errors[:, None], shared=errors.ndim == 1)
    ends = np.zeros(len(END_NAMES), np.int64)
    if len(np.unique(candidates)) > 1:
        ends[:] = grid.extend(MORE if grow else 0) if squared else grid.at_ends()
    best = np.nanargmin(grid.errors, axis=0)
    found = grid.errors[:, 0] if grid.shared else grid.errors
    return Search(grid.candidates, found, grid.candidates[best], ends)


class _Grid:
    """Candidates (candidate,) and their errors (candidate, target), one target where all share a choice."""

    def __init__(self, evaluate: Evaluate, candidates: Array, errors: Array, *, shared: bool) -> None:
        self._evaluate, self.candidates, self.errors, self.shared = evaluate, candidates, errors, shared

    def at_ends(self) -> tuple[int, int, int]:
        """Return how many targets are at an end, by `END_NAMES`."""
        return len(self._at_end(largest=False)), len(self._at_end(largest=True)), 0

    def extend(self, count: int) -> tuple[int, int, int]:
        """Extend both ends by at most `count` candidates; return how many targets are at an end, by `END_NAMES`."""
        lower, upper = self._at_end(largest=False), self._at_end(largest=True)
        lower, _ = self._grow(lower, np.full(len(lower), np.inf), LEAST, count, largest=False)
        mean = self._try(np.inf, upper) if len(upper) else np.empty(0)
        upper, mean = self._grow(upper, mean, GREATEST, count, largest=True)
        blind = int((np.abs(self._best(upper) - mean) <= FLAT).sum())
        return len(lower), len(upper) - blind, blind

    def _at_end(self, *, largest: bool) -> Array:
        """Return the targets whose best candidate is the largest, or the smallest, and better than all others."""
        at = self.candidates == (self.candidates.max() if largest else self.candidates.min())
        return np.flatnonzero(self.errors[at].min(axis=0) < self.errors[~at].min(axis=0))

    def _grow(self, targets: Array, mean: Array, bound: float, count: int, *, largest: bool) -> tuple[Array, Array]:
        """Try candidates from an end to a bound; return the targets for which it is an end still, and their means.

        `mean` (target,) is the error at an infinite penalty, where the grid grows towards it.
        """
        last, before_last = np.unique(self.candidates)[:: -1 if largest else 1][:2]
        ratio, nearer = last / before_last, min if largest else max
        done: list[tuple[Array, Array]] = []
        first = lowest = before = self._best(targets)
        for _ in range(count):
            if not len(targets) or nearer(last, bound) == bound:
                break
            last = nearer(last * ratio, bound)
            errors = self._try(last, targets)
            self._append(last, targets, np.where(errors < first - FLAT, errors, np.nan))
            lowest = np.minimum(lowest, errors)
            settled = (np.abs(errors - mean) <= FLAT) & (np.abs(errors - before) <= FLAT)
            done.append((targets[settled], mean[settled]))
            going = (errors <= lowest + FLAT) & ~settled
            targets, mean, first, lowest, before = (part[going] for part in (targets, mean, first, lowest, errors))
        parts = [*done, (targets, mean)]
        return np.concatenate([part for part, _ in parts]), np.concatenate([part for _, part in parts])

    def _best(self, targets: Array) -> Array:
        return np.asarray(np.nanmin(self.errors[:, targets], axis=0)) if len(targets) else np.empty(0)

    def _try(self, candidate: float, targets: Array) -> Array:
        """Return one candidate's error for some targets, (target,)."""
        return np.atleast_1d(self._evaluate(np.array([candidate]), targets)[0])

    def _append(self, candidate: float, targets: Array, errors: Array) -> None:
        """Add a candidate where it is to be chosen from: for the targets for which its error is no NaN."""
        if np.isnan(errors).all():
            return
        added = np.full((1, self.errors.shape[1]), np.nan, self.errors.dtype)
        added[0, targets] = errors
        self.candidates = np.append(self.candidates, candidate)
        self.errors = np.concatenate([self.errors, added])


def summary(alphas: Array, ends: Array) -> dict[str, float]:
    """Return the penalties that were chosen, (1,) or (target,), in a few numbers, with how many are at an end."""
    counts = {name: int(count) for name, count in zip(END_NAMES, ends, strict=True)}
    lowest, median, highest = float(alphas.min()), float(np.median(alphas)), float(alphas.max())
    return {"lowest": lowest, "median": median, "highest": highest, "choices": len(alphas), **counts}


def note_on_ends(summarised: Mapping[str, float]) -> str:
    """Return a clause on the penalties of a `summary` that are at an end of their candidates; empty where none is."""
    said = {
        "lower_end": f"at the lower end of the candidates, {summarised['lowest']:.2g}",
        "upper_end": f"at the upper end of the candidates, {summarised['highest']:.2g}",
        "no_signal": "so large that predictions are the training mean, which predicts best: no signal",
    }
    there = [name for name in END_NAMES if summarised.get(name)]
    if summarised.get("choices") == 1:
        return "".join(f"the penalty is {said[name]}" for name in there)
    parts = [f"{summarised[name]:.0f} are {said[name]}" for name in there]
    return f"of {summarised['choices']:.0f} penalties {'; '.join(parts)}" if parts else ""


def penalty_notes(described: Mapping[str, Any]) -> dict[str, str]:
    """Return, by subject, a clause on penalties at an end of their candidates, of what a regressor's `state` describes.

    Regressors without penalties, and those of earlier versions, have none.
    """
    notes = {subject: note_on_ends(summarised) for subject, summarised in described.get("penalties", {}).items()}
    return {subject: note for subject, note in notes.items() if note}


PROJECTED = 2**25
"""Values of the features, up to which they are projected onto the eigenvectors in float64."""


@dataclass(frozen=True)
class Centred:
    """Centred features.

    Attributes
    ----------
    centre : (feature,) float64
    rows : (row, feature) float32
    spectrum : of the Gram matrix of `rows`
    """

    centre: Array
    rows: Array
    spectrum: Spectrum

    @classmethod
    def of(cls, features: Array) -> "Centred":
        """Centre features (row, feature)."""
        centre = features.mean(axis=0, dtype=np.float64)
        rows = np.empty_like(features, np.float32)
        np.subtract(features, centre, out=rows, casting="same_kind")  # in float64, of which nothing is kept
        return cls(centre, rows, Spectrum.of(rows))

    def dual(self, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return the weights of rows, (row, target), for rotated targets and absolute λ, (1,) or (target,)."""
        return self._weights(self.spectrum.vectors, rotated, penalties)

    def primal(self, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return the weights of features, (feature, target); see `dual`."""
        if self.rows.size <= PROJECTED:
            return self._weights(self.rows.T @ self.spectrum.vectors, rotated, penalties)
        return np.asarray(self.rows.T @ self.dual(rotated, penalties))  # no (feature, row) in float64

    def _weights(self, vectors: Array, rotated: Array, penalties: Array) -> NDArray[np.float32]:
        """Return ``vectors diag(1 / (s + λ)) rotated`` (…, target), λ of each target its own or one for all."""
        left, values = vectors.astype(np.float32), self.spectrum.values.astype(np.float32)[:, None]
        weights = np.empty((len(left), rotated.shape[1]), np.float32)
        each = np.broadcast_to(penalties.astype(np.float32), rotated.shape[1:])
        for part in blocks(rotated.shape[1]):
            weights[:, part] = left @ (rotated[:, part] / (values + each[part]))
        return weights
