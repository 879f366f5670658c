"""The class `Metric`, and the registry to which each file of this folder adds its metrics."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from core.config import nearest
from core.errors import ConfigError
from evaluation.metrics.protocols import Protocol

Array: TypeAlias = NDArray[Any]
PerStimulus: TypeAlias = NDArray[np.float64]
"""One value a stimulus, shape (n,)."""
Groups: TypeAlias = Sequence[Any] | Array
"""One class label a stimulus, length n."""
Function: TypeAlias = Callable[[Array, Array, Array | None], PerStimulus]
Chance: TypeAlias = float | Callable[[Array], float] | None
"""Score of guessing: a number, a function of the truth where it depends on that, or None where there is none."""
OfSimilarity: TypeAlias = Callable[[NDArray[np.float64], Array | None], PerStimulus]
"""Scores from the correlations (n, n) of every prediction with every truth, and from the groups."""
View: TypeAlias = Literal[
    "vectors", "centred", "frames", "frame_vectors", "classes", "labels", "words", "caption_score"
]

SPACES_OF: dict[View, tuple[str, ...]] = {
    "frames": ("frames",),
    "frame_vectors": ("clip_frames",),
    "classes": ("video_classes", "frame_classes"),
    "labels": ("video_attributes", "caption_attributes"),
    "words": ("captions",),
    "caption_score": ("caption_clip",),
}
"""The spaces of every view but `vectors` and `centred`, which apply to all others."""
DIMENSIONS: dict[View, tuple[int, ...]] = {
    "frames": (5,),
    "frame_vectors": (3,),
    "classes": (2, 3),
    "labels": (2,),
    "words": (1, 2),
    "caption_score": (3,),
}
"""Number of axes of the truth, by view."""
EXPECTED: dict[View, str] = {
    "vectors": "(n, ...)",
    "centred": "(n, ...)",
    "frames": "clips (n, frame, height, width, 3)",
    "frame_vectors": "(n, frame, width)",
    "classes": "(n, class) or (n, frame, class)",
    "labels": "(n, attribute)",
    "words": "captions (n,) or (n, reference)",
    "caption_score": "(n, frame, width)",
}


@dataclass(frozen=True)
class Metric:
    """A metric under its name; the function does the work on inputs that have been checked."""

    name: str
    label: str
    """Name in tables; it names the variant where several are in use."""
    chance: Chance
    function: Function
    of_similarity: OfSimilarity | None = None
    """The same from `vectors.similarity` of the two, where the metric needs nothing else: metrics of one space and
    orders of the stimuli then share it."""
    influence: Function | None = None
    """How much each stimulus moves the mean, (n,), where other stimuli's values depend on it; see `influences`."""
    influence_of_similarity: OfSimilarity | None = None
    """The same from `vectors.similarity`, for metrics with `of_similarity`."""
    pairs: Function | None = None
    """The value of every prediction for every truth, (n, n), where that is cheap; metrics with `of_similarity` need
    none."""
    chance_in_centred: bool = False
    """Whether guessing earns `chance` only in spaces less their training mean: elsewhere all stimuli resemble each
    other, and so does a guess."""
    view: View = "vectors"
    """Which arrays the metric takes. `vectors` flattens each stimulus, whatever the space; `centred` does so only in
    spaces less their training mean (see `evaluation.statistics.spaces`); the others take the spaces of `SPACES_OF`."""
    higher_is_better: bool = True
    span: tuple[float, float] = (-math.inf, math.inf)
    """The smallest and the largest possible value."""
    follows: Protocol | None = None
    """The published protocol that it computes; values compare with published ones where `Protocol.claim` says so."""
    without_value: str = ""
    """What a truth is like that gives no value whatever is predicted, after its stimulus: "shows no colour"; see
    `defined`."""
    needs_groups: bool = False
    min_side: int = 1
    """For `frames`: pixels of a frame's shorter side, at least."""
    min_stimuli: int = 1
    """Stimuli that the metric needs."""
    min_frames: int = 1
    """For `frames` and `frame_vectors`: frames of a clip, at least."""
    min_classes: int = 1
    """For `classes`: classes, at least."""

    @property
    def depends_on_set(self) -> bool:
        """Whether the value of a stimulus depends on which others are scored, as those of identification and R² do.

        Such values are never subtracted across different sets of stimuli; see `evaluation.statistics.candidates`.
        """
        return self.influence is not None

    @property
    def protocol(self) -> str:
        """The published protocol and what it demands, in words; empty where there is none."""
        return "" if self.follows is None else str(self.follows)

    @property
    def source(self) -> str:
        """The function's docstring: what the metric computes, and its source."""
        return inspect.getdoc(self.function) or ""

    def applies_to(self, shape: tuple[int, ...], groups: Groups | None = None) -> bool:
        """Return whether a truth of this shape, (n, ...), can be scored by this metric."""
        if (self.needs_groups and groups is None) or not shape or shape[0] < self.min_stimuli:
            return False
        if self.view not in DIMENSIONS:
            return len(shape) >= 2
        if len(shape) not in DIMENSIONS[self.view]:
            return False
        if self.view == "classes":
            return shape[-1] >= self.min_classes
        if self.view in ("frames", "frame_vectors") and shape[1] < self.min_frames:
            return False
        return self.view != "frames" or (shape[-1] == 3 and min(shape[2:4]) >= self.min_side)

    def chance_of(self, truth: Array | None) -> float | None:
        """Return the score of guessing on a truth; None where there is no fixed value or the truth is missing."""
        if not callable(self.chance):
            return self.chance
        return None if truth is None else self.chance(truth)

    def influences(self, prediction: Array, truth: Array, groups: Groups | None = None) -> PerStimulus:
        """Return how much each stimulus moves the mean over stimuli, (n,): the jackknife's pseudo-values.

        With θ the mean of all n and θ₋ₖ that without stimulus k, as a prediction *and* as a candidate or a part of a
        denominator, n θ − (n − 1) θ₋ₖ, shifted so that their mean is θ (Tukey 1958, *Annals of Mathematical Statistics*
        29:614). Their standard deviation over √n is the standard error of θ. They are the values themselves where a
        stimulus's value depends on nothing else, and where too few stimuli remain without one.

        Parameters and errors are those of `per_stimulus`.
        """
        self.check(prediction, truth, groups)
        kinds = None if groups is None else np.asarray(groups)
        function = self.influence or self.function
        return np.asarray(function(prediction, truth, kinds), dtype=np.float64)

    def counted(self, n: int, groups: Groups | None = None) -> NDArray[np.bool_]:
        """Return which stimuli count, shape (n,).

        A metric within classes does not count a stimulus alone in its class; every other metric counts all, but for
        those without a value by their truth (`defined`). A stimulus that counts and has no value (a NaN prediction)
        makes the mean undefined.
        """
        if not self.needs_groups or groups is None:
            return np.ones(n, dtype=bool)
        _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        return np.asarray(sizes[index] > 1)

    def defined(self, truth: Array, groups: Groups | None = None) -> NDArray[np.bool_]:
        """Return which truths give a value at all, (n,): those that have one where the truth itself is predicted.

        A clip without colour has no hue, whatever is predicted for it. All where none gives one: the reason is then
        not a stimulus's own (a single stimulus has nothing to be compared with). Raises as `per_stimulus` does.
        """
        found = np.isfinite(self.per_stimulus(self._perfect(truth), truth, groups))
        return found if found.any() else np.ones(len(truth), dtype=bool)

    def _perfect(self, truth: Array) -> Array:
        """Return a prediction of every truth by itself: of several references the first, of frames their mean."""
        if self.view == "words" and truth.ndim == 2:
            return truth[:, 0]
        return truth.mean(axis=1) if self.view == "caption_score" else truth

    def per_stimulus(self, prediction: Array, truth: Array, groups: Groups | None = None) -> PerStimulus:
        """Score every stimulus.

        Parameters
        ----------
        prediction, truth : arrays of one shape, (n, ...)
            `frames` metrics take clips (n, frame, height, width, 3), uint8 or floats from 0 to 1. `words` take captions
            (n,) and references (n,) or (n, reference); `caption_score` takes (n, width) and (n, frame, width).

        Returns
        -------
        array, shape (n,)
            NaN for a stimulus whose prediction is not finite.

        Raises
        ------
        ValueError
            The shapes differ or do not suit the metric, or the truth holds a value that is not finite.
        """
        self.check(prediction, truth, groups)
        values = self.function(prediction, truth, None if groups is None else np.asarray(groups))
        scored = np.asarray(values, dtype=np.float64)
        if scored.shape != (len(truth),):
            raise ConfigError(
                f"metric '{self.name}' returns the shape {scored.shape} for {len(truth)} stimuli; return one value each"
            )
        return scored

    def check(self, prediction: Array, truth: Array, groups: Groups | None = None) -> None:
        """Raise `ValueError` where `per_stimulus` does."""
        alike = prediction.shape == truth.shape
        if self.view == "words":
            alike = prediction.shape == truth.shape[:1]
        elif self.view == "caption_score":
            alike = prediction.shape == (truth.shape[0], truth.shape[-1])
        if not alike:
            raise ValueError(f"{self.name}: prediction {prediction.shape} and truth {truth.shape}; expected one shape")
        if not self.applies_to(truth.shape, groups):
            raise ValueError(f"{self.name}: found shape {truth.shape}; expected {self._expected()}")
        if groups is not None and len(groups) != len(truth):
            raise ValueError(f"{self.name}: {len(groups)} groups for {len(truth)} stimuli; expected one each")
        if self.view == "words":
            return
        finite = np.isfinite(truth.reshape(len(truth), -1)).all(axis=1)
        if not finite.all():
            raise ValueError(f"{self.name}: truth row {int(np.argmin(finite))} is not finite; repair the targets")

    def _expected(self) -> str:
        wanted = EXPECTED[self.view]
        wanted += f" with n from {self.min_stimuli}" if self.min_stimuli > 1 else ""
        wanted += f" with sides from {self.min_side}" if self.min_side > 1 else ""
        wanted += f" with {self.min_frames} frames or more" if self.min_frames > 1 else ""
        wanted += f" with {self.min_classes} classes or more" if self.min_classes > 1 else ""
        return wanted + (" and groups" if self.needs_groups else "")


