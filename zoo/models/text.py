"""The small world's words: a byte-pair tokenizer with one token for each, and a CLIP text encoder that knows them."""

import re
import string
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from core.seeds import seed_for
from models.training.checkpoints import NO_CHECKPOINTS, Checkpoints
from zoo.models.attributes import teach_attributes
from zoo.models.config import TextStage
from zoo.models.corpus import Corpus
from zoo.models.half import round_to_half

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
ALPHABET = string.ascii_lowercase + string.digits + "-,.'"
"""Any caption of these can be written with the vocabulary, letter by letter if need be."""


def train_tokenizer(captions: Iterable[str], tokens: int) -> CLIPTokenizer:
    """Return CLIP's tokenizer with merges learnt until every word of the captions is one token.

    Parameters
    ----------
    captions : strings; case does not count.
    tokens : int
        Length of a tokenised caption, padded with the end token.
    """
    words = sorted({word for caption in captions for word in re.findall(r"[a-z]+", caption.lower())})
    merges = learn_merges(words)
    pieces = [*ALPHABET, *(letter + END_OF_WORD for letter in ALPHABET), *("".join(pair) for pair in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys([*pieces, START, END]))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=tokens)


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Return byte-pair merges, commonest pair first and ties by the alphabet, until each word is one piece."""
    spelt = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges = []
    while pairs := Counter(pair for pieces in spelt for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = [_merge(pieces, best) for pieces in spelt]
    return merges


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def text_config(stage: TextStage, tokenizer: CLIPTokenizer, projection: int) -> CLIPTextConfig:
    """Return the settings of a CLIP text encoder for a tokenizer's vocabulary."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=stage.width,
        intermediate_size=2 * stage.width,
        projection_dim=projection,
        num_hidden_layers=stage.layers,
        num_attention_heads=4,
        max_position_embeddings=stage.tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def new_text_encoder(stage: TextStage, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder for a tokenizer's vocabulary."""
    return CLIPTextModel(text_config(stage, tokenizer, stage.width))


def tokens_of(tokenizer: Any, captions: Iterable[str]) -> torch.Tensor:
    """Return the tokens of captions, all padded to the tokenizer's length: (caption, token)."""
    settings = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    tokens: torch.Tensor = tokenizer(list(captions), **settings).input_ids
    return tokens


class Phrasings:
    """The tokens of every caption of a corpus, to draw one for each of some clips."""

    def __init__(self, tokenizer: CLIPTokenizer, corpus: Corpus) -> None:
        self.tokens = tokens_of(tokenizer, corpus.every_caption)
        counts = np.asarray([len(captions) for captions in corpus.captions])
        self.counts, self.starts = counts, np.concatenate([[0], np.cumsum(counts)[:-1]])

    def draw(self, rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
        """Return the tokens (row, token) of one caption of each clip, any of its phrasings."""
        return self.tokens[self.starts[rows] + rng.integers(0, self.counts[rows])]


def train_text_encoder(
    stage: TextStage,
    tokenizer: CLIPTokenizer,
    corpus: Corpus,
    seed: int,
    checkpoints: Checkpoints = NO_CHECKPOINTS,
) -> tuple[CLIPTextModel, list[float]]:
    """Train a text encoder until the mean of its states tells every attribute in every phrasing; return losses too."""
    torch.manual_seed(seed_for(seed, "text"))
    encoder = new_text_encoder(stage, tokenizer).train()
    phrasings = Phrasings(tokenizer, corpus)

    def features(rows: NDArray[np.intp], rng: np.random.Generator) -> torch.Tensor:
        return encoder(phrasings.draw(rows, rng))[0].mean(1)

    losses = teach_attributes(
        "text",
        "training the text encoder",
        encoder,
        features,
        stage.width,
        corpus,
        list(corpus.attributes),
        steps=stage.steps,
        batch=stage.batch,
        optimiser=lambda weights: torch.optim.AdamW(weights, lr=stage.lr, weight_decay=1e-4),
        seed=seed,
        checkpoints=checkpoints,
    )
    round_to_half(encoder.eval().requires_grad_(False))
    return encoder, losses
