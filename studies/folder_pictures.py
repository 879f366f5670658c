"""The pictures of an evaluated folder: the gallery page, a contact sheet, the diagnoses, the clips as scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.clips import write_clip
from core.files import canonical_json, write_bytes
from core.progress import track
from evaluation import scores
from evaluation.gallery import GalleryFigure, GalleryItem, write_gallery
from evaluation.sheet import contact_sheet, sheet_png
from evaluation.verdict import verdict
from studies.aligned_clips import Clips, Sampling
from studies.diagnosis_figure import diagnosis_figures
from studies.folder_scores import Scored
from studies.provenance import SEEN, VIDEOS

GALLERY, SHEET = "gallery.html", "sheet.png"
SHOWN = 24
"""Clips on the contact sheet, the first by name."""


def write_folder_pictures(folder: Path, name: str, made: Scored, metrics: dict[str, Any], *, fps: float) -> None:
    """Write an evaluation's gallery and pictures into its folder."""
    write_bytes(folder / SHEET, sheet_png(contact_sheet(made.seen[:SHOWN], made.made[:SHOWN])))
    write_gallery(
        folder / GALLERY,
        title=name,
        verdict=verdict(metrics),
        report=metrics,
        items=_items(made),
        fps=fps,
        figures=_diagnoses(folder, made),
    )


def write_scored(folder: Path, made: Scored, sampling: Sampling, *, fps: float) -> None:
    """Write the clips as they were scored; each says how it is to be read, should it be scored again."""
    for name, clips in ((VIDEOS, made.made), (SEEN, made.seen)):
        _write_clips(folder / name, made.stimuli, clips, sampling, fps)


def _write_clips(folder: Path, stimuli: Sequence[str], clips: Clips, sampling: Sampling, fps: float) -> None:
    said = {"comment": canonical_json({"config": {"clips": sampling.model_dump()}})}
    for stimulus, clip in track(list(zip(stimuli, clips, strict=True)), f"writing {folder.name}"):
        write_clip(folder / f"{stimulus}.mp4", clip, fps, metadata=said)


def _items(made: Scored) -> list[GalleryItem]:
    captions = made.captions
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=made.seen[index],
            reconstructed=made.made[index],
            seen_file=f"{SEEN}/{stimulus}.mp4",
            reconstructed_file=f"{VIDEOS}/{stimulus}.mp4",
            true_caption=(captions.seen[index] or None) if captions and captions.seen else None,
            decoded_caption=(captions.decoded[index] or None) if captions else None,
            scores=scores.scores_of(made.table.values, index),
            facts=_facts(made, index),
        )
        for index, stimulus in enumerate(made.stimuli)
    ]


def _facts(made: Scored, index: int) -> dict[str, str]:
    if made.diagnosed is None or made.like is None:
        return {}
    near = made.diagnosed.nearest_to_truth
    return {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": made.like.stimuli[index],
    }


def _diagnoses(folder: Path, made: Scored) -> list[GalleryFigure]:
    if made.diagnosed is None:
        return []
    found = made.diagnosed
    distance = found.nearest_to_truth.distance
    return diagnosis_figures(
        folder, made.table, made.report, predicted=found.predicted, truth=found.truth, distance=distance
    )
