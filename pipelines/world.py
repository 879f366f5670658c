"""Pipeline `world`: the simulated recordings of a study of the small world."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.simulate_source import simulate_source
from steps.version_outputs import version_outputs


@pipeline(enable_cache=False, on_failure=remember_failure)
def world(study: str = DEFAULT_STUDY, overrides: list[str] = [], commit: bool = True) -> None:
    """Simulate the recordings."""
    config = read_study(study, overrides)
    made = simulate_source(config)
    if commit and not overrides:
        version_outputs(study, [config["source"]["path"]], after=[made])
