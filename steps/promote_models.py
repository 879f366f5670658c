"""Step: put a training run's whole set into production, where the rules let it."""

from typing import Annotated

from zenml import log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import MADE_FROM, StudyJson, at_work
from studies.registry.promote import promote_run, require_accepted


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def promote_models(
    study: StudyJson, made_from: str, run: str | None = None, force: bool = False, require: bool = True
) -> Annotated[ModelSet, "candidate"]:
    """Return the candidate, by default the newest set; without `require`, one that is refused is no failure."""
    with at_work(study) as chosen:
        made = promote_run(chosen, run, force=force)
    log_metadata({"outcome": made.outcome, "reasons": "; ".join(made.reasons), "candidate": str(made.candidate)})
    if require and not force:
        require_accepted(made)
    return made.candidate
