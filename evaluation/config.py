"""Settings of a study's evaluation; the metrics themselves are registered in `evaluation.metrics`."""

from typing import Any

from pydantic import Field, field_serializer, field_validator

from core.config import Config, nearest
from evaluation.metrics import metric_names

ONLY_WHERE_NAMED = ("epe_512", "epe_512_luma")
"""Metrics that are computed only where a study names them: they take much longer than all others together."""
LOW_LEVEL = "low_level"
"""The control that is no row but a space: targets less what luminance, contrast and motion explain."""
DEFAULT_CONTROLS = ("category", "time_only", "nuisance", "still", "shuffled_frames", LOW_LEVEL)
"""Controls of every report, as far as the data allow."""
CONTROLS_BY_NAME = ("other_brain", "caption_only", "z_only")
"""Controls that are computed only where a study names them."""
WORDS_FOR_CONTROLS = {"default": DEFAULT_CONTROLS, "all": DEFAULT_CONTROLS + CONTROLS_BY_NAME}
"""What stands for several controls in `EvaluationConfig.controls`."""


def default_metrics() -> tuple[str, ...]:
    """Return the metrics of every study that says nothing else: all but `ONLY_WHERE_NAMED`."""
    return tuple(name for name in metric_names() if name not in ONLY_WHERE_NAMED)


class MetricsConfig(Config):
    """Which metrics a study's YAML names: beside the default ones, or in their place; one of the two."""

    add: list[str] | None = None
    replace: list[str] | None = Field(None, min_length=1)

    def names(self) -> tuple[str, ...]:
        """Return the metrics that are computed, each once."""
        if (self.add is None) == (self.replace is None):
            raise ValueError("expected a list, which adds to the defaults, or either 'add' or 'replace'")
        return tuple(dict.fromkeys(self.replace or [*default_metrics(), *(self.add or ())]))


class EvaluationConfig(Config):
    """Which metrics, and whether the models are cross-validated over all stimuli as well."""

    metrics: tuple[str, ...] = Field(default_factory=default_metrics)
    """`space.metric`, or bare names, which stand for every space they apply to; metrics that need more stimuli are
    skipped. A list is computed beside the defaults (all but `ONLY_WHERE_NAMED`), as ``{add: […]}`` is, and
    ``{replace: […]}`` in their place. Python code may also hand over a tuple, which is taken as it is."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _added_or_replaced(cls, value: Any) -> Any:
        if isinstance(value, list):
            value = {"add": value}
        return MetricsConfig.model_validate(value).names() if isinstance(value, dict) else value

    @field_serializer("metrics")
    def _as_chosen(self, names: tuple[str, ...]) -> dict[str, list[str]]:
        """Return what is read again as the same metrics."""
        return {"replace": list(names)}

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = metric_names()
        for name in names:
            short = name.rpartition(".")[2]
            if short not in known:
                raise ValueError(f"unknown metric '{short}'{nearest(short, known)}")
        return names

    folds: int | None = Field(default=None, ge=2)
    """With K folds, training also reports a K-fold cross-validation over all stimuli, training and test together;
    it is never used to choose or to register a model."""
    fold_repeats: int = Field(default=10, ge=1)
    """How often the cross-validation is repeated with other folds; a single partition of few stimuli is noisy."""
    permutations: int = Field(default=20, ge=1)
    """Shuffled orders that the shuffled-brain control is averaged over."""
    frame_permutations: int = Field(default=4, ge=1)
    """The same for metrics that compare frames, which take longest."""
    allow_dense_time: bool = False
    """Whether a study is trained and scored although its test trials are dense in time: among training trials of the
    same run or movie, in an order that is not random (see `evaluation.diagnoses.time`). Reports then say so."""
    controls: tuple[str, ...] = DEFAULT_CONTROLS
    """Which rows and spaces of docs/believing.md are computed beside those of every report: names, and `default` or
    `all` for several; none with ``[]``."""
    clusters: int = Field(default=10, ge=2)
    """Clusters of training targets that take the place of classes in the row `category` where stimuli have none."""

    render_controls: bool = False
    """Whether `category`, `time_only` and `nuisance` go through the generator, as the reconstruction does. By default
    their z is decoded directly, which takes a fraction of the time and leaves clips more blurred."""

    @field_validator("controls")
    @classmethod
    def _known_controls(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = [*WORDS_FOR_CONTROLS["all"], *WORDS_FOR_CONTROLS]
        for name in names:
            if name not in known:
                raise ValueError(f"unknown control '{name}'{nearest(name, known)}")
        chosen = {control for name in names for control in WORDS_FOR_CONTROLS.get(name, (name,))}
        return tuple(control for control in WORDS_FOR_CONTROLS["all"] if control in chosen)

    def controls_left_out(self) -> list[str]:
        """Return a note on the controls that are not computed because the study does not name them."""
        others = [control for control in WORDS_FOR_CONTROLS["all"] if control not in self.controls]
        return [f"not computed: {', '.join(others)}; name them in evaluation.controls"] if others else []
