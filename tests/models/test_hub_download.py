"""Published weights: what is fetched, what is refused, going on after a broken connection; a hub on loopback."""

import io
import pickle
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from core.errors import DownloadError, ModelError
from core.files import read_json
from models.extractors.settings import LatentsConfig
from models.weights import locate
from models.weights.download import choose, fetch_model, find_model

from .hub_server import COMMIT, Hub, ask, serving

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3)}


def pickled(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code ran",))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    big = np.random.default_rng(0).bytes(300_000)
    parts = {
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": big,
        "vae/diffusion_pytorch_model.fp16.safetensors": b"other",
        "vae/diffusion_pytorch_model.bin": b"other",
        "unet/diffusion_pytorch_model.safetensors": b"not wanted",
        "README.md": b"not wanted",
    }
    old = {"config.json": b"{}", "preprocessor_config.json": b"{}", "pytorch_model.bin": pickled(WEIGHTS)}
    evil = {**old, "pytorch_model.bin": pickled({"a": Evil()})}
    models = {"they/video": parts, "they/old": old, "they/evil": evil, "they/empty": {"config.json": b"{}"}}
    with serving(Hub(models)) as running:
        ask(running, monkeypatch)
        yield running


def test_only_what_is_read_is_fetched_and_only_once(served: Hub, tmp_path: Path):
    model = find_model("they/video", locate.files_of(locate.VAE))
    assert list(model.files) == ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    assert model.size == 300_002
    fetch_model(model, tmp_path / "video")
    there = {str(path.relative_to(tmp_path / "video")) for path in (tmp_path / "video" / "vae").iterdir()}
    assert there == set(model.files)
    content = served.models["they/video"]["vae/diffusion_pytorch_model.safetensors"]
    assert (tmp_path / "video" / "vae" / "diffusion_pytorch_model.safetensors").read_bytes() == content
    assert read_json(tmp_path / "video" / "downloaded.json")["commit"] == COMMIT
    sent = dict(served.sent)
    fetch_model(model, tmp_path / "video")
    assert served.sent == sent, "what is there is not fetched again"


def test_a_broken_connection_loses_nothing(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = "vae/diffusion_pytorch_model.safetensors"
    model = find_model("they/video", locate.files_of(locate.VAE))
    served.cut[file] = 200_000
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 50_000)  # what it writes at once
    with suppress(DownloadError):  # the client itself may try again at once
        fetch_model(model, tmp_path / "video")
    fetch_model(model, tmp_path / "video")
    assert (tmp_path / "video" / file).read_bytes() == served.models["they/video"][file]
    assert served.sent[file] <= 320_000, "the second connection begins where the first one ended"


def test_pickled_weights_are_refused_with_the_reason(served: Hub, tmp_path: Path):
    model = find_model("they/old", locate.VISION)
    with pytest.raises(DownloadError, match=r"only pickled weights \(pytorch_model.bin\), which can run code.*--allow"):
        fetch_model(model, tmp_path / "old")
    assert not (tmp_path / "old").exists()
    fetch_model(model, tmp_path / "old", allow_pickled=True)
    kept = load_file(tmp_path / "old" / "model.safetensors")
    assert {name: weight.tolist() for name, weight in kept.items()} == {n: w.tolist() for n, w in WEIGHTS.items()}
    assert not (tmp_path / "old" / "pytorch_model.bin").exists()
    sent = dict(served.sent)
    fetch_model(model, tmp_path / "old", allow_pickled=True)
    assert served.sent == sent


def test_pickled_code_is_never_run(served: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(served.models["they/evil"]["pytorch_model.bin"]), weights_only=True)
    with pytest.raises(DownloadError, match="holds more than tensors"):
        fetch_model(find_model("they/evil", locate.VISION), tmp_path / "evil", allow_pickled=True)
    assert "code ran" not in capsys.readouterr().out


def test_what_is_not_there_is_one_line(served: Hub, tmp_path: Path):
    with pytest.raises(DownloadError, match="they/none: the hub does not answer for it .*check the name"):
        find_model("they/none", locate.VISION)
    with pytest.raises(DownloadError, match=r"they/empty: holds no weights that match model\*\.safetensors"):
        find_model("they/empty", locate.VISION)


def test_choosing_files():
    sizes = {
        "model.safetensors": 9,
        "pytorch_model.bin": 9,
        "model.fp16.safetensors": 4,
        "config.json": 1,
        "onnx/config.json": 1,
        "preprocessor_config.json": 2,
    }
    assert choose("m", sizes, locate.VISION) == (
        {"config.json": 1, "model.safetensors": 9, "preprocessor_config.json": 2},
        [],
    )
    del sizes["model.safetensors"]
    assert choose("m", sizes, locate.VISION)[1] == ["pytorch_model.bin"]
    parts = {"vae/diffusion_pytorch_model.bin": 5, "vae/config.json": 1}
    assert choose("m", parts, locate.files_of(locate.VAE))[1] == ["vae/diffusion_pytorch_model.bin"]
    shards = {"pytorch_model-00001-of-00002.bin": 5, "pytorch_model-00002-of-00002.bin": 5}
    with pytest.raises(DownloadError, match="pickled ones in 2 files"):
        choose("m", shards, ["model*.safetensors"])


def test_downloaded_models_are_found_by_name(tmp_path: Path):
    folder = tmp_path / locate.DOWNLOADED / "they" / "video"
    (folder / "vae").mkdir(parents=True)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(save({"a": torch.ones(1)}))
    (folder / "vae" / "config.json").write_text("{}")
    assert locate.locate("they/video", tmp_path, locate.VAE) == folder.resolve()
    with pytest.raises(ModelError):
        LatentsConfig(weights="they/video").build(tmp_path)
