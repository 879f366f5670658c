"""Controls that know a part of what a reconstruction claims to know: a category, the time of a trial, nuisance signals,
a single frame; and targets less what their luminance, contrast and motion explain.

Each function is pure: arrays in, arrays out. `evaluation.statistics.scores` has the names of the rows they become.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for, seed_for

Array = NDArray[Any]
Floats = NDArray[np.float64]
Clips = NDArray[np.uint8]

ALPHAS = tuple(10.0**power for power in range(-3, 7))
"""Penalties among which `linear_prediction` chooses, for features of a standard deviation about 1."""
FEW_COLUMNS = 256
"""Columns of targets by which clusters and penalties are found; wider targets are projected onto so many."""
COLUMNS_AT_ONCE = 2**14
MEMBERS = 5
"""Training stimuli that a cluster has on average at least: smaller ones would be stimuli rather than categories."""
STARTS = 10
"""Random starts of k-means, of which the one with the smallest error is kept."""
BUMPS, COLUMNS = 30, 2000
"""Bumps in time within the longest run, at most, and columns that they may take in all runs together."""
GRID = 2
"""Rows and columns of the grid in whose cells luminance, contrast and motion are measured."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""


def category_prediction(
    targets: Array, labels: Sequence[Any] | Array, wanted: Sequence[Any] | Array
) -> NDArray[np.float32]:
    """Predict for each stimulus the mean of the training targets of its true class: what knowing the class gives.

    Parameters
    ----------
    targets : (m, ...) training targets
    labels, wanted : the classes of the m training stimuli, and the true classes of the n stimuli to predict

    Returns
    -------
    array, shape (n, ...), float32
        The mean of all training targets for a class that training does not have.

    Raises
    ------
    ValueError
        There is no training target, or `labels` are not one for each.
    """
    known, asked = np.asarray(labels), np.asarray(wanted)
    if len(targets) == 0 or len(known) != len(targets):
        raise ValueError(f"{len(known)} labels of {len(targets)} training targets; expected one for each, 1 or more")
    predicted = np.empty((len(asked), *targets.shape[1:]), np.float32)
    for label in np.unique(asked):
        members = known == label
        predicted[asked == label] = targets[members if members.any() else slice(None)].mean(axis=0, dtype=np.float64)
    return predicted


