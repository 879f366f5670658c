"""The model card of a zoo: what was trained on what, for how long, and what the judge reads of it."""

from typing import Any

import numpy as np

from evaluation.report.charts.style import save_figure
from simulation.world import ATTRIBUTES, WORLDS
from zoo.settings import SmallWorldConfig

CARD = """---
library_name: diffusers
license: apache-2.0
pipeline_tag: text-to-video
---
# The small world's models

Clips of {frames} frames, {height} × {width} pixels: one coloured shape that moves over a background. All models here
were trained from nothing by Brain2Video, with `python -m zoo train`, so that the whole loop runs, and can be tested,
without a download. They know nothing else of the world and are good for nothing else.

| folder | class | weights |
|---|---|---|
{parts}

**Data.** {clips:,} drawn clips of the world "{world}" ({words}), each with five captions. Their combinations of
attributes belong to the pool "zoo": no study shows one of them as a training or a test stimulus. **Steps**: {steps}.
Weights are rounded to float16. Settings and losses: `training.json`.

## What the judge reads

A classifier of attributes, trained on real clips alone, reads {judged} fresh clips whose combinations (pool "test") no
model was trained on. Its own accuracy on real clips that it has not seen stands first.

{table}

The autoencoder's round trip has {psnr:.1f} dB. Text-to-video: from true captions, guidance {guidance:g}, {denoising}
steps. Video-to-video starts from latents blurred as ridge regression from a brain would blur them (correlation
{correlation:g} with the truth; {blurred_psnr:.1f} dB as they are, {video_psnr:.1f} dB rendered), under true captions,
at strength {strength:g}: the lowest of those that did best on other clips (shape and motion, pool "zoo"). Captions are
written by BLIP from its true image tokens, one frame after the other or averaged over frames: averages cannot carry
motion. CLIP's row counts what the nearest of {judged} captions shares with the clip; single frames show no motion.

![Losses]({pictures}/curves.png)

The first {shown} clips judged, none picked, true above made:

![Round trip]({pictures}/round_trip.png)
![Text-to-video]({pictures}/text_to_video.png)
![Video-to-video]({pictures}/video_to_video.png)
"""

SHOWN = 24
"""Clips on a contact sheet: the first ones drawn, whatever came of them."""
TITLES = {
    "vae": "autoencoder: squared error",
    "text": "text encoder: cross entropy",
    "text_to_video": "denoiser: squared error of the velocity",
    "clip_attributes": "CLIP, what frames show: cross entropy",
    "clip": "CLIP: contrastive loss",
    "blip_attributes": "BLIP, what frames show: cross entropy",
    "blip": "BLIP: cross entropy of captions",
}


def model_card(config: SmallWorldConfig, training: dict[str, Any], scores: dict[str, Any], pictures: str) -> str:
    """Return the card as Markdown, with a table of the scores; `pictures` is the path to their folder."""
    rows = rows_of(scores)
    names = list(ATTRIBUTES)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {row} | {' | '.join(_cell(values.get(name)) for name in names)} |" for row, values in rows.items()]
    world, video = WORLDS[config.world], scores["video_to_video"]
    return CARD.format(
        frames=config.clips.frames,
        height=config.clips.height,
        width=config.clips.width,
        parts=_parts(training),
        clips=config.zoo.clips,
        world=config.world,
        words=f"{len(world.shapes)} shapes, {len(world.colours)} colours, {len(world.motions)} motions, "
        f"{len(world.textures)} textures, {len(world.sizes)} sizes",
        steps=", ".join(f"{stage.replace('_', ' ')} {steps:,}" for stage, steps in training["steps"].items()),
        judged=scores["clips"],
        table="\n".join(lines),
        psnr=scores["round_trip"]["psnr_db"],
        guidance=scores["text_to_video"]["guidance"],
        denoising=scores["text_to_video"]["steps"],
        correlation=video["correlation"],
        blurred_psnr=video["blurred"]["psnr_db"],
        video_psnr=video["psnr_db"],
        strength=video["strength"],
        shown=SHOWN,
        pictures=pictures,
    )  # fmt: skip


def _parts(training: dict[str, Any]) -> str:
    parts = [(name, one["class"], one["weights"]) for name, one in training["parts"].items() if one["weights"]]
    return "\n".join(f"| `{name}` | {kind} | {weights:,} |" for name, kind, weights in parts)


def rows_of(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what is read of each model's clips, by the name of the row in the table."""
    return {
        "judge, real clips": scores["judge"],
        "chance": scores["chance"],
        "autoencoder, there and back": scores["round_trip"],
        "text-to-video": scores["text_to_video"],
        "blurred latents, decoded": scores["video_to_video"]["blurred"],
        "video-to-video from them": scores["video_to_video"],
        "captions, frames one after the other": scores["captions"]["concatenate"],
        "captions, frames averaged": scores["captions"]["mean"],
        "CLIP, nearest caption": scores["clip_retrieval"],
    }


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def curves_png(losses: dict[str, list[float]]) -> bytes:
    """Return a PNG of the loss of every stage over its steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.1 * -(-len(losses) // 2)), layout="constrained")
    ordered = {stage: losses[stage] for stage in TITLES if stage in losses}
    for index, (stage, values) in enumerate(ordered.items(), start=1):
        axes = figure.add_subplot(-(-len(losses) // 2), 2, index)
        axes.plot(np.linspace(0, 100, len(values)), values, color="#0b62a8", linewidth=1.2)
        axes.set_yscale("log")
        axes.set_title(TITLES[stage], fontsize=9, loc="left")
        axes.tick_params(which="both", labelsize=7)
        axes.grid(alpha=0.25)
        axes.set_xlabel("% of its steps", fontsize=7)
    return save_figure(figure, dpi=110)
