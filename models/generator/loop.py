"""Renoise and denoise: noise is added to given latents up to a strength, and removed again under conditioning states.

diffusers' own pipeline for this (`VideoToVideoSDPipeline`) takes one clip at a time and fails where a small strength
leaves no step; this loop agrees with it on one clip, and takes any number.
"""

from typing import Any

import torch
from diffusers import UNet3DConditionModel


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
    unet : UNet3DConditionModel
    scheduler : a scheduler of diffusers; its state is set anew.
    latents : Tensor, shape (clip, frame, channel, h, w), scaled
    states : Tensor, shape (clip, token, width)
        Conditioning states.
    empty : Tensor, shape (token, width)
        Conditioning states of the empty caption.
    seeds : one a clip
    strength : float
        0 returns the latents, and so does a strength that leaves no step; 1 starts from noise alone.
    guidance : float
        ``empty + guidance · (states − empty)``, in one pass; 1 and below leave the empty caption out.
    steps : int
        Steps of a whole denoising.
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
