"""What can be known of a study in a second: its stores, runs and production, as lines for a terminal.

What a study has: its stores, how fresh they are and their version control, and its runs.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError, ServerError, StoreError, StoreMissing
from core.files import read_json
from evaluation.report.wording import headline, number, row_label, short_label
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED
from feature_store import Store, versioning
from feature_store.schema import MANIFEST
from models.registry.production import aliased, resolve, versions_text
from models.registry.promotion import since
from models.registry.sets import ENCODER, PREVIOUS, PRODUCTION, ModelSet, runs_of
from studies.registry.compare import Comparison
from studies.registry.production import require_same_targets, require_trained_on
from studies.registry.promote import compare_with_production
from studies.status.freshness import SOURCE_MISSING, Freshness, Level, freshness
from studies.study import Study

UNFINISHED = ".unfinished-*[0-9a-f]"
"""Folders of checkpoints, beside the runs of a training; not those in which a run is being built."""


@dataclass(frozen=True)
class Line:
    """One line of the status: what, its state in a word or two, a detail, and whether that is as it should be."""

    what: str
    state: str
    detail: str
    level: Level = "good"


def stores_status(study: Study, *, full: bool = False) -> list[Line]:
    """Return one line per group that the study should have or that lies in its store.

    Parameters
    ----------
    study : Study
    full : bool
        Whether to hash the sources however large they are; see `studies.status.freshness`.
    """
    judged = freshness(study, full=full)
    versions = versioning.states(project_root(), [group for group, found in judged.items() if found.digest])
    lines = [_line_of(study, group, found, versions.get(group)) for group, found in judged.items()]
    missing = dict.fromkeys(found.detail for found in judged.values() if found.state == SOURCE_MISSING)
    return [*_root_status(study), *lines, *(Line("source", "not here", why, "note") for why in missing)]


def _line_of(study: Study, group: Path, found: Freshness, version: str | None) -> Line:
    known = ", ".join(part for part in (version, found.digest[:12]) if part)
    detail = "" if found.state == SOURCE_MISSING else found.detail  # told once for all groups
    what = group.relative_to(study.store).as_posix()
    return Line(what, found.state, "; ".join(part for part in (known, detail) if part), found.level)


def _root_status(study: Study) -> list[Line]:
    """Return a line where the store's own metadata is not as it should be; a store without any group may lack it."""
    try:
        Store(study.store)
    except StoreError as error:
        if not isinstance(error, StoreMissing) or any(study.store.glob(f"*/*/{MANIFEST}")):
            return [Line(relative_to_root(study.store), "damaged", str(error), "bad")]
    return []


def remotes_status() -> list[Line]:
    """Return one line per DVC remote that does not verify what it hands back."""
    return [
        Line(f"remote {name}", "not verified", f"run 'dvc remote modify {name} verify true'", "note")
        for name in versioning.unverified_remotes(project_root())
    ]


def runs_status(study: Study) -> list[Line]:
    """Return one line for the latest training, one for the latest reconstruction, one per training to go on with."""
    runs = study.outputs / "training"
    return [
        _run_line(study, "training", "train", runs / "latest", _training_detail),
        *_unfinished_lines(study, runs),
        _reconstruction_line(study),
    ]


def _reconstruction_line(study: Study) -> Line:
    from studies.decoding.render import why_nothing_to_render

    nothing = why_nothing_to_render(study)
    if nothing is not None:
        return Line("reconstruction", "none", nothing, "note")
    return _run_line(study, "reconstruction", "reconstruct", study.outputs / "latest", _reconstruction_detail)


def _run_line(study: Study, what: str, command: str, latest: Path, detail: Callable[[Path], str]) -> Line:
    """Return the line of the run that a `latest` link points at."""
    advice = f"run 'brain2video {command} -c configs/{study.study}.yaml'"
    if not latest.is_symlink() and not latest.is_dir():
        return Line(what, "none", advice, "note")
    run = latest.resolve()
    try:
        return Line(what, run.name, f"{_when(run.name)}; {detail(run)}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Line(
            what,
            "damaged",
            f"{relative_to_root(run)}: its record is not as this project wrote it ({why}); {advice}",
            "bad",
        )


def _training_detail(run: Path) -> str:
    record, selection = read_json(run / "training.json"), read_json(run / "scores.json")["selection"]
    chosen = selection["chosen"]
    scored = selection["routes"].get(chosen)
    grounds = "not compared with another"
    if scored is not None:
        criterion = selection["criterion"].replace("_", "-")
        grounds = f"{criterion} {number(scored['value'])} on {selection['n']} held-out training stimuli"
    return f"registered route {chosen}, {grounds}; commit {_short(record['git_commit'])}"


