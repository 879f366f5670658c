"""The protocol of a video generator, and the one class that implements it: parts of diffusers around our own loop."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from numpy.typing import NDArray
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError
from core.progress import report
from core.threads import pieces_in_memory, side_by_side, threads
from models.extractors.base import Clips
from models.extractors.diffusion import count_cut, decode_latents, encode_captions


def steps_taken(steps: int, strength: float) -> int:
    """Return how many steps a strength leaves, counted as diffusers does: ``int(steps · strength)``."""
    return min(int(steps * strength), steps)


def clip_noise(shape: tuple[int, ...], seeds: list[int]) -> torch.Tensor:
    """Return standard normal noise (clip, *shape), each clip's from its own seed, so that its batch does not matter.

    Drawn on the CPU, so that it is the same on every device.
    """
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def fold(video: torch.Tensor) -> torch.Tensor:
    """Return (clip, channel, frame, h, w) as (clip · frame, channel, h, w), the form that schedulers take."""
    return video.transpose(1, 2).flatten(0, 1)


def unfold(frames: torch.Tensor, clips: int) -> torch.Tensor:
    """Return (clip · frame, channel, h, w) as (clip, channel, frame, h, w), the form that the denoiser takes."""
    return frames.unflatten(0, (clips, -1)).transpose(1, 2)


@torch.no_grad()  # type: ignore[untyped-decorator]
def renoise_and_denoise(
    unet: UNet3DConditionModel,
    scheduler: Any,
    latents: torch.Tensor,
    states: torch.Tensor,
    empty: torch.Tensor,
    seeds: list[int],
    *,
    strength: float,
    guidance: float,
    steps: int,
) -> torch.Tensor:
    """Return latents, (clip, frame, channel, h, w), renoised to `strength` and denoised again, under guidance.

    Parameters
    ----------
    scheduler : a scheduler of diffusers; its state is set anew.
    latents : (clip, frame, channel, h, w) scaled
    states : (clip, token, width) conditioning states
    empty : (token, width) conditioning states of the empty caption
    seeds : one a clip
    strength : 0 returns the latents, and so does a strength that leaves no step; 1 starts from noise alone
    guidance : ``empty + guidance · (states − empty)``, in one pass; 1 and below leave the empty caption out
    steps : steps of a whole denoising
    """
    taken = steps_taken(steps, strength)
    if taken == 0 or len(latents) == 0:
        return latents
    scheduler.set_timesteps(steps, device=latents.device)
    begin = (steps - taken) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):  # DDIM keeps no place of its own
        scheduler.set_begin_index(begin)
    times = scheduler.timesteps[begin:]
    noise = clip_noise(tuple(latents.shape[1:]), seeds).to(latents)
    clips = len(latents)
    if strength == 1:
        current = noise.flatten(0, 1) * scheduler.init_noise_sigma
    else:
        folded = latents.flatten(0, 1)
        current = scheduler.add_noise(folded, noise.flatten(0, 1), times[:1].repeat(len(folded)))
    guided = guidance > 1
    if guided:
        states = torch.cat([empty.expand_as(states), states])
    for time in times:
        seen = scheduler.scale_model_input(unfold(current, clips), time)
        predicted = unet(torch.cat([seen, seen]) if guided else seen, time, states).sample
        if guided:
            free, captioned = predicted.chunk(2)
            predicted = free + guidance * (captioned - free)
        current = scheduler.step(fold(predicted), time, current).prev_sample
    return current.unflatten(0, (clips, -1))


LAYERS_ALIVE = 8
"""Layers of the denoiser's full width that a batch is counted with in memory: more than are alive at once."""


