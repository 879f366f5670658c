"""Trials as betas of a general linear model: least squares separate, each trial against all others of its run.

For trial t of a run::

    y = x_t β_t + (Σ_{s≠t} x_s) γ_t + N ν_t + ε

with x_s the trial's event convolved with the haemodynamic response, and N the confounds, drifts and a constant. The
responses are the β_t (Mumford et al. 2012; Turner et al. 2012, "LS-S"). Regressors are nilearn's.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, PositiveInt

from core.config import Config
from core.errors import SourceError, SourceMissing
from feature_store.sources.bids.events import read_tsv
from feature_store.sources.bids.files import hint
from feature_store.sources.tables import present
from feature_store.sources.timeseries.scaling import Events, Standardise, Timing, refuse_outside, standardised

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
RANK = 1e-10
"""Singular values below this part of the largest are nought."""
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
    """How long all trials last; by default as long as their events say."""
    standardise: Standardise = "psc"


def read_confounds(path: Path | None, patterns: Sequence[str], *, volumes: int, image: Path) -> NDArray[np.float64]:
    """Read those columns of a run's confounds that are asked for.

    Parameters
    ----------
    path : the table, or None where the run has none
    patterns : sequence of str
        Names, or patterns as of file names.
    volumes : int
        How many rows the table must have.
    image : the run's image, for messages

    Returns
    -------
    array of shape (volumes, confound); a missing value in the first row is 0, as derivatives have none there

    Raises
    ------
    SourceMissing, SourceError
        There is no table, it lacks a column or rows, or a value is no number.
    """
    if not patterns:
        return np.zeros((volumes, 0))
    if path is None:
        raise SourceMissing(
            f"{image}: no *_desc-confounds_timeseries.tsv beside it, and source.response.confounds asks for "
            f"'{patterns[0]}'; set source.derivatives to fMRIPrep's output, or drop the confounds"
        )
    table = read_tsv(present(path, "run fMRIPrep again"), [])
    columns: dict[str, None] = {}
    for pattern in patterns:
        matching = [name for name in table.columns if fnmatchcase(name, pattern)]
        if not matching:
            raise SourceError(f"{path}: no confound matches '{pattern}'{hint(pattern, list(table.columns))}")
        columns.update(dict.fromkeys(matching))
    if len(table) != volumes:
        raise SourceError(
            f"{path}: has {len(table)} rows, {image.name} has {volumes} volumes; they must be equal; take both "
            "from one run of the preprocessing"
        )
    return np.column_stack([_numbers(table[name], path) for name in columns])


def _numbers(column: "pd.Series[Any]", path: Path) -> NDArray[np.float64]:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, copy=True)
    if np.isnan(numbers[0]):
        numbers[0] = 0
    for row in np.flatnonzero(~np.isfinite(numbers)):
        raise SourceError(
            f"{path} line {row + 2}: {column.name} is '{column.iloc[row]}', no number; only the first row may lack "
            "one; drop this confound"
        )
    return numbers


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
    """Estimate one response per trial and voxel; see the module's equation.

    Parameters
    ----------
    series : array of shape (time, voxel)
        The run as it was recorded.
    events, timing : what happened when
    config : the model
    confounds : array of shape (time, confound)
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
    weights = trial_weights(events, timing, config, confounds)
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

    Raises
    ------
    SourceError
        A trial's regressor is empty, or made up of the others and the nuisances.
    """
    regressors = trial_regressors(events, timing, config)
    _refuse_faint(regressors[:, :, 0], events)
    basis = nuisance_basis(timing, config, confounds)
    others = regressors.sum(axis=0) - regressors
    design = np.concatenate([_orthogonalised(regressors), others], axis=2)
    design -= basis @ (basis.T @ design)
    _refuse_collinear(regressors[:, :, 0], design, events)
    return np.asarray(np.linalg.pinv(design, rcond=RANK)[:, 0])


def trial_regressors(events: Events, timing: Timing, config: GlmConfig) -> NDArray[np.float64]:
    """Return every trial's regressors: (trial, time, basis), the haemodynamic response first, then its derivatives.

    Raises
    ------
    SourceError
        A trial has no duration and the config gives none.
    """
    from nilearn.glm import first_level  # takes seconds, and only those who ingest need it

    durations_s = events.duration_s if config.duration_s is None else np.full_like(events.onset_s, config.duration_s)
    for index in np.flatnonzero(np.isnan(durations_s)):
        raise SourceError(f"{events.places[index]}: duration is n/a; give it, or set source.response.duration_s")
    shape, *derivatives = config.hrf.split(" + ")
    names = [f"{shape}_hrf", *(f"{shape}_{DERIVATIVES[name]}" for name in derivatives)]
    made = np.empty((len(events.places), timing.volumes, len(names)))
    for trial, event in enumerate(zip(events.onset_s, durations_s, strict=True)):
        # One kernel at a time: of several, nilearn would make the later ones orthogonal, and their sums over trials
        # would no longer be the regressors of all trials together.
        for basis, name in enumerate(names):
            condition = (*([value] for value in event), [1.0])
            made[trial, :, basis] = first_level.compute_regressor(
                condition, getattr(first_level, name), timing.times_s
            )[0][:, 0]
    return made


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
    """Make each trial's derivatives orthogonal to what stands before them, as nilearn does: (trial, time, basis)."""
    q, r = np.linalg.qr(regressors)
    return np.asarray(q * np.diagonal(r, axis1=1, axis2=2)[:, None])


def _refuse_faint(own: NDArray[np.float64], events: Events) -> None:
    norms = np.linalg.norm(own, axis=1)
    for index in np.flatnonzero(norms <= FAINT * np.median(norms)):
        raise SourceError(
            f"{events.places[index]}: the run ends before the response to this event (onset "
            f"{events.onset_s[index]:g} s) begins, so it cannot be estimated; remove the event or name its "
            "value in source.ignore"
        )


def _refuse_collinear(own: NDArray[np.float64], design: NDArray[np.float64], events: Events) -> None:
    """Look at what the others' regressors leave of each trial's, after the nuisances were taken out of both."""
    for index, columns in enumerate(design):
        rest, norm = columns[:, 1:], np.linalg.norm(own[index])
        fitted = rest @ np.linalg.lstsq(rest, columns[:, 0], rcond=RANK)[0]
        if np.linalg.norm(columns[:, 0] - fitted) <= COLLINEAR * norm:
            raise SourceError(
                f"{events.places[index]}: this event's regressor is made up of the run's other events, confounds and "
                "drifts, so it has no response of its own; use fewer confounds or drifts, or remove the event"
            )
