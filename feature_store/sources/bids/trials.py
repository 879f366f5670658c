"""How well each trial of a BIDS run can be estimated by a GLM, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from feature_store.sources.timeseries import (
    NOISY,
    RESPONSE_S,
    Events,
    GlmConfig,
    Timing,
    late_trials,
    noise_gains,
    why_noisy,
)

NOISE_GAIN = "noise_gain"
"""The trials' column of `noise_gains`; windows of the signal have none, nor have stores made before it."""


@dataclass(frozen=True)
class RunModel:
    """How the trials of one run are estimated.

    Attributes
    ----------
    weights : (trial, time) as of `trial_weights`
    """

    events: Events
    timing: Timing
    config: GlmConfig
    weights: NDArray[np.float64]

    @property
    def gains(self) -> NDArray[np.float64]:
        """The noise of each trial over that of the run's median trial, (trial,)."""
        return noise_gains(self.weights)

    @property
    def late(self) -> NDArray[np.bool_]:
        """Which trials begin so late that the run's end cuts their responses off, (trial,)."""
        return late_trials(self.events, self.timing)


def events_of_runs(trials: pd.DataFrame, runs: Sequence[int]) -> list[Events]:
    """Return the events of some of a subject's runs, by the trials' column ``index``.

    Those of duration 0 have the area of the subject's median event that lasts, so that betas of all runs have one unit.
    """
    lasting = trials.loc[trials["duration_s"] > 0, "duration_s"]
    impulse_s = float(lasting.median()) if len(lasting) else None
    return [_events(trials[trials["index"] == run], impulse_s) for run in runs]


def _events(trials: pd.DataFrame, impulse_s: float | None) -> Events:
    onset_s, duration_s = (trials[name].to_numpy(np.float64) for name in ("onset_s", "duration_s"))
    return Events(onset_s, duration_s, trials["place"].tolist(), impulse_s)


def trial_notes(models: Sequence[RunModel]) -> list[str]:
    """Return a line for each thing by which a subject's trials or runs differ: impulses, late onsets, noise."""
    if not models:
        return []
    notes = [_impulses(models), _late(models), _unlike(models), _noisy(models)]
    return [note for note in notes if note]


def _impulses(models: Sequence[RunModel]) -> str:
    durations_s = np.concatenate([model.events.duration_s for model in models])
    count, typical_s = int((durations_s == 0).sum()), models[0].events.impulse_s
    if models[0].config.duration_s is not None or typical_s is None or not count:
        return ""
    return (
        f"{count} of {len(durations_s)} events have the duration 0: modelled as impulses, each of the area of the "
        f"others' median event, {typical_s:g} s"
    )


def _late(models: Sequence[RunModel]) -> str:
    gains = np.concatenate([model.gains[model.late] for model in models])
    if not len(gains):
        return ""
    finite = gains[np.isfinite(gains)]
    noise = f": up to {finite.max():.1f} times the noise of the run's median trial" if len(finite) else ""
    return (
        f"{len(gains)} of {sum(len(model.gains) for model in models)} events begin less than {RESPONSE_S:g} s before "
        f"their run's end, which cuts their responses off{noise}"
    )


def _unlike(models: Sequence[RunModel]) -> str:
    norms = np.array([np.nanmedian(np.linalg.norm(model.weights, axis=1)) for model in models])
    ratio = norms.max() / norms.min()
    if not ratio > NOISY:
        return ""
    model = models[int(norms.argmax())]
    lasting = " and ".join(
        f"{np.median(models[int(index)].events.duration_s):g} s" for index in (norms.argmin(), norms.argmax())
    )
    place = model.events.places[0].rpartition("/")[2].rpartition(" line ")[0]
    return (
        f"betas of the runs differ in noise by up to {ratio:.1f} times, most of it in {place}; the median events "
        f"of the runs with least and most last {lasting} (source.response.duration_s gives all trials one length)"
    )


def _noisy(models: Sequence[RunModel]) -> str:
    noisy = [(model, int(trial)) for model in models for trial in np.flatnonzero(model.gains > NOISY)]
    if not noisy:
        return ""
    model, trial = noisy[0]
    dropped = model.config.noisy_trials == "drop"
    verb = "dropped" if dropped else f"kept (see the column {NOISE_GAIN} of the trials)"
    place = model.events.places[trial].rpartition("/")[2]
    return (
        f"{len(noisy)} of {sum(len(model.gains) for model in models)} trials have more than {NOISY:g} times the noise "
        f"of their run's median trial, {verb}; "
        f"the first is {place}: {why_noisy(trial, model.events, model.timing, model.config)}"
    )
