"""The training of the small world's models: what it writes, that it repeats, and its pieces against known answers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import TextToVideoSDPipeline
from transformers import CLIPTokenizer

from core.errors import ModelError
from core.files import digest_folder, read_json
from core.progress import listening
from models.extractors.config import LatentsConfig
from models.generator.config import GeneratorConfig, TextToVideoStage, VaeStage, ZooConfig
from models.generator.muon import Muon, orthogonalise
from models.generator.zoo import train_zoo
from models.generator.zoo_text import learn_merges, new_text_encoder, train_tokenizer
from models.generator.zoo_text_to_video import new_scheduler, new_unet, without_time
from models.generator.zoo_vae import encode_frames, reconstruction_psnr, train_vae

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


def draw(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return clips of one colour each, getting brighter, and its name."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(COLOURS), n).tolist()
    colours = np.asarray([COLOURS[name] for name in names])[:, None, None, None]
    ramp = np.linspace(0.7, 1, 4)[None, :, None, None, None]
    return np.broadcast_to(colours * ramp, (n, 4, 16, 16, 3)).astype(np.uint8), [f"a {name} screen" for name in names]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "small-world"
    train_zoo(ZooConfig.tiny(), draw, folder)
    return folder


def test_the_folder_is_a_pipeline_of_diffusers(zoo: Path):
    pipeline = TextToVideoSDPipeline.from_pretrained(zoo)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.vae.config.scaling_factor != 0.18215
    assert {path.suffix for path in zoo.rglob("*") if path.is_file()} == {".json", ".md", ".safetensors"}
    assert "train-zoo" in (zoo / "README.md").read_text()
    training = read_json(zoo / "training.json")
    assert {stage: len(losses) for stage, losses in training["losses"].items()} == {"vae": 3, "frames": 2, "videos": 2}
    assert ZooConfig.model_validate(training["config"]) == ZooConfig.tiny()


def test_equal_settings_give_equal_bytes(zoo: Path, tmp_path: Path):
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    train_zoo(ZooConfig.tiny(), draw, tmp_path / "again")
    assert digest_folder(tmp_path / "again") == digest_folder(zoo)
    assert torch.equal(torch.get_rng_state(), before)
    train_zoo(ZooConfig.tiny().model_copy(update={"seed": 1}), draw, tmp_path / "other")
    assert digest_folder(tmp_path / "other" / "unet") != digest_folder(zoo / "unet")


def test_what_was_trained_can_be_built_and_rendered(zoo: Path):
    clips, captions = draw(2, 5)
    z = LatentsConfig(weights="small-world", frames=4, height=16, width=16).build(zoo.parent).extract(clips)
    rendered = GeneratorConfig(weights="small-world", steps=4).build(zoo.parent).render(z, captions, [0, 1])
    assert rendered.shape == clips.shape


def test_progress_is_reported(tmp_path: Path):
    heard = []
    with listening(lambda what, done, total: heard.append((what, done, total))):
        train_zoo(ZooConfig.tiny(), draw, tmp_path / "zoo")
    assert {("training the autoencoder", 3, 3), ("training on frames", 2, 2), ("training on videos", 2, 2)} <= set(
        heard
    )


def test_clips_that_cannot_be_halved_are_refused_before_training(tmp_path: Path):
    def oblong(n: int, seed: int) -> tuple[np.ndarray, list[str]]:
        return np.zeros((n, 4, 16, 24, 3), dtype=np.uint8), ["a"] * n

    with pytest.raises(ModelError, match="clips are 16 × 24; the models halve them 3 times"):
        train_zoo(ZooConfig.tiny(), oblong, tmp_path / "zoo")
    with pytest.raises(ModelError, match=r"found float64 \(8, 4, 16, 16, 3\) with 8 captions"):
        train_zoo(ZooConfig.tiny(), lambda n, seed: (draw(n, seed)[0] / 255, ["a"] * n), tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_the_autoencoder_learns_and_its_latents_have_unit_variance():
    frames = draw(60, 0)[0].reshape(-1, 16, 16, 3)
    trained = train_vae(VaeStage(widths=(8, 8, 16), groups=4, steps=60, batch=8), frames, seed=0)
    assert np.mean(trained.losses[-5:]) < 0.5 * np.mean(trained.losses[:5])
    scaled = encode_frames(trained.vae, frames) * trained.vae.config.scaling_factor
    assert scaled.std().item() == pytest.approx(1, rel=1e-3)
    assert reconstruction_psnr(trained.vae, frames) > 12


def test_psnr_known_answer():
    class Off(torch.nn.Module):
        """An autoencoder that answers every picture a tenth of the range too dark."""

        def encode(self, pictures: torch.Tensor) -> "Off":
            self.latent_dist, self.mean = self, pictures
            return self

        def decode(self, mean: torch.Tensor) -> "Off":
            self.sample = mean - 0.2
            return self

    frames = np.full((3, 4, 4, 3), 128, dtype=np.uint8)
    assert reconstruction_psnr(Off(), frames) == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_orthogonalised_matrices_keep_their_directions(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    answer = orthogonalise(matrix)
    values = torch.linalg.svdvals(answer)
    assert 0.6 < values.min() <= values.max() < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ answer @ v.T
    np.testing.assert_allclose(inner - torch.diag(inner.diagonal()), 0, atol=1e-3)


def test_muons_adam_equals_torchs():
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 6)) for _ in range(2))
    optimisers = [Muon([ours], lr=0.1, lr_adam=0.01), torch.optim.Adam([theirs], lr=0.01, betas=(0.9, 0.95))]
    for _ in range(5):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            (weight**4).sum().backward()
            optimiser.step()
    np.testing.assert_allclose(ours.detach(), theirs.detach(), atol=1e-6)


def test_every_word_of_the_captions_is_one_token(tmp_path: Path):
    captions = ["a red circle moving left", "A green ring, greener than Reeds", "growing"]
    train_tokenizer(captions, 16).save_pretrained(tmp_path)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer(captions[0]).input_ids) == 5 + 2
    assert tokenizer.tokenize(captions[1]) == [
        f"{w}</w>" for w in ["a", "green", "ring", ",", "greener", "than", "reeds"]
    ]
    unseen = tokenizer("a blue-ish 7").input_ids
    assert tokenizer.unk_token_id not in unseen[1:-1]
    assert len(tokenizer(captions, padding="max_length").input_ids[2]) == 16


def test_merges_known_answer():
    assert learn_merges(["ab", "abc"]) == [("a", "b"), ("a", "b</w>"), ("ab", "c</w>")]


def test_the_text_encoder_tells_captions_apart():
    tokenizer = train_tokenizer(["red", "blue"], 8)
    encoder = new_text_encoder(TextToVideoStage(tokens=8), tokenizer).eval()
    tokens = tokenizer(["red", "blue", "red"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = encoder(tokens)[0]
    assert states.shape == (3, 8, 64)
    np.testing.assert_allclose(states[0], states[2])
    assert (states[0] - states[1]).abs().max() > 0.1


def test_a_new_denoisers_layers_over_time_are_identities():
    torch.manual_seed(0)
    unet = new_unet(TextToVideoStage(widths=(8, 16), groups=4, heads=2, text_width=16), 4, 4).eval()
    sample, states = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 5, 16)
    with torch.no_grad():
        whole = unet(sample, 10, states).sample
        with without_time(unet):
            frames = unet(sample, 10, states).sample
        np.testing.assert_allclose(whole, frames, atol=1e-5)
        torch.nn.init.normal_(unet.transformer_in.proj_out.weight)
        assert (unet(sample, 10, states).sample - frames).abs().max() > 1e-3


def test_the_scheduler_spends_its_last_step_on_no_noise():
    scheduler = new_scheduler()
    scheduler.set_timesteps(12)
    assert scheduler.timesteps[0] == 999
    assert scheduler.sigmas[-1] == 0


def test_held_out_frames_do_not_decide_the_weights(tmp_path: Path, zoo: Path):
    train_zoo(ZooConfig.tiny().model_copy(update={"held_out": 2}), draw, tmp_path / "zoo")
    assert digest_folder(tmp_path / "zoo" / "vae") == digest_folder(zoo / "vae")
