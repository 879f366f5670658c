"""How much work a study is, counted stage by stage: values, pixels, products. `plan_rates` makes hours of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from feature_store.sources.base import SPLITS
from models.encoders.settings import MbmConfig, PcaConfig, StandardiseConfig
from models.extractors.settings import LatentsConfig, PixelsConfig, TextConfig
from models.regressors.settings import MlpConfig, RidgeConfig
from models.training.settings import LoopConfig
from studies.decoding.render import why_nothing_to_render
from studies.planning.facts import StudyFacts, SubjectFacts
from studies.planning.models import decode_flops, denoise_flops, extract_flops, transformer_flops, vision_flops
from studies.planning.rates import Gpu, Rates
from studies.study import RouteConfig, Study

Stage = Literal["ingest", "extract", "select", "train", "reconstruct", "evaluate"]
STAGES: tuple[Stage, ...] = get_args(Stage)
Shapes = Mapping[str, tuple[tuple[int, ...], str]]
SPREADS: dict[Stage, str] = {
    "ingest": "by subject",
    "extract": "by clip",
    "select": "networks by batch, closed forms not",
    "train": "networks by batch, closed forms not",
    "reconstruct": "not at all",
    "evaluate": "not at all",
}
"""How a stage is shared among several GPUs or workers."""
RENDERED_ROWS, ROWS = 4, 7
"""Rows of a report that the generator renders from a prediction, and all that are scored: prior and shuffled too."""
SCORE_ORDERS = 24
"""Orders of predictions that training scores of a route: itself, its controls and the shuffled ones."""


@dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes
    ----------
    subjects, voxels, values : that are ingested; voxels are summed over subjects
    targets : that are extracted
    clips, pixels : that are read
    single, half : products of networks, by precision
    frames, forwards : pictures that a network sees, and forwards of a denoiser, each for one clip
    responses : values of trials that training reads, for every route
    algebra : products of closed forms
    fits, steps : of routes, and of their networks
    network, network_half : products of those networks, by precision
    scored_clips, scored_pixels : of all rows of a report
    """

    subjects: int = 0
    voxels: float = 0
    values: float = 0
    targets: float = 0
    clips: float = 0
    pixels: float = 0
    single: float = 0
    half: float = 0
    frames: float = 0
    forwards: float = 0
    responses: float = 0
    algebra: float = 0
    fits: float = 0
    steps: float = 0
    network: float = 0
    network_half: float = 0
    scored_clips: float = 0
    scored_pixels: float = 0

    def __add__(self, other: "Work") -> "Work":
        """Return both together."""
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    def times(self, count: float) -> "Work":
        """Return the same work so many times."""
        return Work(**{name: getattr(self, name) * count for name in self.__dataclass_fields__})


def work_of(study: Study, facts: StudyFacts, shapes: Shapes) -> dict[Stage, Work]:
    """Return the work of every stage; a stage that a study lacks has none."""
    trained = _training(study, facts, shapes, 1.0)
    chosen = _training(study, facts, shapes, 1 - study.training.selection.validation)
    folds = (study.evaluation.folds or 0) * study.evaluation.fold_repeats
    rendered = why_nothing_to_render(study) is None
    return {
        "ingest": Work(
            subjects=len(facts.subjects),
            voxels=float(sum(one.voxels for one in facts.subjects)),
            values=float(sum(one.values for one in facts.subjects)),
        ),
        "extract": _extraction(study, facts),
        "select": chosen,
        "train": trained + (trained + chosen).times(folds),
        "reconstruct": _rendering(study, facts, shapes) if rendered else Work(),
        "evaluate": _scoring(study, facts, shapes) if rendered else Work(),
    }


def _frame_pixels(study: Study) -> int:
    return study.clips.frames * study.clips.height * study.clips.width


def _extraction(study: Study, facts: StudyFacts) -> Work:
    work, count = Work(), len(facts.stimuli)
    for config in study.targets.values():
        if config.extractor == "given":
            continue
        products = extract_flops(config) * count
        reads = not isinstance(config, TextConfig)
        half = getattr(config, "dtype", "float32") != "float32"
        frames = 0 if isinstance(config, PixelsConfig | TextConfig) else config.frames * count
        work += Work(
            targets=1,
            clips=float(count),
            pixels=float(count * _frame_pixels(study)) if reads else 0.0,
            single=0.0 if half else products,
            half=products if half else 0.0,
            frames=frames,
        )
    return work


