"""From a run's time series to one response a trial: windows of the BOLD signal, or betas of a general linear model.

Windows are the volumes that follow each onset, as they are or averaged. Betas are estimated by least squares separate,
each trial against all others of its run. For trial t of a run::

    y = x_t β_t + (Σ_{s≠t} x_s) γ_t + N ν_t + ε

with x_s the trial's event convolved with the haemodynamic response, and N the confounds, drifts and a constant. The
responses are the β_t (Mumford et al. 2012; Turner et al. 2012, "LS-S"). Regressors are nilearn's.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from core.config import Config
from core.errors import SourceError

Standardise = Literal["none", "psc", "zscore"]
"""Per run and voxel: as it is, per cent of the run's mean, or standard deviations from it."""


@dataclass(frozen=True)
class Timing:
    """When a run's volumes were taken, in seconds."""

    volumes: int
    tr_s: float
    start_s: float = 0.0
    """The time of the first volume; not 0 where slice timing was corrected to a later slice."""

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
    """The trials of one run: (trial,) each; a duration that is not known is NaN."""

    onset_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    places: list[str]
    """The file and line of each trial, for messages, such as ``"…_events.tsv line 5"``."""
    impulse_s: float | None = None
    """How long the events of duration 0 are taken to last in the unit of their betas: an impulse has the area of an
    event of this length. None: the median duration of the run's other events, and nilearn's one sample where there are
    none."""


