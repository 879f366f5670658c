"""What a diffusion model works with: its autoencoder's latents, and its text encoder's conditioning states."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from models.extractors.base import Captions, Clips, Values, check_captions, check_clips, check_values
from models.weights.load import autocast, load, pick_device
from models.weights.locate import TEXT, VAE, Device, Precision, locate, revision


class Latents:
    """Means of the posterior times the scaling factor, frames first; see `models.extractors.base.Decoder`.

    Every clip goes through the network by itself, so its bytes do not depend on the batch it came in.

    Parameters
    ----------
    frame : frames, height and width of the clips that are read; latents are (frame, channel, height', width')
    precision : what the network's products are computed in while clips are encoded
    """

    name = "latents"
    reads: Literal["clips"] = "clips"
    dtype: np.dtype[Any] = np.dtype(np.float16)

    def __init__(
        self, vae: AutoencoderKL, *, frame: tuple[int, int, int], revision: str, precision: Precision = "float32"
    ) -> None:
        self.vae, self.frame, self.revision, self.precision = vae, frame, revision, precision
        self.shape = latent_shape(vae.config, frame)

    @classmethod
    def load(
        cls, weights: str, root: Path, frame: tuple[int, int, int], *, precision: Precision, device: Device
    ) -> Self:
        """Load the autoencoder of a folder or of the hub; see `LatentsConfig.build`."""
        folder = locate(weights, root, VAE)
        vae = load(AutoencoderKL, folder, "vae", torch_dtype=torch.float32).to(pick_device(device))
        return cls(vae, frame=frame, revision=revision(folder, VAE), precision=precision)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def extract(self, batch: Any) -> Values:
        """Return clips uint8 (n, frame, height, width, 3) as float16 (n, frame, channel, height', width').

        Raises `ModelError`: clips of another size or type, or latents beyond float16.
        """
        check_clips(self.name, batch, self.frame)
        values = np.empty((len(batch), *self.shape), dtype=self.dtype)
        for row, clip in enumerate(batch):
            with autocast(self.vae.device, self.precision):
                mean = self.vae.encode(to_pictures(clip).to(self.vae.device)).latent_dist.mean.float()
            values[row] = (mean * self.vae.config.scaling_factor).cpu().numpy()
        if not np.isfinite(values).all():
            raise ModelError("extractor latents: latents are NaN or beyond float16's range; set dtype: float32")
        return values

    def decode(self, values: Values) -> Clips:
        """Return clips uint8 (n, frame, height, width, 3) of latents (n, frame, channel, height', width').

        Raises `ModelError`: latents of another shape, or not finite.
        """
        check_values(self.name, values, self.shape)
        clips: Clips = decode_latents(self.vae, torch.from_numpy(np.asarray(values, dtype=np.float32)))
        return clips


def latent_shape(vae: Mapping[str, Any], frame: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of a clip's latents, (frame, channel, height', width'), by the autoencoder's settings.

    Raises `ModelError`: the autoencoder does not divide the clips' size.
    """
    shrink = 2 ** (len(vae["block_out_channels"]) - 1)
    if frame[1] % shrink or frame[2] % shrink:
        raise ModelError(
            f"extractor latents: the autoencoder shrinks by {shrink}, and clips are {frame[1]} × {frame[2]}; "
            f"choose a height and a width that {shrink} divides"
        )
    return (frame[0], vae["latent_channels"], frame[1] // shrink, frame[2] // shrink)


def to_pictures(frames: Clips) -> torch.Tensor:
    """Return frames (n, height, width, 3) uint8 as (n, 3, height, width) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()  # type: ignore[untyped-decorator]
def decode_latents(vae: AutoencoderKL, latents: torch.Tensor, together: int = 8) -> Clips:
    """Return clips uint8 (n, frame, height, width, 3) of scaled latents (n, frame, channel, h, w).

    So many frames of one clip are decoded together, and none of another with them.
    """
    clips = [decode_pictures(vae, clip, together).cpu().numpy() for clip in latents]
    return np.stack(clips) if clips else np.empty((0, latents.shape[1], 0, 0, 3), dtype=np.uint8)


def decode_pictures(vae: AutoencoderKL, latents: torch.Tensor, together: int) -> torch.Tensor:
    """Return one clip uint8 (frame, height, width, 3), where the network is, of scaled latents (frame, channel, h, w).

    So many frames are decoded together.
    """
    parts = (latents / vae.config.scaling_factor).to(vae.device, vae.dtype).split(together)
    pictures = torch.cat([vae.decode(part).sample.float() for part in parts])
    values = (pictures / 2 + 0.5).clamp(0, 1) * 255
    return values.round().to(torch.uint8).permute(0, 2, 3, 1)


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

        Raises `ModelError`: a stimulus without a caption, or something else than lists of captions.
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
    return sum(are_cut(tokenizer, captions))


def are_cut(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> list[bool]:
    """Return which captions have more tokens than the tokenizer's length, start and end included."""
    different = list(dict.fromkeys(captions))
    lengths = [len(ids) for ids in tokenizer(different, verbose=False).input_ids] if different else []
    long = {caption: length > tokenizer.model_max_length for caption, length in zip(different, lengths, strict=True)}
    return [long[caption] for caption in captions]
