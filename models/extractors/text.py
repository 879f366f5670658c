"""The conditioning states of a diffusion model's text encoder: what its denoiser attends to."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from transformers import CLIPTextModel, CLIPTokenizer

from models.extractors.base import Captions, Values, check_captions
from models.weights.load import autocast, load, pick_device
from models.weights.locate import TEXT, Device, Precision, locate, revision


class Text:
    """Last hidden states of a CLIP text encoder, averaged over a stimulus's captions; see `base.Extractor`.

    Every caption goes through the network by itself, so its bytes do not depend on the batch it came in.
    """

    name = "text"
    reads: Literal["captions"] = "captions"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(
        self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, *, revision: str, precision: Precision = "float32"
    ) -> None:
        self.encoder, self.tokenizer, self.revision, self.precision = encoder, tokenizer, revision, precision
        self.shape: tuple[int, ...] = (tokenizer.model_max_length, encoder.config.hidden_size)

    @classmethod
    def load(cls, weights: str, root: Path, *, precision: Precision, device: Device) -> Self:
        """Load the text encoder of a folder or of the hub; see `TextConfig.build`."""
        folder = locate(weights, root, TEXT)
        encoder = load(CLIPTextModel, folder, "text_encoder", dtype=torch.float32)
        encoder.to(pick_device(device))
        tokenizer = load(CLIPTokenizer, folder, "tokenizer")
        return cls(encoder, tokenizer, revision=revision(folder, TEXT), precision=precision)

    def extract(self, batch: Any) -> Values:
        """Return lists of captions, one list a stimulus, as float16 (n, token, width).

        Raises
        ------
        ModelError
            A stimulus without a caption, or something else than lists of captions.
        """
        check_captions(self.name, batch)
        known: dict[str, torch.Tensor] = {}
        values = np.empty((len(batch), *self.shape), dtype=self.dtype)
        for row, captions in enumerate(batch):
            for caption in captions:
                if caption not in known:
                    with autocast(self.encoder.device, self.precision):
                        known[caption] = encode_captions(self.encoder, self.tokenizer, [caption])[0]
            values[row] = torch.stack([known[caption] for caption in captions]).mean(0).cpu().numpy()
        return values

    def count_cut(self, captions: Captions) -> int:
        """Return how many captions are longer than the tokenizer takes; `extract` cuts them."""
        return count_cut(self.tokenizer, [caption for several in captions for caption in several])


@torch.no_grad()  # type: ignore[untyped-decorator]
def encode_captions(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Return the conditioning states of captions, padded or cut to the tokenizer's length: (caption, token, width)."""
    tokens = tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    states: torch.Tensor = encoder(tokens.input_ids.to(encoder.device))[0].float()
    return states


def count_cut(tokenizer: CLIPTokenizer, captions: list[str]) -> int:
    """Return how many captions have more tokens than the tokenizer's length, start and end included."""
    different = Counter(captions)
    lengths = [len(ids) for ids in tokenizer(list(different), verbose=False).input_ids] if different else []
    long = [length > tokenizer.model_max_length for length in lengths]
    return sum(times for times, cut in zip(different.values(), long, strict=True) if cut)