def detrended(series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return series without their linear trend, their mean kept: (time, voxel), as `scipy.signal.detrend` plus mean."""
    line = np.linspace(-1, 1, len(series), dtype=np.float32)
    slope = line @ (series - series.mean(axis=0, dtype=np.float64).astype(np.float32)) / (line @ line)
    return np.asarray(series - np.outer(line, slope), dtype=np.float32)


def standardised(series: NDArray[np.float32], how: Standardise, where: object) -> NDArray[np.float32]:
    """Return series (time, voxel) scaled per voxel; one without a scale (never varies, no mean above 0 for psc) is 0.

    ``"psc"`` is ``100 · (y − mean) / mean``, ``"zscore"`` is ``(y − mean) / sd``, ``"none"`` leaves all as it is.

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
    """Raise `SourceError` where a signal was centred before: most means lie within one spread of 0."""
    near = int((np.abs(mean) < spread).sum())
    if 2 * near > len(mean):
        raise SourceError(
            f"{where}: already centred: in {near:,} of {len(mean):,} voxels the mean is smaller than the standard "
            "deviation, and per cent of such a mean have no meaning; set source.response.standardise to zscore or none"
        )


def refuse_outside(inside: NDArray[np.bool_], events: Events, timing: Timing, what: str) -> None:
    """Raise `SourceError` for the first event that is not inside the run; `what` of it is, with a field ``{onset}``."""
    for index in np.flatnonzero(~inside):
        found = what.format(onset=events.onset_s[index])
        raise SourceError(
            f"{events.places[index]}: {found} is outside the run, which has {timing.volumes} volumes of "
            f"{timing.tr_s:g} s ({timing.length_s:g} s); fix the onset, or check that the image is whole"
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


def volumes_in_window(config: WindowConfig, tr_s: float) -> int:
    """Return how many volumes every window holds: its length in repetition times of `tr_s` seconds, to the nearest.

    Raises `SourceError` where the window is so short that it holds none.
    """
    count = round((config.stop_s - config.start_s) / tr_s)
    if count < 1:
        raise SourceError(
            f"source.response: the window from {config.start_s:g} s to {config.stop_s:g} s holds no volume of "
            f"{tr_s:g} s; make it longer"
        )
    return count


def first_volumes(events: Events, timing: Timing, config: WindowConfig) -> NDArray[np.int64]:
    """Return each trial's first volume: the first at or after the onset plus ``start_s``, shape (trial,).

    Raises `SourceError` where a window begins before the run or ends after it.
    """
    delay_s = events.onset_s + config.start_s - timing.start_s
    first = np.ceil((delay_s - ROUNDING_S) / timing.tr_s).astype(np.int64)
    inside = (delay_s >= -ROUNDING_S) & (first + volumes_in_window(config, timing.tr_s) <= timing.volumes)
    window = f"the window of {config.start_s:g} to {config.stop_s:g} s after its onset, {{onset:g}} s,"
    refuse_outside(inside, events, timing, window)
    return first


def trial_windows(
    series: NDArray[np.float32], events: Events, timing: Timing, config: WindowConfig, *, where: object = "the run"
) -> NDArray[np.float32]:
    """Cut a run (time, voxel) into trials: (trial, voxel) where the window is averaged, else (trial, time, voxel).

    Raises `SourceError` as `first_volumes` and `standardised` do; `where` the series was read from is for messages.
    """
    scaled = standardised(detrended(series) if config.detrend else series, config.standardise, where)
    steps = np.arange(volumes_in_window(config, timing.tr_s))
    shape = (len(events.places), *(() if config.average else steps.shape), series.shape[1])
    cut = np.empty(shape, np.float32)
    for trial, first in enumerate(first_volumes(events, timing, config)):
        window = scaled[first + steps]
        cut[trial] = window.mean(axis=0) if config.average else window
    return cut


Hrf = Literal[
    "glover",
    "glover + derivative",
    "glover + derivative + dispersion",
    "spm",
    "spm + derivative",
    "spm + derivative + dispersion",
]
DERIVATIVES = {"derivative": "time_derivative", "dispersion": "dispersion_derivative"}
"""How nilearn's functions call what its models add to a response."""
FAINT = 0.01
"""A trial whose regressor is weaker than this part of the run's median has its response outside the run."""
COLLINEAR = 1e-4
"""A trial of whose regressor less than this part is its own, in norm, has no response of its own."""
NOISY = 3.0
"""A trial whose beta has more than this many times the noise of the run's median trial is noisy."""
RESPONSE_S = 10.0
"""A response is past its peak, and most of its way back, this long after its event begins. A trial that begins later
than this before the run's end has lost a part of its response."""
OVERSAMPLING = 50
"""Samples a volume on which nilearn convolves; an event of duration 0 is one of them."""
RANK = 1e-10
"""Singular values below this part of the largest count as 0."""
BLOCK_VOXELS = 16384
"""Voxels that are raised to double precision at a time."""


class GlmConfig(Config):
    """The model of a trial, and what the run goes through before."""

    kind: Literal["glm"] = "glm"
    hrf: Hrf = "glover"
    """The haemodynamic response; of one with derivatives the response's own beta is the trial's."""
    confounds: tuple[str, ...] = ()
    """Columns of the run's ``*_desc-confounds_timeseries.tsv``; patterns such as ``"trans_*"`` may match several."""
    drift: Literal["cosine", "polynomial"] | None = "cosine"
    drift_order: PositiveInt = 1
    """The polynomial's degree; of no meaning to cosines."""
    high_pass_hz: Annotated[FiniteFloat, Field(gt=0)] = 0.01
    """Where the cosines end; of no meaning to polynomials."""
    duration_s: Annotated[FiniteFloat, Field(ge=0)] | None = None
    """How long all trials last; by default the durations of their events."""
    standardise: Standardise = "psc"
    noisy_trials: Literal["refuse", "drop", "keep"] = "refuse"
    """What happens to a trial whose beta has more than three times the noise of its run's median trial (`NOISY`), such
    as one whose response the run's end cuts off: the recording is refused; the trial is dropped, and stays in the model
    of the others; or it is kept. The trials' column ``noise_gain`` holds the ratio."""


def check_covered(events: Events, timing: Timing) -> None:
    """Raise `SourceError` unless every trial begins within the run."""
    inside = (events.onset_s >= 0) & (events.onset_s < timing.length_s)
    refuse_outside(inside, events, timing, "its onset, {onset:g} s,")


def trial_betas(
    series: NDArray[np.float32],
    events: Events,
    timing: Timing,
    config: GlmConfig,
    confounds: NDArray[np.float64],
    *,
    where: object = "the run",
) -> NDArray[np.float32]:
    """Estimate one response per trial and voxel by the module's equation.

    Parameters
    ----------
    series : (time, voxel), the run as it was recorded
    confounds : (time, confound)
    where : what the series was read from, for messages

    Returns
    -------
    array of shape (trial, voxel), float32, in units of the series per unit of the regressor; per cent of the run's mean
    with ``standardise: psc``

    Raises
    ------
    SourceError
        See `trial_weights` and `standardised`.
    """
    return weighted_betas(series, trial_weights(events, timing, config, confounds), config, where=where)


def weighted_betas(
    series: NDArray[np.float32], weights: NDArray[np.float64], config: GlmConfig, *, where: object = "the run"
) -> NDArray[np.float32]:
    """Return the betas (trial, voxel) of a run (time, voxel) by the weights (trial, time) of `trial_weights`.

    Raises `SourceError` as `standardised` does.
    """
    scaled = standardised(series, config.standardise, where)
    betas = np.empty((len(weights), series.shape[1]), np.float32)
    for start in range(0, series.shape[1], BLOCK_VOXELS):
        block = scaled[:, start : start + BLOCK_VOXELS].astype(np.float64)
        # The constant is in the model; without the mean the product loses no digits to it.
        betas[:, start : start + BLOCK_VOXELS] = weights @ (block - block.mean(axis=0))
    return betas


def trial_weights(
    events: Events, timing: Timing, config: GlmConfig, confounds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weights whose product with a run is its betas: (trial, time).

    The design of trial t is the same for all voxels. With M the projection onto what the nuisances leave, β_t is a
    row of the pseudo-inverse of ``M [x_t, Σ_{s≠t} x_s]`` times y (Frisch–Waugh–Lovell; that row lies in M's range, so y
    need not be projected). All voxels of all trials thus cost one matrix product.

    The weights of a trial whose response lies outside the run are NaN where ``noisy_trials`` is "drop".

    Raises
    ------
    SourceError
        A trial's regressor is empty, or made up of the others and the nuisances; or, where ``noisy_trials`` is
        "refuse", a trial's noise is more than `NOISY` times the median (see `noise_gains`).
    """
    regressors = trial_regressors(events, timing, config)
    own = regressors[:, :, 0]
    faint = _faint(own)
    if config.noisy_trials != "drop":
        _refuse_faint(faint, events, timing)
    basis = nuisance_basis(timing, config, confounds)
    others = regressors.sum(axis=0) - regressors
    design = np.concatenate([_orthogonalised(regressors), others], axis=2)
    design -= basis @ (basis.T @ design)
    _refuse_collinear(own, design, events, ~faint)
    weights = np.asarray(np.linalg.pinv(design, rcond=RANK)[:, 0])
    weights[faint] = np.nan
    if config.noisy_trials == "refuse":
        _refuse_noisy(weights, events, timing, config)
    return weights


def noise_gains(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise of each trial's beta over that of the run's median trial, (trial,); infinite for NaN.

    With noise of the same variance σ² in all volumes, independent, a beta's variance is σ² |w|², w (time,) being the
    trial's row of `weights`: the ratio is that of the rows' norms.
    """
    norms = np.linalg.norm(weights, axis=1)
    known = np.isfinite(norms)
    return np.where(known, norms / np.median(norms[known]) if known.any() else 1.0, np.inf)


def late_trials(events: Events, timing: Timing) -> NDArray[np.bool_]:
    """Return which trials begin less than `RESPONSE_S` before the run's end, (trial,)."""
    return np.asarray(events.onset_s > timing.start_s + timing.length_s - RESPONSE_S)


def trial_regressors(events: Events, timing: Timing, config: GlmConfig) -> NDArray[np.float64]:
    """Return every trial's regressors: (trial, time, basis), the haemodynamic response first, then its derivatives.

    An event of duration 0 is an impulse; among events that last, it has the area of one of them (`Events.impulse_s`),
    so that its beta has the unit of theirs.

    Raises `SourceError` where a trial has no duration and the config gives none.
    """
    from nilearn.glm import first_level  # takes seconds, and only those who ingest need it

    durations_s, amplitudes = _durations(events, timing, config)
    shape, *derivatives = config.hrf.split(" + ")
    names = [f"{shape}_hrf", *(f"{shape}_{DERIVATIVES[name]}" for name in derivatives)]
    regressors = np.empty((len(events.places), timing.volumes, len(names)))
    for trial, event in enumerate(zip(events.onset_s, durations_s, amplitudes, strict=True)):
        # One kernel at a time: of several, nilearn would make the later ones orthogonal, and their sums over trials
        # would no longer be the regressors of all trials together.
        for basis, name in enumerate(names):
            regressors[trial, :, basis] = first_level.compute_regressor(
                tuple([value] for value in event),
                getattr(first_level, name),
                timing.times_s,
                oversampling=OVERSAMPLING,
            )[0][:, 0]
    return regressors


def _durations(events: Events, timing: Timing, config: GlmConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how long each trial's event lasts, and its height, (trial,) each."""
    heights = np.ones_like(events.onset_s)
    if config.duration_s is not None:
        return np.full_like(events.onset_s, config.duration_s), heights
    for index in np.flatnonzero(np.isnan(events.duration_s)):
        raise SourceError(f"{events.places[index]}: duration is n/a; give it, or set source.response.duration_s")
    lasting = events.duration_s > 0
    typical_s = events.impulse_s
    if typical_s is None and lasting.any():
        typical_s = float(np.median(events.duration_s[lasting]))
    if typical_s is not None:
        heights[~lasting] = typical_s * OVERSAMPLING / timing.tr_s
    return events.duration_s, heights


def nuisance_basis(timing: Timing, config: GlmConfig, confounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an orthonormal basis of confounds, drifts and the constant: (time, rank)."""
    from nilearn.glm.first_level import make_first_level_design_matrix

    drifts = make_first_level_design_matrix(
        timing.times_s, drift_model=config.drift, drift_order=config.drift_order, high_pass=config.high_pass_hz
    ).to_numpy()
    columns = np.column_stack([confounds, drifts])
    norms = np.linalg.norm(columns, axis=0)
    # By singular values: confounds such as motion's powers may depend on each other, which QR would not see.
    left, singular, _ = np.linalg.svd(columns / np.where(norms > 0, norms, 1), full_matrices=False)
    return np.asarray(left[:, singular > RANK * singular[0]])


def _orthogonalised(regressors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make each trial's derivatives orthogonal to the regressors before them, as nilearn does: (trial, time, basis)."""
    q, r = np.linalg.qr(regressors)
    return np.asarray(q * np.diagonal(r, axis1=1, axis2=2)[:, None])


def _faint(own: NDArray[np.float64]) -> NDArray[np.bool_]:
    norms = np.linalg.norm(own, axis=1)
    return np.asarray(norms <= FAINT * np.median(norms))


def _refuse_faint(faint: NDArray[np.bool_], events: Events, timing: Timing) -> None:
    late = late_trials(events, timing)
    for index in np.flatnonzero(faint):
        onset = f"onset {events.onset_s[index]:g} s"
        if late[index]:
            raise SourceError(
                f"{events.places[index]}: the run ends before the response to this event ({onset}) begins, so it "
                "cannot be estimated; remove the event, name its value in source.ignore, or set "
                "source.response.noisy_trials to drop"
            )
        raise SourceError(
            f"{events.places[index]}: this event ({onset}) lasts {events.duration_s[index]:g} s, too short beside the "
            f"run's median of {np.median(events.duration_s):g} s for a response of its own; set "
            "source.response.duration_s, the length of all trials, or remove the event"
        )


def _refuse_noisy(weights: NDArray[np.float64], events: Events, timing: Timing, config: GlmConfig) -> None:
    gains = noise_gains(weights)
    noisy = np.flatnonzero(gains > NOISY)
    if not len(noisy):
        return
    index = int(noisy[0])
    more = f", as {len(noisy) - 1} more of this run have too much" if len(noisy) > 1 else ""
    raise SourceError(
        f"{events.places[index]}: the response to this event would have {gains[index]:.1f} times the noise of the "
        f"run's median trial (at most {NOISY:g} is expected): {why_noisy(index, events, timing, config)}{more}; set "
        "source.response.noisy_trials to drop or to keep, or remove the event"
    )


def why_noisy(index: int, events: Events, timing: Timing, config: GlmConfig) -> str:
    """Return the likely reason why a trial's beta has more noise than the others of its run."""
    onset_s, duration_s = events.onset_s[index], events.duration_s[index]
    if late_trials(events, timing)[index]:
        left_s = timing.start_s + timing.length_s - onset_s
        return f"its onset, {onset_s:g} s, is {left_s:.3g} s before the run's end"
    usual_s = float(np.median(events.duration_s))
    if config.duration_s is None and 0 < duration_s < usual_s / 2:
        return (
            f"it lasts {duration_s:g} s, the run's median event {usual_s:g} s (source.response.duration_s gives all "
            "trials one length)"
        )
    return f"at {onset_s:g} s, little of its regressor differs from the other events, the confounds and the drifts"


def _refuse_collinear(
    own: NDArray[np.float64], design: NDArray[np.float64], events: Events, looked_at: NDArray[np.bool_]
) -> None:
    """Look at what the others' regressors leave of each trial's, after the nuisances were taken out of both."""
    for index in np.flatnonzero(looked_at):
        columns = design[index]
        rest, norm = columns[:, 1:], np.linalg.norm(own[index])
        fitted = rest @ np.linalg.lstsq(rest, columns[:, 0], rcond=RANK)[0]
        if np.linalg.norm(columns[:, 0] - fitted) <= COLLINEAR * norm:
            raise SourceError(
                f"{events.places[index]}: this event's regressor is made up of the run's other events, confounds and "
                "drifts, so it has no response of its own; use fewer confounds or drifts, or remove the event"
            )
