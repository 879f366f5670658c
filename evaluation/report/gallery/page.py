"""The gallery: one HTML page with every test clip beside its reconstruction, scores, controls, doubts and verdict.

The page is one file with its clips, pictures, style and script inside, so that it works from file://, in a mail, and in
the sandboxed frames of tracking servers.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
from numpy.typing import NDArray
from PIL import Image

from core.files import digest_file, digest_json, write_bytes
from evaluation.diagnoses.grades import Grade, grade_dimension, grade_distance, grade_leak, grade_time, worst
from evaluation.diagnoses.recall import MIN_STIMULI
from evaluation.metrics import metric, metric_names
from evaluation.report.charts.diagnoses import diagnosis_chart
from evaluation.report.gallery.cards import GalleryItem, card, data_uri
from evaluation.report.gallery.panels import by_space, first_metrics, marker, outcome_in_short, panels
from evaluation.report.verdict import time_words
from evaluation.report.wording import (
    Group,
    comparisons_words,
    folded,
    headline,
    metric_label,
    number,
    ordered_metrics,
    ordered_rows,
    outcome,
    row_group,
    row_label,
    row_meaning,
    short_label,
    space_label,
    spaces_explained,
    trend_words,
)
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED
from evaluation.statistics.table import Table

__all__ = ["GalleryFigure", "GalleryItem", "page_digest", "render_gallery"]

TEMPLATE = Path(__file__).with_name("gallery.html")
TEMPLATES = tuple(TEMPLATE.with_suffix(suffix) for suffix in (".html", ".css", ".js"))
"""The files that the page is rendered from."""
KNOWN = {"schema", "study", "run", "n_test", "rows", "comparisons", "permutations", "diagnoses", "notes", "protocols",
         "intervals"}  # fmt: skip
"""Parts of a report that have their own place on the page."""


def page_digest() -> str:
    """Return a digest of the page's templates, the same for all runs."""
    return digest_json([digest_file(file) for file in TEMPLATES])


@dataclass(frozen=True)
class GalleryFigure:
    """A picture of the whole run, such as that of `evaluation.report.charts.diagnoses`."""

    title: str
    image: bytes
    """PNG."""
    description: str
    """Text for readers who do not see the picture."""
    note: str = ""


def render_gallery(
    *,
    title: str,
    verdict: str,
    report: Mapping[str, Any],
    items: Sequence[GalleryItem],
    fps: float,
    figures: Sequence[GalleryFigure] = (),
) -> str:
    """Return the page's HTML, which works from file://; every text is escaped, the same inputs give the same page.

    Parameters
    ----------
    verdict : one to three sentences; see `evaluation.report.verdict.verdict`
    report : the content of `metrics.json`; parts without their own place are listed at the foot of the page
    items : in test order; their files are relative to the page's folder
    fps : frames per second of the clips
    """
    loader = jinja2.FileSystemLoader(TEMPLATE.parent)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, loader=loader)
    scored = ordered_metrics(name for item in items for name in item.scores)
    first = first_metrics(report["rows"] or {RECONSTRUCTION: {name: {} for name in scored}})
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
    """Return the content of the charts, their legend and their tables."""
    rows, comparisons = report["rows"], report.get("comparisons") or {}
    drawn = {panel.name: panel for panel in panels(rows, comparisons)}
    more = by_space([name for name in drawn if name not in first])
    described = [_row(row, report) for row in ordered_rows(rows)]
    shown, hidden = ([row for row in described if row["folded"] is is_folded] for is_folded in (False, True))
    return {
        "panels": list(drawn.values()),
        "first_panels": [panel for name, panel in drawn.items() if name in first],
        "more_panels": [(label, [drawn[name] for name in names]) for label, names in more],
        "rows": shown,
        "folded_rows": hidden,
        "folded_rows_with_model": [*(row for row in shown if row["main"]), *hidden],
        "not_beaten": _not_beaten(report, [row["name"] for row in hidden]),
        "cell": lambda row, name: _cell(rows[row].get(name), comparisons.get(row, {}).get(name)),
        "tests": comparisons_words(report),
        "intervals": report.get("intervals", ""),
        "spaces": " ".join(spaces_explained(drawn)),
    }


GROUPS: dict[Group, str] = {"model": "model", "control": "controls", "ceiling": "ceilings"}


