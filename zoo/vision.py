"""Trains the small world's CLIP and BLIP: their vision transformers on what frames show, then each for its own end."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextModel,
    CLIPTokenizer,
)

from core.seeds import rng_for, seed_for
from models.captioners.blip import with_time_codes
from models.extractors.diffusion import to_pictures
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from models.training.loop import Muon, fit
from zoo.corpus import Corpus, round_to_half, teach_attributes
from zoo.settings import BlipStage, ClipStage, TextStage, VisionStage
from zoo.text_to_video import Phrasings, text_config

NORMAL = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
"""Pictures in [-1, 1], as the autoencoder takes them."""
SPECIAL = ["[PAD]", "[DEC]", "[SEP]", "[CLS]", "[UNK]", "[MASK]"]


@dataclass(frozen=True)
class TrainedVision:
    """A model of pictures and words with what lies beside its weights, and how it came about."""

    model: Any
    beside: list[Any]
    """Its image processor and its tokenizer."""
    losses: dict[str, list[float]] = field(default_factory=dict)
    """Cross entropy at every step, by stage."""


def train_clip(
    stage: ClipStage,
    text: TextStage,
    tokenizer: CLIPTokenizer,
    text_encoder: CLIPTextModel,
    corpus: Corpus,
    seed: int,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> TrainedVision:
    """Train a CLIP on frames and captions by its own contrastive loss; its text encoder begins as the denoiser's."""
    torch.manual_seed(seed_for(seed, "clip"))
    side = corpus.clips.shape[2]
    settings = CLIPConfig(
        text_config=text_config(text, tokenizer, stage.projection).to_dict(),
        vision_config={**_vision(stage, side), "projection_dim": stage.projection},
        projection_dim=stage.projection,
    )
    model = CLIPModel(settings).train()
    _adopt(model.text_model, text_encoder)
    attribute_losses = _learn_to_see("clip_attributes", model.vision_model, stage, corpus, seed, checkpoints)
    phrasings = Phrasings(tokenizer, corpus)

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(seed, "clip", "batches", step)
        rows = rng.integers(0, len(corpus.clips), stage.batch)
        answer = model(
            input_ids=phrasings.draw(rows, rng), pixel_values=_any_frame(corpus.clips, rows, rng), return_loss=True
        )
        return answer.loss

    optimiser = Muon(model.parameters(), lr=stage.lr, lr_adam=stage.lr_adam)
    what = "training CLIP"
    history = fit("clip", what, model, optimiser, loss, stage.steps, seed=seed, checkpoints=checkpoints, clip=1.0)
    round_to_half(model.eval())
    square = {"height": side, "width": side}
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square, **NORMAL)
    return TrainedVision(model, [processor, tokenizer], {"clip_attributes": attribute_losses, "clip": history.losses})


