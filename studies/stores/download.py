"""Downloads of what is published: BOLD Moments from its bucket, and the weights that a study names from the hub."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from core.checkout import project_root
from feature_store.remote import Bucket, Download, DownloadPlan
from feature_store.sources.bold_moments.request import BUCKET, PREFIX, REGION, Request
from models.captioners.settings import BlipCaptionerConfig, CaptionerConfig
from models.classifiers.settings import CLIP_FILES, JudgesConfig
from models.extractors.settings import (
    BlipStatesConfig,
    ClipStatesConfig,
    ExtractorConfig,
    LatentsConfig,
    TextConfig,
)
from models.generator.settings import AnimateDiffConfig, GeneratorConfig
from models.weights import locate
from models.weights.download import Model, fetch_model, find_model
from studies.study import Study

Named = tuple[str, Sequence[str]]
"""A model's weights, and the files that are read of it."""


def prepare(
    request: Request, folder: Path, *, jobs: int = 8, check: bool = False, endpoint: str | None = None
) -> tuple[Download, DownloadPlan]:
    """List the requested files of BOLD Moments and return their download and its plan; nothing is written yet.

    Raises `DownloadError` where the bucket cannot be listed or lacks a requested file.

    Parameters
    ----------
    folder : the dataset's folder: a study's `source.path`
    check : whether to hash the files that are there
    endpoint : URL of another service that speaks S3
    """
    bucket = Bucket(BUCKET, PREFIX, region=REGION, endpoint=endpoint, jobs=jobs)
    download = Download(bucket, folder)
    return download, download.plan(bucket.find(request.wanted()), check=check)


def named_weights(
    targets: Iterable[ExtractorConfig],
    generator: GeneratorConfig | None,
    captioner: CaptionerConfig | None,
    judges: JudgesConfig,
) -> list[Named]:
    """Return all weights that these name, those of the small world's judge aside."""
    return [*_of_targets(targets), *_of_generator(generator, captioner), *_of_judges(judges)]


def published_weights(study: Study) -> dict[str, list[str]]:
    """Return the models of the hub that a study names and that are no folder here, with the files wanted of each."""
    wanted: dict[str, dict[str, None]] = {}
    named = named_weights(study.targets.values(), study.generator, study.captioner_of_b(), study.judges)
    for weights, files in named:
        if not (project_root() / weights).is_dir():
            wanted.setdefault(weights, {}).update(dict.fromkeys(files))
    return {name: list(files) for name, files in wanted.items()}


def _of_targets(targets: Iterable[ExtractorConfig]) -> Iterator[Named]:
    for target in targets:
        if isinstance(target, LatentsConfig):
            yield target.weights, locate.files_of(locate.VAE)
        elif isinstance(target, TextConfig):
            yield target.weights, locate.files_of(locate.TEXT)
        elif isinstance(target, ClipStatesConfig | BlipStatesConfig):
            yield target.weights, [*locate.VISION, locate.INDEX]


def _of_generator(generator: GeneratorConfig | None, captioner: CaptionerConfig | None) -> Iterator[Named]:
    if generator is not None:
        yield generator.weights, locate.files_of(locate.TEXT_TO_VIDEO)
        if isinstance(generator, AnimateDiffConfig):
            yield generator.motion, locate.MOTION
    if isinstance(captioner, BlipCaptionerConfig):
        yield captioner.weights, [*locate.CAPTIONER, locate.INDEX]


def _of_judges(judges: JudgesConfig) -> Iterator[Named]:
    for judge, files in ((judges.clip, CLIP_FILES), (judges.frames, locate.VISION), (judges.videos, locate.VISION)):
        if judge is not None:
            yield judge.weights, [*files, locate.INDEX]


def find_weights(weights: Mapping[str, Sequence[str]]) -> list[Model]:
    """Ask the hub about published weights and the files wanted of each; raises as `find_model`."""
    return [find_model(name, files) for name, files in weights.items()]


def download_weights(models: Sequence[Model], *, allow_pickled: bool = False) -> list[Path]:
    """Download models into `data/weights`, where a study finds them by name; raises as `fetch_model`."""
    folders = [project_root() / locate.DOWNLOADED / model.name for model in models]
    for model, folder in zip(models, folders, strict=True):
        fetch_model(model, folder, allow_pickled=allow_pickled)
    return folders
