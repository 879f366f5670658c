"""Text-to-video models of ModelScope's form, zeroscope and the small world's own among them."""

from pathlib import Path

from diffusers import UNet3DConditionModel

from models.generator.base import LatentDiffusion
from models.generator.parts import load_parts
from models.generator.settings import TextToVideoConfig
from models.weights.load import load


def load_text_to_video(config: TextToVideoConfig, root: Path) -> LatentDiffusion:
    """Load the parts that the settings name; see `TextToVideoConfig.build`."""
    parts = load_parts(config, root)
    unet = load(UNet3DConditionModel, parts.folder, "unet", torch_dtype=parts.dtype).to(parts.device)
    parts.check(unet)
    return LatentDiffusion(config=config, unet=unet, revision=config.revision(root), **parts.around())
