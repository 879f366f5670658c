"""Rounds trained weights to what is shipped."""

import torch

from core.errors import ModelError


@torch.no_grad()  # type: ignore[untyped-decorator]
def round_to_half(model: torch.nn.Module) -> None:
    """Round every weight to what float16 holds, as it is shipped, so that later stages are trained on what others get.

    Raises
    ------
    ModelError
        A weight is beyond float16.
    """
    for weight in model.parameters():
        rounded = weight.half().float()
        if not torch.isfinite(rounded).all():
            raise ModelError("train-zoo: a weight is beyond float16; lower the stage's lr")
        weight.copy_(rounded)
