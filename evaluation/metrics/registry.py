"""What a metric is, and the register in which each file of this folder enters its own."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ConfigError

Array: TypeAlias = NDArray[Any]
PerStimulus: TypeAlias = NDArray[np.float64]
"""One value a stimulus, shape (n,)."""
Groups: TypeAlias = Sequence[Any] | Array
"""One class label a stimulus, length n."""
Function: TypeAlias = Callable[[Array, Array, Array | None], PerStimulus]
View: TypeAlias = Literal["vectors", "frames", "centred"]


@dataclass(frozen=True)
class Metric:
    """A metric under its name; the function does the work on inputs that have been checked."""

    name: str
    label: str
    """What a table calls it; it names the variant wherever several are in use."""
    chance: float | None
    """What guessing earns, or None where guessing earns no fixed value."""
    function: Function
    view: View = "vectors"
    """`vectors` flattens each stimulus, whatever the space; `centred` does so in spaces less their training mean alone
    (see `evaluation.centred`); `frames` needs clips."""
    higher_is_better: bool = True
    needs_groups: bool = False
    smallest_side: int = 1
    """For `frames`: the fewest pixels a frame's side may have."""
    fewest: int = 1
    """The fewest stimuli that the metric can be asked of."""

    @property
    def source(self) -> str:
        """What the metric computes and after whom: its function's docstring."""
        return inspect.getdoc(self.function) or ""

    def applies_to(self, shape: tuple[int, ...], groups: Groups | None = None) -> bool:
        """Say whether arrays of this shape, (n, ...), can be scored by this metric."""
        if self.needs_groups and groups is None:
            return False
        if len(shape) < 2 or shape[0] < self.fewest:
            return False
        if self.view != "frames":
            return True
        return len(shape) == 5 and shape[-1] == 3 and min(shape[2:4]) >= self.smallest_side

    def counted(self, n: int, groups: Groups | None = None) -> NDArray[np.bool_]:
        """Return which stimuli the question can be put to at all, shape (n,).

        A metric within classes has no question for a stimulus alone in its class; every other metric counts all.
        A stimulus that counts and has no value (a NaN prediction) makes the mean undefined.
        """
        if not self.needs_groups or groups is None:
            return np.ones(n, dtype=bool)
        _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        return np.asarray(sizes[index] > 1)

    def per_stimulus(self, prediction: Array, truth: Array, groups: Groups | None = None) -> PerStimulus:
        """Score every stimulus.

        Parameters
        ----------
        prediction, truth : arrays of one shape, (n, ...)
            `frames` metrics take clips (n, frame, height, width, 3), uint8 or floats from 0 to 1.
        groups : sequence of length n, optional
            The class of each stimulus.

        Returns
        -------
        array, shape (n,)
            NaN for a stimulus whose prediction is not finite.

        Raises
        ------
        ValueError
            The shapes differ or do not suit the metric, or the truth holds a value that is not finite.
        """
        self._check(prediction, truth, groups)
        values = self.function(prediction, truth, None if groups is None else np.asarray(groups))
        return np.asarray(values, dtype=np.float64)

    def _check(self, prediction: Array, truth: Array, groups: Groups | None) -> None:
        if prediction.shape != truth.shape:
            raise ValueError(f"{self.name}: prediction {prediction.shape} and truth {truth.shape}; expected one shape")
        if not self.applies_to(truth.shape, groups):
            wanted = f"clips with sides from {self.smallest_side}" if self.view == "frames" else "(n, ...)"
            wanted += f" with n from {self.fewest}" if self.fewest > 1 else ""
            wanted += " and groups" if self.needs_groups else ""
            raise ValueError(f"{self.name}: found shape {truth.shape}; expected {wanted}")
        if groups is not None and len(groups) != len(truth):
            raise ValueError(f"{self.name}: {len(groups)} groups for {len(truth)} stimuli; expected one each")
        finite = np.isfinite(truth.reshape(len(truth), -1)).all(axis=1)
        if not finite.all():
            raise ValueError(f"{self.name}: truth row {int(np.argmin(finite))} is not finite; repair the targets")


_METRICS: dict[str, Metric] = {}


def register(
    name: str,
    *,
    label: str,
    chance: float | None,
    view: View = "vectors",
    higher_is_better: bool = True,
    needs_groups: bool = False,
    smallest_side: int = 1,
    fewest: int = 1,
) -> Callable[[Function], Function]:
    """Enter a function ``(prediction, truth, groups) -> (n,)`` as a metric; see `Metric` for the settings.

    Raises
    ------
    ValueError
        The name is taken.
    """

    def enter(function: Function) -> Function:
        if name in _METRICS:
            raise ValueError(f"metric '{name}' is registered twice; choose another name")
        _METRICS[name] = Metric(
            name, label, chance, function, view, higher_is_better, needs_groups, smallest_side, fewest
        )
        return function

    return enter


def metric(name: str) -> Metric:
    """Return a metric by name, with or without its space: "two_way" or "pixels.two_way".

    Raises
    ------
    ConfigError
        No metric of that name is registered.
    """
    short = name.rpartition(".")[2]
    if short not in _METRICS:
        raise ConfigError(f"unknown metric '{short}'{nearest(short, metric_names())}")
    return _METRICS[short]


def metric_names() -> list[str]:
    """Return every registered name, in the order of registration."""
    return list(_METRICS)
