"""What a study leaves beside its store, and what it needs in memory while it works: model parts, videos, peaks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.statistics.scores import RECONSTRUCTION
from feature_store.schema import CHUNK_BYTES
from feature_store.sources.base import SPLITS, Split
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from models.encoders.settings import MbmConfig, PcaConfig
from models.extractors.settings import LatentsConfig, TextConfig
from models.regressors.settings import RidgeConfig
from studies.planning.facts import StudyFacts, SubjectFacts
from studies.planning.models import FILES, settings_of
from studies.planning.rates import Rates
from studies.planning.work import Shapes, Stage, features_of
from studies.study import RouteConfig, Study

FLOAT = 4
SMALLEST_SIDE = 256
"""Videos are enlarged to this side where they are smaller."""
PREVIEW = 192
"""Longer side of a clip in the gallery, which holds two of each, in base64."""
WRITING = 6
"""Chunks in memory while a group is written: those that wait for the disk, and those that are filled and encoded."""


@dataclass(frozen=True)
class Output:
    """Files beside the store.

    Attributes
    ----------
    what : for example ``"route ridge: encoder and regressors"``
    size : bytes
    each : whether a study has this or another: routes, of which one is registered
    """

    what: str
    size: int
    each: bool = False


@dataclass(frozen=True)
class Peak:
    """Memory of one process at its peak, in bytes, and by what it grows.

    Attributes
    ----------
    stage : Stage
    size : with the study's subjects
    subject : how much of it each further subject adds
    grows : with what, in words
    """

    stage: Stage
    size: int
    subject: int
    grows: str


def outputs_of(study: Study, facts: StudyFacts, shapes: Shapes, rates: Rates | None) -> list[Output]:
    """Return model parts of every route, and videos and gallery."""
    made = [
        Output(f"route {name}: encoder and regressors", int(_parts(study, route, facts, shapes)), each=True)
        for name, route in study.training.routes.items()
    ]
    if study.why_nothing_to_render() is None and rates is not None:
        frames, height, width = study.clips.frames, study.clips.height, study.clips.width
        zoom = max(1, -(-SMALLEST_SIDE // min(height, width)))
        clips = facts.count("test")
        video = frames * height * width * zoom**2 * rates.video_pixel_bytes
        small = PREVIEW / max(height, width)
        preview = frames * height * width * small**2 * rates.video_pixel_bytes
        made.append(Output(f"{2 * clips} videos, seen and {RECONSTRUCTION}", int(2 * clips * video)))
        made.append(Output("gallery, one page", int(2 * clips * preview * 4 / 3)))
    return made


def _parts(study: Study, route: RouteConfig, facts: StudyFacts, shapes: Shapes) -> float:
    """Return the bytes of a route's parts for all subjects; what the regressors of subjects share counts once."""
    size = _shared_encoder(route)
    for target in study.roles.regressed().values():
        outputs = float(np.prod(shapes[target][0]))
        kept = _kept(route, facts, outputs)
        size += FLOAT * (kept + 1) * outputs if kept < outputs else 0
        if not isinstance(route.regressor, RidgeConfig):
            size += FLOAT * (route.regressor.hidden**2 + route.regressor.hidden * kept)
        size += sum(_regressor(route, one, facts, kept) * count for one, count in facts.alike)
    return size + sum(_encoder(route, one) * count for one, count in facts.alike)


def _kept(route: RouteConfig, facts: StudyFacts, outputs: float) -> float:
    components, stimuli = route.regressor.components, facts.count("train")
    if components is None:
        return outputs
    return min(outputs, stimuli, components if components > 1 else stimuli)


def _regressor(route: RouteConfig, subject: SubjectFacts, facts: StudyFacts, kept: float) -> float:
    features, config = features_of(route, subject), route.regressor
    if config.kind == "mlp":
        return FLOAT * features * config.hidden
    rows = facts.count("train") if config.repeats == "mean" else subject.rows("train")
    primal = features * kept <= rows * (features + kept)
    size = FLOAT * (features * kept if primal else rows * (features + kept))
    return size if config.kind == "ridge" else size + FLOAT * features * config.hidden


