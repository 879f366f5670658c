"""Pipeline `main`: a whole study in a row, from recordings to videos."""

from typing import Any

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, DYNAMIC, nothing_promoted, read_study, require_versionable, version
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
from studies.status.check import require_ready
from studies.stores.responses import subjects_of


@pipeline(**DYNAMIC)
def main(
    study: str = DEFAULT_STUDY,
    overrides: list[str] = [],
    commit: bool = True,
    executor: dict[str, Any] = {},
    together: dict[str, Any] = {},
) -> None:
    """Ingest, extract, train, decode by region, reconstruct, and promote what was trained where it is no worse.

    A study of the small world is simulated first. What is promoted has been reconstructed with: a set that cannot be
    changes nothing in production.
    """
    config, chosen = read_study(study, overrides)
    if commit and not overrides:
        require_versionable(chosen, study)
    if chosen.simulation is not None:
        simulate_source(study=config)
    require_ready(chosen)
    groups = gathered(
        Fanned(ingest_responses, config, "responses", subjects_of(chosen.source), executor),
        Fanned(extract_targets, config, "targets", list(chosen.targets), executor),
    )
    if not overrides:
        version(chosen, study, groups, commit=commit)
    trained = fit_models(study=config, together=together)
    _, run = register_models(study=config, training=trained)
    with nothing_promoted(chosen.study):
        decode_regions(study=config, require=False)
        models = resolve_models(study=config, run=run, promoted=True)
        reconstruct_videos(study=config, models=models)
    promote_models(study=config, run=run, require=False)
