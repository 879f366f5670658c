"""Settings of the training loop, counted in steps; imports no torch."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from core.config import Config


class LoopConfig(Config):
    """How a brain model's network is trained."""

    steps: PositiveInt = 600
    batch: PositiveInt = 64
    """Rows a step, over all processes."""
    optimiser: Literal["adamw", "muon"] = "adamw"
    lr: PositiveFloat = 1e-3
    """AdamW's full rate, or Muon's for matrices."""
    lr_adam: PositiveFloat = 2e-3
    """With Muon, Adam's rate for biases and norms."""
    weight_decay: float = Field(0.05, ge=0)
    """With AdamW."""
    warm_up: PositiveInt = 20
    """Steps until the full rate is reached; a cosine follows."""
    clip: PositiveFloat | None = 0.8
    """Largest norm of the gradient."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay of the moving average of the weights, which then is what validates and what is kept."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products are computed in; weights and losses stay float32."""
    compile: bool = False
    """Whether torch compiles the network's blocks; `benchmarks/brain_models.py` measures what that gains."""
    validation: float = Field(0.1, gt=0, lt=0.5)
    """Part of the training stimuli held out for early stopping."""
    validate_every: PositiveInt = 25
    """Steps between two looks at the validation loss."""
    patience: PositiveInt = 8
    """Looks without a better validation loss after which training stops; the best weights are kept."""
    checkpoint_every: PositiveInt = 100
    """Steps between the checkpoints that an interrupted training goes on from."""
