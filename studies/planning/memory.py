"""What a study needs in memory while it works, by stage, on the processor and on a GPU.

On the processor a stage takes what a bare process takes, as measured, and above it what the stage holds at once. On a
GPU lie networks alone; `models.footprint` says what of them is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, get_args

from core.checkout import project_root
from core.errors import ModelError
from feature_store.schema import CHUNK_BYTES
from feature_store.sources.base import SPLITS, Split
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from models.captioners.settings import BlipCaptionerConfig
from models.encoders.settings import MbmConfig
from models.footprint import Footprint, of_masked_brain_model, of_perceptron
from models.generator.footprint import of_generator, of_model
from models.generator.settings import AnimateDiffConfig, TextToVideoConfig
from models.regressors.settings import RidgeConfig
from studies.planning.facts import StudyFacts
from studies.planning.store_size import Shapes, components_of, features_of
from studies.study import RouteConfig, Study

Stage = Literal["ingest", "extract", "train", "reconstruct"]
Shape = tuple[int, ...]
STAGES: tuple[Stage, ...] = get_args(Stage)
TOGETHER = "all together"
BARE: dict[Stage, int] = {
    "ingest": 330_000_000,
    "extract": 690_000_000,
    "train": 500_000_000,
    "reconstruct": 630_000_000,
}
"""Peak of a process that has hardly any work, measured with torch's build for processors and one thread."""
WRITING = 6
"""Chunks in memory while a group is written: those that wait for the disk, and those that are filled and encoded."""


@dataclass(frozen=True)
class Peak:
    """Most memory of one process of a stage, in bytes, and with what it grows, in words."""

    stage: Stage
    size: int
    grows: str


@dataclass(frozen=True)
class Network:
    """What networks take of a GPU, in bytes.

    Attributes
    ----------
    stage : Stage
    part : for example ``"latents"``; `TOGETHER` sums up what is loaded at once
    weights : with what training keeps of them: exact, where all subjects have the voxels of the largest
    working : what else is alive at once: an estimate
    least : the same for one clip at a time, to which rendering goes down by itself where memory runs out
    each : how much of both each further subject adds
    on_gpu : whether the study lets it lie there
    """

    stage: Stage
    part: str
    weights: int
    working: int
    least: int
    each: int = 0
    on_gpu: bool = True

    def fits(self, gigabytes: float) -> str:
        """Say whether a card of so many GB (10⁹ bytes) holds it: ``"yes"``, ``"smaller batch"`` or ``"no"``."""
        if self.weights + self.working <= gigabytes * 1e9:
            return "yes"
        return "smaller batch" if self.weights + self.least <= gigabytes * 1e9 else "no"


def networks_of(study: Study, facts: StudyFacts, shapes: Shapes) -> tuple[list[Network], list[str]]:
    """Return every network of a study by stage, and notes on those of which nothing is known."""
    notes: list[str] = []
    made = [_network("extract", name, config, notes) for name, config in study.targets.items()]
    trained = {
        name: _trained(study, name, route, facts, shapes)
        for name, route in study.training.routes.items()
        if isinstance(route.encoder, MbmConfig) or not isinstance(route.regressor, RidgeConfig)
    }
    found = [*(one for one in made if one is not None), *(one for one, _ in trained.values())]
    if study.why_nothing_to_render() is None:
        brain = max((own for _, own in trained.values()), default=0)
        parts = [*_rendering(study, shapes, notes), Network("reconstruct", "encoder and regressors", brain, 0, 0)]
        found += [*parts, _sum(TOGETHER, parts)]
    return found, notes


def _network(stage: Stage, part: str, config: Any, notes: list[str], z: Shape = (), b: Shape = ()) -> Network | None:
    """Return what a model takes; z and b are the shapes of what a generator and a captioner are given."""
    try:
        if isinstance(config, TextToVideoConfig | AnimateDiffConfig):
            found: Footprint | None = of_generator(config, project_root(), z, config.batch)
            least: Footprint | None = of_generator(config, project_root(), z, 1)
        else:
            found = least = of_model(config, project_root(), *b[:1])
    except ModelError as error:
        notes.append(f"memory of {part} is not counted: {error}")
        return None
    if found is None or least is None:
        return None
    on_gpu = getattr(config, "device", "auto") != "cpu"
    return Network(stage, part, found.weights, found.working, least.working, on_gpu=on_gpu)


def _sum(part: str, networks: Sequence[Network]) -> Network:
    """Return networks that are loaded together and work one after the other; those on the processor are not counted."""
    there = [one for one in networks if one.on_gpu]
    working = max((one.working for one in there), default=0)
    least = max((one.least for one in there), default=0)
    return Network("reconstruct", part, sum(one.weights for one in there), working, least)


