"""One metric a file, each registered by name; `metric(name)` returns it.

To add one, write a file with a function under `@register(...)` and import it here.
"""

from evaluation.metrics import correlation, psnr, r2, retrieval, ssim, two_way, two_way_within_class
from evaluation.metrics.registry import Array, Groups, Metric, PerStimulus, metric, metric_names, register

__all__ = [
    "Array",
    "Groups",
    "Metric",
    "PerStimulus",
    "correlation",
    "metric",
    "metric_names",
    "psnr",
    "r2",
    "register",
    "retrieval",
    "ssim",
    "two_way",
    "two_way_within_class",
]
