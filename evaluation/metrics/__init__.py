"""Metrics, each registered by name: `metric(name)` returns one.

| file | what is compared | metrics |
|---|---|---|
| `vectors` | targets as vectors, in any space | two_way, two_way_within_class, retrieval_N, correlation, r2 |
| `frames` | pixels of frames | ssim, ssim_gaussian, psnr, hue, hue_pcc, epe, epe_512, epe_512_luma |
| `frames` | CLIP embeddings of frames | similarity, consistency_adjacent, consistency_all |
| `classes` | attributes and a classifier's scores | attribute_accuracy, all_attributes, top_K_of_N, published_N_way |
| `captions` | words, and CLIP embeddings of text and frames | bleu_4, meteor, clip_score |

To add a metric, write a function `(prediction, truth, groups) -> (n,)` under `@register(...)` in the file of its
subject, or in a new file that is imported below. What is registered first is shown first. Its docstring gives the
formula, the range, what chance earns, the source and the traps; a test compares it with another implementation.
"""

# isort: off
from evaluation.metrics import vectors, frames, classes, captions

# isort: on
from evaluation.metrics.registry import SPACES_OF, Array, Groups, Metric, PerStimulus, metric, metric_names, register

__all__ = [
    "SPACES_OF",
    "Array",
    "Groups",
    "Metric",
    "PerStimulus",
    "captions",
    "classes",
    "frames",
    "metric",
    "metric_names",
    "register",
    "vectors",
]
