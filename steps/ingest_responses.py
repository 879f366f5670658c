"""Step: write one subject's responses to the feature store."""

from typing import Annotated, Any

from zenml import step

from core.executors import ExecutorConfig
from materializers.references import ReferenceMaterializer
from steps.study import StudyJson, account, at_work
from studies.runs import GroupRef
from studies.stores.responses import ingest


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def ingest_responses(study: StudyJson, name: str, executor: dict[str, Any]) -> Annotated[GroupRef, "responses"]:
    """Return the reference to the published group; `executor` is an `ExecutorConfig`."""
    with at_work(study) as chosen:
        group = ingest(chosen, name, ExecutorConfig.model_validate(executor))
    account(up_to_date=group.fresh)
    return group
