"""What people look at of a reconstruction: gallery, contact sheets, diagnoses, and its record in MLflow."""

from pathlib import Path
from typing import Any

from core.files import read_json, write_bytes
from core.seeds import seed_for
from evaluation.report.gallery.cards import gallery_items
from evaluation.report.gallery.page import DIAGNOSES, GalleryFigure, diagnosis_figures, render_gallery
from evaluation.report.sheet import animated_sheet, contact_sheet, sheet_png
from evaluation.report.wording import verdict
from models.registry.register import log_reconstruction
from models.registry.sets import ModelSet
from studies.reconstruction.provenance import MadeFrom
from studies.reconstruction.score import Judged
from studies.runs import BRAIN, GALLERY, GIF, LOGGED, METRICS, REGIONS_CHART, SEEN, SHEET, VIDEOS

SHOWN, MOVING = 24, 10
"""Test clips on the contact sheet and on the moving one, the first in test order."""
NOT_SHOWN = {"cross_validation"}
"""Parts of a report that the page leaves to the command line."""
FIGURES_OF_REGIONS = {
    REGIONS_CHART: (
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
"""Title, description and note of each."""


def write_pictures(
    folder: Path, fps: float, judged: Judged, metrics: dict[str, Any], origin: MadeFrom, regions: Path | None
) -> None:
    """Write a run's gallery and pictures into its folder.

    Parameters
    ----------
    fps : frames per second of the clips
    regions : the run of regions whose pictures are shown as well, if any
    """
    seen, clips = judged.seen, judged.reconstruction.clips
    write_bytes(folder / SHEET, sheet_png(contact_sheet(seen[:SHOWN], clips[:SHOWN])))
    if clips.shape[1] > 1:
        write_bytes(folder / GIF, animated_sheet(seen[:MOVING], clips[:MOVING], fps=fps))
    diagnoses = diagnosis_figures(
        folder,
        judged.table,
        judged.report,
        predicted=judged.predicted,
        truth=judged.truth,
        distance=judged.nearest_to_truth.distance,
    )
    items = gallery_items(
        judged.stimuli,
        seen,
        clips,
        judged.table.values,
        folders=(SEEN, VIDEOS),
        true_captions=judged.captions,
        decoded_captions=judged.reconstruction.captions,
        facts=[_facts(judged, origin, index) for index in range(len(judged.stimuli))],
    )
    page = render_gallery(
        title=f"{metrics['study']}: {origin.subject}",
        verdict=verdict(metrics),
        report={key: value for key, value in metrics.items() if key not in NOT_SHOWN},
        items=items,
        fps=fps,
        figures=[*diagnoses, *_regions(regions)],
    )
    write_bytes(folder / GALLERY, page.encode())


def _facts(judged: Judged, origin: MadeFrom, index: int) -> dict[str, str]:
    """Return where one clip comes from, and what the training set had that is like it."""
    near, like = judged.nearest_to_truth, judged.nearest_to_prediction.stimuli[index]
    caption = judged.training_captions[like]
    facts = {
        "nearest training clip": f"{near.stimuli[index]} (1 − r = {near.distance[index]:.2f})",
        "training clip most like the prediction": f"{like}: {caption}" if caption else like,
        "models": ", ".join(f"{part} v{number}" for part, number in origin.models.versions.items()),
        "responses": f"{origin.input.name} ({origin.input.digest[:12]})",
    }
    if origin.generator is not None:
        facts["seed of the noise"] = str(seed_for(origin.seed, "render", judged.stimuli[index]))
        facts["generator"] = f"{(origin.generator_revision or '')[:12]}, strength {origin.strength}"
    return facts


def _regions(folder: Path | None) -> list[GalleryFigure]:
    """Return the pictures of which regions the targets can be decoded from."""
    return [
        GalleryFigure(title=title, image=(folder / name).read_bytes(), description=description, note=note)
        for name, (title, description, note) in FIGURES_OF_REGIONS.items()
        if folder is not None and (folder / name).is_file()
    ]


def log_run(folder: Path, chosen: ModelSet) -> None:
    """Log a run to MLflow, once: its scores, and the pictures by which people choose."""
    logged = folder / LOGGED
    if logged.is_file():
        return
    metrics = read_json(folder / METRICS)
    values = {
        f"{row}.{name}": entry["value"]
        for row, entries in metrics["rows"].items()
        for name, entry in entries.items()
        if entry["value"] is not None
    }
    pictures = [folder / name for name in (GALLERY, SHEET, GIF, DIAGNOSES, METRICS) if (folder / name).is_file()]
    write_bytes(logged, log_reconstruction(chosen, folder.name, values, verdict(metrics), pictures).encode())
