"""Promotion: the alias `production` on the whole set of a training run, or on nothing, by ``mlflow/promotion.yaml``.

A candidate is compared with what is in production on stimuli that were held out of both trainings.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from core.checkout import project_root
from core.config import Config
from core.errors import Brain2VideoError, RegistryError, ServerError
from core.explain import read_yaml, validated
from core.progress import report
from core.threads import computing
from evaluation.metrics import metric
from evaluation.report.wording import signed
from evaluation.statistics.intervals import paired_interval
from evaluation.statistics.selection import widened
from feature_store import Store
from models.registry.client import is_set_up
from models.registry.history import before
from models.registry.production import (
    Found,
    aliased,
    note_production,
    promoter,
    read_artifact,
    resolve,
    set_production,
)
from models.registry.sets import ModelSet, run_of_versions, runs_of, set_of_run, set_to_promote
from studies.registry.decision import SAME, MetricRow, MetricRule, Outcome, PromotionDecision
from studies.registry.production import stored_digests
from studies.runs import VALIDATION, in_turn
from studies.study import Study
from studies.training.routes import CHOSEN_APART, NOT_CHOSEN, reported_values

FILE = "mlflow/promotion.yaml"


class ForceRule(Config):
    """What `--force` may override."""

    over: tuple[Literal["worse", "incomparable"], ...] = ("worse", "incomparable")
    by: Literal["anyone"] | tuple[str, ...] = "anyone"
    """Who may force: users of the server, else of the system."""


class PromotionRules(Config):
    """The rules, as in `mlflow/promotion.yaml`; a metric of a role that a study lacks does not count."""

    metrics: dict[str, MetricRule] = Field(
        default_factory=lambda: {"z.correlation": MetricRule(), "b.correlation": MetricRule()}, min_length=1
    )
    gain: float = 0.0
    """The least mean of the metrics' differences."""
    fewest: PositiveInt = 5
    """Stimuli held out of both trainings, below which nothing is compared."""
    outdated: Literal["replace", "compare"] = "replace"
    """What happens to a production set that was trained on other data than the stores hold."""
    force: ForceRule = ForceRule()


def promotion_rules() -> PromotionRules:
    """Return the checkout's rules; the defaults where it has no file of them.

    Raises `ConfigError` where the file is not YAML, or a key or a value in it is wrong.
    """
    file = project_root() / FILE
    if not file.is_file():
        return PromotionRules()
    return validated(PromotionRules, read_yaml(file.read_bytes(), FILE) or {}, FILE)


@computing()
def compare_with_production(
    study: Study, run: str | None = None, versions: dict[str, int] | None = None
) -> PromotionDecision:
    """Compare a candidate with what is in production; nothing is changed.

    Raises `RegistryError` where nothing is registered, or what is named is not.

    Parameters
    ----------
    run : the candidate's training run; by default the newest complete one
    versions : by part, versions that the candidate's run is found by
    """
    candidate, rules = candidate_of(study.study, study.parts, run, versions), promotion_rules()
    aliases = aliased(study.study, study.parts)
    if _numbers(aliases) == dict(candidate.versions):
        return _decided(candidate, candidate, "current", "it is in production already")
    whole = _whole_sets(study.study, study.parts, aliases, {candidate.run})
    if not whole:
        return _decided(candidate, None, "first", "no other whole set was in production")
    if len(whole) > 1:  # a half-promoted set between two other trainings
        names = ", ".join(other.run for other in whole)
        reason = f"production is on parts of the trainings {names}: complete one of them first"
        return _decided(candidate, None, "incomparable", reason)
    stored = (study.store, study.roles.regressed().values())
    if rules.outdated == "replace" and fits_stores(candidate, *stored) and not fits_stores(whole[0], *stored):
        reason = "production was trained on other data than the stores hold, or by an earlier version"
        return _decided(candidate, whole[0], "outdated", reason)
    return compare(candidate, whole[0], rules)


def _whole_sets(study: str, parts: list[str], aliases: Found, apart: Collection[str] = ()) -> list[ModelSet]:
    """Return the whole sets that have the alias on any of their parts, those of some trainings aside."""
    trainings = {str(version.tags.get("training_run")) for version in aliases.values() if version is not None}
    found = [set_of_run(study, parts, run) for run in sorted(trainings - set(apart))]
    return [one for one in found if one is not None]


def require_comparable(study: str, parts: list[str]) -> None:
    """Raise `RegistryError` where production is on parts of several trainings, with which none can be compared."""
    # A server with users refuses to say which alias a model has that is not registered yet.
    if is_set_up() and runs_of(study) and len(_whole_sets(study, parts, aliased(study, parts))) > 1:
        resolve(study, parts)


def candidate_of(
    study: str, parts: list[str], run: str | None = None, versions: dict[str, int] | None = None
) -> ModelSet:
    """Return the set that `compare_with_production` compares, and raise as it does."""
    named = run_of_versions(study, parts, versions) if versions else run
    if versions and run not in (None, named):
        raise RegistryError(f"{study}: the named versions are of training {named}, not of {run}; name one of them")
    return set_to_promote(study, parts, named)