def cluster_labels(
    training: Array, truth: Array, *, clusters: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find clusters of training targets by k-means, and the cluster that each true target lies in.

    Where stimuli have no classes, clusters take their place. Lloyd's algorithm from `STARTS` starts of k-means++, as
    scikit-learn has it; targets of more than `FEW_COLUMNS` columns are projected onto so many at random, which keeps
    distances nearly as they are (Johnson and Lindenstrauss 1984).

    Parameters
    ----------
    training, truth : (m, ...) and (n, ...)
    clusters : how many at most; fewer where they would have less than `MEMBERS` members on average

    Returns
    -------
    labels of the training targets (m,), and of the true targets (n,) by the nearest centre
    """
    from sklearn.cluster import KMeans

    together = _few_columns(np.concatenate([training, truth]), seed)
    rows, others = together[: len(training)], together[len(training) :]
    k = min(clusters, max(2, len(rows) // MEMBERS), len(np.unique(rows, axis=0)))
    found = KMeans(k, n_init=STARTS, random_state=_int32(seed_for(seed, "clusters"))).fit(rows)
    return found.labels_.astype(np.int64), found.predict(others).astype(np.int64)


def _int32(seed: int) -> int:
    """Return a seed that scikit-learn takes."""
    return seed % 2**32


def _few_columns(values: Array, seed: int) -> Floats:
    """Return rows (n, ...) as (n, `FEW_COLUMNS`) at most: as they are, or projected at random."""
    rows = values.reshape(len(values), -1)
    if rows.shape[1] <= FEW_COLUMNS:
        return rows.astype(np.float64)
    projected = np.zeros((len(rows), FEW_COLUMNS))
    for start in range(0, rows.shape[1], COLUMNS_AT_ONCE):
        block = rows[:, start : start + COLUMNS_AT_ONCE].astype(np.float64)
        directions = rng_for(seed, "projection", start).normal(size=(block.shape[1], FEW_COLUMNS))
        projected += block @ directions
    return np.asarray(projected / np.sqrt(FEW_COLUMNS))


def held_frame(clips: Clips) -> Clips:
    """Return clips (n, frame, height, width, 3) whose middle frame is held throughout: a read-only view."""
    middle = clips.shape[1] // 2
    return np.broadcast_to(clips[:, middle : middle + 1], clips.shape)


def shuffle_frames(clips: Clips, names: Sequence[str], *, seed: int) -> Clips:
    """Return clips (n, frame, height, width, 3) with the frames of each in an order drawn by the seed and its name.

    All orders are equally likely, that of the clip itself among them; see `evaluation.statistics.controls`.

    Raises
    ------
    ValueError
        There is not one name for each clip.
    """
    orders = [rng_for(seed, "shuffled frames", name).permutation(clips.shape[1]) for name in names]
    return np.stack([clip[order] for clip, order in zip(clips, orders, strict=True)])


def linear_prediction(known: Floats, targets: Array, wanted: Floats, *, seed: int = 0) -> NDArray[np.float32]:
    """Predict targets from a few features of each stimulus by ridge regression.

    ``Y = 1 c + X B`` with |X B − (Y − 1 c)|² + α |B|² least; α is the one of `ALPHAS` with the smallest squared error
    on left-out stimuli, over all columns together (scikit-learn's RidgeCV; on a random projection of wide targets).

    Parameters
    ----------
    known, wanted : features (m, feature) of the training stimuli and (n, feature) of those to predict
    targets : (m, ...)

    Returns
    -------
    array, shape (n, ...), float32
    """
    from sklearn.linear_model import Ridge, RidgeCV

    alpha = RidgeCV(alphas=ALPHAS).fit(known, _few_columns(targets, seed)).alpha_
    # A prediction is a weighted sum of training targets, whatever these are: the weights are those of the identity.
    weights = Ridge(alpha=alpha).fit(known, np.eye(len(known))).predict(wanted)
    flat = np.asarray(targets).reshape(len(targets), -1).astype(np.float32, copy=False)
    predicted: NDArray[np.float32] = weights.astype(np.float32) @ flat
    return predicted.reshape(len(wanted), *targets.shape[1:])


def standardised(known: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """Return features (m, feature) and (n, feature) in standard deviations of the former; constant ones become 0."""
    middle, scale = known.mean(axis=0), known.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(middle), scale, np.inf)
    return (known - middle) / scale, (wanted - middle) / scale


def time_features(run: Sequence[Any] | Array, onset_s: Floats | None) -> Floats:
    """Return what the time of a trial says, (trial, feature): its run, the time in any run, the time in its own run.

    Time is written in Gaussian bumps as wide as they are apart: about two trials, but no more than `BUMPS` in the
    longest run. With bumps of every run's own, a trial learns from its neighbours in time, as slow drifts of signal
    and of films let it. Give the trials of training and test together: they must share their bumps.

    Parameters
    ----------
    run : a label for each trial
    onset_s : seconds since the start of the run, finite; without it, the run alone is known
    """
    names, index = np.unique(np.asarray(run), return_inverse=True)
    runs = np.eye(len(names))[index]
    if onset_s is None:
        return runs
    first, last = float(onset_s.min()), float(onset_s.max())
    order = np.lexsort((onset_s, index))
    gaps = np.diff(onset_s[order])[np.diff(index[order]) == 0]
    gaps = gaps[gaps > 0]
    most = max(2, min(BUMPS, COLUMNS // len(names)))
    apart = max(2 * float(np.median(gaps)) if len(gaps) else 0.0, (last - first) / most)
    if apart == 0:
        return runs
    centres = np.arange(first, last + apart, apart)
    bumps = np.exp(-0.5 * ((onset_s[:, None] - centres) / apart) ** 2)
    own = (runs[:, :, None] * bumps[:, None, :]).reshape(len(runs), -1)
    return np.concatenate([runs, bumps, own], axis=1)


def low_level_features(clips: Clips) -> Floats:
    """Measure luminance, contrast and motion energy of clips in the cells of a grid, (n, 3 · `GRID`²).

    Of each cell: the mean of luminance (from 0 to 1), its standard deviation over pixels averaged over frames (RMS
    contrast; Peli 1990, *JOSA A* 7:2032), and the mean absolute difference of successive frames, 0 of a single frame.

    Parameters
    ----------
    clips : (n, frame, height, width, 3) uint8, of one size for all that are compared
    """
    return np.stack([_low_level(clip) for clip in clips])


def _low_level(clip: Clips) -> Floats:
    luminance = clip.astype(np.float32) @ LUMA / 255
    motion = np.abs(np.diff(luminance, axis=0))
    measured = []
    for rows in np.array_split(np.arange(luminance.shape[1]), min(GRID, luminance.shape[1])):
        for columns in np.array_split(np.arange(luminance.shape[2]), min(GRID, luminance.shape[2])):
            cell = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            seen = luminance[cell].astype(np.float64)
            moved = motion[cell].astype(np.float64)
            measured += [seen.mean(), seen.std(axis=(1, 2)).mean(), moved.mean() if moved.size else 0.0]
    return np.array(measured)


@dataclass(frozen=True)
class Residual:
    """Takes out of targets what a linear regression on low-level features explains, fitted on training stimuli alone.

    ``r = t − c − (f − m) B``, with f the features of the very clip that t is a target of. It is one function of a clip,
    so that it can be applied to what was seen and to what was reconstructed alike: nothing of the truth enters a
    reconstruction's residual. What low-level features explain beyond a line stays in.

    Attributes
    ----------
    constant : (...) c
    middle, scale : (feature,) mean and standard deviation of the training clips' features
    slopes : (feature, ...) B, for features in standard deviations
    """

    constant: NDArray[np.float32]
    middle: Floats
    scale: Floats
    slopes: NDArray[np.float32]

    @classmethod
    def fit(cls, targets: Array, features: Floats, *, seed: int = 0) -> "Residual":
        """Fit on training stimuli: targets (m, ...) and the features (m, feature) of their clips."""
        scale = features.std(axis=0)
        scale = np.where(scale > 1e-9, scale, np.inf)
        middle = features.mean(axis=0)
        count = features.shape[1]
        steps = np.concatenate([np.zeros((1, count)), np.eye(count)])
        predicted = linear_prediction((features - middle) / scale, targets, steps, seed=seed)
        return cls(predicted[0], middle, scale, predicted[1:] - predicted[0])

    def of(self, targets: Array, features: Floats) -> NDArray[np.float32]:
        """Return the residuals (n, ...) of targets (n, ...) of clips with these features, (n, feature)."""
        steps = ((features - self.middle) / self.scale).astype(np.float32)
        explained = np.tensordot(steps, self.slopes, axes=(1, 0))
        return np.asarray(targets.astype(np.float32) - self.constant - explained)
