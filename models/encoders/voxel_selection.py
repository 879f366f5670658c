r"""Selects the voxels that the training targets predict, inside the training stimuli alone.

A voxel's score is the correlation, over training stimuli, of its response with what an encoding model predicts of it:
ridge from the targets to the voxel, each stimulus left out in turn (exactly, see `models.regressors.penalty`), with one
penalty for all voxels of a subject, chosen by the same left-out error. This is the voxel selection by held-out encoding
performance of Kay et al. (2008, *Nature* 452:352) and Naselaris et al. (2011, *NeuroImage* 56:400); ridge takes
targets of more values than there are stimuli. With several targets a voxel has the largest of its scores, as one
encoder serves all of them. Kept is the fraction of voxels with the highest scores.

Where several fractions are given, one is chosen by cross-validation inside the training stimuli: in each of `FOLDS`
folds voxels are scored on the other folds alone, a ridge is fitted on the best of them, and the fold's stimuli are
identified among two. Scoring on the stimuli that the decoder is tested on would prefer small fractions that fit noise
(Kriegeskorte et al. 2009, *Nature Neuroscience* 12:535).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ModelError
from core.seeds import rng_for
from core.times import Times
from models.decoders.rows import deal_folds, leave_out, not_near
from models.encoders.settings import VoxelSelection
from models.regressors.basis import blocks
from models.regressors.identification import correlations, fewer_values, mean_direction, two_way
from models.regressors.penalty import Centred, left_out_errors, left_out_residuals
from models.regressors.ridge import fit_ridge
from models.regressors.settings import RidgeConfig

Array = NDArray[Any]
FOLDS = 5
"""Folds of the training stimuli that a fraction is chosen on."""
MIN_HELD, MIN_TRAINED = 2, 3
"""Stimuli of a fold, and of what is trained on then, below which the fold is passed over."""
MIN_STIMULI = 10
"""Training stimuli that a selection needs at least: two in each fold."""


@dataclass(frozen=True)
class Selected:
    """The voxels that were selected of one subject.

    Attributes
    ----------
    kept : (voxel,) bool
    scores : (voxel,) float64, held-out correlations
    fraction : the share of voxels that is kept
    tried : two-way identification inside the training stimuli by fraction; empty where one fraction was given
    """

    kept: NDArray[np.bool_]
    scores: NDArray[np.float64]
    fraction: float
    tried: dict[float, float]

    def summary(self) -> dict[str, Any]:
        """Return what the encoder's config records of it."""
        known = {
            "fraction": self.fraction,
            "voxels": int(self.kept.sum()),
            "of": len(self.kept),
            "lowest_score": float(self.scores[self.kept].min()),
            "median_score_of_all": float(np.median(self.scores)),
        }
        return known | ({"tried": {f"{name:g}": value for name, value in self.tried.items()}} if self.tried else {})


def select_voxels(
    config: VoxelSelection,
    subject: str,
    voxels: Array,
    targets: Mapping[str, Array],
    seed: int,
    times: Times | None = None,
) -> Selected:
    """Select voxels by the training stimuli.

    Parameters
    ----------
    voxels : (stimulus, voxel) standardised responses, means over repetitions
    targets : by role, (stimulus, …) of the same stimuli
    seed : of the folds
    times : when each stimulus was shown, where stimuli are ordered in time: blocks of time are then left out, and folds
        are of blocks, without their neighbours

    Raises
    ------
    ModelError
        Fewer than ten stimuli, no target, or targets that are not finite or do not vary.
    """
    if not targets:
        raise ModelError(
            f"{subject}: voxels are to be selected by their correlation with the training targets, and none was given; "
            "fit the encoder within a route, or leave 'voxels' out"
        )
    if len(voxels) < MIN_STIMULI:
        raise ModelError(
            f"{subject}: {len(voxels)} training stimuli; voxels are selected on at least {MIN_STIMULI}: add stimuli, "
            "or leave 'voxels' out"
        )
    codes = {role: _codes(subject, role, values) for role, values in targets.items()}
    scores = _best_scores(voxels, [values for values, _ in codes.values()], times)
    fractions = config.fractions
    tried = {} if len(fractions) == 1 else _compare(fractions, voxels, list(codes.values()), seed, times)
    fraction = max(sorted(tried, reverse=True), key=tried.__getitem__) if tried else fractions[0]
    return Selected(_highest(scores, fraction), scores, fraction, tried)


