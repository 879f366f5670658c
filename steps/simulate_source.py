"""Step: write the study's simulated dataset, where it asks for one."""

from typing import Annotated

from zenml import step

from steps.study import StudyJson, study_of
from studies.home import shown
from studies.simulate import simulate_source as simulate


@step(enable_cache=False)
def simulate_source(study: StudyJson) -> Annotated[str, "source"]:
    """Return the dataset's folder, relative to the checkout."""
    return shown(simulate(study_of(study)))
