"""Pipeline `main`: a whole study in a row, from recordings to videos."""

from typing import Any

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, answered, read_study, version
from pipelines.fan_out import Fanned, gathered
from steps.decode_regions import decode_regions
from steps.extract_targets import extract_targets
from steps.fit_models import fit_models
from steps.ingest_responses import ingest_responses
from steps.promote_models import promote_models
from steps.reconstruct_videos import reconstruct_videos
from steps.register_models import register_models
from steps.resolve_models import resolve_models
from steps.simulate_source import simulate_source
from studies.registry.production import resolve_production
from studies.status.standing import (
    promoted_standing,
    reconstruction_standing,
    regions_standing,
    registered_standing,
    resolved_standing,
    source_standing,
    training_standing,
)
from studies.stores.responses import subjects_of


@pipeline(**DYNAMIC)
def main(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    commit: bool = True,
    executor: dict[str, Any] = {},
    together: dict[str, Any] = {},
) -> None:
    """Ingest, extract, train, promote what was trained where it is no worse, decode by region, reconstruct.

    A study of the small world is simulated first.
    """
    config, chosen = read_study(study, overrides)
    source = None if chosen.simulation is None else source_standing(chosen)
    if source is not None:
        answered(simulate_source, source, study=config)
    groups = gathered(
        Fanned(ingest_responses, config, chosen, "responses", subjects_of(chosen.source), executor),
        Fanned(extract_targets, config, chosen, "targets", list(chosen.targets), executor),
    )
    if commit and not overrides:
        version(chosen, study, groups, source)
    trained = answered(fit_models, training_standing(chosen), study=config, together=together)
    registered = registered_standing(chosen, trained.load())
    _, made = answered(register_models, registered, study=config, training=trained)
    run = made.load()
    answered(promote_models, promoted_standing(chosen, run), study=config, run=run, require=False)
    answered(decode_regions, regions_standing(chosen), study=config, require=False)
    found = resolve_production(chosen)
    models = answered(resolve_models, resolved_standing(found), models=found.model_dump(mode="json"))
    answered(reconstruct_videos, reconstruction_standing(chosen, found), study=config, models=models)
