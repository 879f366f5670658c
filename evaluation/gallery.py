"""The gallery: one HTML page with every test clip beside its reconstruction, scores, controls and verdict."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from core.files import write_bytes
from evaluation.chart import panels
from evaluation.metrics import metric, metric_names
from evaluation.wording import metric_label, number, ordered_metrics, ordered_rows, row_label, short_label

TEMPLATE = Path(__file__).with_name("gallery.html")
STILLS = (".png", ".jpg", ".jpeg", ".gif", ".webp")
KNOWN = {"schema", "study", "run", "n_test", "rows"}


@dataclass(frozen=True)
class GalleryItem:
    """One test stimulus: what was seen, what was made of the brain's response, and how close the two are."""

    stimulus: str
    seen: str
    """A path relative to the page, or a data URI, of an MP4 or an image."""
    reconstructed: str
    true_caption: str | None = None
    decoded_caption: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    """By `space.metric`; see `evaluation.scores.scores_of`."""


def write_gallery(
    path: Path, *, title: str, verdict: str, report: Mapping[str, Any], items: Sequence[GalleryItem]
) -> None:
    """Write the page, atomically. It needs nothing but the clips it names, and works from file://.

    Parameters
    ----------
    path : Path
        For example ``outputs/demo/latest/gallery.html``; the items' paths are relative to its folder.
    title : str
    verdict : str
        One sentence; see `evaluation.verdict.verdict`.
    report : dict
        What `metrics.json` holds; what it says beyond the schema is listed at the foot of the page.
    items : sequence of GalleryItem
        In test order.
    """
    page = render_gallery(title=title, verdict=verdict, report=report, items=items)
    write_bytes(path, page.encode())


def render_gallery(*, title: str, verdict: str, report: Mapping[str, Any], items: Sequence[GalleryItem]) -> str:
    """Return the page's HTML; see `write_gallery`. Every text is escaped."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    names = ordered_metrics(name for item in items for name in item.scores)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        verdict=verdict,
        report=report,
        rows=ordered_rows(report["rows"]),
        row_labels={row: row_label(row) for row in report["rows"]},
        panels=panels(report["rows"]),
        cell=lambda row, name: _cell(report["rows"][row].get(name)),
        sorts=[{"label": short_label(name), "higher": _higher_is_better(name)} for name in names],
        cards=[_card(item, names) for item in items],
        provenance={key: _plain(value) for key, value in sorted(report.items()) if key not in KNOWN},
    )


def _cell(entry: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return a table cell's value, interval and remark, or None for what a row does not have."""
    if entry is None:
        return None
    low, high = entry["ci95"]
    remarks = [f"n = {entry['n']}"] if "n" in entry else []
    remarks += [f"{entry['undefined']} undefined"] if "undefined" in entry else []
    return {
        "value": number(entry["value"]),
        "interval": "" if low is None or high is None else f"{number(low)} to {number(high)}",
        "remark": ", ".join(remarks),
    }


def _card(item: GalleryItem, names: Sequence[str]) -> dict[str, Any]:
    values = [item.scores.get(name, math.nan) for name in names]
    scores = zip(names, values, strict=True)
    return {
        "item": item,
        "clips": [
            {"kind": "seen", "src": item.seen, "still": _is_still(item.seen)},
            {"kind": "reconstructed", "src": item.reconstructed, "still": _is_still(item.reconstructed)},
        ],
        "sort_values": json.dumps([value if math.isfinite(value) else None for value in values]),
        "scores": [(metric_label(name), short_label(name), number(value)) for name, value in scores],
    }


def _is_still(source: str) -> bool:
    return source.startswith("data:image/") or source.lower().endswith(STILLS)


def _higher_is_better(name: str) -> bool:
    return metric(name).higher_is_better if name.rpartition(".")[2] in metric_names() else True


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
