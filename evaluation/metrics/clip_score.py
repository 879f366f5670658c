"""CLIPScore: how well a decoded caption describes what was seen, without any caption to compare with."""

import numpy as np

from evaluation.metrics.frame_vectors import unit_vectors
from evaluation.metrics.registry import Array, PerStimulus, register

WEIGHT = 2.5


@register("clip_score", label="CLIPScore of the caption", chance=None, span=(0.0, WEIGHT), view="caption_score")
def clip_score(prediction: Array, truth: Array, groups: Array | None = None) -> PerStimulus:  # noqa: ARG001
    """Hold a caption against the frames that were seen: 2.5 × max(cos(text, frame), 0), averaged over frames.

    The cosine is that of the decoded caption's CLIP text embedding (n, width) and the CLIP image embedding of each
    frame (n, frame, width); an empty caption, a zero vector, earns 0. At most 2.5, higher is better. Hessel et al.
    (EMNLP 2021), whose images are the frames here; they put "A photo depicts" before each caption.

    The trap: texts and images lie in different regions of CLIP's space, so that the best caption stays far below 2.5
    and an unrelated one far above 0. Guessing earns no fixed value, and figures of different CLIP models do not
    compare: hold it against the shuffled brain's and the mean predictor's rows.
    """
    cosines = np.einsum("nw,nfw->nf", unit_vectors(prediction), unit_vectors(truth))
    return np.asarray(WEIGHT * np.clip(cosines, 0.0, 1.0).mean(axis=1))
