"""What rendering and extracting cost: our loop beside diffusers' pipeline, our extraction beside plain loops.

Run it as ``python benchmarks/generator.py [--clips FOLDER] [--zeroscope]``. Both loops have the same weights, latents,
captions and seeds, and go from latents to pixels; each figure is the median over rounds that take the ways in turn, and
the pipeline's is the baseline. ``--zeroscope`` builds the full-size configuration with random weights, for a GPU.
Extraction reads the real videos of FOLDER, or clips that it draws, each several times over.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel, VideoToVideoSDPipeline
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import CLIPTextConfig, CLIPTextModel

from core.clips import ClipConfig, read_clip, write_clip
from feature_store.sources.base import Source
from models.extractors.base import Extractor
from models.extractors.settings import BlipStatesConfig, LatentsConfig
from models.generator.base import LatentDiffusion
from models.generator.settings import TextToVideoConfig
from simulation.world import WORLDS, draw_clips
from studies.stores.clip_reading import read_ahead
from zoo.text_to_video import train_tokenizer

ROOT = Path(__file__).resolve().parents[1]
ZOO = ROOT / "models" / "small_world"
ROUNDS, BATCH, STRENGTH, STEPS, GUIDANCE = 5, 8, 0.5, 20, 2.0
CONSOLE = Console(width=110)


def main() -> None:
    """Measure and print two tables."""
    warnings.filterwarnings("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, help="a folder of real videos")
    parser.add_argument("--zeroscope", action="store_true", help="the full-size configuration, random weights")
    chosen = parser.parse_args()
    if chosen.zeroscope:
        show_generator(zeroscope(), (24, 4, 40, 72))
        return
    show_generator(small_world(), (8, 4, 8, 8))
    show_extractors(chosen.clips)


def small_world() -> LatentDiffusion:
    """Return the shipped generator."""
    generator = TextToVideoConfig(
        weights="text_to_video", strength=STRENGTH, steps=STEPS, guidance=GUIDANCE, batch=BATCH
    ).build(ZOO)
    assert isinstance(generator, LatentDiffusion)
    return generator


def zeroscope() -> LatentDiffusion:
    """Return a generator of zeroscope's size with random weights, in half precision on a GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = train_tokenizer(CAPTIONS, 77)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        num_hidden_layers=23,
        num_attention_heads=16,
        intermediate_size=4096,
    )
    parts = [UNet3DConditionModel(cross_attention_dim=1024, attention_head_dim=64), vae, CLIPTextModel(text)]
    unet, vae, encoder = (part.eval().requires_grad_(False).to(device, torch.float16) for part in parts)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    config = TextToVideoConfig(weights="random", strength=0.8, steps=STEPS, guidance=15.0, batch=BATCH, dtype="float16")
    return LatentDiffusion(config.rendering(), vae, unet, encoder, tokenizer, scheduler, "random")


CAPTIONS = [one.captions()[0] for one in WORLDS["full"].draw("test", BATCH, seed=0)]


