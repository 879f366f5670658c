"""What a study's evaluation is asked for; the metrics themselves are registered in `evaluation.metrics`."""

from pydantic import Field

from core.config import Config


class EvaluationConfig(Config):
    """Which metrics, and whether the models are cross-validated over all stimuli as well."""

    metrics: tuple[str, ...] = ("two_way", "two_way_within_class", "correlation", "ssim", "psnr")
    """`space.metric`, or bare names, which stand for every space they apply to."""
    folds: int | None = Field(default=None, ge=2)
    """With K folds, training also reports a K-fold cross-validation over all stimuli, training and test together;
    nothing of it is used to choose or to register a model."""
    fold_repeats: int = Field(default=10, ge=1)
    """How often the cross-validation is repeated with other folds; one partition of few stimuli says little."""
    permutations: int = Field(default=20, ge=1)
    """Shuffled orders that the shuffled-brain control of predicted targets is averaged over."""