def _rendering(study: Study, shapes: Shapes, notes: list[str]) -> list[Network]:
    """Return what is loaded together while test stimuli are rendered and scored."""
    stage, captioner, judges = STAGES[-1], study.captioner_of_b(), study.judges
    z, b = (shapes[name][0] if name else () for name in (study.roles.z, study.roles.b))
    looking = [*study.targets.items(), (f"{study.roles.z}, to decode", study.targets[study.roles.z or ""])]
    looking += [(f"the judge '{name}'", getattr(judges, name)) for name in ("clip", "frames", "videos")]
    made = [_network(stage, name, config, notes) for name, config in looking if config is not None]
    parts = [
        None if study.generator is None else _network(stage, "generator", study.generator, notes, z=z),
        _network(stage, "captioner", captioner, notes, b=b) if isinstance(captioner, BlipCaptionerConfig) else None,
        _sum("extractors and judges", [one for one in made if one is not None]),
    ]
    return [one for one in parts if one is not None]


def _trained(study: Study, name: str, route: RouteConfig, facts: StudyFacts, shapes: Shapes) -> tuple[Network, int]:
    """Return the most that training a route takes of its networks, one after the other, and their own weights."""
    alone, pair = (_in_training(study, route, facts, shapes, count) for count in (1, 2))
    more = len(facts.subjects) - 1
    own, kept, working = (one + more * (two - one) for one, two in zip(alone, pair, strict=True))
    return Network("train", name, kept, working, working, sum(pair[1:]) - sum(alone[1:])), own


def _in_training(
    study: Study, route: RouteConfig, facts: StudyFacts, shapes: Shapes, count: int
) -> tuple[int, int, int]:
    """Return the weights of a route's networks, and what the largest keeps and works with, for so many subjects."""
    largest = max(facts.subjects, key=lambda one: one.voxels)
    names, encoder, regressor = [f"sub-{number}" for number in range(count)], route.encoder, route.regressor
    found, own = [], 0
    if isinstance(encoder, MbmConfig):
        rois = sorted({str(roi) for roi in set(largest.table["roi"])})
        align = {target: prod(shapes[target][0]) for target in study.roles.align}
        held = 1 + (int(encoder.alignment.validation * facts.count("train")) if encoder.alignment is not None else 0)
        voxels = dict.fromkeys(names, largest.voxels)
        found = of_masked_brain_model(encoder, voxels, largest.times or 1, rois, align, held)
        own = max((one.weights for one in found), default=0)
    if not isinstance(regressor, RidgeConfig):
        roles = study.roles.regressed()
        components = {role: components_of(route, facts, shapes[target][0]) for role, target in roles.items()}
        heads = components if route.joint else {"role": max(components.values())}
        held = int(regressor.validation * largest.rows("train")) + 1
        found.append(of_perceptron(regressor, dict.fromkeys(names, features_of(route, largest)), heads, held))
        own += len(roles) * found[-1].weights
    most = max(found, key=lambda one: one.kept + one.working, default=Footprint(0, 0))
    return own, most.kept, most.working


def peaks_of(study: Study, facts: StudyFacts, shapes: Shapes, networks: Sequence[Network]) -> list[Peak]:
    """Return the peak of each stage's memory where no GPU takes part; raises nothing.

    Parameters
    ----------
    facts : of as many subjects as are meant
    networks : of as many subjects
    """
    largest = max(facts.subjects, key=lambda one: one.voxels)
    width = 4 * largest.voxels * (largest.times or 1)
    trials, stimuli = {split: largest.rows(split) * width for split in SPLITS}, facts.count("train")
    values = {name: prod(shape) for name, (shape, _) in shapes.items()}
    roles = [values[name] for name in study.roles.regressed().values()]
    held = 2 * stimuli * sum(values.values()) + 16 * max(roles) * stimuli + trials["train"]
    if trained := [one for one in networks if one.stage == "train"]:
        held += trials["train"] * len(facts.subjects) + max(_loaded(one) for one in trained)
    names = ", ".join(one.part for one in trained)
    ingested = "one subject's recordings" if isinstance(study.source, BoldMomentsConfig) else "chunks, not subjects"
    writing = WRITING * min(CHUNK_BYTES, trials["train"])
    looking = max((_loaded(one) for one in networks if one.stage == "extract"), default=0)
    sizes: dict[Stage, tuple[int, str]] = {
        "ingest": (writing + _reading(study, trials), ingested),
        "extract": (writing + looking, "the largest network and one clip, not clips or subjects"),
        "train": (held, f"all subjects' trials, in {names}" if trained else "one subject's trials and the targets"),
    }
    if study.why_nothing_to_render() is None:
        clips = 3 * facts.count("test") * study.clips.frames * study.clips.height * study.clips.width
        together = sum(_loaded(one) for one in networks if one.part == TOGETHER)
        sizes["reconstruct"] = 8 * clips + together, "the models, and two rows of test clips as floats, not subjects"
    return [Peak(stage, int(BARE[stage]) + size, grows) for stage, (size, grows) in sizes.items()]


def _loaded(network: Network) -> int:
    """Return what a network takes on the processor, where its file is beside it while it is loaded."""
    return network.weights + max(network.weights, network.working)


def _reading(study: Study, trials: Mapping[Split, int]) -> int:
    """Return what a source holds while a subject is ingested: pickles are read whole, in float64."""
    config = study.source
    if not isinstance(config, BoldMomentsConfig):
        return 0
    return 2 * (sum(trials.values()) if config.responses == "rois" else trials["train"])
