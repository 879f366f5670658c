"""The status of a study, as lines for a terminal: its stores and their versions, its runs, what is in production."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from core.checkout import project_root, relative_to_root
from core.errors import Brain2VideoError, ServerError, StoreError, StoreMissing
from core.files import read_json
from evaluation.report.wording import headline, number, row_label, short_label, signed
from evaluation.statistics.scores import RECONSTRUCTION, SHUFFLED
from feature_store import Store, versioning
from feature_store.schema import MANIFEST as GROUP_MANIFEST
from models.registry.history import before, earlier
from models.registry.production import aliased, note_production, resolve, versions_text
from models.registry.sets import PREVIOUS, PRODUCTION, ModelSet, find_registered, runs_of
from studies.registry.decision import PromotionDecision
from studies.registry.production import require_same_targets, require_trained_on
from studies.registry.promote import compare_with_production
from studies.runs import LATEST, MANIFEST, METRICS, RECORD, SCORES, TRAINING, UNFINISHED, started_at
from studies.status.freshness import FRESH, SOURCE_MISSING, Freshness, Level, freshness
from studies.study import Study

MADE_HERE = "made here"
"""Of a group that is up to date, and that `dvc.lock` records as it was made elsewhere."""
NO_STAGES = "no stage of dvc.yaml makes these stores; to version and share them, add stages as the demo's"


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
    lines = [
        _line_of(group.relative_to(study.store).as_posix(), found, versions.get(group))
        for group, found in judged.items()
    ]
    missing = dict.fromkeys(found.detail for found in judged.values() if found.state == SOURCE_MISSING)
    lines += [Line("source", "not here", why, "note") for why in missing]
    if versioning.NO_STAGE in versions.values():
        lines.append(Line("DVC", "not used", NO_STAGES))
    return [*_root_status(study.store), *lines]


def _line_of(group: str, found: Freshness, version: str | None) -> Line:
    if version == versioning.NO_STAGE:
        version = None  # shown once for all groups
    elif version == versioning.CHANGED and found.state == FRESH:
        version = MADE_HERE
    known = ", ".join(part for part in (version, found.digest[:12]) if part)
    detail = "" if found.state == SOURCE_MISSING else found.detail  # shown once for all groups
    return Line(group, found.state, "; ".join(part for part in (known, detail) if part), found.level)


def _root_status(path: Path) -> list[Line]:
    """Return a line where the store's own metadata is not as it should be; a store without any group may lack it."""
    try:
        Store(path)
    except StoreError as error:
        if not isinstance(error, StoreMissing) or any(path.glob(f"*/*/{GROUP_MANIFEST}")):
            return [Line(relative_to_root(path), "damaged", str(error), "bad")]
    return []


def remotes_status() -> list[Line]:
    """Return one line per DVC remote that does not verify what it hands back."""
    return [
        Line(f"remote {name}", "not verified", f"run 'dvc remote modify {name} verify true'", "note")
        for name in versioning.unverified_remotes(project_root())
    ]


def runs_status(study: Study) -> list[Line]:
    """Return one line for the latest training, one for the latest reconstruction, one per training to go on with."""
    runs, config = study.outputs / TRAINING, f"-c configs/{study.study}.yaml"
    train, render = f"'brain2video train {config}'", f"'brain2video reconstruct {config}'"
    nothing = study.why_nothing_to_render()
    if nothing is None:
        reconstruction = _run_line("reconstruction", render, study.outputs / LATEST, _reconstruction_detail)
    else:
        reconstruction = Line("reconstruction", "none", nothing, "note")
    return [
        _run_line("training", train, runs / LATEST, _training_detail),
        *_unfinished_lines(train, runs),
        reconstruction,
    ]


def _run_line(what: str, command: str, latest: Path, detail: Callable[[Path], str]) -> Line:
    """Return the line of the run that a `latest` link points at; `command` makes such a run."""
    advice = f"run {command}"
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
    record, selection = read_json(run / RECORD), read_json(run / SCORES)["selection"]
    chosen = selection["chosen"]
    scored = selection.get("reported") or selection["routes"].get(chosen)
    grounds = "not compared with another"
    if scored is not None:
        criterion = selection["criterion"].replace("_", "-")
        grounds = f"{criterion} {number(scored['value'])} on {selection['n']} held-out training stimuli"
    return f"registered route {chosen}, {grounds}; commit {_short(record['git_commit'])}"


def _reconstruction_detail(run: Path) -> str:
    record, rows = read_json(run / MANIFEST), read_json(run / METRICS)["rows"]
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
        return "missing"
    low, high = entry["ci95"]
    return number(entry["value"]) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def _short(commit: str) -> str:
    """Return a commit's first digits, and whether the tree differed from it."""
    name, changes, _ = commit.partition("+changes")
    return name[:12] + changes


def _when(run: str) -> str:
    """Return when a run began, as its name tells; raises ValueError where it does not."""
    return f"{started_at(run):%Y-%m-%d %H:%M} UTC"


