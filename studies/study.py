"""A study: one YAML, composed of the configs of what it uses, that every pipeline takes."""

import difflib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints, field_validator, model_validator

from core.checkout import project_root
from core.clips import ClipConfig
from core.config import NAME_PATTERN, Config, nearest
from core.errors import ConfigError
from core.explain import read_yaml, shown, validated
from core.overrides import apply_override
from evaluation.config import EvaluationConfig
from evaluation.metrics import SPACES_OF
from evaluation.statistics.scores import ROWS
from evaluation.statistics.spaces import centred, is_centred, is_residual, require_space, residual
from feature_store.chunks import StorageConfig
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.settings import SourceConfig
from models.captioners.settings import BlipCaptionerConfig, CaptionerConfig, NearestCaptionerConfig
from models.classifiers.settings import JudgesConfig
from models.encoders.settings import EncoderConfig, MbmConfig, StandardiseConfig
from models.extractors.settings import (
    BlipStatesConfig,
    ExtractorConfig,
    KeyFrameStatesConfig,
    LatentsConfig,
    PixelsConfig,
    TextConfig,
)
from models.generator.settings import GeneratorConfig
from models.registry.sets import part_names
from models.regressors.settings import MlpConfig, RegressorConfig, RidgeConfig
from simulation.world import SimulationConfig
from simulation.write import counts_of

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
FOLDERS = ("evaluations", "weights")
"""Folders of ``outputs/`` and ``data/`` that are no study's."""
PIXELS = "pixels"
"""The space of clips themselves, whatever targets a study has."""


class Roles(Config):
    """Which target is used for what; any role may be absent."""

    z: str | None = None
    """What is renoised and denoised, or decoded directly."""
    b: str | None = None
    """What becomes the caption."""
    align: tuple[str, ...] = ()
    """What the contrastive stage aligns with: image embeddings, text embeddings, or both; one name or a list."""

    @field_validator("align", mode="before")
    @classmethod
    def _one_or_several(cls, names: Any) -> Any:
        return () if names is None else (names,) if isinstance(names, str) else names

    def regressed(self) -> dict[str, str]:
        """Return the roles that get a regressor, with their targets."""
        return {role: name for role, name in (("z", self.z), ("b", self.b)) if name is not None}


class RouteConfig(Config):
    """One way from the brain to the targets: an encoder, and a regressor for every role."""

    encoder: EncoderConfig = StandardiseConfig()
    regressor: RegressorConfig = RidgeConfig()
    joint: bool = False
    """Whether the regressors of z and b share their hidden layer and are trained on the sum of their losses."""
    pooled: bool = False
    """Whether the route is a group decoder: it reads the voxels of all subjects side by side, for stimuli that all of
    them saw, and decodes a test stimulus from all their responses to it. Group decoders and decoders of single subjects
    are scored side by side, and the registered route is of the kind of the first one."""


class SelectionConfig(Config):
    """How the route that is registered is chosen, on stimuli held out of the training ones; never on the test set."""

    criterion: Literal["correlation", "two_way", "r2"] = "correlation"
    """Metric of the predicted targets minus their training mean, averaged over roles and subjects."""
    validation: float = Field(0.15, gt=0, lt=0.5)
    """Part of the training stimuli that routes are compared on; the chosen route is then fitted on all of them."""
    margin: float = Field(1.0, ge=0)
    """Standard errors of the paired difference by which a route must be better than every one named before it; after
    Breiman's one-standard-error rule, so name the simplest first."""


