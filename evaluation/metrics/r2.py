"""Explained variance of the targets, R², against the training mean."""

import math

import numpy as np

from evaluation.metrics.registry import Array, PerStimulus, register


@register("r2", label="R²", chance=0.0, span=(-math.inf, 1.0), view="centred")
def r2(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Compare each prediction's squared error with what the training mean errs by: 1 − |p_i − t_i|² / mean_j |t_j|².

    In spaces less their training mean, so that |t_j|² is the training mean's squared error. The mean over stimuli is
    the pooled R², 1 − Σ|p_i − t_i|² / Σ|t_j|²: features of large variance count more, and one stimulus's value may lie
    far below 0. The training mean earns 0 exactly; guessing anything else earns less. It is the out-of-sample R² of
    Campbell and Thompson (2008, *Review of Financial Studies* 21:1509) over all features. An interval over stimuli
    resamples the errors and keeps the denominator. Where every truth is the training mean, it is NaN.
    """
    wanted = truth.reshape(len(truth), -1).astype(np.float64)
    predicted = prediction.reshape(len(prediction), -1).astype(np.float64)
    finite = np.asarray(np.isfinite(predicted).all(axis=1))
    spread = np.einsum("nf,nf->n", wanted, wanted).mean() if len(wanted) else 0.0
    if spread == 0.0:
        return np.full(len(wanted), np.nan)
    error = np.where(finite[:, None], predicted, 0.0) - wanted
    return np.where(finite, 1.0 - np.einsum("nf,nf->n", error, error) / spread, np.nan)