class VideoGenerator(Protocol):
    """Renders clips from latents and captions.

    Attributes
    ----------
    revision : SHA-256 over the weights, settings and vocabulary: changes whenever the same inputs may give other clips
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
        guidance: float | None = None,
        on_batch: Callable[[slice], None] | None = None,
    ) -> Clips:
        """Return clips uint8 (B, frame, height, width, 3); see `LatentDiffusion.render`."""


@dataclass(frozen=True)
class Rendering:
    """How clips are rendered; `models.generator.settings.DiffusionConfig` has the meaning of each.

    Attributes
    ----------
    steps : of a whole denoising
    batch : clips rendered together
    decoded : frames that the autoencoder decodes together
    """

    strength: float
    guidance: float
    steps: int
    batch: int
    decoded: int


@dataclass(frozen=True)
class LatentDiffusion:
    """A video model of diffusers, as a renderer of given latents.

    Attributes
    ----------
    vae, unet, text_encoder, tokenizer, scheduler
        The model's parts, as diffusers and transformers load them; `unet` takes (clip, channel, frame, h, w).
    """

    config: Rendering
    vae: AutoencoderKL
    unet: Any
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: Any
    revision: str

    def render(
        self,
        z: NDArray[Any],
        captions: list[str] | None,
        seeds: list[int],
        *,
        states: NDArray[Any] | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        on_batch: Callable[[slice], None] | None = None,
    ) -> Clips:
        """Render latents: renoise them to the strength, denoise them under the captions, decode.

        On a processor several batches are rendered side by side, each by one thread; see `core.threads`.
        Where memory does not hold a batch, half as many clips are rendered together from there on, which is reported.

        Parameters
        ----------
        z : (B, frame, channel, h, w) scaled latents, as the extractor `latents` gives them
        captions : list of B strings
            One that is longer than the tokenizer takes is cut, which is reported.
        seeds : list of B ints
            The noise of a clip depends on its seed alone, not on the batch it came in.
        states : (B, token, width) conditioning states, in place of the captions
        strength, guidance : in place of the settings'
        on_batch : called with the rows of every batch once it is rendered. How many clips are rendered together may
            show in the last bit, and a batch of the same clips in the same order gives the same bytes.

        Returns
        -------
        ndarray, shape (B, frame, height, width, 3), uint8

        Raises
        ------
        ModelError
            Inputs of the wrong shape or number, not finite, a strength outside 0 to 1, or one clip beyond the memory.
        """
        strength = self.config.strength if strength is None else strength
        guidance = self.config.guidance if guidance is None else guidance
        self._check(z, captions, seeds, states, strength)
        if states is None:
            self._report_cut(captions or [])
        clips: Clips | None = None
        for rows, made in self._rendered(z, captions or [], states, seeds, strength, guidance):
            if clips is None:
                clips = np.empty((len(z), *made.shape[1:]), dtype=np.uint8)
            clips[rows] = made
            if on_batch is not None:
                on_batch(rows)
        assert clips is not None  # _check refuses to render nothing
        return clips

    def empty_states(self) -> torch.Tensor:
        """Return the conditioning states of the empty caption, shape (token, width)."""
        return self._encode([""])[0]

    def _encode(self, captions: list[str]) -> torch.Tensor:
        return encode_captions(self.text_encoder, self.tokenizer, captions)

    def _report_cut(self, captions: list[str]) -> None:
        if cut := count_cut(self.tokenizer, captions):
            max_tokens = self.tokenizer.model_max_length
            report(f"{cut} of {len(captions)} captions are longer than {max_tokens} tokens and are cut", 1, 1)

    def _states(self, captions: list[str]) -> NDArray[np.float32]:
        """Return the states of a batch's captions, each different one encoded once, (caption, token, width)."""
        different = {caption: row for row, caption in enumerate(dict.fromkeys(captions))}
        states = self._encode(list(different)).float().cpu().numpy()
        chosen: NDArray[np.float32] = states[[different[caption] for caption in captions]]
        return chosen

    def _rendered(
        self,
        z: NDArray[Any],
        captions: list[str],
        states: NDArray[Any] | None,
        seeds: list[int],
        strength: float,
        guidance: float,
    ) -> Iterator[tuple[slice, Clips]]:
        """Yield rows with their clips, in batches that memory holds."""
        start, batch, at_once, empty = 0, self.config.batch, self._batches_at_once(z), self.empty_states()

        def prepared(rows: slice) -> tuple[slice, NDArray[np.float32]]:
            # Encoded with its batch: nothing outside the batch may show in it.
            return rows, self._states(captions[rows]) if states is None else np.asarray(states[rows], np.float32)

        def rendered(batch: tuple[slice, NDArray[np.float32]]) -> tuple[slice, Clips]:
            rows, conditioning = batch
            return rows, self._render_batch(z[rows], conditioning, empty, seeds[rows], strength, guidance)

        report("rendering", 0, len(z))
        while start < len(z):
            batches = (slice(first, min(first + batch, len(z))) for first in range(start, len(z), batch))
            try:
                for rows, made in side_by_side(rendered, map(prepared, batches), at_once):
                    yield rows, made
                    start = rows.stop
                    report("rendering", start, len(z))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if at_once == 1:
                    batch = self._halved(batch, error)
                at_once = 1

    def _batches_at_once(self, z: NDArray[Any]) -> int:
        """Return how many batches are rendered side by side: one a thread where memory holds them, and one on a GPU."""
        if self.unet.device.type != "cpu":
            return 1
        _, frames, _, height, width = z.shape
        values = 2 * self.config.batch * frames * height * width * max(self.unet.config.block_out_channels)
        return min(threads(), pieces_in_memory(LAYERS_ALIVE * values * self.unet.dtype.itemsize))

    def _halved(self, batch: int, error: Exception) -> int:
        if self.unet.device.type == "cuda":
            torch.cuda.empty_cache()
        if batch == 1:
            raise ModelError(
                f"generator: memory does not hold one clip ({' '.join(str(error).split())[:120]}); set "
                "generator.dtype: float16 or generator.decoded: 1, or render smaller clips"
            ) from error
        report(f"out of memory with {batch} clips at once, going on with {batch // 2}", 1, 1)
        return batch // 2

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _render_batch(
        self,
        z: NDArray[Any],
        states: NDArray[np.float32],
        empty: torch.Tensor,
        seeds: list[int],
        strength: float,
        guidance: float,
    ) -> Clips:
        device, dtype = self.unet.device, self.unet.dtype
        denoised = renoise_and_denoise(
            self.unet,
            copy.deepcopy(self.scheduler),  # it has a state, and other batches have theirs
            torch.from_numpy(np.array(z, dtype=np.float32)).to(device, dtype),
            torch.from_numpy(np.array(states)).to(device, dtype),
            empty.to(device, dtype),
            seeds,
            strength=strength,
            guidance=guidance,
            steps=self.config.steps,
        )
        clips: Clips = decode_latents(self.vae, denoised, self.config.decoded)
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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that memory ran out, on a GPU or, as torch's allocator reports it, on the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error)
