"""Finds weights in the hub's folder layouts, on disk or on the hub, safetensors only, and digests what it found.

A pipeline of diffusers has a folder for each part (`locate`, `revision`). A model of transformers, such as CLIP or
BLIP, has its files beside each other (`locate_files`, `revision_of_files`).

Imports no torch: the weights' digest shows whether targets are up to date, without loading them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from core.config import nearest
from core.digests import INPUTS
from core.errors import ModelError

Device = Literal["auto", "cpu", "cuda"]
"""`auto` takes a GPU where there is one. Values of the two may differ in the last bit."""

Precision = Literal["float32", "float16", "bfloat16"]
"""What a network's products are computed in; sums that need it stay in float32. Weights are kept in float32."""

KEPT = ("*.json", "*.safetensors", "*.txt")
"""What is read of a part's folder: settings, weights, vocabulary. Pickled weights run code when loaded, so never."""

VAE = ("vae",)
TEXT = ("text_encoder", "tokenizer")
TEXT_TO_VIDEO = ("vae", "unet", "text_encoder", "tokenizer", "scheduler")
"""Folders of the hub's layout that an autoencoder, a text encoder and a whole text-to-video model consist of."""

WEIGHTLESS = {"tokenizer", "scheduler"}

WEIGHTS = "model*.safetensors"
"""The weights of a model whose files lie beside each other, in one file or in several."""
SETTINGS = ("config.json",)
VISION = ("config.json", "preprocessor_config.json", WEIGHTS)
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
CAPTIONER = ("config.json", *TOKENIZER, WEIGHTS)
MOTION = ("config.json", "diffusion_pytorch_model*.safetensors")
"""What a model's shapes, a vision model, a tokenizer, a captioner and a motion adapter are read from; each file has to
be there."""
INDEX = "model*.index.json"
"""Which weight lies where, beside weights in several files."""

DOWNLOADED = "data/weights"
"""Where `brain2video download weights` puts models, by their names on the hub, below the study's root."""

PUBLISHED = Path(__file__).parents[1] / "published"
"""Settings of the published models that the shipped studies name, and in `files.json` the bytes of their weights."""

SHIPPED = "the small world's models come with the project, in models/small_world"
CONVERT = "'brain2video download weights --allow-pickled' converts those of the hub"


def locate(weights: str, root: Path, parts: Sequence[str]) -> Path:
    """Return the folder that holds the named parts of a model.

    Parameters
    ----------
    weights : a folder, relative to `root` or absolute, or a model's name on the hub ("owner/name")
    root : what relative folders are resolved against
    parts : names of subfolders, such as "vae" and "text_encoder".

    Raises
    ------
    ModelError
        No such folder and nothing on the hub or in its cache, or a part lacks its safetensors.
    """
    folder = _folder(weights, root, [f"{part}/{kind}" for part in parts for kind in KEPT], SHIPPED)
    for part in parts:
        if not (folder / part).is_dir():
            raise ModelError(
                f"{folder}: has no folder '{part}'; expected a model in the hub's layout with {', '.join(parts)}"
            )
        if part not in WEIGHTLESS and not list((folder / part).glob("*.safetensors")):
            raise ModelError(
                f"{folder / part}: holds no *.safetensors; pickled weights are not read, they can run code; {CONVERT}"
            )
    return folder


def files_of(parts: Sequence[str]) -> list[str]:
    """Return the patterns of the files that a pipeline's parts consist of."""
    return [f"{part}/{kind}" for part in parts for kind in KEPT if not (part in WEIGHTLESS and kind == "*.safetensors")]


def locate_files(weights: str, root: Path, files: Sequence[str]) -> Path:
    """Return the folder that holds a model whose files lie beside each other.

    Parameters
    ----------
    weights, root : as for `locate`.
    files : names of files, such as "config.json", or patterns that one file at least has to match.

    Raises
    ------
    ModelError
        No such folder and nothing on the hub or in its cache, or a file is missing, or its weights are pickled.
    """
    folder = _folder(weights, root, [*files, INDEX], f"name a folder that holds {', '.join(files)}")
    for file in files:
        if list(folder.glob(file)):
            continue
        if file.endswith(".safetensors"):
            raise ModelError(f"{folder}: holds no {file}; pickled weights (.bin) run code and are not read; {CONVERT}")
        raise ModelError(f"{folder}: has no {file}; expected a model of the hub with {', '.join(files)}")
    return folder


def settings_folder(weights: str, root: Path, part: str = "") -> Path:
    """Return the folder with a model's `config.json`, or with that of a part of it; nothing is asked of the hub.

    Where the model is not here, and is one of those that the shipped studies name, the folder is one of `PUBLISHED`,
    whose settings decide shapes and sizes alone.

    Raises `ModelError`: the model is not here, and its settings are not known.
    """
    for folder in (
        root / weights,
        root / DOWNLOADED / weights,
        Path(__file__).parents[2] / weights,
        PUBLISHED / weights,
    ):
        if (folder / part / "config.json").is_file():
            return folder / part
    known = [path.parent.parent.name + "/" + path.parent.name for path in PUBLISHED.glob("*/*/config.json")]
    known += ["/".join(path.parts[-4:-2]) for path in PUBLISHED.glob("*/*/unet/config.json")]
    raise ModelError(
        f"{weights}: these weights are not here, and the settings of {', '.join(sorted(known))} alone are known"
        f"{nearest(weights, known)}; fetch them with 'brain2video download weights', or name others"
    )


def _folder(weights: str, root: Path, wanted: list[str], otherwise: str) -> Path:
    folder = (root / weights).resolve()
    for known in (folder, root / DOWNLOADED / weights):
        if known.is_dir():
            return known.resolve()
    return _from_hub(weights, folder, wanted, otherwise)


def _from_hub(weights: str, folder: Path, wanted: list[str], otherwise: str) -> Path:
    where = f"weights '{weights}': no folder {folder}"
    if weights.count("/") != 1 or weights.startswith((".", "data/")):
        raise ModelError(f"{where}; {otherwise}, or name a model of the hub")
    from huggingface_hub import snapshot_download  # only where something is to be fetched

    try:
        return Path(snapshot_download(weights, allow_patterns=wanted, ignore_patterns=["*.fp16.*"]))
    except Exception as error:  # the hub's client raises a dozen unrelated classes when there is no network
        raise ModelError(
            f"{where}, and no model of that name on the hub or in its cache ({type(error).__name__}); {otherwise}, "
            "or run 'brain2video download weights' with the network"
        ) from error


def revision(folder: Path, parts: Sequence[str]) -> str:
    """Return the SHA-256 over the settings, weights and vocabularies of a model's parts, as 64 hex digits."""
    return INPUTS.digest_files(folder, [path for part in parts for kind in KEPT for path in (folder / part).glob(kind)])


def revision_of_files(folder: Path, files: Sequence[str]) -> str:
    """Return the SHA-256 over a model's files, as 64 hex digits."""
    return INPUTS.digest_files(folder, [path for file in (*files, INDEX) for path in folder.glob(file)])
