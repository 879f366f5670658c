"""Step: write the study's simulated dataset, where it asks for one."""

from typing import Annotated

from zenml import step

from core.checkout import relative_to_root
from steps.study import MADE_FROM, StudyJson, at_work
from studies.stores.responses import simulate_source as simulate


@step(cache_policy=MADE_FROM)
def simulate_source(study: StudyJson, made_from: str) -> Annotated[str, "source"]:
    """Return the dataset's folder, relative to the checkout."""
    with at_work(study) as chosen:
        return relative_to_root(simulate(chosen))
