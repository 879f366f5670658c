"""The small world's own models, trained by the project on freshly drawn clips that no study shows."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from core.code import code_digest
from core.errors import ConfigError, ModelError
from core.files import digest_folder, digest_json, read_json, write_json
from simulation import draw, world
from studies.home import home
from studies.study import Study

STAMP = "made_from.json"
PHRASINGS = 5
"""How many ways of saying the same the text encoder learns."""


def train_zoo(study: Study) -> Path:
    """Train the study's generator into `generator.weights`, unless it is already there, made from the same.

    The clips come from the pool of combinations that neither training nor test stimuli of any study use.

    Raises
    ------
    ConfigError
        The study has no `zoo`, no `generator`, or no `simulation` to draw from.
    ModelError
        The folder holds something that this did not train; it is never replaced.
    """
    if study.zoo is None or study.generator is None or study.simulation is None:
        raise ConfigError(
            f"{study.study}: needs the sections 'zoo', 'generator' and 'simulation' to train a generator of its own"
        )
    destination = home() / study.generator.weights
    fingerprint = _fingerprint(study)
    if _is_there(destination, fingerprint):
        return destination
    _check_replaceable(destination)
    small_world, clips = world.WORLDS[study.simulation.world], study.clips

    def fresh(n: int, seed: int) -> tuple[NDArray[Any], list[str]]:
        size = (clips.frames, clips.height, clips.width)
        return draw.draw_clips(small_world, "zoo", n, seed, *size, phrasings=PHRASINGS)

    from models.generator import zoo  # diffusers takes seconds to import, and mostly the zoo is there already

    zoo.train_zoo(study.zoo, fresh, destination)
    write_json(destination / STAMP, {"fingerprint": fingerprint, "weights": _weights_digest(destination)})
    return destination


def _check_replaceable(destination: Path) -> None:
    if home().is_relative_to(destination) or (
        destination.exists() and not (destination / STAMP).is_file() and any(destination.iterdir())
    ):
        raise ModelError(
            f"{destination}: holds something that was not trained here, which is never replaced; "
            "set generator.weights to another folder, or remove 'zoo' to use these weights"
        )


def _fingerprint(study: Study) -> str:
    assert study.zoo is not None
    assert study.simulation is not None
    return digest_json(
        {
            "zoo": study.zoo.model_dump(mode="json"),
            "clips": study.clips.model_dump(),
            "world": study.simulation.world,
            "code": code_digest("models.generator.zoo", draw.__name__, world.__name__),
        }
    )


def _is_there(destination: Path, fingerprint: str) -> bool:
    stamp = destination / STAMP
    if not stamp.is_file():
        return False
    content = read_json(stamp)
    return bool(content["fingerprint"] == fingerprint and content["weights"] == _weights_digest(destination))


def _weights_digest(destination: Path) -> str:
    return digest_json({part.name: digest_folder(part) for part in sorted(destination.iterdir()) if part.is_dir()})
