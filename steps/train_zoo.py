"""Step: train the small world's own models, where the study asks for it."""

from typing import Annotated

from zenml import step

from steps.study import StudyJson, study_of
from studies.home import shown
from studies.train_zoo import train_zoo as train


@step(enable_cache=False)
def train_zoo(study: StudyJson) -> Annotated[str, "weights"]:
    """Return the folder of the weights, relative to the checkout."""
    return shown(train(study_of(study)))
