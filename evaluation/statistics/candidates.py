"""What a run keeps so that scores among other stimuli can be computed again among fewer of them.

The value of an identification says how a prediction fares among the candidates that were scored with it, and that of R²
depends on how far apart their truths lie (`Metric.depends_on_set`). Of two runs with different stimuli such values are
no scores of the same task, even for the stimuli that both have. What every prediction would earn among fewer candidates
follows from which candidate wins each comparison, two bits a pair, and from each truth's distance to the training mean.

In the file of a run (`studies.runs.CANDIDATES`), arrays are named ``ROW/SPACE``, ``power/SPACE`` and ``stimuli``.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import Metric, PerStimulus, metric
from evaluation.metrics.vectors import TIE, leads, ratio_influences

Floats = NDArray[np.float64]
Outcomes: TypeAlias = NDArray[np.uint8]
"""The outcomes of all comparisons (n, n), packed: two planes of bits, the first for wins, the second for ties."""
Kept: TypeAlias = Mapping[str, NDArray[Any]]
"""What a run keeps, by ``ROW/SPACE`` (`Outcomes`), by ``power/SPACE`` (n,), and the names of its ``stimuli`` (n,)."""
MAX_BYTES = 32 * 2**20
"""Outcomes of rows and spaces beyond this size are not kept: 11,000 stimuli in a space, or 1,200 in 90 of them."""
POWER, STIMULI = "power", "stimuli"
NOT_KEPT = "what it takes was not kept"


def pack_outcomes(r: Floats) -> Outcomes:
    """Return who wins each comparison of predictions with candidates, (2, ⌈n² / 8⌉), of correlations (n, n).

    Pair (i, j) is won where prediction i correlates more with truth i than with truth j, and tied as in
    `evaluation.metrics.vectors.leads`; a prediction that is not finite has both bits set, which nothing else has.
    """
    lead = leads(r)
    undefined = np.isnan(lead)
    tied = undefined | (np.abs(lead) <= TIE)
    return np.packbits(np.stack([undefined | (lead > TIE), tied]).reshape(2, -1), axis=1)


def unpack_outcomes(packed: Outcomes, n: int) -> Floats:
    """Return correlations (n, n) that give the outcomes: 0 for each own truth, −1 where it wins, 1 where it loses.

    Every metric that depends on nothing but who wins has the values of the true correlations; rows of predictions that
    are not finite are NaN.

    Raises
    ------
    ValueError
        The size is not that of n stimuli.
    """
    size = -(-n * n // 8)
    if packed.shape != (2, size):
        raise ValueError(f"outcomes {packed.shape} of {n} stimuli; expected (2, {size})")
    won, tied = np.unpackbits(packed, axis=1, count=n * n).astype(bool).reshape(2, n, n)
    r = np.where(tied, 0.0, np.where(won, -1.0, 1.0))
    r[(won & tied).any(axis=1)] = np.nan
    return np.asarray(r)


def powers(truth: NDArray[Any]) -> Floats:
    """Return the squared length of every truth (n, …), which R² divides the mean of, (n,)."""
    rows = truth.reshape(len(truth), -1).astype(np.float64)
    return np.asarray(np.einsum("nf,nf->n", rows, rows))


@dataclass(frozen=True)
class Among:
    """What stimuli earn among themselves.

    Attributes
    ----------
    values : (n,)
    influences : (n,) how much each moves the mean; see `Metric.influences`
    """

    values: PerStimulus
    influences: PerStimulus


def restricted(
    name: str, values: Floats, kept: Kept, row: str, stimuli: Sequence[str], groups: Sequence[str] | None = None
) -> Among | str:
    """Return what stimuli would have earned had they alone been scored, or the reason why it is not known.

    Parameters
    ----------
    name : ``space.metric`` of a metric whose values depend on the set
    values : (n,) their values as they were scored among more stimuli, NaN where there is none
    kept : what the run kept
    stimuli : (n,) some of those that were scored
    groups : (n,) their classes, where there are any
    """
    chosen, space = metric(name), name.rpartition(".")[0]
    if len(stimuli) < chosen.min_stimuli:
        return f"needs {chosen.min_stimuli} stimuli, found {len(stimuli)}"
    if chosen.needs_groups and groups is None:
        return "the classes of the stimuli were not kept"
    place = {str(stimulus): index for index, stimulus in enumerate(kept.get(STIMULI, ()))}
    own = kept.get(f"{POWER}/{space}" if is_ratio(chosen) else f"{row}/{space}")
    if own is None or not set(stimuli) <= set(place):
        return NOT_KEPT
    rows = np.array([place[stimulus] for stimulus in stimuli], np.int64)
    if chosen.of_similarity is None or chosen.influence_of_similarity is None:
        return _restricted_ratio(values, own, rows)
    r, labels = unpack_outcomes(own, len(place))[np.ix_(rows, rows)], None if groups is None else np.asarray(groups)
    return Among(chosen.of_similarity(r, labels), chosen.influence_of_similarity(r, labels))


def _restricted_ratio(values: Floats, power: Floats, rows: NDArray[np.int64]) -> Among | str:
    """Return values 1 − error / mean power with the mean over some stimuli alone."""
    few = power[rows]
    if few.mean() == 0.0:
        return "every truth is the training mean"
    found = 1.0 - (1.0 - values) * (power.mean() / few.mean())
    return Among(found, ratio_influences(found, few))


def is_ratio(chosen: Metric) -> bool:
    """Say whether a metric divides every error by the mean power of the truths that are scored, as R² does."""
    return chosen.depends_on_set and chosen.of_similarity is None


def kept_bytes(kept: Kept) -> bytes:
    """Return what a run keeps as a file of NumPy's, compressed; the same arrays give the same bytes."""
    buffer, arrays = io.BytesIO(), {name: kept[name] for name in sorted(kept)}
    np.savez_compressed(buffer, **cast("dict[str, Any]", arrays))
    return buffer.getvalue()


def read_kept(content: bytes) -> dict[str, NDArray[Any]]:
    """Return what a run kept; raises `ValueError` or `OSError` where the file is damaged."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
