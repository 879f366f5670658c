"""What a step of masked brain modelling costs, beside the same network built of transformers' ViTMAE layers.

Run it as ``python benchmarks/brain_models.py mbm [--published] [--threads 1] [--peak-tflops 989]``. A step takes a
batch of rows from memory, draws its masks, and goes through the loss on masked patches, backward and AdamW. All have
the same widths, depth, heads, patches, part masked, batch and rows, and one patch embedding for all patches, as
MinD-Vis and ViTMAE have; ours keeps what theirs lacks (the ROIs' and the subject's token). They take turns
round by round; a figure is the median over rounds of its samples per second over the baseline's in the same round.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig
from transformers.models.vit_mae.modeling_vit_mae import ViTMAELayer

from models.encoders.mbm_network import Attention, MaskedBrainModel, Patches, compiled, kept_of, positions
from models.encoders.mbm_stages import RepeatPairs, masked_error
from models.encoders.settings import MbmConfig, PretrainConfig
from models.training.checkpoints import Checkpoints
from models.training.distributed import workers
from models.training.loop import fit, optimiser_of

MASKED = 0.75
PEAKS = {"A100": 312, "H100": 989, "H200": 989, "L40S": 362, "L4": 121, "V100": 125, "T4": 65}
"""Dense bfloat16 (V100 and T4: float16) TFLOP/s by the makers' data sheets; the SXM cards where there are several."""
THEIRS, THEIRS_SDPA, PLAIN = "ViTMAE layers, eager", "ViTMAE layers, sdpa", "ours, every trick off"
Array = np.ndarray[Any, Any]
Step = Callable[[], torch.Tensor]
CONSOLE = Console(width=120)


PATCH, ROWS, ROIS = 16, 512, 20


@dataclass(frozen=True)
class Size:
    """A network's size, and how it is measured."""

    name: str
    patches: int
    width: int
    depth: int
    heads: int
    ratio: float
    decoder_width: int
    decoder_depth: int
    batch: int
    steps: int

    @property
    def config(self) -> MbmConfig:
        """Our network's settings."""
        decoder = {"decoder_width": self.decoder_width, "decoder_depth": self.decoder_depth}
        whole = {"width": self.width, "depth": self.depth, "heads": self.heads, "ratio": self.ratio}
        return MbmConfig(patch=PATCH, patch_weights="shared", **whole, **decoder)


SMALL = Size("the small world's", 94, 64, 3, 4, 2.0, 48, 1, 64, 4)
LARGE = Size("larger", 256, 256, 6, 16, 2.0, 128, 2, 16, 1)
PUBLISHED = Size("published", 823, 1024, 24, 16, 1.0, 512, 8, 8, 1)


