"""Pipeline `reconstruction`: the versions in production, resolved once, to videos with their scores."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.reconstruct_videos import reconstruct_videos
from steps.resolve_models import resolve_models


@pipeline(enable_cache=False, on_failure=remember_failure)
def reconstruction(study: str = DEFAULT_STUDY, overrides: list[str] = []) -> None:
    """Reconstruct the test stimuli."""
    config = read_study(study, overrides)
    reconstruct_videos(config, resolve_models(config))
