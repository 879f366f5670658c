"""Controls beside every model: the mean predictor, the shuffled brain, and the noise ceiling of the test responses."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.seeds import rng_for
from evaluation.metrics import metric
from evaluation.metrics.registry import PerStimulus


def shuffle_stimuli(n: int, seed: int) -> NDArray[np.int64]:
    """Return a random order of n stimuli, uniform over all orders.

    The shuffled-brain control is the same model on ``responses[order]``: its score does not depend on the brain.
    Orders that leave a stimulus in place are not excluded: without them, a model that knows its stimuli is identified
    only (n - 2) / (2 (n - 1)) of the time, below chance, and every comparison would look better than it is.

    Raises
    ------
    ValueError
        There are fewer than two stimuli, so there is nothing to shuffle.
    """
    if n < 2:
        raise ValueError(f"{n} stimuli cannot be shuffled; the shuffled-brain control needs 2 or more")
    return rng_for(seed, "shuffle_stimuli").permutation(n)


def mean_prediction(training: NDArray[Any], n: int) -> NDArray[Any]:
    """Predict the mean of the training targets (m, ...) for each of n stimuli, (n, ...) of their dtype.

    A read-only view of one row; integers are rounded.

    Raises
    ------
    ValueError
        There is no training row.
    """
    if len(training) == 0:
        raise ValueError("no training targets; the mean predictor needs 1 or more")
    mean = training.mean(axis=0, dtype=np.float64)
    if np.issubdtype(training.dtype, np.integer):
        mean = np.rint(mean)
    return np.broadcast_to(mean.astype(training.dtype), (n, *training.shape[1:]))


def prediction_ceiling(halves_a: NDArray[Any], halves_b: NDArray[Any]) -> PerStimulus:
    """Return the largest correlation that predictions with this much test noise can have with a noiseless truth.

    A prediction averaged over repetitions is what the stimulus evokes plus noise. The correlation r of a stimulus's
    predictions from two halves of its repetitions is the share of what is evoked in half a prediction's variance over
    features; 2 r / (1 + r) is that share in the prediction from all repetitions (Spearman 1910 and Brown 1910, *British
    Journal of Psychology* 3:271 and 3:296). The square root of a reliability bounds the correlation with anything
    that is independent of the noise (Spearman 1904, *American Journal of Psychology* 15:72). Together they are CC_max
    of Schoppe et al. (2016, *Frontiers in Computational Neuroscience* 10:10), estimated from halves as Hsu, Borst and
    Theunissen (2004, *Network* 15:91) do, with the noise in the predictions instead of in the data.

    It is an upper bound for this model with less test noise, not for better models: a model with other weights of the
    voxels has another ceiling, and one that predicts nonsense reliably has a high one. The estimate assumes that noise
    is independent between the halves (repetitions of one run may share some), and that averages of predictions are the
    predictions of averages, as linear models' are. Each stimulus's r is itself noisy, most of all with few features:
    clipping at 0 raises the mean over stimuli where little is reliable, and the root's concavity lowers it slightly.

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
    r = np.clip(metric("correlation").function(halves_a, halves_b, None), 0.0, 1.0)
    return np.asarray(np.sqrt(2 * r / (1 + r)))


def with_test_noise(
    truth: NDArray[Any], predicted: NDArray[Any], halves: tuple[NDArray[Any], NDArray[Any]], mean: NDArray[Any]
) -> NDArray[np.float32] | None:
    """Return true targets with as much noise as the test responses leave in the predictions, relative to the signal.

    They are what a perfect model could predict from responses as noisy as these. Half the difference of the predictions
    from two halves of a stimulus's repetitions is noise alone, as large as that of the prediction from all of them.
    Regression shrinks signal and noise alike, so the noise is enlarged by what the signal was shrunk:
    k² = mean |t − m|² / (mean |p − m|² − mean |noise|²), over all stimuli and features, with the training mean m. The
    stimulus's own noise, so enlarged, is added to its truth; through the generator it becomes the row `noise_ceiling`,
    for every metric. The estimate assumes that noise is independent between the halves and of one relative size; a
    model with other weights of the voxels has other noise.

    Parameters
    ----------
    truth, predicted : arrays of one shape, (n, ...)
    halves : two of that shape, predicted from two disjoint halves, equal in number, of the test repetitions
    mean : the training targets' mean, (n, ...) or (...)

    Returns
    -------
    array, shape (n, ...), float32
        None where the predictions hold no more than noise: there is no signal to compare it with.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    for half in halves:
        if not half.shape == truth.shape == predicted.shape:
            raise ValueError(
                f"halves {half.shape}, predictions {predicted.shape}, truth {truth.shape}; expected one shape"
            )
    noise = np.asarray((halves[0].astype(np.float32) - halves[1].astype(np.float32)) / 2, np.float32)
    around = np.asarray(mean, np.float32)
    signal = _power(predicted.astype(np.float32) - around) - _power(noise)
    if not signal > 0:
        return None
    scale = np.float32(np.sqrt(_power(truth.astype(np.float32) - around) / signal))
    return np.asarray(truth.astype(np.float32) + scale * noise)


def _power(values: NDArray[np.float32]) -> float:
    return float(np.mean(np.square(values), dtype=np.float64))
