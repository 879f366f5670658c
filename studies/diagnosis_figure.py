"""The picture of the diagnoses as the gallery shows it, and as a file of the run."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from core.files import write_bytes
from evaluation.diagnosis_chart import diagnosis_chart
from evaluation.gallery import GalleryFigure
from evaluation.rows import RECONSTRUCTION
from evaluation.table import Table
from evaluation.verdict import headline
from evaluation.wording import metric_label

DIAGNOSES = "diagnoses.png"
FEWEST_TO_DRAW = 3
"""Test clips below which the diagnoses have nothing to draw."""


def diagnosis_figures(
    folder: Path,
    table: Table,
    report: dict[str, Any],
    *,
    predicted: NDArray[Any],
    truth: NDArray[Any],
    distance: NDArray[Any],
) -> list[GalleryFigure]:
    """Draw the diagnoses of a report into a run's folder; nothing where there is too little to draw.

    Parameters
    ----------
    table, report : the scores, and what is said of them, `diagnoses` included
    predicted, truth : (stimulus, …) in the space of the distances
    distance : (stimulus,) of the truth to its nearest training clip
    """
    name = headline(report["rows"])
    if name is None or table.n < FEWEST_TO_DRAW:
        return []
    entry = report["rows"][RECONSTRUCTION][name]
    image = diagnosis_chart(
        predicted,
        truth,
        distance,
        table.values[RECONSTRUCTION][name],
        label=metric_label(name),
        chance=entry["chance"],
        split=report["diagnoses"]["distance"]["metrics"].get(name),
        higher_is_better=entry["higher_is_better"],
    )
    write_bytes(folder / DIAGNOSES, image)
    return [
        GalleryFigure(
            title="Is it more than recall?",
            image=image,
            description="Left: over how many dimensions predictions and targets spread. Right: scores by the distance "
            "of each test clip to its nearest training clip.",
            note="Predictions of few dimensions, or scores that fall with the distance to the training clips, are "
            "signs of recall instead of reconstruction (Shirakawa et al., arXiv 2405.10078).",
        )
    ]
