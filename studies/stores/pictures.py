"""What a store looks like, for people: voxels and noise ceilings by ROI, and clips beside what their latents decode to.

Pictures lie in ``outputs/<study>/stores/``, named by the digest of the group they show, and are drawn once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.checkout import project_root, relative_to_root
from core.files import write_bytes
from evaluation.report.charts.style import save_figure
from evaluation.report.sheet import contact_sheet, sheet_png
from feature_store.groups import Responses, Targets, open_group
from feature_store.manifest import read_manifest
from feature_store.noise_ceiling import noise_ceiling
from feature_store.sources.base import ROI_SEPARATOR, SPLITS
from models.extractors.base import Decoder
from models.extractors.settings import LatentsConfig, PixelsConfig
from studies.study import Study

CLIPS = 12
"""How many training stimuli a contact sheet shows, evenly spaced over them all."""
MOST_ROIS = 60
DECODED = (PixelsConfig, LatentsConfig)
"""Targets that something decodes, so that there is a picture to draw."""
COLOURS = {"train": "#0b62a8", "test": "#c2571a"}
Clips = Callable[[list[str]], NDArray[np.uint8]]
"""Returns what was shown for some stimuli, (n, frame, height, width, 3)."""


def picture_of_responses(study: Study, group: Path) -> list[str]:
    """Draw voxels and noise ceiling by ROI, unless that is drawn; return the file, relative to the checkout."""
    responses = open_group(group)
    assert isinstance(responses, Responses)
    return _once(study, responses, lambda: chart_of_rois(responses))


def picture_of_targets(study: Study, group: Path, clips: Clips) -> list[str]:
    """Draw clips above what their targets decode to, unless that is drawn or nothing decodes them."""
    config, targets = study.targets[group.name], open_group(group)
    assert isinstance(targets, Targets)
    if not isinstance(config, DECODED):
        return []
    return _once(study, targets, lambda: _sheet(targets, config.build(project_root()), clips))


def pictures_stand(study: Study, group: Path) -> bool:
    """Say whether a published group's picture is drawn, where there is one to draw."""
    if group.parent.name == "targets" and not isinstance(study.targets[group.name], DECODED):
        return True
    return _file(study, group, read_manifest(group).digest).is_file()


def chart_of_rois(responses: Responses) -> bytes:
    """Return a PNG of how many voxels each ROI has and how much of their variance can be explained.

    The noise ceiling is that of means over the split's repetitions: its median over voxels, and the middle half as a
    line. Training and test are estimated apart.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False}):  # a region's name may hold any sign
        return _chart(responses, Figure)


def _chart(responses: Responses, new_figure: Callable[..., Any]) -> bytes:
    voxels = responses.voxels
    regions = _by_roi(voxels)
    figure = new_figure(figsize=(9, 1.6 + 0.22 * len(regions)), layout="constrained")
    counts, ceilings = figure.subplots(1, 2, sharey=True, width_ratios=(1, 2))
    places = np.arange(len(regions))[::-1]
    sizes = [len(rows) for rows in regions.values()]
    counts.barh(places, sizes, color="#8a9099", height=0.7)
    counts.set_yticks(places, list(regions), fontsize=8)
    counts.set_xlabel("voxels")
    for split, shift in zip(SPLITS, (0.16, -0.16), strict=True):
        repeats = int(responses.trials(split).groupby("stimulus").size().max())
        percent = noise_ceiling(voxels[f"ncsnr_{split}"].to_numpy(), repeats)
        low, middle, high = np.array([_quartiles(percent[rows]) for rows in regions.values()]).T
        ceilings.hlines(places + shift, low, high, color=COLOURS[split], lw=1.5, alpha=0.6)
        label = f"{split}, means over {repeats}" if repeats > 1 else f"{split}: shown once, no estimate"
        ceilings.plot(middle, places + shift, "o^"[split == "test"], color=COLOURS[split], ms=4, label=label)
    ceilings.set_xlim(0, 100)
    ceilings.set_xlabel("noise ceiling, % of variance (median, middle half)")
    ceilings.legend(fontsize=8, frameon=False, loc="lower right")
    for axes in (counts, ceilings):
        axes.set_ylim(-0.8, len(regions) - 0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
    figure.suptitle(f"{responses.subject}: {len(voxels):,} voxels", x=0.01, ha="left", fontsize=11)
    return save_figure(figure, dpi=130)


def _by_roi(voxels: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Return the voxels of every ROI, the largest ROIs where there are very many, in the store's order."""
    rows: dict[str, list[int]] = {}
    for row, regions in enumerate(voxels["roi"]):
        for roi in str(regions).split(ROI_SEPARATOR):
            rows.setdefault(roi, []).append(row)
    largest = set(sorted(rows, key=lambda roi: -len(rows[roi]))[:MOST_ROIS])
    return {roi: np.array(found) for roi, found in rows.items() if roi in largest}


def _quartiles(percent: NDArray[np.float64]) -> NDArray[np.float64]:
    finite = percent[np.isfinite(percent)]
    return np.percentile(finite, [25, 50, 75]) if len(finite) else np.full(3, np.nan)


def _sheet(targets: Targets, made_by: Decoder, clips: Clips) -> bytes:
    values, names = targets.values("train")
    rows = np.unique(np.linspace(0, len(names) - 1, min(CLIPS, len(names))).astype(np.int64))
    seen = clips([names[row] for row in rows])
    return sheet_png(contact_sheet(seen, made_by.decode(values[rows]), labels=("clip", "decoded")))


def _once(study: Study, group: Responses | Targets, draw: Callable[[], bytes]) -> list[str]:
    file = _file(study, group.path, group.digest)
    if not file.is_file():
        write_bytes(file, draw())
    return [relative_to_root(file)]


def _file(study: Study, group: Path, digest: str) -> Path:
    return study.outputs / "stores" / f"{group.parent.name}-{group.name}-{digest[:12]}.png"