def _training(study: Study, facts: StudyFacts, shapes: Shapes, part: float) -> Work:
    """Return what fitting and scoring every route takes, on a part of the training stimuli."""
    work, whole = Work(), part == 1
    part *= _share(study, facts)
    for number, route in enumerate(study.training.routes.values()):
        roles = list(study.roles.regressed().values())
        also = study.training.baselines if whole and not number else ()
        outputs = [float(np.prod(shapes[target][0])) for target in [*roles, *also]]
        # A ridge decomposes a subject's features once for all roles, and for each baseline.
        times = len(outputs) - len(roles) + 1 if isinstance(route.regressor, RidgeConfig) else len(outputs)
        for subject, count in facts.alike:
            fits = [_one_fit(route, subject, facts, width, part) for width in outputs]
            work += sum(fits, _decomposed(route, subject, facts, part).times(times)).times(count)
        work += sum((_basis(route, facts, width, part) for width in outputs), _encoder(route, facts, part))
        work += Work(responses=_read(route, facts, part))
    return work


def _read(route: RouteConfig, facts: StudyFacts, part: float) -> float:
    """Return how many values of trials a route's encoder is fitted on and encodes."""
    rests = not isinstance(route.encoder, StandardiseConfig)
    return sum(
        (one.rows("train") * part + one.rows("test") + rests * one.unlabelled) * (one.times or 1) * one.voxels
        for one in facts.subjects
    )


def _share(study: Study, facts: StudyFacts) -> float:
    """Return which part of the training stimuli a study uses."""
    wanted = study.training.stimuli
    return 1.0 if wanted is None else min(1.0, wanted / facts.count("train"))


def features_of(route: RouteConfig, subject: SubjectFacts) -> float:
    """Return how many features an encoder hands to the regressors."""
    voxels = float(subject.voxels * (subject.times or 1))
    encoder = route.encoder
    if isinstance(encoder, PcaConfig):
        return float(min(encoder.components, voxels))
    if isinstance(encoder, MbmConfig):
        return 2.0 * encoder.width + (voxels if encoder.hands_on == "both" else 0)
    return voxels


def _rows_of(route: RouteConfig, subject: SubjectFacts, facts: StudyFacts, part: float) -> tuple[float, float]:
    """Return a subject's training stimuli, and the rows that a regressor is fitted on."""
    stimuli = min(facts.count("train"), subject.rows("train")) * part
    return stimuli, stimuli if route.regressor.repeats == "mean" else subject.rows("train") * part


def _kept(route: RouteConfig, outputs: float, stimuli: float) -> float:
    """Return how many values of a target a regressor predicts: all, or components."""
    components = route.regressor.components
    return outputs if components is None else min(outputs, stimuli, components if components > 1 else stimuli)


def _basis(route: RouteConfig, facts: StudyFacts, outputs: float, part: float) -> Work:
    """Return what the components of one target take, which all subjects share."""
    stimuli = facts.count("train") * part
    if _kept(route, outputs, stimuli) == outputs:
        return Work()
    return Work(algebra=4 * stimuli**2 * outputs + 9 * stimuli**3)


def _decomposed(route: RouteConfig, subject: SubjectFacts, facts: StudyFacts, part: float) -> Work:
    """Return what the Gram matrix of one subject's features and its eigenvectors take, where a ridge wants them."""
    if isinstance(route.regressor, MlpConfig):
        return Work()
    _, rows = _rows_of(route, subject, facts, part)
    return Work(algebra=2 * rows**2 * features_of(route, subject) + 9 * rows**3)


def _one_fit(route: RouteConfig, subject: SubjectFacts, facts: StudyFacts, outputs: float, part: float) -> Work:
    """Return what one regressor of one subject takes beyond that, and the scores of what it predicts."""
    config, features = route.regressor, features_of(route, subject)
    stimuli, rows = _rows_of(route, subject, facts, part)
    tested, kept = facts.count("test"), _kept(route, outputs, stimuli)
    algebra = 2 * 3.0 * tested**2 * outputs * SCORE_ORDERS / 10
    if not isinstance(config, MlpConfig):
        algebra += 2 * rows**2 * kept * (2 + len(config.alphas)) + 2 * tested * rows * (features + kept)
    if isinstance(config, RidgeConfig):
        return Work(fits=1, algebra=algebra)
    parameters = features * config.hidden + config.hidden**2 + config.hidden * kept
    learned = _learned(config, 6.0 * config.batch * parameters * config.steps).times(1 / len(facts.subjects))
    return learned + Work(fits=1, algebra=algebra)  # the steps of all subjects together


def _learned(config: LoopConfig, products: float) -> Work:
    """Return the work of a training loop, its products by the precision that they are computed in."""
    half = config.precision == "bfloat16"
    return Work(steps=config.steps, network=0.0 if half else products, network_half=products if half else 0.0)


