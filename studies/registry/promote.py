"""Promotion: the alias `production` on the whole set of a training run, or on nothing, by `mlflow/promotion.yaml`."""

from core.errors import Brain2VideoError, RegistryError
from feature_store import Store
from models.registry.production import aliased, resolve
from models.registry.promotion import promoter, set_production
from models.registry.sets import PREVIOUS, ModelSet, run_of_versions, set_of_run, set_to_promote
from studies.registry.compare import Comparison, PromotionRules, compare, promotion_rules
from studies.study import Study

Aliases = dict[str, int | None]


def compare_with_production(study: Study, run: str | None = None, versions: dict[str, int] | None = None) -> Comparison:
    """Compare a candidate with what is in production; nothing is changed.

    Parameters
    ----------
    run : str, optional
        The candidate's training run; by default the newest complete one.
    versions : dict, optional
        By part, versions that the candidate's run is told by.

    Raises
    ------
    RegistryError
        Nothing is registered, or what is named is not.
    """
    named = run_of_versions(study.study, study.parts, versions) if versions else run
    if versions and run not in (None, named):
        raise RegistryError(
            f"{study.study}: the named versions are of training {named}, not of {run}; name one of them"
        )
    candidate = set_to_promote(study.study, study.parts, named)
    return _compare(study, candidate, promotion_rules())


def promote_run(
    study: Study, run: str | None = None, versions: dict[str, int] | None = None, *, force: bool = False
) -> Comparison:
    """Put a training run's set into production where the rules let it; see `compare_with_production`.

    The set that it replaces gets the alias `previous`. A half-promoted set, as a click in the UI leaves it, becomes
    whole.

    Parameters
    ----------
    force : bool
        Promote what the rules refuse, as far as they allow that.

    Returns
    -------
    Comparison
        Where `accepted` is false and nothing was forced, nothing was changed.

    Raises
    ------
    RegistryError
        As `compare_with_production`; somebody else promotes meanwhile; or this must not be forced, or not by this user.
    """
    before = _numbers(study)
    made = compare_with_production(study, run, versions)
    if not made.accepted and force:
        _require_may_force(study, made, promotion_rules())
    elif not made.accepted or made.outcome == "current":
        return made
    why = made.outcome if made.accepted else f"forced: {'; '.join(made.reasons)}"
    set_production(made.candidate, made.production, expected=before, why=why)
    return made


def require_accepted(made: Comparison) -> None:
    """Raise, in one line, where a comparison lets nothing into production.

    Raises
    ------
    RegistryError
    """
    if not made.accepted:
        raise RegistryError(
            f"{made.candidate.study}: training {made.candidate.run} is not promoted: {'; '.join(made.reasons)}; "
            "train a better one, or see mlflow/promotion.yaml and --force"
        )


def roll_back(study: Study) -> ModelSet:
    """Return to the set that was in production before; the one that is there now becomes `previous`.

    Raises
    ------
    RegistryError
        No whole set has the alias `previous`.
    """
    before = _numbers(study)
    try:
        chosen = resolve(study.study, study.parts, PREVIOUS)
    except RegistryError as error:
        raise RegistryError(f"{study.study}: there is nothing to roll back to: {error}") from error
    set_production(chosen, _whole_production(study), expected=before, why="rolled back")
    return chosen


def fits_stores(study: Study, chosen: ModelSet) -> bool:
    """Say whether a set was trained on what the stores hold now; where they are not here, nothing speaks against it.

    One that an earlier version registered, without what it is checked by, does not fit.
    """
    if "targets" not in chosen.record:
        return False
    try:
        store = Store(study.store)
        here = {f"responses/{subject}": store.responses(subject).digest for subject in chosen.record["subjects"]}
        here |= {f"targets/{name}": store.target(name).digest for name in study.roles.regressed().values()}
    except Brain2VideoError:
        return True
    told = chosen.record.get("stores", {})
    return all(told.get(name) == digest for name, digest in here.items())


def _compare(study: Study, candidate: ModelSet, rules: PromotionRules) -> Comparison:
    found = aliased(study.study, study.parts)
    held = {part: int(version.version) for part, version in found.items() if version is not None}
    if held == dict(candidate.versions):
        return Comparison(candidate, candidate, "current", ["it is in production already"])
    trainings = {str(version.tags.get("training_run")) for version in found.values() if version is not None}
    others = [set_of_run(study.study, study.parts, run) for run in sorted(trainings - {candidate.run})]
    whole = [one for one in others if one is not None]
    if not whole:
        return Comparison(candidate, None, "first", ["no other whole set was in production"])
    if len(whole) > 1:  # a half-promoted set between two other trainings
        told = (
            f"production is on parts of the trainings {', '.join(one.run for one in whole)}: complete one of them first"
        )
        return Comparison(candidate, None, "incomparable", [told])
    if rules.outdated == "replace" and fits_stores(study, candidate) and not fits_stores(study, whole[0]):
        told = "production was trained on other data than the stores hold, or by an earlier version"
        return Comparison(candidate, whole[0], "outdated", [told])
    return compare(candidate, whole[0], rules, study.seed)


def _whole_production(study: Study) -> ModelSet | None:
    try:
        return resolve(study.study, study.parts)
    except RegistryError:
        return None


def _numbers(study: Study) -> Aliases:
    found = aliased(study.study, study.parts)
    return {part: None if version is None else int(version.version) for part, version in found.items()}


def _require_may_force(study: Study, made: Comparison, rules: PromotionRules) -> None:
    if made.outcome not in rules.force.over:
        raise RegistryError(
            f"{study.study}: mlflow/promotion.yaml does not let anybody force what is {made.outcome} "
            f"(force.over: {', '.join(rules.force.over) or 'nothing'}); {'; '.join(made.reasons)}"
        )
    if rules.force.by != "anyone" and promoter() not in rules.force.by:
        raise RegistryError(
            f"{study.study}: mlflow/promotion.yaml lets {', '.join(rules.force.by) or 'nobody'} force a promotion, "
            f"you are '{promoter()}'; ask one of them"
        )
