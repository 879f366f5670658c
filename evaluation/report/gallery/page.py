"""The gallery: one HTML page with every test clip beside its reconstruction, scores, controls, doubts and verdict.

The page is one file: clips, pictures, style and script are within it, so that it works from file://, in a mail, and in
the sandboxed frames in which tracking servers show pages.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from core.files import digest_file, digest_json, write_bytes
from evaluation.metrics import metric, metric_names
from evaluation.report.charts.intervals import by_space, marker, panels, telling
from evaluation.report.gallery.cards import GalleryItem, card, doubts, interval_cell
from evaluation.report.gallery.media import data_uri
from evaluation.report.verdict import p_words
from evaluation.report.wording import ordered_metrics, ordered_rows, row_label, short_label
from evaluation.statistics.scores import MEAN, NEAREST, NOISE_CEILING, ORACLE, PRIOR, RECONSTRUCTION, SHUFFLED

__all__ = ["GalleryFigure", "GalleryItem", "page_digest", "render_gallery", "write_gallery"]

TEMPLATE = Path(__file__).with_name("gallery.html")
TEMPLATES = tuple(TEMPLATE.with_suffix(suffix) for suffix in (".html", ".css", ".js"))
"""What the page is made of: all of it shows in the page's bytes."""
KNOWN = {"schema", "study", "run", "n_test", "rows", "comparisons", "permutations", "diagnoses", "notes", "protocols"}
"""Parts of a report that have a place of their own on the page."""
ROW_MEANINGS = {
    RECONSTRUCTION: "made from the brain's responses to the test clips",
    NEAREST: "the training clip most like the prediction: what recall of clips that were trained would give",
    PRIOR: "what the generator makes of noise alone, without a caption",
    MEAN: "rendered from the mean of the training targets: what all clips have in common",
    SHUFFLED: "the same models on responses dealt out to the test clips at random",
    NOISE_CEILING: "the true targets with as much noise as the test responses leave: to be approached, not beaten",
    ORACLE: "the true targets through the same generator: not to be beaten",
}


def page_digest() -> str:
    """Return a digest of what the page is made of, the same for all runs."""
    return digest_json([digest_file(file) for file in TEMPLATES])


@dataclass(frozen=True)
class GalleryFigure:
    """A picture of the whole run, such as `evaluation.report.charts.diagnoses` draws."""

    title: str
    image: bytes
    """PNG."""
    description: str
    """What it shows, for those who do not see it."""
    note: str = ""


def write_gallery(
    path: Path,
    *,
    title: str,
    verdict: str,
    report: Mapping[str, Any],
    items: Sequence[GalleryItem],
    fps: float,
    figures: Sequence[GalleryFigure] = (),
) -> None:
    """Write the page, atomically. It needs nothing but itself, and works from file://.

    Parameters
    ----------
    path : Path
        For example ``outputs/demo/latest/gallery.html``; the items' files are relative to its folder.
    title : str
    verdict : str
        One sentence; see `evaluation.report.verdict.verdict`.
    report : dict
        What `metrics.json` holds; what has no place of its own is listed at the foot of the page.
    items : sequence of GalleryItem
        In test order.
    fps : float
        Frames per second of the clips.
    figures : sequence of GalleryFigure
    """
    page = render_gallery(title=title, verdict=verdict, report=report, items=items, fps=fps, figures=figures)
    write_bytes(path, page.encode())


def render_gallery(
    *,
    title: str,
    verdict: str,
    report: Mapping[str, Any],
    items: Sequence[GalleryItem],
    fps: float,
    figures: Sequence[GalleryFigure] = (),
) -> str:
    """Return the page's HTML; see `write_gallery`. Every text is escaped; the same inputs give the same page."""
    loader = jinja2.FileSystemLoader(TEMPLATE.parent)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    scored = ordered_metrics(name for item in items for name in item.scores)
    first = telling(report["rows"] or {RECONSTRUCTION: {name: {} for name in scored}})
    return environment.get_template(TEMPLATE.name).render(
        title=title,
        verdict=verdict,
        report=report,
        doubts=doubts(report, first),
        figures=[_figure(figure) for figure in figures],
        first_scores=[name for name in scored if name in first],
        more_scores=[name for name in scored if name not in first],
        sorts=[(label, [_sort(name, scored) for name in names]) for label, names in by_space(scored)],
        cards=[card(item, scored, fps) for item in items],
        provenance={key: _plain(value) for key, value in sorted(report.items()) if key not in KNOWN},
        **_chart(report, first),
    )


def _chart(report: Mapping[str, Any], first: Sequence[str]) -> dict[str, Any]:
    """Return what the charts, their legend and their table show."""
    rows, comparisons = report["rows"], report.get("comparisons") or {}
    drawn = {panel.name: panel for panel in panels(rows, comparisons)}
    more = by_space([name for name in drawn if name not in first])
    shown = ordered_rows(rows)
    return {
        "panels": list(drawn.values()),
        "first_panels": [panel for name, panel in drawn.items() if name in first],
        "more_panels": [(label, [drawn[name] for name in names]) for label, names in more],
        "rows": [{"name": row, "label": row_label(row), "shape": marker(row), "meaning": _meaning(row, report)}
                 for row in shown],
        "cell": lambda row, name: _cell(rows[row].get(name), comparisons.get(row, {}).get(name)),
    }  # fmt: skip


def _meaning(row: str, report: Mapping[str, Any]) -> str:
    count = report.get("permutations")
    averaged = f", averaged over {count} permutations" if row == SHUFFLED and count else ""
    return ROW_MEANINGS.get(row, "another model") + averaged


def _cell(entry: Mapping[str, Any] | None, compared: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return a table cell's value, interval, remark and p-value, or None for what a row does not have."""
    cell = interval_cell(entry)
    p = (compared or {}).get("p")
    return cell if cell is None or p is None else {**cell, "p": p_words(p)}


def _sort(name: str, names: Sequence[str]) -> dict[str, Any]:
    return {"index": names.index(name), "label": short_label(name), "higher": _higher_is_better(name)}


def _figure(figure: GalleryFigure) -> dict[str, Any]:
    with Image.open(BytesIO(figure.image)) as image:
        width, height = image.size
    return {"figure": figure, "source": data_uri(figure.image, "image/png"), "width": width, "height": height}


def _higher_is_better(name: str) -> bool:
    return metric(name).higher_is_better if name.rpartition(".")[2] in metric_names() else True


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
