"""Memory that is traced without values, beside what torch's profiler sees allocated while the same is really done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from core.errors import ModelError
from models.captioners.settings import BlipCaptionerConfig
from models.classifiers.settings import ClipFramesConfig, FrameClassifierConfig, VideoClassifierConfig
from models.decoders.rows import BrainRows
from models.encoders.mbm import Mbm
from models.encoders.settings import MbmConfig, PretrainConfig
from models.extractors.settings import BlipStatesConfig, ClipStatesConfig, LatentsConfig, PixelsConfig, TextConfig
from models.footprint import of_masked_brain_model, of_perceptron, trace
from models.generator.footprint import of_generator, of_model
from models.generator.settings import TextToVideoConfig
from models.regressors.mlp import NetworkInputs, train_perceptron
from models.regressors.settings import MlpConfig
from models.training.loop import Context
from models.weights.locate import PUBLISHED

CHECKOUT = Path(__file__).resolve().parents[2]
WORLD = "models/small_world"
VIDEO = f"{WORLD}/text_to_video"
NEEDS_BFLOAT16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor computes bfloat16 in copies of 32 bits"
)


def allocated(work: Callable[[], object]) -> int:
    """Return the most bytes that torch has allocated at once while something is done, beyond those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


@pytest.mark.parametrize("clips", [1, 3, 8])
def test_a_generator_works_with_what_is_traced(clips: int) -> None:
    config = TextToVideoConfig(weights=VIDEO, batch=clips, steps=4, device="cpu")
    generator = config.build(CHECKOUT)
    latents = np.zeros((clips, 8, 4, 8, 8), np.float32)
    measured = allocated(lambda: generator.render(latents, ["a red ball"] * clips, list(range(clips))))
    traced = of_generator(config, CHECKOUT, (8, 4, 8, 8), clips)
    assert traced.working == pytest.approx(measured, rel=0.05)
    parts = (generator.unet, generator.vae, generator.text_encoder)  # type: ignore[attr-defined]
    weights = [one for part in parts for one in (*part.parameters(), *part.buffers())]
    assert traced.weights == sum(one.numel() * one.element_size() for one in weights)


@pytest.mark.parametrize(
    "config",
    [
        LatentsConfig(weights=VIDEO, device="cpu"),
        pytest.param(LatentsConfig(weights=VIDEO, device="cpu", dtype="bfloat16"), marks=NEEDS_BFLOAT16),
        ClipStatesConfig(weights=f"{WORLD}/clip", device="cpu"),
        BlipStatesConfig(weights=f"{WORLD}/blip", device="cpu"),
    ],
)
def test_an_extractor_works_with_no_more_than_is_traced(config: Any, rng: np.random.Generator) -> None:
    """What numpy hands to torch is not torch's; traced, it is: the clip's frames, once."""
    extractor = config.build(CHECKOUT)
    clips = rng.integers(0, 255, (1, 8, 32, 32, 3)).astype(np.uint8)
    measured = allocated(lambda: extractor.extract(clips))
    traced = of_model(config, CHECKOUT)
    assert traced is not None
    assert traced.working - 1.01 * clips.size * 4 <= measured <= 1.01 * traced.working


def test_a_captioner_works_with_no_more_than_is_traced(rng: np.random.Generator) -> None:
    config = BlipCaptionerConfig(weights=f"{WORLD}/blip", device="cpu", beams=2)
    captioner = config.build(CHECKOUT)
    states = rng.normal(size=(config.batch, 136, 64)).astype(np.float32)
    measured = allocated(lambda: captioner.caption(states))
    traced = of_model(config, CHECKOUT, 136)
    assert traced is not None
    assert measured < traced.working < 3 * measured