def chance_of_others(function: Function, *, max_others: int | None = None) -> Callable[[Array], float]:
    """Return a chance level: a metric's mean where each stimulus's prediction is the truth of another one.

    The truths of `max_others` others at most, by default of all, are dealt to each; they are evenly spaced in the
    stimuli's order, so nothing is drawn at random. Of captions with several references the first is dealt. NaN below
    two stimuli. A stimulus without a value does not count.
    """

    def chance(truth: Array) -> float:
        dealt = _dealt_captions(truth) if truth.dtype.kind in "OU" else truth
        count = max(min(len(truth) - 1, max_others or len(truth)), 0)
        steps = 1 + np.arange(count) * (len(truth) - 1) // max(count, 1)
        values = np.array([function(np.roll(dealt, step, axis=0), truth, None) for step in steps])
        known = values[np.isfinite(values)]
        return float(known.mean()) if known.size else float("nan")

    return chance


def _dealt_captions(truth: Array) -> Array:
    """Return the first of each stimulus's captions (n,) or (n, reference); None where it has none to deal."""
    rows = truth.reshape(len(truth), -1)
    return np.array([row[0] if any(caption.strip() for caption in row) else None for row in rows], dtype=object)


_METRICS: dict[str, Metric] = {}


def register(
    name: str, *, label: str, chance: Chance, span: tuple[float, float], **settings: Any
) -> Callable[[Function], Function]:
    """Register a function ``(prediction, truth, groups) -> (n,)`` as a metric; see `Metric` for the settings.

    Raises
    ------
    ConfigError
        The name is taken or holds a '.', the function does not take three arrays, or the view is unknown.
    """

    def add(function: Function) -> Function:
        if name in _METRICS:
            raise ConfigError(f"metric '{name}' is registered twice; choose another name")
        added = Metric(name, label, chance, function, span=span, **settings)
        if fault := _fault_of(added):
            raise ConfigError(f"metric '{name}' ({function.__module__}): {fault}")
        _METRICS[name] = added
        return function

    return add


def _fault_of(added: Metric) -> str | None:
    """Return, in words, what a metric lacks before it is computed for the first time; None where it lacks nothing."""
    if "." in added.name:
        return "its name holds a '.', which parts a space from a metric; rename it"
    if added.view not in get_args(View):
        return f"there is no view '{added.view}'{nearest(added.view, list(get_args(View)))}"
    for what in ("function", "influence", "pairs"):
        function = getattr(added, what)
        try:
            if function is not None:
                inspect.signature(function).bind(None, None, None)
        except TypeError:
            taken = ", ".join(inspect.signature(function).parameters)
            return f"{what} takes ({taken}), expected (prediction, truth, groups); see evaluation/metrics/__init__.py"
    return None


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
