"""What voxel time series of a run go through before trials are taken from them: when volumes were taken, scaling."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core.errors import SourceError

Standardise = Literal["none", "psc", "zscore"]
"""Per run and voxel: as it is, per cent of the run's mean, or standard deviations from it."""


@dataclass(frozen=True)
class Timing:
    """When a run's volumes were taken.

    Attributes
    ----------
    volumes : how many there are
    tr_s : the repetition time in seconds
    start_s : the time of the first volume; not 0 where slice timing was corrected to a later slice
    """

    volumes: int
    tr_s: float
    start_s: float = 0.0

    @property
    def times_s(self) -> NDArray[np.float64]:
        """The volumes' times, shape (volumes,)."""
        return self.start_s + self.tr_s * np.arange(self.volumes, dtype=np.float64)

    @property
    def length_s(self) -> float:
        """The run's length."""
        return self.volumes * self.tr_s


@dataclass(frozen=True)
class Events:
    """The trials of one run.

    Attributes
    ----------
    onset_s, duration_s : seconds, shape (trial,); a duration that is not known is NaN
    places : where each trial stands, for messages, such as ``"…_events.tsv line 5"``
    """

    onset_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    places: list[str]


def detrended(series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return series without their linear trend, their mean kept: (time, voxel), as `scipy.signal.detrend` plus mean."""
    line = np.linspace(-1, 1, len(series), dtype=np.float32)
    slope = line @ (series - series.mean(axis=0, dtype=np.float64).astype(np.float32)) / (line @ line)
    return np.asarray(series - np.outer(line, slope), dtype=np.float32)


def standardised(series: NDArray[np.float32], how: Standardise, where: object) -> NDArray[np.float32]:
    """Return series scaled per voxel; one without a scale (it never varies, or has no mean above 0 for psc) becomes 0.

    Parameters
    ----------
    series : array of shape (time, voxel)
    how : str
        ``"psc"`` is ``100 · (y − mean) / mean``, ``"zscore"`` is ``(y − mean) / sd``, ``"none"`` leaves all as it is.
    where : what the series was read from, for messages

    Returns
    -------
    array of shape (time, voxel), float32

    Raises
    ------
    SourceError
        Per cent of the mean are asked for, and the series were centred before.
    """
    if how == "none":
        return series
    mean = series.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = series - mean
    spread = centred.std(axis=0, dtype=np.float64).astype(np.float32)
    # A constant voxel's mean is off by rounding, which must not be blown up to unit variance.
    constant = np.ptp(series, axis=0) == 0
    if how == "psc":
        _refuse_centred(mean[~constant], spread[~constant], where)
    scale = mean / 100 if how == "psc" else spread
    still = (scale <= 0) | constant
    return np.where(still, np.float32(0), centred / np.where(still, np.float32(1), scale))


def _refuse_centred(mean: NDArray[np.float32], spread: NDArray[np.float32], where: object) -> None:
    """Raise `SourceError` where a signal's mean says nothing of its strength: most means lie within one spread of 0."""
    near = int((np.abs(mean) < spread).sum())
    if 2 * near > len(mean):
        raise SourceError(
            f"{where}: already centred: in {near:,} of {len(mean):,} voxels the mean is smaller than the standard "
            "deviation, and per cent of such a mean have no meaning; set source.response.standardise to zscore or none"
        )


def refuse_outside(inside: NDArray[np.bool_], events: Events, timing: Timing, what: str) -> None:
    """Raise `SourceError` for the first event that the run does not cover.

    Parameters
    ----------
    inside : array of shape (trial,)
        Whether the run covers it.
    what : str
        What of the event is outside, with room for its onset, for example ``"its onset, {onset:g} s,"``.
    """
    for index in np.flatnonzero(~inside):
        found = what.format(onset=events.onset_s[index])
        raise SourceError(
            f"{events.places[index]}: {found} is outside the run, which has {timing.volumes} volumes of "
            f"{timing.tr_s:g} s ({timing.length_s:g} s); mend the onset, or check that the image is whole"
        )
