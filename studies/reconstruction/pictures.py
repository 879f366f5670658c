"""The pictures of a reconstruction: gallery, contact sheets, diagnoses, and where in the brain it comes from."""

from pathlib import Path
from typing import Any

from core.files import write_bytes
from core.seeds import seed_for
from evaluation.report.gallery.page import GalleryFigure, GalleryItem, diagnosis_figures, write_gallery
from evaluation.report.sheet import animated_sheet, contact_sheet, sheet_png
from evaluation.report.wording import verdict
from evaluation.statistics import scores
from studies.reconstruction.provenance import SEEN, VIDEOS, MadeFrom
from studies.reconstruction.score import Judged
from studies.regions.run import BRAIN, CHART
from studies.study import Study

GALLERY, SHEET, GIF = "gallery.html", "sheet.png", "sheet.gif"
SHOWN, MOVING = 24, 10
"""Test clips on the contact sheet and on the moving one, the first in test order."""
NOT_SHOWN = {"cross_validation"}
"""Parts of a report that the page leaves to the command line."""


def write_pictures(
    folder: Path, study: Study, made: Judged, metrics: dict[str, Any], origin: MadeFrom, regions: Path | None
) -> None:
    """Write a run's gallery and pictures into its folder; those of a run of `regions`, if any, are shown as well."""
    seen, clips = made.seen, made.reconstruction.clips
    write_bytes(folder / SHEET, sheet_png(contact_sheet(seen[:SHOWN], clips[:SHOWN])))
    if clips.shape[1] > 1:
        write_bytes(folder / GIF, animated_sheet(seen[:MOVING], clips[:MOVING], fps=study.clips.fps))
    write_gallery(
        folder / GALLERY,
        title=f"{study.study}: {origin.subject}",
        verdict=verdict(metrics),
        report={key: value for key, value in metrics.items() if key not in NOT_SHOWN},
        items=_items(study, made, origin),
        fps=study.clips.fps,
        figures=[*_diagnoses(folder, made), *_regions(regions)],
    )


def _items(study: Study, made: Judged, origin: MadeFrom) -> list[GalleryItem]:
    ours = made.reconstruction
    return [
        GalleryItem(
            stimulus=stimulus,
            seen=made.seen[index],
            reconstructed=ours.clips[index],
            seen_file=f"{SEEN}/{stimulus}.mp4",
            reconstructed_file=f"{VIDEOS}/{stimulus}.mp4",
            true_caption=made.captions[index][0] if made.captions[index] else None,
            decoded_caption=ours.captions[index] if ours.captions else None,
            scores=scores.scores_of(made.table.values, index),
            facts=_facts(study, made, origin, index),
        )
        for index, stimulus in enumerate(made.stimuli)
    ]


def _facts(study: Study, made: Judged, origin: MadeFrom, index: int) -> dict[str, str]:
    """Return where one clip comes from, and what the training set had that is like it."""
    near, like = made.nearest_to_truth, made.nearest_to_prediction
    facts = {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": _named(like.stimuli[index], like.captions[index]),
        "models": ", ".join(f"{part} v{number}" for part, number in origin.models.versions.items()),
        "responses": f"{origin.input.name} ({origin.input.digest[:12]})",
    }
    if study.generator is not None:
        facts["seed of the noise"] = str(seed_for(study.seed, "render", made.stimuli[index]))
        facts["generator"] = f"{(origin.generator_revision or '')[:12]}, strength {origin.strength}"
    return facts


def _named(stimulus: str, caption: str) -> str:
    return f"{stimulus}: {caption}" if caption else stimulus


def _diagnoses(folder: Path, made: Judged) -> list[GalleryFigure]:
    distance = made.nearest_to_truth.distance
    return diagnosis_figures(
        folder, made.table, made.report, predicted=made.predicted, truth=made.truth, distance=distance
    )


def _regions(folder: Path | None) -> list[GalleryFigure]:
    """Return the pictures of which regions the targets can be decoded from."""
    shown = {
        CHART: (
            "Where does it come from?",
            "Bars of how well each region alone predicts the targets, and of what is lost without it.",
            "Test stimuli, by ridge; intervals are over stimuli, and not adjusted for the number of regions.",
        ),
        BRAIN: (
            "On the brain",
            "A glass brain with every voxel coloured by how well its region alone predicts the targets.",
            "Each voxel has its region's score; see the bars for intervals.",
        ),
    }
    return [
        GalleryFigure(title=title, image=(folder / name).read_bytes(), description=description, note=note)
        for name, (title, description, note) in shown.items()
        if folder is not None and (folder / name).is_file()
    ]
