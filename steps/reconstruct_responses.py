"""Step: render what a model set makes of responses that were never stored."""

from pathlib import Path
from typing import Annotated

from zenml import step

from materializers.references import ReferenceMaterializer
from models.registry.sets import ModelSet
from steps.study import StudyJson, account, at_work
from studies.reconstruction.new import NewFile, reconstruct_file
from studies.runs import ReconstructionRef


@step(enable_cache=False, output_materializers=ReferenceMaterializer)
def reconstruct_responses(
    study: StudyJson, models: ModelSet, responses: str, tables: dict[str, str], check_scale: bool = True
) -> Annotated[ReconstructionRef, "reconstruction"]:
    """Return the reference to the run's folder; `tables` names the files of voxels, trials and mask, if any."""
    named = {name: Path(path) for name, path in tables.items()}
    file = NewFile(path=Path(responses), **named, check_scale=check_scale)
    with at_work(study) as chosen:
        reference = reconstruct_file(chosen, file, models).reference
    account(up_to_date=reference.fresh)
    return reference
