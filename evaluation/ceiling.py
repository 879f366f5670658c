"""How far noise in the test responses limits the predictions made from them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.correlation import correlation
from evaluation.metrics.registry import PerStimulus


def prediction_ceiling(halves_a: NDArray[Any], halves_b: NDArray[Any]) -> PerStimulus:
    """Return the largest correlation that predictions with this much test noise can have with a noiseless truth.

    A prediction averaged over repetitions is what the stimulus evokes plus noise. The correlation r of a stimulus's
    predictions from two halves of its repetitions is the share of what is evoked in half a prediction's variance over
    features; 2 r / (1 + r) is that share in the prediction from all repetitions (Spearman 1910 and Brown 1910, *British
    Journal of Psychology* 3:271 and 3:296). The square root of a reliability bounds the correlation with anything the
    noise knows nothing of (Spearman 1904, *American Journal of Psychology* 15:72). Together that is CC_max of Schoppe
    et al. (2016, *Frontiers in Computational Neuroscience* 10:10), estimated from halves as Hsu, Borst and Theunissen
    (2004, *Network* 15:91) do, with the noise in the predictions instead of in what is predicted.

    It says what less test noise could bring this model, and nothing about better models: one that weighs the voxels
    otherwise has another ceiling, and one that predicts nonsense reliably has a high one. The estimate takes noise to
    be independent between the halves (repetitions of one run may share some) and averages of predictions to be the
    predictions of averages, as linear models' are. Each stimulus's r is itself noisy, most of all with few features:
    clipping at 0 raises the mean over stimuli where nearly nothing is reliable, and the root's bend lowers it slightly.

    Parameters
    ----------
    halves_a, halves_b : arrays of one shape, (n, ...)
        Predictions less the training mean, each averaged over one of two disjoint halves, equal in number, of the
        stimulus's test repetitions.

    Returns
    -------
    array, shape (n,)
        From 0 to 1; NaN where a prediction is not finite. It goes into the row `noise_ceiling` as
        `<space>_centred.correlation`.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if halves_a.shape != halves_b.shape:
        raise ValueError(f"halves {halves_a.shape} and {halves_b.shape}; expected one shape")
    r = np.clip(correlation(halves_a, halves_b, None), 0.0, 1.0)
    return np.asarray(np.sqrt(2 * r / (1 + r)))