class SeparateAttention(nn.Module):
    """Attention with either trick off: three products, or the kernel written out as ViTMAE's eager one."""

    def __init__(self, width: int, heads: int, *, product: bool, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        widths = (3 * width,) if product else (width, width, width)
        self.inwards = nn.ModuleList(nn.Linear(width, outwards) for outwards in widths)
        self.outwards = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (row, token, width) for the same."""
        found = [linear(tokens) for linear in self.inwards]
        parts = found if len(found) == 3 else found[0].chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.fused:  # in the precision that autocast asks for
            mixed = nn.functional.scaled_dot_product_attention(queries, keys, values)
        else:
            weights = queries @ keys.transpose(2, 3) * queries.shape[-1] ** -0.5
            mixed = weights.softmax(dim=-1, dtype=torch.float32).to(queries.dtype) @ values
        return self.outwards(mixed.transpose(1, 2).flatten(-2))


class ViTMaeLayers(nn.Module):
    """A masked autoencoder of voxels, of transformers' layers, masked, restored and measured as in its ViTMAE."""

    def __init__(self, size: Size, kept: int, attention: str) -> None:
        super().__init__()
        self.kept = kept
        encoder, decoder = (
            ViTMAEConfig(
                hidden_size=width,
                num_attention_heads=size.heads,
                intermediate_size=round(width * size.ratio),
                layer_norm_eps=1e-5,
                attn_implementation=attention,
            )
            for width in (size.width, size.decoder_width)
        )
        self.embed = nn.Linear(PATCH, size.width)
        self.cls = nn.Parameter(torch.randn(1, 1, size.width) * 0.02)
        self.layers = nn.ModuleList(ViTMAELayer(encoder) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.width)
        self.between = nn.Linear(size.width, size.decoder_width)
        self.mask = nn.Parameter(torch.randn(1, 1, size.decoder_width) * 0.02)
        self.decoder = nn.ModuleList(ViTMAELayer(decoder) for _ in range(size.decoder_depth))
        self.decoder_norm = nn.LayerNorm(size.decoder_width)
        self.head = nn.Linear(size.decoder_width, PATCH)
        self.register_buffer("places", positions(size.patches, size.width))
        self.register_buffer("decoder_places", positions(size.patches, size.decoder_width))

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the loss of (row, patch, size)."""
        tokens = self.embed(patches) + self.places
        noise = torch.rand(tokens.shape[:2], device=tokens.device)
        order = noise.argsort(dim=1)
        back = order.argsort(dim=1)
        tokens = tokens.gather(1, order[:, : self.kept, None].repeat(1, 1, tokens.shape[2]))
        masked = torch.ones_like(noise)
        masked[:, : self.kept] = 0
        masked = masked.gather(1, back)
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        inside = self.between(self.norm(tokens))
        absent = self.mask.repeat(len(inside), patches.shape[1] - self.kept, 1)
        whole = torch.cat([inside[:, 1:], absent], dim=1).gather(1, back[..., None].repeat(1, 1, inside.shape[2]))
        decoded = torch.cat([inside[:, :1], whole + self.decoder_places], dim=1)
        for layer in self.decoder:
            decoded = layer(decoded)
        made = self.head(self.decoder_norm(decoded))[:, 1:]
        return ((made - patches).square().mean(dim=-1) * masked).sum() / masked.sum()


def simulated(size: Size, seed: int = 0) -> tuple[Patches, Array]:
    """Return rows of eight hidden causes and as much noise, standardised, (row, 1, voxel), and how they are cut."""
    rng, voxels = np.random.default_rng(seed), size.patches * PATCH
    rows = rng.normal(size=(ROWS, 8)) @ rng.normal(size=(8, voxels)) / 8**0.5 + rng.normal(size=(ROWS, voxels))
    names = [f"roi_{index:02d}" for index in range(ROIS)]
    patches = Patches.of([names[v * ROIS // voxels] for v in range(voxels)], voxels, PATCH, names)
    return patches, (rows / rows.std(axis=0)).astype(np.float32)[:, None]


def start_alike(model: nn.Module, seed: int = 0) -> None:
    """Draw a network's weights as ViT's are drawn: matrices with a deviation of 0.02, biases zero."""
    torch.manual_seed(seed)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)


@dataclass(frozen=True)
class Tricks:
    """What our network is measured with; all off, it does what ViTMAE's layers do."""

    attention: bool = False
    product: bool = False
    adamw: bool = False
    bfloat16: bool = False
    compile: bool = False


Rates = dict[str, list[float]]
"""Samples per second of every contender, round by round."""


def ratio(rates: Rates, name: str) -> float:
    """Return the median over rounds of a contender's rate over that of ViTMAE's layers, eager."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[THEIRS], strict=True))


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--published", action="store_true", help="measure 1024 × 24 as well: minutes on a CPU")
    parser.add_argument("--threads", type=int, default=1, help="more only where nothing else runs")
    parser.add_argument("--seconds", type=float, default=20, help="about how long the rounds of a size take")
    parser.add_argument("--steps", type=int, default=400, help="steps of the two trainings whose losses are compared")
    parser.add_argument("--peak-tflops", type=float, help="the GPU's, where its name is not known here")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for size in (SMALL, LARGE, *((PUBLISHED,) if chosen.published else ())):
        show_size(size, chosen.seconds, chosen.peak_tflops)
    show_losses(SMALL, chosen.steps)


def theirs(size: Size, attention: str) -> Step:
    """Return a training step of the network of ViTMAE layers."""
    device, (patches, rows) = workers().device, simulated(size)
    model = ViTMaeLayers(size, kept_of(patches, MASKED), attention).to(device)
    start_alike(model)
    config = PretrainConfig()
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    rng = np.random.default_rng(1)

    def step() -> torch.Tensor:
        batch = torch.from_numpy(rows[rng.integers(0, ROWS, size.batch)]).to(device)
        loss = model(batch.view(len(batch), -1, PATCH))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return step


def ours(size: Size, tricks: Tricks, stack: ExitStack) -> Step:
    """Return a training step of our network; it stays compiled as long as `stack` is open."""
    device, (patches, rows) = workers().device, simulated(size)
    model = MaskedBrainModel(size.config, {"sub-01": patches})
    if not (tricks.attention and tricks.product):
        for block in [module for module in model.modules() if isinstance(getattr(module, "space", None), Attention)]:
            width = block.space.outwards.in_features
            block.space = SeparateAttention(width, size.heads, product=tricks.product, fused=tricks.attention)
    model.to(device).train()
    start_alike(model)
    config = PretrainConfig(masked=MASKED, targets="same", precision="bfloat16" if tricks.bfloat16 else "float32")
    optimiser = optimiser_of(config, model)
    if not tricks.adamw:
        optimiser = torch.optim.AdamW(optimiser.param_groups, betas=(0.9, 0.95), fused=False)
        for group in optimiser.param_groups:
            group["fused"] = False
    stack.enter_context(compiled(model, tricks.compile))
    data = RepeatPairs(rows, [], np.arange(ROWS), np.arange(0))
    rng = np.random.default_rng(1)

    def step() -> torch.Tensor:
        loss = masked_error(model, config, "sub-01", data, rng.integers(0, ROWS, size.batch), rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    return step


def seconds(work: Callable[[], Any]) -> float:
    """Time one call, and what it left on the GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turn(contenders: dict[str, Step], size: Size, budget: float) -> Rates:
    """Let all contenders take their steps in turn, for about as long as the budget."""
    for step in contenders.values():
        step()  # compiles, where it is to be compiled
    once = sum(seconds(step) for step in contenders.values())
    rates: Rates = {name: [] for name in contenders}
    for _ in range(max(3, round(budget / (once * size.steps)))):
        for name, step in contenders.items():
            spent = seconds(lambda s=step: [s() for _ in range(size.steps)])
            rates[name].append(size.batch * size.steps / spent)
    return rates


def show_size(size: Size, budget: float, peak: float | None) -> None:
    """Measure all contenders of one size: every trick on its own, then together."""
    alone = {
        "fused attention": Tricks(attention=True),
        "one product for queries, keys and values": Tricks(product=True),
        "fused AdamW": Tricks(adamw=True),
        "bfloat16": Tricks(bfloat16=True),
        "compiled": Tricks(compile=True),
    }
    default = Tricks(attention=True, product=True, adamw=True)
    together = {
        "ours, float32, as by default": default,
        "ours, compiled": replace(default, compile=True),
        "ours, bfloat16": replace(default, bfloat16=True),
        "ours, bfloat16, compiled": replace(default, bfloat16=True, compile=True),
    }
    torch.compiler.reset()  # else the sizes together exceed the versions of a function that torch keeps
    with ExitStack() as stack:
        contenders = {THEIRS: theirs(size, "eager"), THEIRS_SDPA: theirs(size, "sdpa")}
        contenders[PLAIN] = ours(size, Tricks(), stack)
        contenders |= {f"  {name} alone": ours(size, tricks, stack) for name, tricks in alone.items()}
        contenders |= {name: ours(size, tricks, stack) for name, tricks in together.items()}
        rates = in_turn(contenders, size, budget)
        best = max(together, key=lambda name: ratio(rates, name))
        used = utilisation(contenders[best], rates[best], size, peak)
    network = f"{size.width} × {size.depth}, {size.heads} heads, {size.patches} patches"
    decoder = f"decoder {size.decoder_width} × {size.decoder_depth}, batch {size.batch}"
    table = Table(title=f"{size.name}: {network}, {decoder}")
    for column in ("training step", "samples/s", "over ViTMAE, eager"):
        table.add_column(column, justify="left" if column == "training step" else "right")
    for name in contenders:
        table.add_row(name, f"{statistics.median(rates[name]):,.1f}", f"{ratio(rates, name):.2f}")
    CONSOLE.print(table)
    CONSOLE.print(f"model FLOPs utilisation of '{best}': {used}\n")


def utilisation(step: Step, rates: list[float], size: Size, peak: float | None) -> str:
    """Return the part of the GPU's peak that the model's own operations reach, or why it was not measured."""
    if not torch.cuda.is_available():
        return "no GPU: not measured"
    name = torch.cuda.get_device_name()
    peak = peak or next((tflops for key, tflops in PEAKS.items() if key in name), None)
    if peak is None:
        return f"not measured: the peak of {name} is not known here; give --peak-tflops"
    with FlopCounterMode(display=False) as counted:
        step()
    achieved = counted.get_total_flops() * statistics.median(rates) / size.batch / 1e12
    return f"{achieved / peak:.1%} ({achieved:.1f} of {peak:.0f} TFLOP/s, {name})"


def show_losses(size: Size, steps: int) -> None:
    """Train both from weights drawn alike, on the same rows, by the project's own loop, and print where they end."""
    patches, rows = simulated(size)
    config = PretrainConfig(masked=MASKED, targets="same", lr=2e-3, warm_up=50)
    data = RepeatPairs(rows, [], np.arange(ROWS), np.arange(0))
    layers = ViTMaeLayers(size, kept_of(patches, MASKED), "sdpa")
    own = MaskedBrainModel(size.config, {"sub-01": patches})

    def drawn(step: int) -> Array:
        return np.asarray(np.random.default_rng(step).integers(0, ROWS, size.batch))

    losses: dict[str, Callable[[int], torch.Tensor]] = {
        "ViTMAE layers": lambda step: layers(torch.from_numpy(rows[drawn(step)]).view(size.batch, -1, PATCH)),
        "ours": lambda step: masked_error(own, config, "sub-01", data, drawn(step), np.random.default_rng([1, step])),
    }
    table = Table(title=f"loss on masked patches after {steps} steps of the same training, {size.name}")
    for column in ("network", "first step", "mean of the last 20"):
        table.add_column(column, justify="left" if column == "network" else "right")
    ends = []
    for (name, loss), model in zip(losses.items(), (layers, own), strict=True):
        start_alike(model.train())
        optimiser, kept = optimiser_of(config, model), Checkpoints()
        made = fit(
            "losses", name, model, optimiser, loss, steps, seed=0, checkpoints=kept, clip=config.clip, warm_up=50
        )
        ends.append(statistics.mean(made.losses[-20:]))
        table.add_row(name, f"{made.losses[0]:.4f}", f"{ends[-1]:.4f}")
    CONSOLE.print(table)
    CONSOLE.print(f"ours over theirs: {ends[1] / ends[0]:.3f}")