class TrainingConfig(Config):
    """Which routes are trained, and how one is chosen."""

    rois: list[str] | None = Field(None, min_length=1)
    """Only the voxels of these ROIs; all by default."""
    stimuli: PositiveInt | None = None
    """Only so many training stimuli, drawn by the study's seed, as if the study had fewer labels. All by default."""
    routes: dict[Name, RouteConfig] = Field(default_factory=lambda: {"ridge": RouteConfig()}, min_length=1)
    """All are scored on the test stimuli and reported; the one chosen on validation is registered."""
    selection: SelectionConfig = SelectionConfig()
    sheet: NonNegativeInt = 12
    """Held-out training stimuli that are rendered for a picture by which versions can be compared; none with 0."""
    baselines: tuple[str, ...] = ()
    """Targets that the first route also predicts, scored for comparison and not registered."""
    threads: PositiveInt = 1
    """Threads that fits are computed with, whatever the machine has, as their number may show in the last bit. Large
    brains are fitted faster with as many as there are cores."""


class ReconstructionConfig(Config):
    """Which subject is reconstructed from."""

    subject: str | None = None
    """By default the first."""


class RegionsConfig(Config):
    """Which ROIs the targets are decoded from alone and without, by `brain2video regions`."""

    sides: Literal["joined", "apart"] = "joined"
    """Whether a ROI's two sides (`lEBA`, `rEBA`) count as one, `EBA`."""
    most: PositiveInt = 60
    """How many ROIs are decoded from at most; the largest, where there are more."""
    fewest_voxels: PositiveInt = 10
    """A ROI with fewer usable voxels is skipped, in the subjects where it has so few."""


