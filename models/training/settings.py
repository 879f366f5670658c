"""Settings of the training loop, counted in steps, and of the processes that share it; imports no torch."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

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


class DistributedConfig(Config):
    """How many processes train together, and where they meet; what they make does not depend on it, but for rounding.

    One process, the default, is the one that calls.
    """

    processes: PositiveInt = 1
    """Processes on this node: one a GPU, where there are GPUs."""
    nodes: PositiveInt = 1
    """Machines, all of which run the same command with the same study and see the same `data/` and `outputs/`."""
    node_rank: NonNegativeInt | None = None
    """Which node this is, from 0; None lets the rendezvous number them. Give it on all nodes or on none."""
    rendezvous: str | None = None
    """``host:port`` where nodes meet: a free port of one of them, of node 0 where they have numbers."""
    timeout_s: PositiveFloat = 1800.0
    """Seconds that a process waits for the others, to join and at every exchange, before it gives them up; longer than
    the first one takes to render held-out stimuli, while the others wait."""

    @field_validator("rendezvous")
    @classmethod
    def _host_and_port(cls, where: str | None) -> str | None:
        host, _, port = (where or "any:1").rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("expected host:port, such as 'node-1:29400'")
        return where

    @model_validator(mode="after")
    def _nodes_can_meet(self) -> Self:
        if self.nodes > 1 and self.rendezvous is None:
            raise ValueError(f"{self.nodes} nodes need a rendezvous; give host:port of one of them, the same on each")
        if self.nodes == 1 and self.rendezvous is not None:
            raise ValueError("a rendezvous is for several nodes; say how many, or leave it out")
        if self.node_rank is not None and self.node_rank >= self.nodes:
            raise ValueError(f"node_rank counts from 0, up to {self.nodes - 1} of {self.nodes} nodes")
        return self

    @property
    def world_size(self) -> int:
        """Processes over all nodes."""
        return self.processes * self.nodes


ONE_PROCESS = DistributedConfig()
"""The process that calls trains alone."""