def _decided(candidate: ModelSet, production: ModelSet | None, outcome: Outcome, *reasons: str) -> PromotionDecision:
    return PromotionDecision(candidate=candidate, production=production, outcome=outcome, reasons=list(reasons))


@computing()
def promote_run(
    study: Study, run: str | None = None, versions: dict[str, int] | None = None, *, force: bool = False
) -> PromotionDecision:
    """Put a training run's set into production where the rules let it; see `compare_with_production`.

    The set that it replaces gets the alias `previous`. A half-promoted set, as a click in the UI leaves it, becomes
    whole. Raises `RegistryError` as `compare_with_production`, and where another promotion runs at the same time, or
    this must not be forced, or not by this user.

    Parameters
    ----------
    force : promote what the rules refuse, as far as they allow that

    Returns
    -------
    PromotionDecision
        Where `accepted` is false and nothing was forced, nothing was changed.
    """
    with in_turn(study.outputs, "promoting", "promotion"):
        now = _numbers(aliased(study.study, study.parts))
        note_production(study.study, study.parts)
        decision = compare_with_production(study, run, versions)
        if not decision.accepted and force:
            _require_may_force(decision, promotion_rules())
        elif not decision.accepted or decision.outcome == "current":
            return decision
        why = decision.outcome if decision.accepted else f"forced: {'; '.join(decision.reasons)}"
        set_production(decision.candidate, decision.production, expected=now, why=why)
        return decision


def resolve_promoted(study: Study, run: str | None = None) -> ModelSet:
    """Return the set that is in production once `promote_run` has been called; nothing is changed.

    Raises `RegistryError` as `compare_with_production`, and where the rules refuse the run and production is no set.
    """
    decision = compare_with_production(study, run)
    return decision.candidate if decision.accepted else resolve(study.study, study.parts)


def roll_back(study: Study) -> ModelSet:
    """Return to the set that was in production before; the one that is there now becomes `previous`.

    What was set in the MLflow UI counts as far as a command saw it. Where nothing or a half-promoted set is in
    production now, the last whole set that was there returns.

    Raises `RegistryError` where no other set is known to have been in production, or it has been deleted.
    """
    name, parts = study.study, study.parts
    now = _numbers(aliased(name, parts))
    replaced, known = note_production(name, parts)
    last, chosen = before(name, parts, known, replaced)
    set_production(chosen, replaced, expected=now, why="rolled back")
    report(f"production returns to training {chosen.run} ({chosen}), in production {last}", 1, 1)
    if replaced is not None and not known[-1].by:
        report(f"{replaced} was set in the UI; what the UI set before, and no command saw, is not known", 1, 1)
    return chosen


def fits_stores(chosen: ModelSet, path: Path, targets: Collection[str]) -> bool:
    """Say whether a set was trained on what a store holds now of its subjects and of the roles' targets.

    A set fits a store that is not here; one that an earlier version registered, without such a record, does not.
    """
    if "targets" not in chosen.record:
        return False
    try:
        digests = stored_digests(Store(path), chosen.record["subjects"], targets)
    except Brain2VideoError:
        return True
    trained_on = chosen.record.get("stores", {})
    return all(trained_on.get(name) == digest for name, digest in digests.items())


