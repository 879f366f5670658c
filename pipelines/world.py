"""Pipeline `world`: the small world of a simulated study, its dataset and its own models."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, read_study, remember_failure
from steps.simulate_source import simulate_source
from steps.train_zoo import train_zoo
from steps.version_outputs import version_outputs


@pipeline(enable_cache=False, on_failure=remember_failure)
def world(study: str = DEFAULT_STUDY, overrides: list[str] = [], commit: bool = True) -> None:
    """Simulate the recordings, and train the generator where the study trains its own."""
    config = read_study(study, overrides)
    made = {config["source"]["path"]: simulate_source(config)}
    if config["zoo"] is not None:
        made[config["generator"]["weights"]] = train_zoo(config)
    if commit and not overrides:
        version_outputs(study, list(made), after=list(made.values()))
