"""Compares two runs stimulus by stimulus, by their `values.json`: paired differences, intervals, permutation tests.

    from studies.comparison.compare import compare_runs
    comparison = compare_runs("demo/20260314-092653-1a2b3c", "demo/latest")
    comparison.report["metrics"]["pixels.two_way"]

Writes ``outputs/comparisons/<first>--<second>/`` with `comparison.json` and `differences.png`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.checkout import project_root
from core.config import nearest
from core.errors import ConfigError
from core.files import staged_folder, write_bytes, write_json
from core.progress import track
from core.threads import computing
from evaluation.report.charts.differences import difference_chart
from evaluation.report.wording import named
from evaluation.statistics.candidates import Among
from evaluation.statistics.intervals import ANY, Blocks, Span, holm, mean_interval, paired_interval, paired_p, scheme
from evaluation.statistics.order import TimeOrder, block_length
from evaluation.statistics.scores import RECONSTRUCTION
from evaluation.statistics.spaces import plain
from studies.comparison.common import common_values, metric_of
from studies.runs import SCHEMA, Run, find, read_run

COMPARISONS = "comparisons"
COMPARISON, PICTURE = "comparison.json", "differences.png"
EXAMPLES = 3
OF_SIZE = ("pixels", "frames")
"""Spaces in which scores depend on how large the clips are."""
SPACES_OF_JUDGES = {
    "clip": ("clip", "clip_frames", "caption_clip", "text"),
    "frames": ("frame_classes",),
    "videos": ("video_classes",),
    "small_world": ("video_attributes", "caption_attributes", "video_classes"),
}
"""The spaces that each judge makes."""
Floats = NDArray[np.float64]
Entry = dict[str, Any]


@dataclass(frozen=True)
class RunComparison:
    """A comparison on disk, with what its `comparison.json` holds."""

    folder: Path
    report: dict[str, Any]


@computing()
def compare_runs(
    first: str | Path, second: str | Path, *, row: str = RECONSTRUCTION, seed: int = 0, output: Path | None = None
) -> RunComparison:
    """Compare two runs on the stimuli that both have, and write what came out.

    Raises `ConfigError`, `SourceError` or `SourceMissing` where there is no such run or row, a run has no values of
    each stimulus, or the two have nothing in common.

    Parameters
    ----------
    first, second : folders, or names of runs under `outputs/`; see `find`. Differences are second minus first.
    seed : of the intervals and permutations
    """
    runs = read_run(find(first)), read_run(find(second))
    report = compare_values(*runs, row=row, seed=seed)
    if output is not None and output.exists() and not (output / COMPARISON).is_file():
        raise ConfigError(f"{output}: holds something else than a comparison; name another folder")
    folder = output.resolve() if output else project_root() / "outputs" / COMPARISONS / _name(*runs, row)
    with staged_folder(folder) as building:
        write_json(building / COMPARISON, report)
        write_bytes(building / PICTURE, difference_chart(report))
    return RunComparison(folder, report)


def _name(first: Run, second: Run, row: str) -> str:
    name = "--".join(run.label.replace("/", "-") for run in (first, second))
    return name if row == RECONSTRUCTION else f"{name}--{row}"


def compare_values(first: Run, second: Run, *, row: str = RECONSTRUCTION, seed: int = 0) -> dict[str, Any]:
    """Return the paired differences of two runs, second minus first, on the stimuli that both have.

    Raises `ConfigError` where a run has no such row, or the runs share no stimulus or no metric.

    Returns
    -------
    dict
        ``{"schema", "runs": [first, second], "row", "n", "metrics": {METRIC: {"first", "second", "value", "ci95", "p",
        "p_adjusted", "higher_is_better", "n", "block_length"?}}, "only": {"first": {"count", "examples"}, "second": …},
        "intervals", "notes"}``. `p` is two-sided; `p_adjusted` is Holm's over all metrics. Stimuli without a value in
        either run do not count in a metric, and `n` counts those that were compared. Values that depend on which
        stimuli were scored together are computed again among those that both runs scored, or left out with a note; see
        `studies.comparison.common`.
    """
    rows = [_row(run, row) for run in (first, second)]
    shared = [name for name in first.values["stimuli"] if name in set(second.values["stimuli"])]
    if not shared:
        stimuli = [named(run.values["stimuli"]) for run in (first, second)]
        raise ConfigError(
            f"{first.label} and {second.label} have no stimulus in common ({stimuli[0]}; {stimuli[1]}); compare "
            "runs of the same test stimuli"
        )
    apart, notes = _apart(first, second)
    both = [name for name in rows[0] if name in rows[1] and plain(name.rpartition(".")[0]) not in apart]
    common = common_values(first, second, row, both, shared)
    notes += common.notes
    if not common.values:
        why = f": {'; '.join(notes)}" if notes else "; score both with the same"
        raise ConfigError(f"{first.label} and {second.label} have no metric in common{why}")
    compared = {
        name: _compared(*values, common.order, name=name, higher=_higher(first, name), seed=seed)
        for name, values in track(list(common.values.items()), "comparing")
    }
    adjusted = holm({name: np.nan if entry["p"] is None else entry["p"] for name, entry in compared.items()})
    only = {place: _only(run, against) for place, run, against in (("first", first, second), ("second", second, first))}
    return {
        "schema": SCHEMA,
        "runs": [
            {"study": run.values["study"], "run": run.values["run"], "subject": run.subject} for run in (first, second)
        ],
        "row": row,
        "n": len(shared),
        "metrics": {name: {**entry, "p_adjusted": _number(adjusted[name])} for name, entry in compared.items()},
        "only": only,
        "intervals": scheme(in_time=common.order is not None),
        "notes": [*_notes(first, second, only, rows), *notes, *_undefined(compared, len(shared))],
    }


def _row(run: Run, row: str) -> Mapping[str, Any]:
    rows: dict[str, dict[str, Any]] = run.values["rows"]
    if row not in rows:
        raise ConfigError(f"{run.label}: has no row '{row}'{nearest(row, list(rows))}")
    return rows[row]


def _higher(run: Run, name: str) -> bool:
    chosen = metric_of(name)
    known = run.values.get("directions", {})
    return bool(known.get(name, True if chosen is None else chosen.higher_is_better))


def _compared(first: Among, second: Among, order: TimeOrder | None, *, name: str, higher: bool, seed: int) -> Entry:
    """Return the entry of a metric; where stimuli are ordered in time, by blocks, with their length."""
    there = np.isfinite(first.values) & np.isfinite(second.values)
    ours, theirs = first.influences[there], second.influences[there]
    length = None if order is None else block_length(theirs - ours, order.only(there))
    blocks = None if order is None or length is None else order.only(there).blocks(length)
    chosen = metric_of(name)
    span = ANY if chosen is None else chosen.span
    _, low, high = paired_interval(theirs, ours, span=span, blocks=blocks)
    values, others = first.values[there], second.values[there]
    return {
        "first": _summary(values, ours, span, blocks),
        "second": _summary(others, theirs, span, blocks),
        "value": _number(float((others - values).mean()) if len(values) else np.nan),
        "ci95": [_number(low), _number(high)],
        "p": _number(paired_p(others, values, seed=seed, blocks=blocks)),
        "higher_is_better": higher,
        "n": int(there.sum()),
        **({} if length is None else {"block_length": length}),
    }


def _summary(values: Floats, influences: Floats, span: Span, blocks: Blocks | None) -> Entry:
    interval = mean_interval(influences, span=span, blocks=blocks)
    return {"value": _number(float(values.mean())) if len(values) else None, "ci95": [_number(b) for b in interval]}


def _only(run: Run, other: Run) -> dict[str, Any]:
    names = [name for name in run.values["stimuli"] if name not in set(other.values["stimuli"])]
    return {"count": len(names), "examples": names[:EXAMPLES]}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _apart(first: Run, second: Run) -> tuple[set[str], list[str]]:
    """Return the spaces whose scores mean something else in one run than in the other, and notes on them."""
    ours, theirs = _weights_of_spaces(first), _weights_of_spaces(second)
    weights = {space for space in ours if space in theirs and ours[space] != theirs[space]}
    sizes = _sampling(first), _sampling(second)
    looked = set(OF_SIZE) if all(sizes) and sizes[0] != sizes[1] else set()
    rows = [row for run in (first, second) for row in run.values["rows"].values()]
    scored = {plain(name.rpartition(".")[0]) for row in rows for name in row}
    reasons = {
        "looked at with other weights in the two runs": weights,
        f"clips of other sizes, {sizes[0]} and {sizes[1]}": looked,
    }
    listed = {why: ", ".join(sorted(spaces & scored)) for why, spaces in reasons.items() if spaces & scored}
    return weights | looked, [f"{why}, so not compared: {names}" for why, names in listed.items()]


def _weights_of_spaces(run: Run) -> dict[str, str]:
    """Return the digest of the weights that make each space, as far as the run has it: of judges and extractors."""
    judges: dict[str, str] = run.manifest.get("judges") or {}
    digests: dict[str, str] = {}
    for judge, spaces in SPACES_OF_JUDGES.items():
        if judge in judges:
            digests = {space: str(judges[judge]) for space in spaces} | digests
    targets = (run.manifest.get("config") or {}).get("targets", {})
    for target, revision in (run.manifest.get("made_from") or {}).get("extractors", {}).items():
        extractor = str(targets.get(target, {}).get("extractor", target))
        digests[target if extractor == "given" else extractor] = str(revision)
    return digests


def _notes(first: Run, second: Run, only: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> list[str]:
    notes = []
    if first.label == second.label:
        notes.append("both are the same run")
    for what, ours, theirs in (
        ("studies", first.values["study"], second.values["study"]),
        ("subjects", first.subject, second.subject),
    ):
        if ours != theirs and ours and theirs:
            notes.append(f"the {what} differ: {ours} and {theirs}")
    for place, stimuli in only.items():
        if count := stimuli["count"]:
            more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
            examples = ", ".join(stimuli["examples"])
            notes.append(f"in the {place} run alone and not compared, {count} of its stimuli: {examples}{more}")
    single = sorted(set(rows[0]) ^ set(rows[1]))
    return [*notes, *([f"scored in one of the runs alone: {', '.join(single)}"] if single else [])]


def _sampling(run: Run) -> str:
    clips = run.manifest.get("clips") or run.manifest.get("sampling")
    return f"{clips['frames']} × {clips['height']} × {clips['width']}" if clips else ""


def _undefined(compared: Mapping[str, Mapping[str, Any]], n: int) -> list[str]:
    """Return notes on stimuli that have no value in one of the runs."""
    by_count: dict[int, list[str]] = {}
    for name, entry in compared.items():
        if entry["n"] < n:
            by_count.setdefault(n - entry["n"], []).append(name)
    return [
        f"without a value in one of the runs and not compared, {count} of {n} stimuli: "
        + (", ".join(names) if len(names) < len(compared) else "all metrics")
        for count, names in sorted(by_count.items())
    ]
