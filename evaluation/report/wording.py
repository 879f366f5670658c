"""How figures, metrics and rows are worded wherever people read them."""

import math
from collections.abc import Iterable

from evaluation.metrics import metric, metric_names
from evaluation.statistics.scores import REFERENCES
from evaluation.statistics.spaces import is_centred, plain

ROW_LABELS = {
    "reconstruction": "reconstruction",
    "nearest_training_clip": "nearest training clip",
    "prior": "prior",
    "mean_predictor": "mean predictor",
    "shuffled_brain": "shuffled brain",
    "oracle": "oracle",
    "noise_ceiling": "noise ceiling",
}
SPACE_LABELS = {
    "clip": "CLIP",
    "blip": "BLIP",
    "text": "caption embedding",
    "clip_frames": "CLIP",
    "video_classes": "video classes",
    "frame_classes": "frame classes",
    "video_attributes": "video",
    "caption_attributes": "caption",
    "captions": "captions",
    "caption_clip": "captions",
}
SPACES = (
    "pixels",
    "frames",
    "latents",
    "clip",
    "clip_frames",
    "blip",
    "video_attributes",
    "video_classes",
    "frame_classes",
    "text",
    "caption_attributes",
    "captions",
    "caption_clip",
)
FIRST = (
    "two_way",
    "two_way_within_class",
    "retrieval_10",
    "retrieval_50",
    "correlation",
    "r2",
    "ssim",
    "ssim_gaussian",
    "psnr",
    "hue",
    "hue_pcc",
    "epe",
    "epe_512",
    "similarity",
    "consistency_adjacent",
    "consistency_all",
    "attribute_accuracy",
    "all_attributes",
    "top_1_of_2",
    "top_1_of_50",
    "top_5_of_50",
    "published_2_way",
    "published_50_way",
    "bleu_4",
    "meteor",
    "clip_score",
)


def number(value: float | None, digits: int = 2) -> str:
    """Write a figure as papers do: .93, −.12, 1.00, 18.4, and – for none; with more digits below 10 where asked."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}" if abs(value) < 10 - 0.5 * 10**-digits else f"{abs(value):.1f}"
    sign = "−" if value < 0 and float(text) != 0 else ""
    return sign + (text[1:] if text.startswith("0.") else text)


def row_label(row: str) -> str:
    """Return a row's name in words."""
    return ROW_LABELS.get(row, row.replace("_", " "))


def space_label(space: str) -> str:
    """Return a space's name in words: "latents", and "centred latents" where the training mean is subtracted."""
    name = SPACE_LABELS.get(plain(space), plain(space))
    return f"centred {name}" if is_centred(space) else name


def metric_label(name: str) -> str:
    """Return a `space.metric` name in words, the variant included: "pixels, two-way identification"."""
    space, _, short = name.rpartition(".")
    words = metric(name).label if short in metric_names() else short.replace("_", " ")
    return f"{space_label(space)}, {words}" if space else words


def short_label(name: str) -> str:
    """Return a `space.metric` name in few words, for a small place: "pixels two-way"."""
    return metric_label(name).split(" (")[0].replace(" identification", "").replace(",", "")


def ordered_rows(rows: Iterable[str]) -> list[str]:
    """Put rows in the order in which they are shown: reconstruction, other models as they come, what is no model."""

    def place(row: str) -> int:
        if row in REFERENCES:
            return 2 + REFERENCES.index(row)
        return 0 if row == "reconstruction" else 1

    return sorted(rows, key=place)


def ordered_metrics(names: Iterable[str]) -> list[str]:
    """Put `space.metric` names in the order in which they are shown: by space, then centred, identification first."""
    known = [*FIRST, *metric_names()]

    def place(name: str) -> tuple[int, str, bool, int, str]:
        space, _, short = name.rpartition(".")
        of_space = SPACES.index(plain(space)) if plain(space) in SPACES else len(SPACES)
        of_metric = known.index(short) if short in known else len(known)
        return of_space, plain(space), is_centred(space), of_metric, short

    return sorted(set(names), key=place)
