"""Trials as windows of the BOLD signal: the volumes that follow each onset, as they are or averaged."""

from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, model_validator

from core.config import Config
from core.errors import SourceError
from feature_store.sources.timeseries.scaling import (
    Events,
    Standardise,
    Timing,
    detrended,
    refuse_outside,
    standardised,
)

ROUNDING_S = 1e-3
"""Onsets and volume times are equal within this; events are written in milliseconds."""


class WindowConfig(Config):
    """Which volumes make a trial, in seconds after its onset, and what the run goes through before."""

    kind: Literal["window"] = "window"
    start_s: FiniteFloat = 4.0
    stop_s: FiniteFloat = 10.0
    average: bool = True
    """Average the volumes into one response, or keep them as (time, voxel)."""
    detrend: bool = True
    """Take each run's linear trend out of every voxel."""
    standardise: Standardise = "psc"

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.stop_s <= self.start_s:
            raise ValueError(f"stop_s {self.stop_s:g} is not after start_s {self.start_s:g}; both count from the onset")
        return self


def window_volumes(config: WindowConfig, timing: Timing) -> int:
    """Return how many volumes a window has, the same for all trials.

    Raises
    ------
    SourceError
        The window is shorter than half a repetition time.
    """
    count = round((config.stop_s - config.start_s) / timing.tr_s)
    if count < 1:
        raise SourceError(
            f"source.response: the window from {config.start_s:g} s to {config.stop_s:g} s holds no volume of "
            f"{timing.tr_s:g} s; make it longer"
        )
    return count


def first_volumes(events: Events, timing: Timing, config: WindowConfig) -> NDArray[np.int64]:
    """Return each trial's first volume: the first at or after the onset plus ``start_s``, shape (trial,).

    Raises
    ------
    SourceError
        A window begins before the run or ends after it.
    """
    delay_s = events.onset_s + config.start_s - timing.start_s
    first = np.ceil((delay_s - ROUNDING_S) / timing.tr_s).astype(np.int64)
    inside = (delay_s >= -ROUNDING_S) & (first + window_volumes(config, timing) <= timing.volumes)
    window = f"the window of {config.start_s:g} to {config.stop_s:g} s after its onset, {{onset:g}} s,"
    refuse_outside(inside, events, timing, window)
    return first


def trial_windows(
    series: NDArray[np.float32], events: Events, timing: Timing, config: WindowConfig, *, where: object = "the run"
) -> NDArray[np.float32]:
    """Cut a run into trials.

    Parameters
    ----------
    series : array of shape (time, voxel)
        The run as it was recorded.
    events, timing : what happened when
    config : the window
    where : what the series was read from, for messages

    Returns
    -------
    array of shape (trial, voxel) where the window is averaged, else (trial, time, voxel); float32

    Raises
    ------
    SourceError
        See `first_volumes` and `standardised`.
    """
    scaled = standardised(detrended(series) if config.detrend else series, config.standardise, where)
    steps = np.arange(window_volumes(config, timing))
    shape = (len(events.places), *(() if config.average else steps.shape), series.shape[1])
    cut = np.empty(shape, np.float32)
    for trial, first in enumerate(first_volumes(events, timing, config)):
        window = scaled[first + steps]
        cut[trial] = window.mean(axis=0) if config.average else window
    return cut
