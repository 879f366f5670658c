"""The training of the small world's models: what it writes, that it repeats and goes on, and its pieces."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import TextToVideoSDPipeline
from transformers import BlipForConditionalGeneration, CLIPModel, CLIPTokenizer

from core.errors import ModelError
from core.files import digest_folder, read_json
from core.progress import listening
from models.captioners.settings import BlipCaptionerConfig
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, LatentsConfig
from models.extractors.vision import caption_embeddings
from models.generator.settings import TextToVideoConfig
from models.training.checkpoints import Checkpoints
from models.training.loop import Muon, cosine, fit, orthogonalise
from zoo.corpus import Corpus, round_to_half
from zoo.settings import BlipStage, TextStage, TextToVideoStage, VaeStage, ZooConfig
from zoo.text_to_video import (
    encode_frames,
    learn_merges,
    new_scheduler,
    new_text_encoder,
    new_unet,
    train_text_encoder,
    train_tokenizer,
    train_vae,
    without_time,
)
from zoo.train import train_models
from zoo.vision import train_blip

from .small_zoo import draw


@dataclass(frozen=True)
class Trained:
    """A zoo, the checkpoints of its training, and what was reported of it."""

    folder: Path
    kept: Path
    heard: set[tuple[str, int, int]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A zoo trained once, with checkpoints."""
    folder, heard = tmp_path_factory.mktemp("zoo"), set[tuple[str, int, int]]()
    with listening(lambda what, done, total, note: heard.add((what, done, total))):
        train_models(ZooConfig.tiny(), draw, folder / "small-world", checkpoints=folder / "kept")
    return Trained(folder / "small-world", folder / "kept", heard)


@pytest.fixture(scope="module")
def zoo(trained: Trained) -> Path:
    """Its folder alone, to be read."""
    return trained.folder


STAGES = {
    "vae": 3,
    "text": 2,
    "text_to_video": 4,
    "clip_attributes": 2,
    "clip": 2,
    "blip_attributes": 2,
    "blip": 2,
}


