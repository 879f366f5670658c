"""The small world's own models, trained by the project on freshly drawn clips that no study shows."""

import os
import shutil
from pathlib import Path
from typing import Any

from core.checkout import project_root
from core.code import code_digest
from core.errors import ModelError
from core.files import digest_json, publish_folder, read_json, write_bytes, write_json
from core.seeds import seed_for
from zoo.card import curves_png, model_card
from zoo.config import JUDGE, SmallWorldConfig
from zoo.judge import train_judge
from zoo.models.train import TRAINING
from zoo.models.train import train_zoo as train_models
from zoo.score import score_zoo

STAMP = "made_from.json"
CARD, PICTURES = "README.md", "pictures"


def train_zoo(config: SmallWorldConfig, destination: Path) -> Path:
    """Train the models and their judge, score them, and publish all as one folder, unless it is there already.

    The clips come from the pool of combinations that neither training nor test stimuli of any study use; the scores
    from the pool of test stimuli. What is half done lies in a folder beside the destination; run again, it goes on.

    Raises
    ------
    ModelError
        The destination holds something that this did not train, which is never replaced, or a stage cannot be trained.
    """
    fingerprint = fingerprint_of(config)
    if _is_there(destination, fingerprint):
        return destination
    _check_replaceable(destination)
    work = destination.with_name(f".{destination.name}.training")
    made, checkpoints = work / "models", work / "checkpoints"
    train_models(config.zoo, lambda n, seed: config.draw("zoo", n, seed), made, checkpoints=checkpoints)
    shown = config.draw("zoo", config.judge.clips, seed_for(config.judge.seed, "judge", "clips"))
    train_judge(config.judge, shown.clips, shown.labels, shown.attributes).save(made / JUDGE)
    score(config, made)
    write_json(made / STAMP, {"fingerprint": fingerprint, "settings": config.model_dump(mode="json")})
    publish_folder(made, destination)
    shutil.rmtree(work)
    return destination


def fingerprint_of(config: SmallWorldConfig) -> str:
    """Return the digest of the settings and of the code that the models are made by."""
    code = code_digest(train_zoo)
    return digest_json({"settings": config.model_dump(mode="json"), "code": code})


def _is_there(destination: Path, fingerprint: str) -> bool:
    stamp = destination / STAMP
    return stamp.is_file() and bool(read_json(stamp)["fingerprint"] == fingerprint)


def _check_replaceable(destination: Path) -> None:
    if destination.exists() and not destination.is_dir():
        raise ModelError(f"{destination}: is a file; name a folder for the models")
    if project_root().is_relative_to(destination.resolve()) or (
        destination.exists() and not (destination / STAMP).is_file() and any(destination.iterdir())
    ):
        raise ModelError(
            f"{destination}: holds something that was not trained here, which is never replaced; name another folder"
        )


def score(config: SmallWorldConfig, folder: Path, pictures: Path | None = None) -> dict[str, Any]:
    """Judge the models of a folder; scores and model card go into it, the contact sheets into `pictures`.

    Raises
    ------
    ModelError
        The folder lacks a model, or one is damaged.
    """
    pictures = folder / PICTURES if pictures is None else pictures
    if not (folder / TRAINING).is_file():
        raise ModelError(f"{folder}: holds no {TRAINING}; name a folder that 'brain2video train-zoo' made")
    training, scores = read_json(folder / TRAINING), score_zoo(config, folder, pictures)
    write_bytes(pictures / "curves.png", curves_png(training["losses"]))
    there = os.path.relpath(pictures.resolve(), folder.resolve())
    write_bytes(folder / CARD, model_card(config, training, scores, there).encode())
    return scores
