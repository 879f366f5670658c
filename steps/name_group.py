"""Step: name one group of the feature store, so that a pipeline can map over several."""

from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from studies.references import WantedGroup


@step(output_materializers=ReferenceMaterializer)
def name_group(name: str, made_from: str) -> Annotated[WantedGroup, "wanted"]:
    """Return a subject or target with what its group would be made from: an artifact with a content of its own."""
    return WantedGroup(name=name, made_from=made_from)
