"""The small world as the zoo's training sees it: settings, and clips of the pool that no study shows."""

from pathlib import Path

import numpy as np
import yaml
from pydantic import Field, PositiveInt, ValidationError

from core.clips import ClipConfig
from core.config import Config, explain
from core.errors import ConfigError
from simulation.config import WorldName
from simulation.draw import draw_clips
from simulation.world import ATTRIBUTES, WORLDS, Pool
from zoo.judge import JudgeConfig
from zoo.models.config import ZooConfig
from zoo.models.corpus import Corpus

JUDGE = "judge"
"""The judge's folder beside the models'."""
SHOWN = 24
"""Clips on a contact sheet: the first ones drawn, whatever came of them."""


class SmallWorldConfig(Config):
    """Everything that the small world's own models are made from."""

    world: WorldName = "full"
    clips: ClipConfig = ClipConfig()
    """How many frames of which size; clips are drawn at that size, not read."""
    zoo: ZooConfig = ZooConfig()
    judge: JudgeConfig = JudgeConfig()
    judged: PositiveInt = 200
    """Clips of combinations never trained on that the models are judged by."""
    blurred: float = Field(default=0.7, gt=0, lt=1)
    """Correlation of blurred with true latents where video-to-video starts: about what ridge regression reaches."""

    def draw(self, pool: Pool, n: int, seed: int) -> Corpus:
        """Return n fresh clips of a pool with all their captions and attributes."""
        size = (self.clips.frames, self.clips.height, self.clips.width)
        clips, combinations = draw_clips(WORLDS[self.world], pool, n, seed, *size)
        names = list(ATTRIBUTES)
        labels = [[ATTRIBUTES[name].index(getattr(one, name)) for name in names] for one in combinations]
        captions = [one.captions() for one in combinations]
        return Corpus(clips, captions, np.asarray(labels, dtype=np.int64), dict(ATTRIBUTES))


def load_small_world(path: Path) -> SmallWorldConfig:
    """Read the settings from a YAML.

    Raises
    ------
    ConfigError
        The file is absent or not YAML, or a key or value is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); correct it") from error
    try:
        return SmallWorldConfig.model_validate(content or {})
    except ValidationError as error:
        raise ConfigError(explain(error, SmallWorldConfig, str(path))) from error
