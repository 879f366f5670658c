"""What a study needs in memory while it works, by stage, on the processor and on a GPU.

On the processor a stage takes what a bare process takes, as measured, and above it what the stage holds at once. On a
GPU lie networks alone; `models.footprint` says what of them is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from core.checkout import project_root
from core.errors import ModelError
from feature_store.schema import CHUNK_BYTES
from feature_store.sources.base import SPLITS
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from models.generator.footprint import of_generator, of_model
from models.generator.settings import DiffusionConfig
from studies.planning.facts import StudyFacts
from studies.planning.routes import Network, RouteSize, Stage
from studies.planning.store_size import Shapes
from studies.study import Study

TOGETHER = "all together"
BARE = {"ingest": 330_000_000, "extract": 690_000_000, "train": 760_000_000, "reconstruct": 630_000_000}
"""Peak of a process that has hardly any work, measured with torch's build for processors and one thread."""
WRITING = 6
"""Chunks in memory while a group is written: those that wait for the disk, and those that are filled and encoded."""


@dataclass(frozen=True)
class Peak:
    """Most memory of one process of a stage, in bytes, and with what it grows, in words."""

    stage: Stage
    size: int
    grows: str


def networks_of(study: Study, shapes: Shapes, routes: Sequence[RouteSize]) -> tuple[list[Network], list[str]]:
    """Return the networks of a study by stage, and notes on those of which nothing is known."""
    notes: list[str] = []
    targets: list[tuple[str, Any]] = [*study.targets.items()]
    networks = [*_looked_at("extract", targets, notes), *(route.network for route in routes if route.network)]
    if study.why_nothing_to_render() is None:
        z, b = (shapes[name][0] if name else () for name in (study.roles.z, study.roles.b))
        targets.append((f"{study.roles.z}, to decode", study.targets[study.roles.z or ""]))
        judges = [(f"the judge '{name}'", getattr(study.judges, name)) for name in ("clip", "frames", "videos")]
        parts = [
            *_looked_at("reconstruct", [("generator", study.generator)], notes, z),
            *_looked_at("reconstruct", [("captioner", study.captioner_of_b())], notes, b),
            _sum("extractors and judges", _looked_at("reconstruct", [*targets, *judges], notes)),
            Network("reconstruct", "encoder and regressors", max(route.weights for route in routes), 0, 0),
        ]
        networks += [*parts, _sum(TOGETHER, parts)]
    return networks, notes


def _looked_at(
    stage: Stage, models: Sequence[tuple[str, Any]], notes: list[str], shape: tuple[int, ...] = ()
) -> list[Network]:
    """Return what models take, by their parts' names; `shape` is that of a stimulus's values which they are given."""
    networks = []
    for part, config in models:
        try:
            if isinstance(config, DiffusionConfig):
                most, least = (of_generator(config, project_root(), shape, clips) for clips in (config.batch, 1))
            else:
                model = of_model(config, project_root(), *shape[:1])
                if model is None:
                    continue
                most = least = model
        except ModelError as error:
            notes.append(f"memory of {part} is not counted: {error}")
            continue
        on_gpu = getattr(config, "device", "auto") != "cpu"
        networks.append(Network(stage, part, most.weights, most.working, least.working, on_gpu=on_gpu))
    return networks


def _sum(part: str, networks: Sequence[Network]) -> Network:
    """Return networks that are loaded together and work one after the other; those on the processor are not counted."""
    there = [network for network in networks if network.on_gpu]
    working, least = (max((getattr(n, name) for n in there), default=0) for name in ("working", "least"))
    return Network("reconstruct", part, sum(network.weights for network in there), working, least)


def peaks_of(study: Study, facts: StudyFacts, shapes: Shapes, networks: Sequence[Network], subjects: int) -> list[Peak]:
    """Return the peak of each stage's memory where no GPU takes part, with so many subjects."""
    largest, stimuli, more = facts.largest, facts.count("train"), subjects - len(facts.subjects)
    train, test = (4 * largest.voxels * (largest.times or 1) * largest.rows(split) for split in SPLITS)
    values = {name: prod(shape) for name, (shape, _) in shapes.items()}
    roles = [values[name] for name in study.roles.regressed().values()]
    held = 2 * stimuli * sum(values.values()) + 16 * max(roles) * stimuli + train
    trained = [network for network in networks if network.stage == "train"]
    if trained:
        held += train * subjects + max(network.loaded(more) for network in trained)
    writing, reading, ingested = WRITING * min(CHUNK_BYTES, train), 0, "chunks, not subjects"
    if isinstance(study.source, BoldMomentsConfig):  # pickles are read whole, in float64
        reading, ingested = 2 * (train + (test if study.source.responses == "rois" else 0)), "one subject's recordings"
    looking = max((network.loaded() for network in networks if network.stage == "extract"), default=0)
    names = ", ".join(network.part for network in trained)
    sizes: dict[Stage, tuple[int, str]] = {
        "ingest": (writing + reading, ingested),
        "extract": (writing + looking, "the largest network and one clip, not clips or subjects"),
        "train": (held, f"all subjects' trials, in {names}" if trained else "one subject's trials and the targets"),
    }
    if study.why_nothing_to_render() is None:
        clips = 3 * facts.count("test") * study.clips.frames * study.clips.height * study.clips.width
        loaded = sum(network.loaded() for network in networks if network.part == TOGETHER)
        sizes["reconstruct"] = 8 * clips + loaded, "the models, and two rows of test clips as floats, not subjects"
    return [Peak(stage, BARE[stage] + size, grows) for stage, (size, grows) in sizes.items()]
