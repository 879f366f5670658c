"""What another stimulus's truth earns: the chance level of metrics whose guesses are as good as the words in use."""

from collections.abc import Callable

import numpy as np

from evaluation.metrics.registry import Array, Function


def of_another(function: Function, *, most: int | None = None) -> Callable[[Array], float]:
    """Return a chance level: a metric's mean where each stimulus's prediction is the truth of another one.

    Parameters
    ----------
    function : the metric
    most : int, optional
        How many others each stimulus is asked of, at the most; all without. They stand evenly spaced in the stimuli's
        order, so nothing is drawn.

    Returns
    -------
    function
        Of a truth (n, ...), where words have one or several references: the first of them is what is dealt. NaN below
        two stimuli. A stimulus without a value is left out.
    """

    def chance(truth: Array) -> float:
        dealt = truth[:, 0] if truth.dtype.kind in "OU" and truth.ndim == 2 else truth
        asked = min(len(truth) - 1, most or len(truth))
        steps = 1 + np.arange(max(asked, 0)) * (len(truth) - 1) // max(asked, 1)
        values = np.array([function(np.roll(dealt, step, axis=0), truth, None) for step in steps])
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    return chance
