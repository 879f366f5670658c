"""What every step is handed of its study: the config as JSON, which ZenML shows beside the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zenml.config.cache_policy import CachePolicy

from core.progress import WORK
from studies.study import Study

StudyJson = dict[str, Any]

MADE_FROM = CachePolicy(ignored_inputs=["study"])
"""The study as a whole is no part of a cache's key: `made_from` says of each step what of it counts."""


def study_of(config: StudyJson) -> Study:
    """Return the study of a step's parameter."""
    return Study.model_validate(config)


@contextmanager
def at_work(config: StudyJson) -> Iterator[Study]:
    """Yield the study of a step's parameter, and count what the block takes as work, not orchestration."""
    with WORK.running():
        yield study_of(config)
