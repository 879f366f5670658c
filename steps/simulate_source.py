"""Step: write the study's simulated dataset, where it asks for one."""

from typing import Annotated

from zenml import step

from core.checkout import relative_to_root
from steps.study import StudyJson, account, at_work
from studies.stores.responses import simulate_source as simulate


@step(enable_cache=False)
def simulate_source(study: StudyJson) -> Annotated[str, "source"]:
    """Return the dataset's folder, relative to the checkout."""
    with at_work(study) as chosen:
        folder, fresh = simulate(chosen)
    account(up_to_date=fresh)
    return relative_to_root(folder)
