"""One metric a file, each registered by name; `metric(name)` returns it.

To add one, write a file with a function under `@register(...)` and import it here.
"""

from evaluation.metrics import (
    bleu,
    classes,
    clip_score,
    correlation,
    flow,
    frame_vectors,
    hue,
    labels,
    meteor,
    psnr,
    r2,
    retrieval,
    ssim,
    two_way,
)
from evaluation.metrics.registry import SPACES_OF, Array, Groups, Metric, PerStimulus, metric, metric_names, register

__all__ = [
    "SPACES_OF",
    "Array",
    "Groups",
    "Metric",
    "PerStimulus",
    "bleu",
    "classes",
    "clip_score",
    "correlation",
    "flow",
    "frame_vectors",
    "hue",
    "labels",
    "meteor",
    "metric",
    "metric_names",
    "psnr",
    "r2",
    "register",
    "retrieval",
    "ssim",
    "two_way",
]