def train_blip(
    stage: BlipStage, corpus: Corpus, tokens: int, seed: int, checkpoints: Checkpoints = NO_CHECKPOINTS
) -> TrainedVision:
    """Train a BLIP to write a clip's canonical caption of at most so many `tokens`, from the tokens of its frames.

    The frames' tokens come one after the other, each with its frame's code, or averaged; `config.json` says by
    ``key_frames`` how many frames the codes are for.
    """
    torch.manual_seed(seed_for(seed, "blip"))
    frames, side = corpus.clips.shape[1:3]
    tokenizer = new_bert_tokenizer(corpus, tokens)
    settings = BlipConfig(
        vision_config=_vision(stage, side),
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": stage.width,
            "intermediate_size": 2 * stage.width,
            "num_hidden_layers": stage.text_layers,
            "num_attention_heads": stage.heads,
            "max_position_embeddings": tokens + 4,
            "bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"),
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        key_frames=frames,
    )
    model = BlipForConditionalGeneration(settings).train()
    attribute_losses = _learn_to_see("blip_attributes", model.vision_model, stage, corpus, seed, checkpoints)
    written = _written(tokenizer, corpus.canonical)

    def loss(step: int) -> torch.Tensor:
        rng = rng_for(seed, "blip", "batches", step)
        rows = rng.integers(0, len(corpus.clips), stage.batch)
        pixels = to_pictures(corpus.clips[rows].reshape(-1, side, side, 3))
        seen = model.vision_model(pixel_values=pixels).last_hidden_state.unflatten(0, (len(rows), frames))
        averaged = rng.random() < stage.averaged
        states = seen.mean(1) if averaged else with_time_codes(seen.flatten(1, 2), frames)
        words = written[rows]
        answer = model.text_decoder(
            input_ids=words,
            attention_mask=(words != tokenizer.pad_token_id).long(),
            encoder_hidden_states=states,
            encoder_attention_mask=torch.ones(states.shape[:2], dtype=torch.long),
            labels=words.masked_fill(words == tokenizer.pad_token_id, -100),
        )
        return answer.loss.mean()

    optimiser = Muon(model.parameters(), lr=stage.lr, lr_adam=stage.lr_adam)
    what = "training BLIP"
    history = fit("blip", what, model, optimiser, loss, stage.steps, seed=seed, checkpoints=checkpoints, clip=1.0)
    round_to_half(model.eval())
    processor = BlipImageProcessorPil(size={"height": side, "width": side}, **NORMAL)
    return TrainedVision(model, [processor, tokenizer], {"blip_attributes": attribute_losses, "blip": history.losses})


def new_bert_tokenizer(corpus: Corpus, tokens: int) -> BertTokenizer:
    """Return BERT's tokenizer with one token for every word of the canonical captions."""
    words = sorted({word for caption in corpus.canonical for word in caption.lower().replace(",", " , ").split()})
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    return BertTokenizer(vocab=vocabulary, model_max_length=tokens)


def _written(tokenizer: BertTokenizer, captions: list[str]) -> torch.Tensor:
    """Return captions as the decoder writes them: [DEC], the words, [SEP] and padding, (caption, token)."""
    tokens = tokenizer(captions, padding=True, truncation=True, return_tensors="pt").input_ids
    tokens[:, 0] = tokenizer.convert_tokens_to_ids("[DEC]")
    written: torch.Tensor = tokens
    return written


def _vision(stage: VisionStage, side: int) -> dict[str, Any]:
    return {
        "hidden_size": stage.width,
        "intermediate_size": 2 * stage.width,
        "num_hidden_layers": stage.layers,
        "num_attention_heads": stage.heads,
        "image_size": side,
        "patch_size": stage.patch,
    }


def _learn_to_see(
    name: str, vision: Any, stage: VisionStage, corpus: Corpus, seed: int, checkpoints: Checkpoints
) -> list[float]:
    """Teach a vision transformer what single frames show, from the mean of its tokens."""

    def features(rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
        seen: torch.Tensor = vision(pixel_values=_any_frame(corpus.clips, rows, rng)).last_hidden_state.mean(1)
        return seen

    return teach_attributes(
        name,
        f"teaching {name.split('_')[0].upper()} what frames show",
        vision,
        features,
        stage.width,
        corpus,
        corpus.seen_in_a_frame(),
        steps=stage.attribute_steps,
        batch=stage.attribute_batch,
        optimiser=lambda weights: Muon(weights, lr=stage.attribute_lr, lr_adam=stage.lr_adam),
        seed=seed,
        checkpoints=checkpoints,
    )


def _any_frame(clips: NDArray[np.uint8], rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
    """Return one frame of each clip, drawn at random, as pictures (row, 3, height, width)."""
    return to_pictures(clips[rows, rng.integers(0, clips.shape[1], len(rows))])


def _adopt(text_model: torch.nn.Module, text_encoder: CLIPTextModel) -> None:
    """Begin with another text encoder's weights, of the same widths."""
    inner = getattr(text_encoder, "text_model", text_encoder)
    text_model.load_state_dict(inner.state_dict())
