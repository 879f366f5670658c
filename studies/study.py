"""A study: one YAML, composed of the configs of what it uses, that every pipeline takes."""

import difflib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from core.checkout import project_root
from core.clips import ClipConfig
from core.config import Config, explain, nearest
from core.errors import ConfigError
from evaluation.config import EvaluationConfig
from feature_store.chunks import StorageConfig
from feature_store.sources.bold_moments.dataset import BoldMomentsConfig
from feature_store.sources.settings import SourceConfig
from models.captioners.settings import BlipCaptionerConfig, CaptionerConfig, NearestCaptionerConfig
from models.classifiers.settings import JudgesConfig
from models.encoders.settings import EncoderConfig, MbmConfig, StandardiseConfig
from models.extractors.settings import BlipStatesConfig, ExtractorConfig, LatentsConfig, PixelsConfig, TextConfig
from models.generator.settings import GeneratorConfig
from models.registry.sets import part_names
from models.regressors.settings import MlpConfig, RegressorConfig, RidgeConfig
from simulation.world import SimulationConfig
from simulation.write import counts_of

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


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
    def spaces(self) -> dict[str, str]:
        """The space that each target is scored in: its extractor's name, or its own where it was made elsewhere."""
        extractors = {name: config.extractor for name, config in self.targets.items()}
        return {name: name if extractor == "given" else extractor for name, extractor in extractors.items()}

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

    Raises `ConfigError` where the file is absent or not YAML, or a key or value is wrong; one line names the key and
    its nearest known one.

    Parameters
    ----------
    path : the YAML, as given, or relative to the checkout
    overrides : ``key.path=value``; the value is read as YAML
    """
    file = _find(Path(path))
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not YAML ({' '.join(str(error).split())}); correct the file") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected a mapping such as 'study: demo', found {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, Study, str(path))) from error


def _find(path: Path) -> Path:
    with suppress(OSError):  # a name too long for the system is no file either
        for file in (path, project_root() / path):
            if file.is_file():
                return file
    known = sorted(f"configs/{file.name}" for file in (project_root() / "configs").glob("*.yaml"))
    close = difflib.get_close_matches(str(path), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
    raise ConfigError(f"{path}: no such study; {hint}")


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML; quote it") from error
    *folders, last = key.split(".")
    here = content
    for part in folders:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise ConfigError(f"--set {override}: '{part}' holds a value, not a section")
    here[last] = value
