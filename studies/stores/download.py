"""What is published elsewhere: a dataset from its bucket, weights from the hub; what is wanted, and bringing it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from core.checkout import project_root
from feature_store.bucket import Bucket
from feature_store.download import Bill, Download, find
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
from models.weights.download import Model, bring, find_model
from studies.study import Study

Named = tuple[str, Sequence[str]]
"""A model's weights, and the files that are read of it."""


def prepare(
    request: Request, folder: Path, *, jobs: int = 8, check: bool = False, endpoint: str | None = None
) -> tuple[Download, Bill]:
    """List what is wanted of BOLD Moments and return what brings it, with the bill; nothing is written yet.

    Parameters
    ----------
    request : Request
    folder : Path
        Where the dataset is to lie: a study's `source.path`.
    jobs : int
        How many files are fetched at once.
    check : bool
        Whether files that are there are hashed as well.
    endpoint : str, optional
        URL of another service that speaks S3.

    Raises
    ------
    DownloadError
        The bucket cannot be listed or lacks what is wanted.
    """
    bucket = Bucket(BUCKET, PREFIX, region=REGION, endpoint=endpoint, connections=jobs)
    download = Download(bucket, folder, jobs=jobs)
    return download, download.bill(find(bucket, request.wanted(), jobs=jobs), check=check)


def published_weights(study: Study) -> dict[str, list[str]]:
    """Return the models of the hub that a study names and that are no folder here, with the files wanted of each."""
    wanted: dict[str, dict[str, None]] = {}
    generator = _of_generator(study.generator, study.captioner_of_b())
    for weights, files in [*_of_targets(study.targets.values()), *generator, *_of_judges(study.judges)]:
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


def bring_weights(models: Sequence[Model], *, allow_pickled: bool = False) -> list[Path]:
    """Bring models into `data/weights`, where a study finds them by name; raises as `models.weights.download.bring`."""
    folders = [project_root() / locate.DOWNLOADED / model.name for model in models]
    for model, folder in zip(models, folders, strict=True):
        bring(model, folder, allow_pickled=allow_pickled)
    return folders
