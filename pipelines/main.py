"""Pipeline `main`: a whole study in a row, from recordings to videos."""

from zenml import pipeline

from pipelines.common import DEFAULT_STUDY, group_paths, read_study, remember_failure
from steps.decode_regions import decode_regions
from steps.extract_targets import extract_targets
from steps.fit_models import fit_models
from steps.ingest_responses import ingest_responses
from steps.promote_models import promote_models
from steps.reconstruct_videos import reconstruct_videos
from steps.register_models import register_models
from steps.resolve_models import resolve_models
from steps.study import study_of
from steps.version_outputs import version_outputs
from studies.ingest import subjects_of


@pipeline(enable_cache=False, on_failure=remember_failure)
def main(study: str = DEFAULT_STUDY, overrides: list[str] = [], commit: bool = True) -> None:
    """Ingest, extract, train, promote what was trained where it is no worse, decode by region, reconstruct."""
    config = read_study(study, overrides)
    subjects, targets = subjects_of(study_of(config)), list(config["targets"])
    groups = [ingest_responses(config, name, id=f"ingest_{name}") for name in subjects]
    groups += [extract_targets(config, name, id=f"extract_{name}") for name in targets]
    if commit and not overrides:
        paths = [*group_paths(config, "responses", subjects), *group_paths(config, "targets", targets)]
        version_outputs(study, paths, after=groups)
    trained = fit_models(config, after=groups)
    _, run = register_models(config, trained)
    promoted = promote_models(config, run, require=False)
    regions = decode_regions(config, require=False, after=groups)
    reconstruct_videos(config, resolve_models(config, after=[promoted, regions]))