def _unfinished_lines(command: str, runs: Path) -> Iterator[Line]:
    """Yield a line per folder of checkpoints that a killed training left; `command` trains."""
    for folder in sorted(runs.glob(f"{UNFINISHED}*[0-9a-f]")):
        stages = sorted(path.name for path in folder.iterdir() if path.is_dir())
        last = max((file.stat().st_mtime for file in folder.rglob("*.pt")), default=folder.stat().st_mtime)
        when = f"last written {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
        of = f", checkpoints of {', '.join(stages)}" if stages else ""
        advice = f"{command} continues it if stores, settings and code are"
        yield Line(
            "training",
            "unfinished",
            f"{when}{of}; {advice} unchanged; else remove {relative_to_root(folder)}",
            "note",
        )


LISTED = 3
"""Trainings newer than production's that are compared with it; sets before it that are shown."""


def production_status(study: Study) -> list[Line]:
    """Return the lines about the registry; one alone where it cannot be asked."""
    name, parts, folder = study.study, study.parts, study.outputs / TRAINING
    try:
        return [
            *_production(name, parts, partial(_faults, study)),
            *_earlier(name, parts),
            *_newer(name, parts, folder / LATEST, partial(compare_with_production, study)),
        ]
    except ServerError as error:
        return [Line("registry", "not reached", str(error), "bad")]


def _production(study: str, parts: list[str], faults: Callable[[ModelSet], list[str]]) -> list[Line]:
    """Return what is in production, and a line for each way in which it does not fit."""
    try:
        chosen = resolve(study, parts)
    except ServerError:
        raise
    except Brain2VideoError as error:
        found = aliased(study, parts)
        mixed = any(version is not None for version in found.values())
        state = f"mixed: {versions_text(found)}" if mixed else "none"
        return [Line(PRODUCTION, state, str(error), "bad" if mixed else "note")]
    _, known = note_production(study, parts)
    line = Line(PRODUCTION, str(chosen), f"training {chosen.run}, {known[-1]}")
    return [line, *(Line("does not fit", PRODUCTION, fault, "bad") for fault in faults(chosen))]


def _faults(study: Study, chosen: ModelSet) -> list[str]:
    faults = []
    try:
        require_same_targets(study, chosen)
    except Brain2VideoError as error:
        faults.append(str(error))
    try:
        store = Store(study.store)
        for subject in chosen.record["subjects"]:
            require_trained_on(chosen, store, subject, study.roles.regressed().values())
    except Brain2VideoError as error:
        faults.append(str(error))
    return faults


def _earlier(study: str, parts: list[str]) -> list[Line]:
    """Return a line on what a rollback returns to, and one on each of the sets that were in production before it."""
    current, known = note_production(study, parts)
    runs = earlier(known, current)
    if not runs:
        return []
    try:
        last, chosen = before(study, parts, known, current)
        back = "'brain2video promote --rollback' returns to it"
        line = Line(PREVIOUS, str(chosen), f"training {last.run}, in production {last}; {back}")
    except ServerError:
        raise
    except Brain2VideoError as error:
        line = Line(PREVIOUS, "deleted", str(error), "note")
    more = [Line("earlier", f"training {entry.run}", f"in production {entry}") for entry in runs[1:LISTED]]
    return [line, *more]


def _newer(study: str, parts: list[str], latest: Path, compare: Callable[[str], PromotionDecision]) -> list[Line]:
    """Return a line on each of the newest trainings since production's, and on a latest one that is not registered."""
    registered = runs_of(study)
    lines = []
    if latest.is_symlink() and latest.resolve().name not in registered and not _has_twin(study, parts, latest):
        advice = f"'brain2video train' registers {relative_to_root(latest)}"
        lines.append(Line("latest training", "not registered", advice, "note"))
    found = aliased(study, parts)
    held = {str(version.tags.get("training_run")) for version in found.values() if version is not None}
    for run in itertools.takewhile(lambda name: name not in held, registered[:LISTED]):
        try:
            decision = compare(run)
        except ServerError:
            raise
        except Brain2VideoError:
            continue  # it did not register all parts
        lines.append(Line("newer", f"{decision.candidate}, {decision.outcome}", _in_words(decision), "note"))
    return lines


def _has_twin(study: str, parts: list[str], training: Path) -> bool:
    """Say whether a set that another run registered is made from the same as a training, of the same files."""
    try:
        record = read_json(training / RECORD)
        twin = find_registered(study, parts, record["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # a damaged training
    return twin is not None and twin.digests == record["digests"]


def _in_words(decision: PromotionDecision) -> str:
    run = decision.candidate.run
    apart = [] if decision.outcome == "unchanged" else decision.rows
    rows = [f"{row.name} {signed(row.difference)} [{signed(row.low)}, {signed(row.high)}]" for row in apart]
    advice = f"'brain2video promote --run {run}'" if decision.accepted else "see mlflow/promotion.yaml"
    return "; ".join([f"training {run}", *(rows or decision.reasons), advice])