def _reconstruction_detail(run: Path) -> str:
    record, rows = read_json(run / "manifest.json"), read_json(run / "metrics.json")["rows"]
    versions = ", ".join(f"{part} v{version}" for part, version in record["models"]["versions"].items())
    name = headline(rows)
    score = "nothing scored"
    if name is not None:
        shown_rows = [row for row in (RECONSTRUCTION, SHUFFLED) if name in rows.get(row, {})]
        values = [f"{_value(rows[row][name])} ({row_label(row)})" for row in shown_rows]
        score = f"{short_label(name)} {' beside '.join(values)}"
    return f"{score}; {versions}; commit {_short(record['git_commit'])}"


def _value(entry: dict[str, Any]) -> str:
    if entry["value"] is None:
        return "undefined"
    low, high = entry["ci95"]
    return number(entry["value"]) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def _short(commit: str) -> str:
    """Return a commit's first digits, and whether the tree differed from it."""
    name, changes, _ = commit.partition("+changes")
    return name[:12] + changes


def _when(run: str) -> str:
    """Return when a run began, as its name tells; raises ValueError where it does not."""
    return f"{datetime.strptime(run[:15], '%Y%m%d-%H%M%S').replace(tzinfo=UTC):%Y-%m-%d %H:%M} UTC"


def _unfinished_lines(study: Study, runs: Path) -> Iterator[Line]:
    """Yield a line per folder of checkpoints that a killed training left."""
    for folder in sorted(runs.glob(UNFINISHED)):
        stages = sorted(path.name for path in folder.iterdir() if path.is_dir())
        last = max((file.stat().st_mtime for file in folder.rglob("*.pt")), default=folder.stat().st_mtime)
        when = f"last written {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
        of = f", checkpoints of {', '.join(stages)}" if stages else ""
        advice = f"'brain2video train -c configs/{study.study}.yaml' goes on with it if stores, settings and code are"
        yield Line(
            "training",
            "unfinished",
            f"{when}{of}; {advice} as they were; else remove {relative_to_root(folder)}",
            "note",
        )


LISTED = 3
"""Trainings newer than production's that are compared with it."""


def production_status(study: Study) -> list[Line]:
    """Return the lines about the registry; one alone where it cannot be asked."""
    try:
        return [*_production(study), *_previous(study), *_newer(study)]
    except ServerError as error:
        return [Line("registry", "not reached", str(error), "bad")]


def _production(study: Study) -> list[Line]:
    """Return what is in production, and a line for each way in which it does not fit."""
    try:
        chosen = resolve(study.study, study.parts)
    except ServerError:
        raise
    except Brain2VideoError as error:
        found = aliased(study.study, study.parts)
        mixed = any(version is not None for version in found.values())
        state = f"mixed: {versions_text(found)}" if mixed else "none"
        return [Line(PRODUCTION, state, str(error), "bad" if mixed else "note")]
    told = since(study.study, ENCODER, chosen.versions[ENCODER])
    when = f"since {told['at']} by {told['by']} ({told['why']})" if told else "set in the UI, which keeps no time"
    line = Line(PRODUCTION, str(chosen), f"training {chosen.run}, {when}")
    return [line, *(Line("does not fit", PRODUCTION, fault, "bad") for fault in _faults(study, chosen))]


def _faults(study: Study, chosen: ModelSet) -> list[str]:
    faults = []
    try:
        require_same_targets(study, chosen)
    except Brain2VideoError as error:
        faults.append(str(error))
    try:
        store = Store(study.store)
        for subject in chosen.record["subjects"]:
            require_trained_on(study, store, chosen, subject)
    except Brain2VideoError as error:
        faults.append(str(error))
    return faults


def _previous(study: Study) -> list[Line]:
    try:
        chosen = resolve(study.study, study.parts, PREVIOUS)
    except ServerError:
        raise
    except Brain2VideoError:
        return []
    return [Line(PREVIOUS, str(chosen), f"training {chosen.run}; 'brain2video promote --rollback' returns to it")]


def _newer(study: Study) -> list[Line]:
    """Return a line on each of the newest trainings since production's, and on a latest one that is not registered."""
    registered = runs_of(study.study)
    latest = study.outputs / "training" / "latest"
    lines = []
    if latest.is_symlink() and latest.resolve().name not in registered:
        advice = f"'brain2video train' registers {relative_to_root(latest)}"
        lines.append(Line("latest training", "not registered", advice, "note"))
    found = aliased(study.study, study.parts)
    held = {str(version.tags.get("training_run")) for version in found.values() if version is not None}
    for run in itertools.takewhile(lambda name: name not in held, registered[:LISTED]):
        made = _compared(study, run)
        if made is not None:
            lines.append(Line("newer", f"{made.candidate}, {made.outcome}", _said(made), "note"))
    return lines


def _compared(study: Study, run: str) -> Comparison | None:
    """Return how a training compares with production, None where it did not register all parts."""
    try:
        return compare_with_production(study, run)
    except ServerError:
        raise
    except Brain2VideoError:
        return None


def _said(made: Comparison) -> str:
    told = [f"{row.name} {row.difference:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in made.rows]
    advice = f"'brain2video promote --run {made.candidate.run}'" if made.accepted else "see mlflow/promotion.yaml"
    return "; ".join([f"training {made.candidate.run}", *(told or made.reasons), advice])