def test_the_folders_are_models_of_the_hub(zoo: Path):
    pipeline = TextToVideoSDPipeline.from_pretrained(zoo / "text_to_video")
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.vae.config.scaling_factor != 0.18215
    CLIPModel.from_pretrained(zoo / "clip")
    blip = BlipForConditionalGeneration.from_pretrained(zoo / "blip")
    assert blip.config.key_frames == 4
    assert {path.suffix for path in zoo.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    training = read_json(zoo / "training.json")
    assert training["steps"] == STAGES
    assert {stage: len(losses) for stage, losses in training["losses"].items()} == STAGES
    assert ZooConfig.model_validate(training["config"]) == ZooConfig.tiny()
    assert training["parts"]["blip"]["class"] == "BlipForConditionalGeneration"


def test_weights_are_kept_in_half_and_read_as_they_were_trained(zoo: Path):
    from safetensors.torch import load_file

    for file in zoo.rglob("*.safetensors"):
        assert {weight.dtype for weight in load_file(file).values() if weight.is_floating_point()} == {torch.float16}
    latents = LatentsConfig(weights="text_to_video", frames=4, height=16, width=16).build(zoo)
    assert latents.vae.dtype == torch.float32


def test_equal_settings_give_equal_bytes(zoo: Path, tmp_path: Path):
    torch.manual_seed(1234)
    before = torch.get_rng_state()
    train_models(ZooConfig.tiny(), draw, tmp_path / "again")
    assert digest_folder(tmp_path / "again") == digest_folder(zoo)
    assert torch.equal(torch.get_rng_state(), before)
    train_models(ZooConfig.tiny().model_copy(update={"seed": 1}), draw, tmp_path / "other")
    assert digest_folder(tmp_path / "other" / "text_to_video" / "unet") != digest_folder(zoo / "text_to_video" / "unet")


def test_an_interrupted_training_goes_on_to_the_same_bytes(zoo: Path, tmp_path: Path):
    def stop(what: str, done: int, total: int, note: str) -> None:
        if what == "training the denoiser" and done == 3:
            raise KeyboardInterrupt

    config = ZooConfig.tiny().model_copy(update={"checkpoint_every": 1})
    with pytest.raises(KeyboardInterrupt), listening(stop):
        train_models(config, draw, tmp_path / "zoo", checkpoints=tmp_path / "kept")
    assert not (tmp_path / "zoo").exists()
    heard = []
    with listening(lambda what, done, total, note: heard.append((what, done))):
        train_models(config, draw, tmp_path / "zoo", checkpoints=tmp_path / "kept")
    assert ("training the autoencoder", 1) not in heard, "finished stages are not trained again"
    assert ("training the denoiser", 1) not in heard, "a stopped stage goes on"
    for part in ("text_to_video", "clip", "blip"):
        assert digest_folder(tmp_path / "zoo" / part) == digest_folder(zoo / part)


def test_a_checkpoint_of_other_settings_is_refused_by_its_own_stage_alone(trained: Trained, tmp_path: Path):
    config = ZooConfig.tiny()
    shutil.copytree(trained.kept, tmp_path / "kept")
    other = config.model_copy(update={"blip": config.blip.model_copy(update={"steps": 3})})
    with pytest.raises(
        ModelError, match=r"blip_attributes\.pt: a checkpoint of another training: .* was .*, is .*remove"
    ):
        train_models(other, draw, tmp_path / "zoo", checkpoints=tmp_path / "kept")


def test_what_was_trained_can_be_built_and_used(zoo: Path):
    corpus = draw(2, 5)
    z = LatentsConfig(weights="text_to_video", frames=4, height=16, width=16).build(zoo).extract(corpus.clips)
    generator = TextToVideoConfig(weights="text_to_video", steps=4).build(zoo)
    assert generator.render(z, corpus.canonical, [0, 1]).shape == corpus.clips.shape
    states = ClipStatesConfig(weights="clip", frames=4).build(zoo).extract(corpus.clips)
    assert states.shape == caption_embeddings(zoo / "clip", corpus.canonical).shape
    tokens = BlipStatesConfig(weights="blip", frames=4, over_frames="concatenate").build(zoo).extract(corpus.clips)
    assert tokens.shape == (2, 4 * 5, 16)
    captioner = BlipCaptionerConfig(weights="blip").build(zoo)
    assert len(captioner.caption(tokens)) == 2
    with pytest.raises(ModelError, match=r"found 10 image tokens, .* 5 of one frame .* 4 frames .* frames to 4"):
        captioner.caption(tokens[:, :10])


def test_progress_is_reported(trained: Trained):
    told = {("training the autoencoder", 3, 3), ("training the denoiser", 4, 4), ("training BLIP", 2, 2)}
    assert told <= trained.heard


def test_clips_that_cannot_be_halved_are_refused_before_training(tmp_path: Path):
    one = draw(8, 0)

    def oblong(n: int, seed: int) -> Corpus:
        return Corpus(np.zeros((n, 4, 16, 24, 3), dtype=np.uint8), one.captions, one.labels, one.attributes)

    with pytest.raises(ModelError, match="clips are 16 × 24; the models halve them 3 times"):
        train_models(ZooConfig.tiny(), oblong, tmp_path / "zoo")
    with pytest.raises(ModelError, match=r"found float64 \(8, 4, 16, 16, 3\) and captions of 8"):
        Corpus(one.clips / 255, one.captions, one.labels, one.attributes)
    patch = ZooConfig.tiny().blip.model_copy(update={"patch": 5})
    with pytest.raises(ModelError, match=r"blip\.patch is 5, which does not divide a side of 16"):
        train_models(ZooConfig.tiny().model_copy(update={"blip": patch}), draw, tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()


def test_a_stage_that_diverges_is_one_line():
    weight = torch.nn.Linear(1, 1)
    with pytest.raises(ModelError, match="training it: the loss is not a number at step 1; check the data, lower lr"):
        fit(
            "it",
            "training it",
            weight,
            torch.optim.SGD(weight.parameters(), lr=1),
            lambda step: weight(torch.ones(1)).sum() * (float("nan") if step else 1),
            3,
            seed=0,
            checkpoints=Checkpoints(),
        )


def test_the_rate_warms_up_and_falls():
    rates = [cosine(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 20, abs=0.01)
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] == pytest.approx(0.04)
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_weights_beyond_half_are_refused():
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, 1 / 3)
    round_to_half(model)
    assert torch.equal(model.weight, model.weight.half().float())
    torch.nn.init.constant_(model.weight, 1e6)
    with pytest.raises(ModelError, match="beyond float16"):
        round_to_half(model)


def test_the_autoencoder_learns_and_its_latents_have_unit_variance():
    frames = draw(60, 0).clips.reshape(-1, 16, 16, 3)
    vae, losses = train_vae(VaeStage(widths=(8, 8, 16), groups=4, steps=60, batch=8), frames, seed=0)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    scaled = encode_frames(vae, frames) * vae.config.scaling_factor
    assert scaled.std().item() == pytest.approx(1, rel=1e-3)


def test_the_text_encoder_learns_the_attributes():
    corpus = draw(40, 0)
    tokenizer = train_tokenizer(corpus.every_caption, 12)
    _, losses = train_text_encoder(TextStage(width=16, layers=1, tokens=12, steps=150, batch=16), tokenizer, corpus, 0)
    assert losses[-1] < 0.2 * losses[0]


def test_blip_learns_the_order_of_frames(tmp_path: Path):
    """Brighter and darker show the same frames; only their order tells them apart."""
    stage = BlipStage(
        patch=8,
        width=16,
        layers=1,
        heads=2,
        text_layers=1,
        attribute_steps=30,
        attribute_batch=16,
        steps=250,
        batch=16,
        lr=0.02,
    )
    trained = train_blip(stage, draw(60, 0), 20, seed=0)
    trained.model.save_pretrained(tmp_path / "blip")
    for beside in trained.beside:
        beside.save_pretrained(tmp_path / "blip")
    corpus = draw(30, 1)
    captioner = BlipCaptionerConfig(weights="blip").build(tmp_path)
    right = {}
    for over_frames in ("concatenate", "mean"):
        tokens = BlipStatesConfig(weights="blip", frames=4, over_frames=over_frames).build(tmp_path)
        written = captioner.caption(tokens.extract(corpus.clips))
        right[over_frames] = np.mean([one == other for one, other in zip(written, corpus.canonical, strict=True)])
    assert right["concatenate"] > 0.95
    assert right["mean"] < 0.8


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
    encoder = new_text_encoder(TextStage(tokens=8), tokenizer).eval()
    tokens = tokenizer(["red", "blue", "red"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = encoder(tokens)[0]
    assert states.shape == (3, 8, 64)
    np.testing.assert_allclose(states[0], states[2])
    assert (states[0] - states[1]).abs().max() > 0.1


def test_a_new_denoisers_layers_over_time_are_identities():
    torch.manual_seed(0)
    unet = new_unet(TextToVideoStage(widths=(8, 16), groups=4, heads=2), 4, 4, 16).eval()
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
