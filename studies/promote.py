"""Promotion: the alias `production` on the whole set of a training run, or on nothing."""

from models.registry.production import promote
from models.registry.sets import ModelSet
from studies.study import Study


def promote_run(study: Study, run: str | None = None) -> ModelSet:
    """Set the alias `production` on a training run's set, by default on the newest complete one.

    Raises
    ------
    RegistryError
        Nothing is registered, or the named run is not.
    """
    return promote(study.study, study.parts, run)