class Study(Config):
    """Everything that defines a study. Relative paths start at the checkout."""

    study: Name
    seed: int = 0
    source: SourceConfig
    simulation: SimulationConfig | None = None
    """How `source.path` is made, where it is simulated."""
    clips: ClipConfig = ClipConfig()
    storage: StorageConfig = StorageConfig()
    targets: dict[Name, ExtractorConfig]
    roles: Roles
    training: TrainingConfig = TrainingConfig()
    generator: GeneratorConfig | None = None
    captioner: CaptionerConfig | None = None
    """What turns a predicted b into words; by default BLIP's text decoder where `blip` makes b, else the nearest
    training caption."""
    reconstruction: ReconstructionConfig = ReconstructionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    judges: JudgesConfig = JudgesConfig()
    """Models that reconstructions are scored with, beside the extractors of the targets."""
    regions: RegionsConfig = RegionsConfig()

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        named = {f"roles.{role}": name for role, name in self.roles.regressed().items()}
        named |= {f"roles.align.{index}": name for index, name in enumerate(self.roles.align)}
        named |= {f"training.baselines.{index}": name for index, name in enumerate(self.training.baselines)}
        for key, name in named.items():
            if name not in self.targets:
                raise ValueError(
                    f"{key} names the target '{name}', which 'targets' lacks{nearest(name, list(self.targets))}"
                )
        if not self.roles.regressed():
            raise ValueError("roles: neither z nor b is given; name a target for at least one of them")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        size = self.frame
        for name, target in self.targets.items():
            if isinstance(target, LatentsConfig) and (target.frames, target.height, target.width) != size:
                raise ValueError(
                    f"targets.{name}: reads clips of {target.frames} × {target.height} × {target.width} (frames, "
                    f"height, width), and clips gives {' × '.join(map(str, size))}; make them equal"
                )
            if isinstance(target, PixelsConfig) and size[0] % target.frames:
                raise ValueError(
                    f"targets.{name}.frames: clips of {size[0]} frames cannot be averaged to {target.frames}; take a "
                    "divisor of clips.frames"
                )
            if isinstance(target, KeyFrameStatesConfig) and target.frames > size[0]:
                raise ValueError(
                    f"targets.{name}.frames: clips of {size[0]} frames do not have {target.frames} key frames; take at "
                    "most clips.frames"
                )
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if self.study in FOLDERS:
            raise ValueError(f"study: '{self.study}' is the name of a folder that all studies share; take another")
        for name in self.training.routes:
            if name in ROWS:
                raise ValueError(f"training.routes.{name}: is the name of a row of every report; rename the route")
        for name in self.training.baselines:
            if name in self.roles.regressed():
                raise ValueError(
                    f"training.baselines: a target with the name of the role '{name}' cannot be told from it in "
                    "scores; rename the target"
                )
        return self

    @model_validator(mode="after")
    def _check_spaces(self) -> Self:
        reserved = {PIXELS, *(space for several in SPACES_OF.values() for space in several), *self.judges.looking()}
        for name, space in self.spaces.items():
            others = [other for other, theirs in self.spaces.items() if other != name and theirs == space]
            if self.targets[name].extractor == space:
                continue  # what this name means in every study
            if space in reserved or others or is_centred(space) or is_residual(space):
                raise ValueError(
                    f"targets.{name}: in scores this name means something else ("
                    + (f"the target '{others[0]}'" if others else "see docs/data.md, names")
                    + "); rename the target, and name its file with 'file' where it is given"
                )
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        plain = {*self.spaces.values(), PIXELS, *self.judges.looking()}
        known = [*plain, *map(centred, plain), *map(residual, plain), *(s for own in SPACES_OF.values() for s in own)]
        for name in self.evaluation.metrics:
            space = name.rpartition(".")[0]
            if space:
                require_space(name)
            if space and space not in known:
                raise ValueError(
                    f"evaluation.metrics: '{name}' is of the space '{space}', which the study lacks"
                    f"{nearest(space, known)}"
                )
        return self

    @model_validator(mode="after")
    def _check_generator(self) -> Self:
        if self.generator is None:
            return self
        states = self.generator.conditioning == "states"
        for role, kinds in (("z", ["latents"]), ("b", ["text"] if states else ["text", "blip"])):
            extractor = self._extractor_of(role)
            if extractor not in kinds:
                raise ValueError(
                    f"generator: needs a target of the extractor {' or '.join(map(repr, kinds))} in roles.{role}, "
                    f"found {'none' if extractor is None else repr(extractor)}; name one, or remove 'generator'"
                )
        return self

    @model_validator(mode="after")
    def _check_captioner(self) -> Self:
        extractor = self._extractor_of("b")
        if isinstance(self.captioner, BlipCaptionerConfig) and extractor != "blip":
            raise ValueError(
                f"captioner: BLIP writes captions of targets of the extractor 'blip' in roles.b, found "
                f"{'none' if extractor is None else repr(extractor)}; name one, or take captioner.kind: nearest"
            )
        return self

    def _extractor_of(self, role: str) -> str | None:
        name = getattr(self.roles, role)
        return None if name is None else self.targets[name].extractor

    def captioner_of_b(self) -> CaptionerConfig | None:
        """Return the captioner with its weights named, or None where b carries no words."""
        made_by = self.targets[self.roles.b] if self.roles.b is not None else None
        if not isinstance(made_by, TextConfig | BlipStatesConfig):
            return None
        if isinstance(made_by, TextConfig) or isinstance(self.captioner, NearestCaptionerConfig):
            return NearestCaptionerConfig()
        chosen = self.captioner or BlipCaptionerConfig()
        return chosen if chosen.weights else chosen.model_copy(update={"weights": made_by.weights})

    @model_validator(mode="after")
    def _check_routes(self) -> Self:
        for name, route in self.training.routes.items():
            if route.joint and not isinstance(route.regressor, MlpConfig):
                raise ValueError(
                    f"training.routes.{name}: a joint loss needs something to share; the regressor's kind is "
                    f"'{route.regressor.kind}', take 'mlp', or set joint to false"
                )
            if route.pooled and isinstance(route.encoder, MbmConfig):
                raise ValueError(
                    f"training.routes.{name}: a group decoder reads several brains as one, which masked brain "
                    "modelling does not; take an encoder of the kind 'standardise' or 'pca', or set pooled to false"
                )
            if isinstance(route.encoder, MbmConfig) and route.encoder.alignment is not None and not self.roles.align:
                raise ValueError(
                    f"training.routes.{name}.encoder: is to be aligned, and roles.align names nothing to align with; "
                    "name targets there, or set the encoder's alignment to null"
                )
        return self

    @model_validator(mode="after")
    def _check_simulation(self) -> Self:
        if self.simulation is None:
            return self
        if not isinstance(self.source, BoldMomentsConfig):
            raise ValueError(f"simulation: writes BOLD Moments' layout, but source.kind is '{self.source.kind}'")
        expected = counts_of(self.simulation)
        if self.source.counts != expected:
            raise ValueError(
                f"source.counts is {self.source.counts.model_dump()}, the simulation makes {expected.model_dump()}; "
                "make them equal"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where the study's data lies."""
        return project_root() / "data" / self.study

    @property
    def store(self) -> Path:
        """The feature store."""
        return self.folder / "features.zarr"

    @property
    def outputs(self) -> Path:
        """Where runs are written."""
        return project_root() / "outputs" / self.study

    @property
    def frame(self) -> tuple[int, int, int]:
        """Frames, height and width of every clip, seen or rendered."""
        return self.clips.frames, self.clips.height, self.clips.width

    @property
    def spaces(self) -> dict[str, str]:
        """The space that each target is scored in: its extractor's name.

        Its own name where it was made elsewhere, or where several targets have the same extractor.
        """
        extractors = {name: config.extractor for name, config in self.targets.items()}
        several = Counter(extractors.values())
        return {
            name: name if extractor == "given" or several[extractor] > 1 else extractor
            for name, extractor in extractors.items()
        }

    @property
    def parts(self) -> list[str]:
        """The parts of the study's model set, the encoder first."""
        return part_names(list(self.roles.regressed()))

    def why_nothing_to_render(self) -> str | None:
        """Return, in one line, why the study renders no video, or None where it does."""
        z = self.roles.z
        if z is None:
            return f"{self.study}: nothing to render: roles.z is not given, so there is no target that becomes a video"
        if isinstance(self.targets[z], PixelsConfig | LatentsConfig):
            return None
        return (
            f"{self.study}: nothing to render: z is '{z}' of the extractor '{self.targets[z].extractor}', which "
            "nothing decodes to a video; its scores are in training/latest/scores.json"
        )


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study's YAML and apply overrides.

    Raises `ConfigError` where the file is absent or not YAML, or a key or value is wrong: a line for each, which names
    the key and its nearest known one.

    Parameters
    ----------
    path : the YAML, as given, or relative to the checkout
    overrides : ``key.path=value``; see `core.overrides.apply_override`
    """
    file = _find(Path(path))
    content = read_yaml(file.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: found {shown(content)}, expected a mapping such as 'study: demo'; correct the file")
    overridden = {apply_override(Study, content, override): override for override in overrides}

    def where(key: str) -> str:
        above = [name for name in overridden if f"{key}.".startswith(f"{name}.")]
        return f"--set {overridden[above[-1]]}" if above else str(path)

    return validated(Study, content, where)


def without_other_routes(study: Study, names: Sequence[str]) -> list[str]:
    """Return the overrides that leave a study with some of its routes, in the study's order.

    Raises `ConfigError` where none is named, or one that the study does not have.
    """
    routes = list(study.training.routes)
    for name in names:
        if name not in routes:
            raise ConfigError(f"--routes: {study.study} has no route '{name}'; it has {', '.join(routes)}")
    if not names:
        raise ConfigError(f"--routes: names no route; {study.study} has {', '.join(routes)}")
    return [f"training.routes.{name}=null" for name in routes if name not in names]


def _find(path: Path) -> Path:
    with suppress(OSError):  # a name too long for the system is no file either
        for file in (path, project_root() / path):
            if file.is_file():
                return file
    known = sorted(f"configs/{file.name}" for file in (project_root() / "configs").glob("*.yaml"))
    close = difflib.get_close_matches(str(path), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
    raise ConfigError(f"{path}: no such study; {hint}")
