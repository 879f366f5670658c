"""Step: put a training run's whole set into production, where the rules let it."""

from typing import Annotated

from zenml import log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, account, at_work
from studies.registry.decision import PromotionDecision, require_accepted
from studies.registry.promote import promote_run


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def promote_models(
    study: StudyJson, run: str | None = None, force: bool = False, require: bool = True
) -> tuple[Annotated[ModelSet, "candidate"], Annotated[PromotionDecision, "decision"]]:
    """Return the candidate, by default the newest set, and its comparison with production.

    Without `require`, a candidate that is refused is no failure.
    """
    with at_work(study) as chosen:
        made = promote_run(chosen, run, force=force)
    log_metadata({"outcome": made.outcome, "reasons": "; ".join(made.reasons), "candidate": str(made.candidate)})
    if require and not force:
        require_accepted(made)
    account(up_to_date=made.outcome == "current" or not made.accepted)
    return made.candidate, made
