"""Downloads a published model from the hub, only the files that are read of it; run again, it continues.

Pickled weights (`.bin`) can run code when they are loaded. If a model has no others, they are refused unless the
user allows them; then they are read as tensors only (torch's `weights_only`) and kept as safetensors.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from core.errors import DownloadError
from core.files import require_space, write_json
from core.progress import report

RECORD = "downloaded.json"
"""The hub's name and commit of what lies in a folder."""
SAFE, PICKLED = ".safetensors", ".bin"
VARIANTS = ("*.fp16.*", "*.non_ema.*", "*.bf16.*")


@dataclass(frozen=True)
class Model:
    """A model on the hub and the files wanted of it.

    Attributes
    ----------
    name : "owner/name"
    commit : the name's current commit
    files : bytes of every file that is wanted, by its path
    pickled : those of them that are pickled, because the model has no safetensors
    """

    name: str
    commit: str
    files: dict[str, int]
    pickled: list[str]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.files.values())


def find_model(name: str, wanted: Iterable[str]) -> Model:
    """Ask the hub which files of a model match the wanted patterns.

    Raises
    ------
    DownloadError
        The hub cannot be reached, has no such model or asks for a login first, or the model lacks what is wanted.
    """
    from huggingface_hub import HfApi

    advice = "check the name and the network, log in with 'hf auth login' where it asks for that, and run again"
    with _explained(f"{name}: the hub does not answer for it", advice):
        info = HfApi().model_info(name, files_metadata=True)
    sizes = {sibling.rfilename: int(sibling.size or 0) for sibling in info.siblings or []}
    files, pickled = choose(name, sizes, wanted)
    return Model(name, str(info.sha), files, pickled)


def choose(name: str, sizes: dict[str, int], wanted: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """Return the files that match the patterns, with their bytes, and the pickled ones among them.

    Pickled weights are chosen only if the model has no safetensors.

    Raises `DownloadError`: a pattern for weights matches neither safetensors nor pickled weights.
    """
    chosen: set[str] = set()
    pickled: set[str] = set()
    for pattern in wanted:
        files = _matching(sizes, pattern)
        if not files and pattern.endswith(SAFE):
            files = _matching(sizes, _pickled_twin(pattern))
            pickled |= set(files)
            if len(files) != 1:
                raise DownloadError(
                    f"{name}: holds no weights that match {pattern}, and pickled ones in {len(files)} files; expected "
                    "safetensors or one pickled file, name another model"
                )
        chosen |= set(files)
    return {file: sizes[file] for file in sorted(chosen)}, sorted(pickled)


def _pickled_twin(pattern: str) -> str:
    """Return the pattern of the pickled files that hold the same; transformers calls its own `pytorch_model`."""
    folder, slash, file = pattern.removesuffix(SAFE).rpartition("/")
    return f"{folder}{slash}{file.replace('model', 'pytorch_model', 1) if file.startswith('model') else file}{PICKLED}"


def _matching(sizes: dict[str, int], pattern: str) -> list[str]:
    level = pattern.count("/")
    return [
        file
        for file in sizes
        if file.count("/") == level
        and fnmatch(file, pattern)
        and not any(fnmatch(file, variant) for variant in VARIANTS)
    ]


def fetch_model(model: Model, destination: Path, *, allow_pickled: bool = False) -> None:
    """Fetch a model's files into a folder and convert pickled weights, if they are allowed, into safetensors.

    Raises
    ------
    DownloadError
        Only pickled weights, which are not allowed; or the hub stopped answering; what is there is kept.
    NoSpace
        The disk has no room.
    """
    from huggingface_hub import hf_hub_download

    if model.pickled and not allow_pickled:
        raise DownloadError(
            f"{model.name}: has only pickled weights ({', '.join(model.pickled)}), which can run code when they are "
            "loaded; if you trust its authors, run again with --allow-pickled: they are then read as tensors only and "
            "kept as safetensors"
        )
    missing = [file for file in model.files if not _is_there(destination, file, model.files[file])]
    require_space(destination.parent, sum(model.files[file] for file in missing))
    done = model.size - sum(model.files[file] for file in missing)
    for file in missing:
        with _explained(f"{model.name}: {file} was not received", "what is there is kept, run again"):
            hf_hub_download(model.name, file, revision=model.commit, local_dir=destination)
        done += model.files[file]
        report(f"fetching {model.name} (MB)", done // 10**6, max(1, model.size // 10**6))
    for file in model.pickled:
        _convert(destination / file)
    write_json(destination / RECORD, {"name": model.name, "commit": model.commit, "files": sorted(model.files)})


def _is_there(destination: Path, file: str, size: int) -> bool:
    path = destination / file
    return (path.is_file() and path.stat().st_size == size) or (file.endswith(PICKLED) and converted(path).is_file())


@contextmanager
def _explained(what: str, advice: str) -> Iterator[None]:
    """Turn an error of the hub's client, which raises a dozen unrelated classes, into one line."""
    try:
        yield
    except Exception as error:
        raise DownloadError(f"{what} ({type(error).__name__}: {_short(error)}); {advice}") from error


def converted(path: Path) -> Path:
    """Return the name under which pickled weights are kept as safetensors, which the libraries look for."""
    name = path.name.replace("pytorch_model", "model", 1) if path.name.startswith("pytorch_model") else path.name
    return path.with_name(name).with_suffix(SAFE)


def _convert(path: Path) -> None:
    """Read pickled weights as tensors only, keep them as safetensors, and remove them."""
    if converted(path).is_file():
        return
    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: weight.contiguous().clone() for name, weight in weights.items()}
    except Exception as error:  # anything else than tensors, or a damaged file
        raise DownloadError(
            f"{path}: holds more than tensors, or is damaged ({_short(error)}), and is not read; name another model"
        ) from error
    partial = path.with_name(f".{converted(path).name}.partial")
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(converted(path))
    path.unlink()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
