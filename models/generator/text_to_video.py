"""The video generator: predicted latents and captions in, clips out; diffusers' text-to-video models do the work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from core.files import read_json
from core.progress import report
from models.extractors.base import Clips
from models.extractors.latents import decode_latents
from models.extractors.text import encode_caption
from models.extractors.weights import load, pick_device
from models.generator.config import GeneratorConfig
from models.generator.loop import renoise_and_denoise
from models.hub import TEXT_TO_VIDEO, locate, revision


class VideoGenerator(Protocol):
    """Renders clips from latents and captions.

    Attributes
    ----------
    revision : str
        SHA-256 over the weights, settings and vocabulary: changes whenever the same inputs may give other clips.
    """

    @property
    def revision(self) -> str: ...  # noqa: D102

    def render(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        *,
        states: NDArray[Any] | None = None,
        strength: float | None = None,
    ) -> Clips:
        """Return clips uint8 (B, frame, height, width, 3); see `TextToVideo.render`."""
        ...


@dataclass(frozen=True)
class TextToVideo:
    """A text-to-video model of diffusers, as a renderer of given latents.

    Attributes
    ----------
    config : GeneratorConfig
    vae, unet, text_encoder, tokenizer, scheduler
        The model's parts, as diffusers and transformers load them.
    revision : str
    """

    config: GeneratorConfig
    vae: AutoencoderKL
    unet: UNet3DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: Any
    revision: str

    @classmethod
    def load(cls, config: GeneratorConfig, root: Path) -> "TextToVideo":
        """Load the parts that the settings name; see `GeneratorConfig.build`."""
        folder = locate(config.weights, root, TEXT_TO_VIDEO)
        device, dtype = pick_device(config.device), getattr(torch, config.dtype)
        return cls(
            config=config,
            vae=load(AutoencoderKL, folder, "vae", torch_dtype=dtype).to(device),
            unet=load(UNet3DConditionModel, folder, "unet", torch_dtype=dtype).to(device),
            text_encoder=load(CLIPTextModel, folder, "text_encoder", dtype=dtype).to(device),
            tokenizer=load(CLIPTokenizer, folder, "tokenizer"),
            scheduler=load(_scheduler_class(folder / "scheduler"), folder, "scheduler"),
            revision=revision(folder, TEXT_TO_VIDEO),
        )

    def render(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        *,
        states: NDArray[Any] | None = None,
        strength: float | None = None,
    ) -> Clips:
        """Render latents: renoise them to the strength, denoise them under the captions, decode.

        Parameters
        ----------
        z : ndarray, shape (B, frame, channel, h, w)
            Scaled latents, as the extractor `latents` gives them.
        captions : list of B strings
        seeds : list of B ints
            The noise of a clip depends on its seed alone, not on the batch it came in.
        states : ndarray, shape (B, token, width), optional
            Conditioning states, in place of the captions.
        strength : float, optional
            In place of the settings' strength.

        Returns
        -------
        ndarray, shape (B, frame, height, width, 3), uint8

        Raises
        ------
        ModelError
            Inputs of the wrong shape or number, not finite, or a strength outside 0 to 1.
        """
        strength = self.config.strength if strength is None else strength
        self._check(z, captions, seeds, states, strength)
        taken = [self._render_batch(z, captions, seeds, states, strength, rows) for rows in self._batches(len(z))]
        return np.concatenate(taken)

    def empty_states(self) -> torch.Tensor:
        """Return the conditioning states of the empty caption, shape (token, width)."""
        return encode_caption(self.text_encoder, self.tokenizer, "").to(self.unet.device, self.unet.dtype)

    def _batches(self, clips: int) -> list[slice]:
        return [slice(at, at + self.config.batch) for at in range(0, clips, self.config.batch)]

    def _render_batch(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        states: NDArray[Any] | None,
        strength: float,
        rows: slice,
    ) -> Clips:
        report("rendering", rows.start, len(z))
        latents = torch.from_numpy(np.asarray(z[rows], dtype=np.float32))
        if states is not None:
            conditioning = torch.from_numpy(np.asarray(states[rows], dtype=np.float32))
        else:
            encoded = [encode_caption(self.text_encoder, self.tokenizer, text) for text in (captions or [])[rows]]
            conditioning = torch.stack(encoded)
        denoised = renoise_and_denoise(
            self.unet,
            self.scheduler,
            latents.to(self.unet.device, self.unet.dtype),
            conditioning.to(self.unet.device, self.unet.dtype),
            self.empty_states(),
            seeds[rows],
            strength=strength,
            guidance=self.config.guidance,
            steps=self.config.steps,
        )
        clips: Clips = decode_latents(self.vae, denoised)
        report("rendering", min(rows.start + len(clips), len(z)), len(z))
        return clips

    def _check(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        states: NDArray[Any] | None,
        strength: float,
    ) -> None:
        if not 0 <= strength <= 1:
            raise ModelError(f"strength {strength}: must lie between 0 (decode the latents) and 1 (ignore them)")
        channels = self.unet.config.in_channels
        if z.ndim != 5 or z.shape[2] != channels:
            raise ModelError(
                f"latents z: expected (clip, frame, channel = {channels}, height, width), found {z.shape}; "
                "frames come before channels"
            )
        if len(z) == 0:
            raise ModelError("latents z: no clip to render; check which stimuli were selected")
        if not np.isfinite(z).all():
            raise ModelError("latents z: hold NaN or infinity; check the regressor that predicted them")
        if states is None:
            _check_count("captions", len(captions or []), len(z))
        else:
            width = (len(z), self.tokenizer.model_max_length, self.unet.config.cross_attention_dim)
            if states.shape != width or not np.isfinite(states).all():
                raise ModelError(f"conditioning states: expected {width}, all finite, found {states.shape}")
        _check_count("seeds", len(seeds), len(z))


def _check_count(what: str, found: int, clips: int) -> None:
    if found != clips:
        raise ModelError(f"{what}: found {found} for {clips} clips; give one for each")


def _scheduler_class(folder: Path) -> type[Any]:
    path = folder / "scheduler_config.json"
    name = read_json(path).get("_class_name", "") if path.is_file() else ""
    found = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or found is None:
        raise ModelError(f"{path}: names no scheduler of diffusers (found '{name}'); fetch or train the model again")
    return found  # type: ignore[no-any-return]
