"""What a study has in production and since when, what is newer and how it compares, and what does not fit."""

import itertools

from core.errors import Brain2VideoError, ServerError
from feature_store import Store
from models.registry.find import runs_of
from models.registry.production import aliased, resolve, versions_text
from models.registry.promotion import since
from models.registry.sets import ENCODER, PREVIOUS, PRODUCTION, ModelSet
from studies.compare import Comparison
from studies.home import shown
from studies.production import require_same_targets, require_trained_on
from studies.promote import compare_with_production
from studies.status import Line
from studies.study import Study

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
        advice = f"'brain2video train' registers {shown(latest)}"
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
