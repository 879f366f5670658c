"""What a route's encoder and regressors take: bytes of the registered parts, and of the networks while they train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import prod
from typing import Literal, get_args

from feature_store.sources.base import RecordingShape
from models.encoders.settings import MbmConfig, PcaConfig
from models.footprint import Footprint, of_masked_brain_model, of_perceptron
from models.regressors.settings import RegressorConfig, RidgeConfig
from studies.planning.facts import StudyFacts
from studies.planning.store_size import Shapes
from studies.study import Roles, RouteConfig

Stage = Literal["ingest", "extract", "train", "reconstruct"]
STAGES: tuple[Stage, ...] = get_args(Stage)


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

    def loaded(self, more: int = 0) -> int:
        """Return its bytes on the processor, with so many further subjects; while it is loaded its file counts too."""
        return self.weights + max(self.weights, self.working + more * self.each)


@dataclass(frozen=True)
class RouteSize:
    """What a route's parts take, in bytes.

    Attributes
    ----------
    name : the route's
    network : what training takes of its networks, None where it trains none
    weights : those of its networks, for all subjects
    each : how much of these each further subject adds
    shared : what all subjects share beside networks
    by_subject : what each subject adds beside networks
    """

    name: str
    network: Network | None
    weights: int
    each: int
    shared: int
    by_subject: tuple[int, ...]

    def size(self, subjects: int) -> int:
        """Return the bytes of the encoder and the regressors for so many subjects, headers not counted."""
        more = subjects - len(self.by_subject)
        return self.weights + more * self.each + self.shared + over_and_over(self.by_subject, subjects)


def over_and_over(sizes: Sequence[int], subjects: int) -> int:
    """Return the sum over so many subjects, which are the known ones over and over."""
    return sum(islice(cycle(sizes), subjects))


def sizes_of_routes(
    routes: Mapping[str, RouteConfig], roles: Roles, facts: StudyFacts, shapes: Shapes
) -> list[RouteSize]:
    """Return what routes take; networks are traced for one subject and for two, as every further one adds the same."""
    sizes, targets = [], [shapes[name][0] for name in roles.regressed().values()]
    for name, route in routes.items():
        network, weights, each, shared, more = None, 0, 0, 0, len(facts.subjects) - 1
        if isinstance(route.encoder, MbmConfig) or not isinstance(route.regressor, RidgeConfig):
            alone, pair = (_in_training(route, roles, facts, shapes, count) for count in (1, 2))
            weights, kept, working = (one + more * (two - one) for one, two in zip(alone, pair, strict=True))
            network = Network("train", name, kept, working, working, sum(pair[1:]) - sum(alone[1:]))
            each = pair[0] - alone[0]
        if route.regressor.components is not None or is_matched(route.regressor):
            kept_of = [(_components(route, facts, shape), prod(shape)) for shape in targets]
            shared = 4 * sum((kept + 1) * outputs + kept for kept, outputs in kept_of)
        by_subject = tuple(_of_subject(route, facts, targets, subject) for subject in facts.subjects)
        sizes.append(RouteSize(name, network, weights, each, shared, by_subject))
    return sizes


def _in_training(
    route: RouteConfig, roles: Roles, facts: StudyFacts, shapes: Shapes, count: int
) -> tuple[int, int, int]:
    """Return the weights of a route's networks, and what the largest keeps and works with, for so many subjects."""
    largest, encoder, regressor = facts.largest, route.encoder, route.regressor
    names = [f"sub-{number}" for number in range(count)]
    traced, own = [], 0
    if isinstance(encoder, MbmConfig):
        rois = sorted({str(roi) for roi in set(largest.table["roi"])})
        align = {target: prod(shapes[target][0]) for target in roles.align}
        held = 1 + (int(encoder.alignment.validation * facts.count("train")) if encoder.alignment is not None else 0)
        voxels = dict.fromkeys(names, largest.voxels)
        traced = of_masked_brain_model(encoder, voxels, largest.times or 1, rois, align, held)
        own = max((footprint.weights for footprint in traced), default=0)
    if not isinstance(regressor, RidgeConfig):
        components = {role: _components(route, facts, shapes[name][0]) for role, name in roles.regressed().items()}
        heads = components if route.joint else {"role": max(components.values())}
        held = int(regressor.validation * largest.rows("train")) + 1
        traced.append(of_perceptron(regressor, dict.fromkeys(names, _features(route, largest)), heads, held))
        own += len(components) * traced[-1].weights
    most = max(traced, key=lambda footprint: footprint.kept + footprint.working, default=Footprint(0, 0))
    beside = max(0, own - most.weights)  # networks of the route that were trained before the largest one
    return own, most.kept + beside, most.working


def _of_subject(
    route: RouteConfig, facts: StudyFacts, targets: Sequence[tuple[int, ...]], subject: RecordingShape
) -> int:
    """Return the bytes that a subject adds to a route's parts beside networks: standardisation, ridge."""
    encoder, regressor = route.encoder, route.regressor
    voxels, features = subject.voxels * (subject.times or 1), _features(route, subject)
    values = voxels * (3 + (encoder.components if isinstance(encoder, PcaConfig) else 0))
    if regressor.kind != "mlp":
        rows = facts.count("train") if regressor.repeats == "mean" else subject.rows("train")
        for kept in (_components(route, facts, shape) for shape in targets):
            values += features + min(features * kept, rows * (features + kept))  # weights, or rows and dual weights
            values += 4 * len(regressor.alphas)  # candidates and their errors, in double precision
    return 4 * values


def _components(route: RouteConfig, facts: StudyFacts, shape: tuple[int, ...]) -> int:
    """Return how many values of a target a regressor predicts, at most: all, or components."""
    components, outputs, stimuli = route.regressor.components, prod(shape), facts.count("train")
    if components is None and not is_matched(route.regressor):
        return outputs
    return min(outputs, stimuli, components if isinstance(components, int) else stimuli)


def is_matched(regressor: RegressorConfig) -> bool:
    """Return whether variance matching turns targets into their components, even where none are named."""
    return isinstance(regressor, RidgeConfig) and regressor.variance_matching is not None


def _features(route: RouteConfig, subject: RecordingShape) -> int:
    """Return how many features an encoder hands to the regressors."""
    voxels, encoder = subject.voxels * (subject.times or 1), route.encoder
    if isinstance(encoder, PcaConfig):
        return min(encoder.components, voxels)
    if isinstance(encoder, MbmConfig):
        return 2 * encoder.width + (voxels if encoder.hands_on == "both" else 0)
    return voxels
