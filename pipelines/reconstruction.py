"""Pipeline `reconstruction`: the versions in production, resolved once, to videos with their scores."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, answered, read_study
from steps.reconstruct_responses import reconstruct_responses
from steps.reconstruct_videos import reconstruct_videos
from steps.resolve_models import resolve_models
from studies.registry.production import resolve_production
from studies.status.standing import reconstruction_standing, resolved_standing


@pipeline(**DYNAMIC)
def reconstruction(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    run: str | None = None,
    responses: str | None = None,
    tables: dict[str, str] = {},
    check_scale: bool = True,
) -> None:
    """Reconstruct the test stimuli, or, with `responses`, what a file of responses that were never stored is of."""
    config, chosen = read_study(study, overrides)
    found = resolve_production(chosen, run)
    models = answered(resolve_models, resolved_standing(found), models=found.model_dump(mode="json"))
    if responses is None:
        answered(reconstruct_videos, reconstruction_standing(chosen, found), study=config, models=models)
    else:
        reconstruct_responses(config, models, responses, tables, check_scale)