def ways_to_render(g: LatentDiffusion, shape: tuple[int, ...]) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return every way with the number of clips that it makes."""
    z = np.random.default_rng(0).normal(size=(BATCH, *shape)).astype(np.float32)
    pipeline = VideoToVideoSDPipeline(g.vae, g.text_encoder, g.tokenizer, g.unet, g.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.video_processor.preprocess_video = lambda video, **_: video.transpose(1, 2)  # it takes latents as well
    latents = torch.from_numpy(z[:1]).to(g.unet.device, g.unet.dtype)

    def theirs() -> object:
        generator = torch.Generator(g.unet.device).manual_seed(0)
        settings = {"num_inference_steps": g.config.steps, "guidance_scale": g.config.guidance, "output_type": "np"}
        return pipeline(CAPTIONS[0], video=latents, strength=g.config.strength, generator=generator, **settings)

    return {
        "diffusers' pipeline, one clip": (1, theirs),
        "ours, one clip": (1, lambda: g.render(z[:1], CAPTIONS[:1], [0])),
        f"ours, {BATCH} clips": (BATCH, lambda: g.render(z, CAPTIONS, list(range(BATCH)))),
    }


def show_generator(g: LatentDiffusion, shape: tuple[int, ...]) -> None:
    """Print clips per second, the ratio to the pipeline, and the peak of memory."""
    ways = ways_to_render(g, shape)
    seconds = in_turn({name: way for name, (_, way) in ways.items()})
    rates = {name: clips / seconds[name] for name, (clips, _) in ways.items()}
    where = torch.cuda.get_device_name() if g.unet.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    table = Table(
        title=f"rendering, strength {g.config.strength}, {g.config.steps} steps, {where}", title_justify="left"
    )
    for column in ("", "clips a second", "times the pipeline", "peak memory beyond the weights (MB)"):
        table.add_column(column, justify="left" if not column else "right")
    first = next(iter(rates))
    for name, rate in rates.items():
        peak = gpu_peak(ways[name][1]) if g.unet.device.type == "cuda" else cpu_peak(name)
        table.add_row(name, f"{rate:.2f}", f"{rate / rates[first]:.2f}", f"{peak:,.0f}")
    CONSOLE.print(table)


def gpu_peak(way: Callable[[], object]) -> float:
    """Return the most that was allocated on the GPU beyond what lay there before, in MB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def cpu_peak(name: str) -> float:
    """Return by how much a process of its own grows at the most while it renders one way, in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_peak_of, (name,)))


def _peak_of(name: str) -> float:
    warnings.filterwarnings("ignore")
    way = ways_to_render(small_world(), (8, 4, 8, 8))[name][1]
    before = psutil.Process().memory_info().rss
    way()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before / 1e6


def in_turn(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of every way, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def show_extractors(folder: Path | None) -> None:
    """Print clips per second of reading and extracting, ours and plain loops."""
    with tempfile.TemporaryDirectory(prefix="generator-benchmark-") as name:
        files = sorted(folder.iterdir()) if folder is not None else drawn_videos(Path(name))
        files = (files * -(-48 // len(files)))[:48]
        config = ClipConfig(frames=8, height=32, width=32)
        extractors = {
            "latents": LatentsConfig(weights="text_to_video").build(ZOO),
            "blip": BlipStatesConfig(weights="blip", over_frames="concatenate").build(ZOO),
        }
        what = f"{len(files)} real videos" if folder is not None else f"{len(files)} drawn videos"
        table = Table(title=f"extracting from {what}, {torch.get_num_threads()} threads", title_justify="left")
        for column in ("", "clips a second", "times the plain loop"):
            table.add_column(column, justify="left" if not column else "right")
        for target, extractor in extractors.items():
            ways = ways_to_extract(extractor, files, config)
            seconds = in_turn(ways)
            first = next(iter(seconds.values()))
            for way, taken in seconds.items():
                table.add_row(f"{target}: {way}", f"{len(files) / taken:.1f}", f"{first / taken:.2f}")
        CONSOLE.print(table)


def drawn_videos(folder: Path) -> list[Path]:
    """Write clips of the small world as the simulated dataset has them: 24 frames of 128 × 128, H.264."""
    clips, _ = draw_clips(WORLDS["full"], "test", 24, 0, 24, 128, 128)
    files = [folder / f"{index:04d}.mp4" for index in range(len(clips))]
    for file, clip in zip(files, clips, strict=True):
        write_clip(file, clip, 8.0)
    return files


class Videos:
    """Videos by their paths, as the one method of a source that reading ahead asks for."""

    def clip(self, stimulus: str, config: ClipConfig) -> Any:
        """Return a clip."""
        return read_clip(Path(stimulus), config)


def ways_to_extract(extractor: Extractor, files: list[Path], config: ClipConfig) -> dict[str, Callable[[], object]]:
    """Return the plain loop, the loop with our reader, and the extraction that studies run."""
    source: Source = Videos()  # type: ignore[assignment]
    names = [str(file) for file in files]
    return {
        "plain loop (every frame converted and resized)": lambda: [
            extractor.extract(plain_read(file, config)[None]) for file in files
        ],
        "loop over our reader": lambda: [extractor.extract(read_clip(file, config)[None]) for file in files],
        "ours, read ahead": lambda: [extractor.extract(clip[None]) for clip in read_ahead(source, names, config)],
    }


def plain_read(file: Path, config: ClipConfig) -> Any:
    """Read a clip as a notebook does: convert every frame, resize every frame, keep the sampled ones."""
    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
    size = (config.width, config.height)
    resized = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for _, frame in frames]
    times = np.asarray([moment for moment, _ in frames]) - frames[0][0]
    wanted = (np.arange(config.frames) + 0.5) * config.window_s / config.frames
    return np.stack([resized[max(0, int(np.searchsorted(times, instant, "right")) - 1)] for instant in wanted])


if __name__ == "__main__":
    main()
