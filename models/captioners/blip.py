"""Captions for predicted image tokens: written by BLIP's own text decoder, which attends to them (Li et al. 2022).

    captioner = BlipCaptionerConfig(weights="Salesforce/blip-image-captioning-large").build(root)
    captioner.caption(predicted)  # tokens as the extractor `blip` gives them

Tokens of several frames are a set without an order; a code that is added to each marks which frame it is of.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertTokenizer, BlipForConditionalGeneration

from core.errors import ModelError
from models.weights.load import autocast, load_beside, load_model, load_settings, pick_device
from models.weights.locate import CAPTIONER, Device, Precision, locate_files


def time_codes(frames: int, width: int) -> torch.Tensor:
    """Return one code a frame, (frame, width): sines and cosines of its middle's place in the clip, 0 to 1.

    They make 1, 2, 3, … quarter turns over the clip, up to where one frame's step is half a turn, then begin again.
    """
    place = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    turns = 1 + torch.arange(width // 2) % max(1, 2 * frames - 1)
    angle = 0.5 * math.pi * place[:, None] * turns
    code = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.nn.functional.pad(code, (0, width - code.shape[1])).float()


def with_time_codes(tokens: torch.Tensor, frames: int) -> torch.Tensor:
    """Return tokens (n, frames · token, width) of frames one after the other, with its frame's code on each."""
    each = tokens.unflatten(1, (frames, -1))
    codes = time_codes(frames, tokens.shape[-1]).to(tokens)
    return (each + codes[:, None]).flatten(1, 2)


@dataclass(frozen=True)
class Decoding:
    """How captions are written; `BlipCaptionerConfig` has the meaning of each.

    Attributes
    ----------
    dtype : what the network's products are computed in
    """

    beams: int
    max_tokens: int
    repetition_penalty: float
    batch: int
    dtype: Precision


class BlipCaptioner:
    """Writes a caption of each prediction with BLIP's text decoder, by greedy or by beam search.

    Nothing is drawn at random. The decoder attends to any number of tokens, so tokens of key frames one after the other
    are read like those of one picture. The published models were trained on one picture's and know no order of frames.

    Parameters
    ----------
    decoder : the text decoder of a `BlipForConditionalGeneration`
    coded : key frames, and tokens of each, where the decoder was trained on concatenated tokens with their frames'
        codes (see `with_time_codes`): it then takes so many tokens, or one frame's, and no others

    Raises
    ------
    ModelError
        The decoder has fewer positions than captions may have tokens.
    """

    def __init__(
        self, decoder: Any, tokenizer: BertTokenizer, decoding: Decoding, coded: tuple[int, int] | None = None
    ) -> None:
        self.decoder, self.tokenizer, self.decoding, self.coded = decoder, tokenizer, decoding, coded
        self.width: int = decoder.config.encoder_hidden_size
        positions = decoder.config.max_position_embeddings
        if decoding.max_tokens >= positions:
            raise ModelError(
                f"captioner: max_tokens is {decoding.max_tokens}, and the text decoder has {positions} positions, one "
                f"of them for the start; choose {positions - 1} or fewer"
            )

    @classmethod
    def load(cls, weights: str, root: Path, decoding: Decoding, device: Device) -> Self:
        """Load the text decoder of a folder or of the hub; see `BlipCaptionerConfig.build`."""
        folder = locate_files(weights, root, CAPTIONER)
        settings: Any = load_settings(BlipForConditionalGeneration.config_class, folder, "blip")
        model = load_model(BlipForConditionalGeneration, folder)
        decoder, tokenizer = model.text_decoder.to(pick_device(device)), load_beside(BertTokenizer, folder)
        return cls(decoder, tokenizer, decoding, _coded(settings))

    def caption(self, predicted: NDArray[Any]) -> list[str]:
        """Return one caption a prediction.

        Parameters
        ----------
        predicted : (n, token, width) predicted image tokens; width is the model's

        Raises
        ------
        ModelError
            Predictions of another width, number of axes or, where frames are coded, of tokens, or not finite.
        """
        self._check(predicted)
        captions: list[str] = []
        for start in range(0, len(predicted), self.decoding.batch):
            rows = np.array(predicted[start : start + self.decoding.batch], dtype=np.float32)
            captions += self._write(torch.from_numpy(rows).to(self.decoder.device))
        return captions

    def _check(self, predicted: NDArray[Any]) -> None:
        if predicted.ndim != 3 or predicted.shape[2] != self.width:
            raise ModelError(
                f"captioner: expected image tokens (n, token, {self.width}), found {predicted.shape}; predict a target "
                "of the extractor 'blip' with the same weights"
            )
        if self.coded is not None and predicted.shape[1] not in (self.coded[1], math.prod(self.coded)):
            frames, each = self.coded
            raise ModelError(
                f"captioner: found {predicted.shape[1]} image tokens, and the decoder takes {each} of one frame "
                f"or of an average, and on those of {frames} frames one after the other; set the target's frames to "
                f"{frames} and leave its image_size"
            )
        if not np.isfinite(predicted).all():
            raise ModelError(
                "captioner: the image tokens hold NaN or infinity; check the regressor that predicted them"
            )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _write(self, tokens: torch.Tensor) -> list[str]:
        """Return captions of image tokens (n, token, width), all written together."""
        settings = self.decoder.config
        if self.coded is not None and tokens.shape[1] == math.prod(self.coded):
            tokens = with_time_codes(tokens, self.coded[0])
        start = torch.full((len(tokens), 1), settings.bos_token_id, device=tokens.device)
        with autocast(tokens.device, self.decoding.dtype):
            written = self.decoder.generate(
                input_ids=start,
                encoder_hidden_states=tokens,
                encoder_attention_mask=torch.ones(tokens.shape[:2], dtype=torch.long, device=tokens.device),
                do_sample=False,
                num_beams=self.decoding.beams,
                max_new_tokens=self.decoding.max_tokens,
                repetition_penalty=self.decoding.repetition_penalty,
                eos_token_id=settings.sep_token_id,
                pad_token_id=settings.pad_token_id,
            )
        texts = self.tokenizer.batch_decode(written[:, 1:], skip_special_tokens=True)
        return [text.strip() for text in texts]


def _coded(settings: Any) -> tuple[int, int] | None:
    """Return key frames and tokens of each, where `config.json` has ``key_frames``: their order was learnt."""
    frames = getattr(settings, "key_frames", None)
    if frames is None:
        return None
    vision = settings.vision_config
    return int(frames), (vision.image_size // vision.patch_size) ** 2 + 1
