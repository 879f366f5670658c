"""The models that look at clips, as they are named on a command line: a folder, or a model's name on the hub."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config import explain
from core.errors import ConfigError
from models.classifiers.config import JudgesConfig


def judges_named(
    *, judge: str | None = None, clip: str | None = None, frames: str | None = None, videos: str | None = None
) -> JudgesConfig:
    """Return the judges of these names; a folder is looked for where one stands, then in the checkout.

    Parameters
    ----------
    judge : the folder of a judge of the small world's clips
    clip : a CLIP model
    frames, videos : classifiers of images and of videos

    Raises
    ------
    ConfigError
        A name cannot be one.
    """
    named = {"clip": clip, "frames": frames, "videos": videos}
    content: dict[str, Any] = {key: {"weights": _placed(name)} for key, name in named.items() if name}
    if judge:
        content["small_world"] = _placed(judge)
    try:
        return JudgesConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, JudgesConfig, "judges")) from error


def _placed(name: str) -> str:
    return str(Path(name).resolve()) if Path(name).is_dir() else name
