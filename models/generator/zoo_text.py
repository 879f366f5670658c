"""The small world's words: a byte-pair tokenizer with one token for each, and an untrained CLIP text encoder."""

import re
import string
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.generator.config import TextToVideoStage

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


def new_text_encoder(stage: TextToVideoStage, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained CLIP text encoder for a tokenizer's vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=stage.text_width,
            intermediate_size=2 * stage.text_width,
            projection_dim=stage.text_width,
            num_hidden_layers=stage.text_layers,
            num_attention_heads=4,
            max_position_embeddings=stage.tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
