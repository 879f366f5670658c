"""Pipeline `reconstruction`: the versions in production, resolved once, to videos with their scores."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.reconstruct_responses import reconstruct_responses
from steps.reconstruct_videos import reconstruct_videos
from steps.resolve_models import resolve_models


@pipeline(enable_cache=False, on_failure=remember_failure)
def reconstruction(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    run: str | None = None,
    responses: str | None = None,
    tables: dict[str, str] = {},
    check_scale: bool = True,
) -> None:
    """Reconstruct the test stimuli, or, with `responses`, what a file of responses that were never stored is of."""
    config = read_study(study, overrides)
    models = resolve_models(config, run)
    if responses is None:
        reconstruct_videos(config, models)
    else:
        reconstruct_responses(config, models, responses, tables, check_scale)
