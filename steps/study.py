"""What every step shares: the study as JSON, which ZenML shows beside the run, and the account of what was work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zenml import log_metadata

from core.progress import WORK
from studies.study import Study

StudyJson = dict[str, Any]


def study_of(config: StudyJson) -> Study:
    """Return the study of a step's parameter."""
    return Study.model_validate(config)


@contextmanager
def at_work(config: StudyJson) -> Iterator[Study]:
    """Yield the study of a step's parameter, and count what the block takes as work, not orchestration."""
    with WORK.running():
        yield study_of(config)


def account(*, up_to_date: bool) -> None:
    """Record, for ZenML's pages and the line at the end of a run, whether a step's result was already there."""
    WORK.count(up_to_date=up_to_date)
    log_metadata({"up_to_date": up_to_date})