def _encoder(route: RouteConfig, facts: StudyFacts, part: float) -> Work:
    """Return what fitting a route's encoder takes, over all subjects."""
    config = route.encoder
    if isinstance(config, PcaConfig):
        sizes = [(one.rows("train") * part + one.unlabelled, one.voxels) for one in facts.subjects]
        return Work(algebra=sum(2 * rows**2 * voxels + 9 * rows**3 for rows, voxels in sizes))
    if not isinstance(config, MbmConfig):
        return Work()
    voxels = float(np.mean([one.voxels for one in facts.subjects]))
    tokens = int(np.ceil(voxels / config.patch))
    work = Work()
    for stage, seen in ((config.pretraining, 0.25), (config.alignment, 1.0)):
        if stage is not None:
            inside = int(config.width * config.ratio)
            one = transformer_flops(max(1, int(tokens * seen)), config.width, config.depth, inside)
            one += transformer_flops(tokens, config.decoder_width, config.decoder_depth, 2 * config.decoder_width)
            one += 2.0 * voxels * (config.width + config.decoder_width)
            work += _learned(stage, 3.0 * one * stage.batch * stage.steps)
    return work


def _rendering(study: Study, facts: StudyFacts, shapes: Shapes) -> Work:
    clips, generator = facts.count("test"), study.generator
    z = study.targets[study.roles.z or ""]
    if not isinstance(z, LatentsConfig):
        return Work(clips=RENDERED_ROWS * clips)
    pixels = z.frames * z.height * z.width
    decode = decode_flops(z.weights) * pixels
    if generator is None:
        return Work(single=RENDERED_ROWS * clips * decode, frames=RENDERED_ROWS * clips * z.frames)
    guided = 2 if generator.guidance > 1 else 1
    forwards = RENDERED_ROWS * max(0, round(generator.steps * generator.strength)) * guided + generator.steps
    products = clips * (
        forwards * denoise_flops(generator.weights, shapes[study.roles.z or ""][0]) + (RENDERED_ROWS + 1) * decode
    )
    half = generator.dtype != "float32"
    return Work(
        single=0.0 if half else products,
        half=products if half else 0.0,
        forwards=float(clips * forwards),
        frames=float((RENDERED_ROWS + 1) * clips * z.frames),
    )


def _scoring(study: Study, facts: StudyFacts, shapes: Shapes) -> Work:
    clips = facts.count("test") * ROWS
    again = replace(facts, stimuli=facts.stimuli[facts.stimuli["split"] == "test"])
    looked = _extraction(study, again).times(ROWS)
    judges, products = study.judges, 0.0
    for judge, pictures in ((judges.clip, study.clips.frames), (judges.frames, study.clips.frames)):
        if judge is not None:
            products += clips * pictures * vision_flops(judge.weights)
    if judges.videos is not None:  # 8 × 14 × 14 tubelets of two frames
        products += clips * transformer_flops(1568, 768, 12, 3072)
    seen = looked.frames + clips * study.clips.frames
    del shapes
    return Work(
        single=looked.single + products,
        half=looked.half,
        frames=seen,
        scored_clips=float(clips),
        scored_pixels=float(clips * _frame_pixels(study)),
    )


def seconds_of(work: Work, rates: Rates, gpu: Gpu | None = None, gpus: int = 1, stage: Stage | None = None) -> float:
    """Return how long a stage takes.

    Parameters
    ----------
    work : Work
    rates : Rates
        Of this machine; what a GPU does not do goes by them as well.
    gpu : Gpu, optional
        On which networks run; the processors that were measured otherwise.
    gpus : int
        How many share the work, where the stage can be shared; see `SPREADS`.
    stage : Stage, optional
        Which one; without it nothing is shared.
    """
    single = half = rates.network_flops
    if gpu is not None:
        single, half = gpu.single_flops * gpu.efficiency, gpu.half_flops * gpu.efficiency
    read = work.targets * rates.target_s + work.clips * rates.clip_s + work.pixels * rates.pixel_s
    looked = work.single / single + work.half / half
    if gpu is None:
        looked += work.frames * rates.frame_s + work.forwards * rates.forward_s
    ingested = work.subjects * rates.ingest_subject_s
    ingested += work.voxels * rates.ingest_voxel_s + work.values * rates.ingest_value_s
    closed = work.responses * rates.response_s + work.algebra / rates.algebra_flops + work.fits * rates.fit_s
    learned = work.steps * rates.step_s + work.network / single + work.network_half / half
    scored = work.scored_clips * rates.score_clip_s + work.scored_pixels * rates.score_pixel_s
    if stage in ("ingest", "extract"):
        shared = max(1, min(gpus, work.subjects)) if stage == "ingest" else gpus
        return (ingested + read + looked) / shared
    return ingested + read + looked + closed + scored + learned / (gpus if stage in ("select", "train") else 1)


def trials_of(facts: StudyFacts) -> int:
    """Return all subjects' trials."""
    return sum(one.rows(split) for one in facts.subjects for split in SPLITS)
