"""Step: write one extractor's targets to the feature store."""

from typing import Annotated, Any

from zenml import step

from core.executors import ExecutorConfig
from materializers.references import ReferenceMaterializer
from steps.study import MADE_FROM, StudyJson, at_work
from studies.references import GroupRef, WantedGroup
from studies.stores.targets import extract


@step(cache_policy=MADE_FROM, output_materializers=ReferenceMaterializer)
def extract_targets(study: StudyJson, wanted: WantedGroup, executor: dict[str, Any]) -> Annotated[GroupRef, "targets"]:
    """Return the reference to the published group."""
    with at_work(study) as chosen:
        return extract(chosen, wanted.name, ExecutorConfig.model_validate(executor))