def _row(row: str, report: Mapping[str, Any]) -> dict[str, Any]:
    count = report.get("permutations")
    averaged = f", averaged over {count} permutations" if row == SHUFFLED and count else ""
    return {
        "name": row,
        "label": row_label(row),
        "shape": marker(row),
        "meaning": row_meaning(row) + averaged,
        "main": row == RECONSTRUCTION,
        "folded": folded(row),
        "group": GROUPS[row_group(row)],
        "order": list(GROUPS).index(row_group(row)),
    }


def _not_beaten(report: Mapping[str, Any], rows: Sequence[str]) -> str:
    """Return the rows that the reconstruction is not shown to be above by the metric of the verdict, in words."""
    name, comparisons = headline(report["rows"]), report.get("comparisons") or {}
    tested = {row: comparisons[row][name] for row in rows if name in comparisons.get(row, {})}
    return ", ".join(row_label(row) for row, compared in tested.items() if outcome(compared) != "better")


def _cell(entry: Mapping[str, Any] | None, compared: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return a table cell's value, interval, remark and the comparison's result; None where the row has no entry."""
    cell, words = interval_cell(entry), outcome_in_short(compared)
    return cell if cell is None or not words else {**cell, "p": words}


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


PARTS = ("near", "middle", "far", "all")


def doubts(report: Mapping[str, Any], first: Iterable[str]) -> dict[str, Any]:
    """Return the parts of the section "Can it be believed?"; a diagnosis that is missing is empty.

    Parameters
    ----------
    report : its `diagnoses`; see `evaluation.diagnoses.recall` and
        `evaluation.diagnoses.leaks`.
    first : the `space.metric` names whose dependence on distance is shown first
    """
    diagnoses = report.get("diagnoses") or {}
    return {
        "worst": worst(_main_grades(report)),
        "dimension": [_spread(space, spread) for space, spread in (diagnoses.get("dimension") or {}).items()],
        "distance": _distance(diagnoses.get("distance") or {}, set(first)),
        "leaks": _leaks(diagnoses.get("leaks") or {}),
        "time": _time(diagnoses.get("time")),
    }


def _main_grades(report: Mapping[str, Any]) -> list[Grade]:
    """Return the grades that the page is introduced by: of every check, and of the distance in the verdict's metric."""
    diagnoses, name = report.get("diagnoses") or {}, headline(report.get("rows") or {})
    leaks, splits = diagnoses.get("leaks") or {}, (diagnoses.get("distance") or {}).get("metrics") or {}
    grades = [grade_leak(kind, leak) for kind, leak in leaks.items() if leak]
    grades += [grade_dimension(spread) for spread in (diagnoses.get("dimension") or {}).values()]
    grades += [grade_time(diagnoses["time"])] if diagnoses.get("time") else []
    return grades + ([grade_distance(splits[name])] if name in splits else [])


def _time(time: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return how near test trials lie to training trials in time; None where nothing was looked into."""
    if not time or (time.get("count") is None and not time.get("note")):
        return None
    note = str(time.get("note") or time_words(time))
    allowed = " The study allows this." if time.get("allowed") else ""
    text = f"{note[:1].upper()}{note[1:].rstrip('.')}.{allowed}"
    return {"found": bool(time.get("dense")), "text": text, "grade": grade_time(time)}


def _spread(space: str, spread: Mapping[str, Any]) -> dict[str, Any]:
    components = spread.get("components_90") or [None, None]
    return {
        "space": space_label(space),
        "prediction": _decimal(spread.get("prediction")),
        "target": _decimal(spread.get("target")),
        "ratio": number(spread.get("ratio")),
        "components": " / ".join("–" if count is None else str(count) for count in components),
        "n": str(spread.get("n", "–")),
        "grade": grade_dimension(spread),
    }


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _distance(report: Mapping[str, Any], first: set[str]) -> dict[str, Any] | None:
    splits = report.get("metrics") or {}
    names = ordered_metrics(splits)
    if not names:
        return None
    parts = [
        name for name in PARTS if any(part["name"] == name for split in splits.values() for part in split["parts"])
    ]
    rows = [(name in first, _split(name, splits[name], parts)) for name in names]
    return {
        "space": space_label(report.get("space", "")),
        "parts": [{"name": name, "range": _stretch(splits[names[0]], name)} for name in parts],
        "rows": [row for is_first, row in rows if is_first] or [row for _, row in rows],
        "more": [row for is_first, row in rows if not is_first] if any(is_first for is_first, _ in rows) else [],
    }


def _stretch(split: Mapping[str, Any], name: str) -> str:
    """Return a part's distances and size: ".12 to .31, 16 clips"."""
    part = next((part for part in split["parts"] if part["name"] == name), None)
    if part is None:
        return ""
    low, high = part["distance"]
    return f"{number(low)} to {number(high)}, {part['n']} clip{'' if part['n'] == 1 else 's'}"


def _split(name: str, split: Mapping[str, Any], parts: list[str]) -> dict[str, Any]:
    cells = {part["name"]: part for part in split["parts"]}
    chances = [part["chance"] for part in split["parts"] if part.get("chance") is not None]
    relation = split.get("rank_correlation") or {"value": None, "ci95": [None, None]}
    return {
        "label": metric_label(name),
        "cells": [interval_cell(cells.get(part)) for part in parts],
        "chance": number(chances[0]) if chances else "–",
        "relation": interval_cell(relation),
        "grade": grade_distance(split),
        "trend": "unknown" if None in relation["ci95"] else trend_words(*relation["ci95"]),
    }


def interval_cell(entry: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return a table cell's value, interval and remark; None where there is no entry."""
    if entry is None:
        return None
    low, high = entry["ci95"]
    remarks = [f"n = {entry['n']}"] if "n" in entry and "distance" not in entry else []
    remarks += [f"{entry['undefined']} missing"] if "undefined" in entry else []
    return {
        "value": number(entry["value"]),
        "interval": "" if low is None or high is None else f"{number(low)} to {number(high)}",
        "remark": ", ".join(remarks),
    }


def _leaks(leaks: Mapping[str, Any]) -> list[dict[str, Any]]:
    texts = {"stimuli": _by_name, "clips": _by_look, "captions": _by_words}
    listed = []
    for key, text in texts.items():
        if leaks.get(key):
            count = leaks[key]["count"]
            about = _unchecked(key) if count is None else {"found": bool(count), **text(leaks[key])}
            listed.append({**about, "grade": grade_leak(key, leaks[key])})
    return listed


def _unchecked(key: str) -> dict[str, Any]:
    return {"found": False, "text": f"There were no {key} to compare.", "examples": []}


def _by_name(one: Mapping[str, Any]) -> dict[str, Any]:
    text = "No test stimulus has the name of a training stimulus."
    if one["count"]:
        text = f"{_are(one['count'], 'test stimulus', 'test stimuli')} also in training, by name."
    return {"text": text, "examples": [str(name) for name in one.get("examples", [])]}


def _by_look(one: Mapping[str, Any]) -> dict[str, Any]:
    limit, nearest = number(one.get("threshold")), one.get("nearest")
    alike = "there were no clips to compare" if nearest is None else f"the two most alike are {number(nearest)} apart"
    text = f"No test clip is a training clip in another file ({alike}; up to {limit} would count)."
    if one["count"]:
        are = _are(one["count"], "test clip", "test clips")
        text = f"{are} as good as a training clip in another file (up to {limit} apart): look at the pairs."
    pairs = [f"{pair['test']} ~ {pair['train']} ({number(pair['distance'])} apart)" for pair in one.get("examples", [])]
    return {"text": text, "examples": pairs}


def _by_words(one: Mapping[str, Any]) -> dict[str, Any]:
    text = "No test clip shares a caption with a training clip."
    if one["count"]:
        share = "test clip shares" if one["count"] == 1 else "test clips share"
        text = f"{one['count']} {share} a caption with a training clip: scores of captions are partly recall."
    return {"text": text, "examples": [f"“{caption}”" for caption in one.get("examples", [])]}


def _are(count: int, one: str, many: str) -> str:
    return f"{count} {one} is" if count == 1 else f"{count} {many} are"


DIAGNOSES = "diagnoses.png"


def diagnosis_figures(
    folder: Path,
    table: Table,
    report: dict[str, Any],
    *,
    predicted: NDArray[Any],
    truth: NDArray[Any],
    distance: NDArray[Any],
) -> list[GalleryFigure]:
    """Draw the diagnoses of a report into a run's folder; nothing where there are too few stimuli.

    Parameters
    ----------
    table, report : the scores, and their report with its `diagnoses`
    predicted, truth : (stimulus, …) in the space of the distances
    distance : (stimulus,) of the truth to its nearest training clip
    """
    name = headline(report["rows"])
    if name is None or table.n < MIN_STIMULI:
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