def _numbers(aliases: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the version that each part's alias is on, None where it is on none."""
    return {part: None if version is None else int(version.version) for part, version in aliases.items()}


def _require_may_force(decision: PromotionDecision, rules: PromotionRules) -> None:
    name = decision.candidate.study
    if decision.outcome not in rules.force.over:
        raise RegistryError(
            f"{name}: mlflow/promotion.yaml lets no one force what is {decision.outcome} "
            f"(force.over: {', '.join(rules.force.over) or 'nothing'}); {'; '.join(decision.reasons)}"
        )
    if rules.force.by != "anyone" and promoter() not in rules.force.by:
        raise RegistryError(
            f"{name}: mlflow/promotion.yaml lets {', '.join(rules.force.by) or 'no one'} force a promotion, "
            f"you are '{promoter()}'; ask one of them"
        )


def validation_of(chosen: ModelSet) -> dict[str, Any] | None:
    """Return a registered training's scores on held-out stimuli, None where it has none."""
    try:
        validation: dict[str, Any] = json.loads(read_artifact(chosen, VALIDATION))
    except (ServerError, OSError, ValueError):
        return None
    return validation


def compare(candidate: ModelSet, production: ModelSet, rules: PromotionRules) -> PromotionDecision:
    """Compare two registered trainings by the rules.

    Each training is compared by the scores that it reports, which are free of the choice among its routes
    (`studies.training.routes.reported_values`). Metrics whose values depend on which stimuli are scored together are
    compared only where both trainings held out the same ones.
    """
    ours, theirs = validation_of(candidate), validation_of(production)
    if ours is None or theirs is None:
        missing = [chosen.run for chosen, own in ((candidate, ours), (production, theirs)) if own is None]
        reasons = [f"training {run} has no scores on held-out stimuli" for run in missing]
        return _decided(candidate, production, "incomparable", *reasons)
    names, notes = _comparable(rules, ours, theirs)
    shared = [name for name in ours["stimuli"] if name in set(theirs["stimuli"])]
    reasons = _why_incomparable(candidate, production, ours, theirs, len(shared), rules)
    if not names:
        reasons += notes or [f"neither has the metrics {', '.join(rules.metrics)}"]
    if reasons:
        return _decided(candidate, production, "incomparable", *reasons)
    rows = [_row(name, rules.metrics[name], ours, theirs, shared) for name in names]
    unchanged = all(row.same for row in rows)
    reasons = [f"no metric differs by {SAME:g} or more"] if unchanged else _why_worse(rows, rules)
    return PromotionDecision(
        candidate=candidate,
        production=production,
        outcome="unchanged" if unchanged else "worse" if reasons else "better",
        reasons=reasons,
        rows=rows,
        stimuli=len(shared),
        notes=[*notes, *_how_scored(ours, theirs)],
    )


def _comparable(
    rules: PromotionRules, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """Return the rules' metrics that both have and that can be compared, and a note on those that cannot."""
    both = [name for name in rules.metrics if _has(name, ours, theirs)]
    if set(ours["stimuli"]) == set(theirs["stimuli"]):
        return both, []
    apart = [name for name in both if metric(name).depends_on_set]
    why = (
        f"not compared, because the values depend on which stimuli are scored together and other ones were held out of "
        f"each training: {', '.join(apart)}"
    )
    return [name for name in both if name not in apart], [why] if apart else []


def _why_worse(rows: list[MetricRow], rules: PromotionRules) -> list[str]:
    reasons = [
        f"{row.name} differs by {signed(row.difference, 4)} [{signed(row.low, 4)}, {signed(row.high, 4)}], at least "
        f"{row.rule.difference:+g} [{row.rule.interval:+g} …] is required"
        for row in rows
        if not row.passes
    ]
    gain = float(np.mean([row.difference for row in rows]))
    if gain < rules.gain:
        reasons.append(f"the mean difference is {signed(gain, 4)}, at least {rules.gain:+g} is required")
    return reasons


def _how_scored(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Return a note on where a training's scores come from, where it chose among routes or may have."""
    hows = {"candidate": reported_values(ours)[1], "production": reported_values(theirs)[1]}
    told = {side: how for side, how in hows.items() if how != NOT_CHOSEN}
    if len(set(told.values())) == 1 and len(told) == 2:
        return [f"both: {next(iter(told.values()))}"]
    return [f"{side}: {how}" for side, how in told.items()]


def _why_incomparable(
    candidate: ModelSet,
    production: ModelSet,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    shared: int,
    rules: PromotionRules,
) -> list[str]:
    reasons = [
        f"{what} differ: {old} in production, {new} of the candidate"
        for what, old, new in (
            ("subjects", theirs["subjects"], ours["subjects"]),
            ("targets", _targets(production), _targets(candidate)),
        )
        if old != new
    ]
    if shared < rules.fewest:
        reasons.append(
            f"{shared} stimuli were held out of both ({len(theirs['stimuli'])} and {len(ours['stimuli'])}), at "
            f"least {rules.fewest} are needed"
        )
    return reasons


def _targets(chosen: ModelSet) -> dict[str, str]:
    """Return the revision of every role's target, shortened: scores of other revisions cannot be compared."""
    named: dict[str, dict[str, str]] = chosen.record.get("targets", {})
    return {role: f"{own['name']} ({own['extractor']} {own['revision'][:8]})" for role, own in named.items()}


def _has(name: str, *records: Mapping[str, Any]) -> bool:
    role, _, short = name.rpartition(".")
    return all(short in record["values"].get(role, {}) for record in records)


def _row(
    name: str,
    rule: MetricRule,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    shared: list[str],
) -> MetricRow:
    role, _, short = name.rpartition(".")
    (new, how_new), (old, how_old) = (_values(record, role, short, shared) for record in (ours, theirs))
    difference, low, high = paired_interval(new, old, span=metric(name).span, blocks=_blocks(shared, ours, theirs))
    if CHOSEN_APART in (how_new, how_old):
        low, high = widened(difference, low, high)
    return MetricRow(
        name=name,
        production=float(old.mean()),
        candidate=float(new.mean()),
        difference=difference,
        low=low,
        high=high,
        rule=rule,
        passes=difference >= rule.difference and low >= rule.interval,
    )


def _blocks(stimuli: list[str], *records: Mapping[str, Any]) -> NDArray[np.int64] | None:
    """Return the blocks in time of some stimuli by the first record that has them, None where neither has."""
    for record in records:
        if "blocks" in record:
            by_name = dict(zip(record["stimuli"], record["blocks"], strict=True))
            return np.array([by_name[name] for name in stimuli], np.int64)
    return None


def _values(record: Mapping[str, Any], role: str, short: str, stimuli: list[str]) -> tuple[NDArray[np.float64], str]:
    """Return the values of some stimuli that a training reports, and how they come about."""
    values, how = reported_values(record)
    by_name = dict(zip(record["stimuli"], values[role][short], strict=True))
    return np.array([by_name[name] for name in stimuli], np.float64), how
