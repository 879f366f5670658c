"""Step: put a training run's whole set into production, where the rules let it."""

from typing import Annotated

from zenml import log_metadata, step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, study_of
from studies.promote import promote_run, require_accepted


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def promote_models(
    study: StudyJson, run: str | None = None, force: bool = False, require: bool = True
) -> Annotated[ModelSet, "candidate"]:
    """Return the candidate, by default the newest set; without `require`, one that is refused is no failure."""
    made = promote_run(study_of(study), run, force=force)
    log_metadata({"outcome": made.outcome, "reasons": "; ".join(made.reasons), "candidate": str(made.candidate)})
    if require and not force:
        require_accepted(made)
    return made.candidate
