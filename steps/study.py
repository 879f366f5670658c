"""What every step is handed of its study: the config as JSON, which ZenML shows beside the run."""

from typing import Any

from studies.study import Study

StudyJson = dict[str, Any]


def study_of(config: StudyJson) -> Study:
    """Return the study of a step's parameter."""
    return Study.model_validate(config)
