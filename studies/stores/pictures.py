"""Pictures of a store: voxels and noise ceilings by ROI, and clips beside what their latents decode to.

They lie in ``outputs/<study>/stores/``, named by the digest of the group they show, and are drawn once.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import project_root, relative_to_root
from core.files import write_bytes
from evaluation.report.charts.regions import roi_chart_png
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store.manifest import read_manifest
from feature_store.noise_ceiling import noise_ceiling
from feature_store.reader import Responses, Targets, open_group
from feature_store.sources.base import ROI_SEPARATOR, SPLITS
from models.extractors.base import Decoder
from models.extractors.settings import ExtractorConfig, LatentsConfig, PixelsConfig

CLIPS = 12
"""How many training stimuli a contact sheet shows, evenly spaced over them all."""
MAX_ROIS = 60
DECODED = (PixelsConfig, LatentsConfig)
"""Targets that something decodes, so that there is a picture to draw."""
Clips = Callable[[list[str]], NDArray[np.uint8]]
"""Returns what was shown for some stimuli, (n, frame, height, width, 3)."""


def picture_of_responses(folder: Path, group: Path) -> list[str]:
    """Draw voxels and noise ceiling by ROI, unless that is drawn; return the file, relative to the checkout."""
    responses = open_group(group)
    assert isinstance(responses, Responses)
    return _once(folder, responses, lambda: _chart(responses))


def picture_of_targets(folder: Path, group: Path, config: ExtractorConfig, clips: Clips) -> list[str]:
    """Draw clips above what their targets decode to, unless that is drawn or nothing decodes them."""
    targets = open_group(group)
    assert isinstance(targets, Targets)
    if not isinstance(config, DECODED):
        return []
    return _once(folder, targets, lambda: _sheet(targets, config.build(project_root()), clips))


def pictures_stand(folder: Path, group: Path, config: ExtractorConfig | None) -> bool:
    """Report whether a published group's picture is drawn, where there is one to draw.

    Parameters
    ----------
    config : of a target, None of responses
    """
    if config is not None and not isinstance(config, DECODED):
        return True
    return _file(folder, group, read_manifest(group).digest).is_file()


def _chart(responses: Responses) -> bytes:
    """Draw voxels and noise ceilings of means over either split's repetitions."""
    voxels = responses.voxels
    rois = _by_roi(voxels)
    ceilings = {}
    for split in SPLITS:
        repeats = int(responses.trials(split).groupby("stimulus").size().max())
        percent = noise_ceiling(voxels[f"ncsnr_{split}"].to_numpy(), repeats)
        label = f"{split}, means over {repeats}" if repeats > 1 else f"{split}: shown once, no estimate"
        ceilings[label] = [percent[rows] for rows in rois.values()]
    title = f"{responses.subject}: {len(voxels):,} voxels"
    return roi_chart_png(title, {roi: len(rows) for roi, rows in rois.items()}, ceilings)


def _by_roi(voxels: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the voxels of every ROI, the largest ROIs where there are very many, in the store's order."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(voxels["roi"]):
        for roi in str(names).split(ROI_SEPARATOR):
            rows.setdefault(roi, []).append(row)
    largest = set(sorted(rows, key=lambda roi: -len(rows[roi]))[:MAX_ROIS])
    return {roi: np.array(members) for roi, members in rows.items() if roi in largest}


def _sheet(targets: Targets, decoder: Decoder, clips: Clips) -> bytes:
    values, names = targets.values("train")
    rows = np.unique(np.linspace(0, len(names) - 1, min(CLIPS, len(names))).astype(np.int64))
    seen = clips([names[row] for row in rows])
    return sheet_png(contact_sheet(seen, decoder.decode(values[rows]), labels=("clip", "decoded")))


def _once(folder: Path, group: Responses | Targets, draw: Callable[[], bytes]) -> list[str]:
    file = _file(folder, group.path, group.digest)
    if not file.is_file():
        write_bytes(file, draw())
    return [relative_to_root(file)]


def _file(folder: Path, group: Path, digest: str) -> Path:
    return folder / f"{group.parent.name}-{group.name}-{digest[:12]}.png"