def _shared_encoder(route: RouteConfig) -> float:
    config = route.encoder
    if not isinstance(config, MbmConfig):
        return 0.0
    block = 4 + 2 * config.ratio
    return FLOAT * (config.depth * block * config.width**2 + config.decoder_depth * 8 * config.decoder_width**2)


def _encoder(route: RouteConfig, subject: SubjectFacts) -> float:
    config, voxels = route.encoder, float(subject.voxels * (subject.times or 1))
    if isinstance(config, PcaConfig):
        return FLOAT * voxels * (config.components + 3)
    own = config.width + config.decoder_width if isinstance(config, MbmConfig) else 0
    return FLOAT * voxels * (3 + own)


def peaks_of(study: Study, facts: StudyFacts, shapes: Shapes, rates: Rates | None) -> list[Peak]:
    """Return each stage's peak of memory: a bare process as measured, and above it what the stage holds at once.

    What a stage holds follows from how it works and is not measured for other studies than those of
    `benchmarks/scale.py`.
    """
    base = {} if rates is None else rates.base_bytes
    return [
        Peak(stage, base.get(stage, 0) + int(held) + int(each) * len(facts.subjects), int(each), grows)
        for stage, held, each, grows in _held(study, facts, shapes)
    ]


def _held(study: Study, facts: StudyFacts, shapes: Shapes) -> Iterator[tuple[Stage, float, float, str]]:
    largest = max(facts.subjects, key=lambda one: one.values)
    width = FLOAT * largest.voxels * (largest.times or 1)
    trials = {split: float(largest.rows(split) * width) for split in SPLITS}
    yield (
        "ingest",
        _reading(study, trials) + WRITING * min(CHUNK_BYTES, trials["train"]),
        0.0,
        ("the largest split of one subject" if isinstance(study.source, BoldMomentsConfig) else "chunks, not subjects"),
    )
    yield "extract", _extracting(study), 0.0, "the largest network and one clip, not clips or subjects"
    values = {name: float(np.prod(shape)) for name, (shape, _) in shapes.items()}
    roles = [values[name] for name in study.roles.regressed().values()]
    stimuli = float(facts.count("train"))
    held = sum(2 * stimuli * values[name] for name in shapes) + 16 * max(roles) * stimuli + trials["train"]
    networks = [name for name, route in study.training.routes.items() if _is_network(route)]
    for stage in ("select", "train"):
        grows = (
            f"all subjects' trials, in {', '.join(networks)}" if networks else "one subject's trials and the targets"
        )
        yield stage, held, trials["train"] if networks else 0.0, grows
    if study.why_nothing_to_render() is None:
        clips = 3.0 * facts.count("test") * study.clips.frames * study.clips.height * study.clips.width
        yield "reconstruct", _networks(study) + 2 * clips, 0.0, "the generator and the test clips, not subjects"
        yield "evaluate", _networks(study) + 8 * clips, 0.0, "two rows of test clips as floats, not subjects"


def _is_network(route: RouteConfig) -> bool:
    return isinstance(route.encoder, MbmConfig) or route.regressor.kind != "ridge"


def _reading(study: Study, trials: Mapping[Split, float]) -> float:
    """Return what a source holds while a subject is ingested: pickles are read whole, in float64."""
    config = study.source
    if not isinstance(config, BoldMomentsConfig):
        return 0.0
    if config.responses == "rois":
        return 2 * sum(trials.values())
    return 2 * trials["train"]


def _extracting(study: Study) -> float:
    """Return the bytes of the largest extractor in float32, and of what its widest layer makes of one clip."""
    most = 0.0
    for config in study.targets.values():
        if isinstance(config, LatentsConfig):
            widest = settings_of(config.weights, "vae")["block_out_channels"][0]
            layer = FLOAT * config.frames * config.height * config.width * widest
            most = max(most, 2 * FILES.get(config.weights, {}).get("vae/diffusion_pytorch_model.bin", 0) + 3.0 * layer)
        elif config.extractor in ("clip", "blip", "text") and not isinstance(config, TextConfig):
            most = max(most, 2 * sum(FILES.get(getattr(config, "weights", ""), {}).values()))
    return most


def _networks(study: Study) -> float:
    generator = study.generator
    if generator is None:
        return 0.0
    return (2 if generator.dtype == "float32" else 1) * float(sum(FILES.get(generator.weights, {}).values()))