def test_a_perceptrons_training_works_with_what_is_traced(rng: np.random.Generator) -> None:
    config = MlpConfig(hidden=256, components=20, batch=64, steps=8, validate_every=2, ema=0.9)
    names = [f"s{row // 2}" for row in range(120)]
    data = {
        name: NetworkInputs(
            rng.normal(size=(120, 3000)).astype(np.float32),
            {"role": rng.normal(size=(120, 20)).astype(np.float32)},
            names,
        )
        for name in ("sub-01", "sub-02")
    }
    measured = allocated(lambda: train_perceptron(config, data, "perceptron", Context()))
    traced = of_perceptron(config, dict.fromkeys(data, 3000), {"role": 20}, held=12)
    assert traced.kept + traced.working == pytest.approx(measured, rel=0.15)
    assert traced.kept == 5 * traced.weights  # Adam's two, the moving average, the best ones


def test_pretraining_works_with_what_is_traced(rng: np.random.Generator) -> None:
    pretraining = PretrainConfig(steps=4, batch=32, validate_every=2)
    config = MbmConfig(width=32, depth=2, decoder_width=16, pretraining=pretraining, alignment=None)
    rows = {"sub-01": BrainRows(rng.normal(size=(300, 800)).astype(np.float32), [f"s{row}" for row in range(300)])}
    measured = allocated(lambda: Mbm.fit(config, rows, Context()))
    (traced,) = of_masked_brain_model(config, {"sub-01": 800}, 1, ["V1"], {}, 0)
    assert traced.kept + traced.working == pytest.approx(measured, rel=0.25)


def test_the_published_models_have_the_weights_that_the_hub_shows() -> None:
    """Every architecture in `models/published`, built without values, against the bytes of its files."""
    files = {name: sum(sizes.values()) for name, sizes in json.loads((PUBLISHED / "files.json").read_text()).items()}
    zeroscope, clip, small, blip, vit, mae = (
        "cerspense/zeroscope_v2_576w",
        "openai/clip-vit-large-patch14",
        "openai/clip-vit-base-patch32",
        "Salesforce/blip-image-captioning-base",
        "google/vit-base-patch16-224",
        "MCG-NJU/videomae-base-finetuned-kinetics",
    )
    nowhere = Path("/nonexistent")
    half = of_generator(TextToVideoConfig(weights=zeroscope, dtype="float16"), nowhere, (1, 4, 8, 8), 1)
    assert half.weights == pytest.approx(files[zeroscope], rel=1e-3)
    judges = {
        clip: ClipFramesConfig(weights=clip, batch=1),
        small: ClipFramesConfig(weights=small, batch=1),
        vit: FrameClassifierConfig(weights=vit, batch=1),
        mae: VideoClassifierConfig(weights=mae, batch=1),
    }
    for name, config in judges.items():
        found = of_model(config, nowhere)
        assert found is not None
        assert found.weights == pytest.approx(files[name], rel=1e-3), name
    parts = [of_model(BlipStatesConfig(weights=blip), nowhere), of_model(BlipCaptionerConfig(weights=blip), nowhere, 9)]
    assert sum(one.weights for one in parts if one is not None) == pytest.approx(files[blip], rel=0.01)


def test_text_is_traced_and_pixels_need_no_network() -> None:
    text = of_model(TextConfig(weights=VIDEO), CHECKOUT)
    assert text is not None
    assert text.working > 0
    assert of_model(PixelsConfig(), CHECKOUT) is None


def test_unknown_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="someone/else: these weights are not here, and the settings of ") as error:
        of_model(ClipStatesConfig(weights="someone/else"), tmp_path)
    assert "\n" not in str(error.value)


def test_what_is_let_go_of_is_not_counted_twice() -> None:
    """A chain of products holds two of its steps at a time, whatever its length; with gradients it holds all."""

    def chain(network: Any) -> torch.Tensor:
        rows = torch.empty(1000, 16)
        for _ in range(9):
            rows = network(rows)
        return rows.sum()

    step = 4 * 1000 * 16
    assert trace(lambda: torch.nn.Linear(16, 16), chain).working == pytest.approx(2 * step, rel=0.01)
    assert trace(lambda: torch.nn.Linear(16, 16), chain, training=True).working >= 9 * step
    assert trace(lambda: torch.nn.Linear(16, 16)).weights == 4 * (16 * 16 + 16)