def encoding_scores(voxels: Array, targets: Array, times: Times | None = None) -> NDArray[np.float64]:
    """Return the correlation of each voxel's responses with their leave-one-stimulus-out predictions, (voxel,).

    Parameters
    ----------
    voxels : (stimulus, voxel)
    targets : (stimulus, value)
    times : see `select_voxels`
    """
    stimuli, spectrum = _left_out(len(targets), times), Centred.of(targets).spectrum
    middle = voxels.mean(axis=0, dtype=np.float64)
    rotated = spectrum.rotate(voxels, middle)
    penalties = [alpha * spectrum.values.mean() for alpha in RidgeConfig().alphas]
    penalty = penalties[int(left_out_errors(spectrum, rotated @ rotated.T, stimuli, penalties).argmin())]
    scores = np.empty(voxels.shape[1])
    for part in blocks(voxels.shape[1]):
        measured = voxels[:, part] - middle[part]
        predicted = measured - left_out_residuals(spectrum, rotated[:, part], stimuli, penalty)
        scores[part] = _column_correlations(predicted, measured)
    return scores


def _left_out(count: int, times: Times | None) -> Sequence[str]:
    return leave_out([str(row) for row in range(count)], times)


def _best_scores(voxels: Array, targets: Sequence[Array], times: Times | None) -> NDArray[np.float64]:
    return np.asarray(np.max([encoding_scores(voxels, values, times) for values in targets], axis=0))


def _compare(
    fractions: Sequence[float], voxels: Array, codes: Sequence[tuple[Array, Array]], seed: int, times: Times | None
) -> dict[float, float]:
    """Return the two-way identification of held-out training stimuli by fraction, the mean over folds and roles."""
    fold_of = deal_folds(len(voxels), FOLDS, rng_for(seed, "voxel selection"), times)
    found: dict[float, list[float]] = {fraction: [] for fraction in fractions}
    for fold in range(int(fold_of.max()) + 1):
        held = np.flatnonzero(fold_of == fold)
        train = np.flatnonzero(not_near(fold_of == fold, times))
        if len(held) < MIN_HELD or len(train) < MIN_TRAINED:
            continue
        then = None if times is None else times.take(train)
        scores = _best_scores(voxels[train], [values[train] for values, _ in codes], then)
        for fraction in fractions:
            some = voxels[:, _highest(scores, fraction)]
            found[fraction] += [_identified(some, *own, train, held, then) for own in codes]
    if not found[fractions[0]]:
        return {}
    return {fraction: float(np.mean(values)) for fraction, values in found.items()}


def _identified(
    voxels: Array, targets: Array, direction: Array, train: Array, held: Array, times: Times | None
) -> float:
    """Return the two-way identification of held-out stimuli by ridge that was fitted on the others."""
    fit = fit_ridge(voxels[train], targets[train], _left_out(len(train), times), RidgeConfig().alphas)
    predicted = fit.predict(voxels[held]) - fit.offset
    return two_way(correlations(predicted, targets[held] - fit.offset, direction))


def _codes(subject: str, role: str, targets: Array) -> tuple[Array, Array]:
    """Return a role's centred targets in at most as many values as there are stimuli, and their mean direction."""
    rows = targets.reshape(len(targets), -1).astype(np.float64)
    if not np.isfinite(rows).all() or (rows == rows[:1]).all():
        raise ModelError(
            f"{subject}: the training targets of {role} hold NaN or infinity or do not vary, so no voxel can be "
            "selected by them; extract them again, or leave 'voxels' out"
        )
    rows -= rows.mean(axis=0)
    codes, direction = fewer_values(rows, mean_direction(None, rows.shape[1]))
    return codes.astype(np.float32), direction


def _highest(scores: Array, fraction: float) -> NDArray[np.bool_]:
    """Return which voxels are the best ones of a fraction, at least one; of equal ones the first."""
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[: max(1, round(fraction * len(scores)))]] = True
    return kept


def _column_correlations(a: Array, b: Array) -> NDArray[np.float64]:
    """Return Pearson's r of each column of a (row, column) with that of b; -1 where one does not vary."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    lengths = np.sqrt(np.einsum("rv,rv->v", a, a) * np.einsum("rv,rv->v", b, b))
    products = np.einsum("rv,rv->v", a, b)
    return np.asarray(np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), -1.0))
