"""Muon for networks with convolutions: momentum, orthogonalised, for every kernel; Adam for biases and norms."""

from collections.abc import Iterable

import torch

Coefficients = tuple[float, float, float]

QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
"""Newton-Schulz coefficients of Jordan's Muon: singular values end near 1, quickly rather than exactly."""


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Muon with convolution kernels flattened to ``(out, in·k·k)``, which `torch.optim.Muon` does not take.

    ``W ← W − lr · sqrt(max(1, rows/columns)) · orth(momentum)`` for weights of two or more axes, and Adam for the rest.
    Follows Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
    lr : float
        Step of the orthogonalised update, in units of a singular value.
    lr_adam : float
        Adam's step for weights of one axis.
    momentum : float
        Nesterov momentum of the orthogonalised update.
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], *, lr: float, lr_adam: float, momentum: float = 0.95
    ) -> None:
        every = list(parameters)
        groups = [
            {"params": [p for p in every if p.ndim > 1], "lr": lr, "matrices": True},
            {"params": [p for p in every if p.ndim <= 1], "lr": lr_adam, "matrices": False},
        ]
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, _: None = None) -> None:
        """Take one step along the gradients; weights without a gradient stay."""
        for group in self.param_groups:
            update = self._muon if group["matrices"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    update(weight, group["lr"], group["momentum"])

    def _muon(self, weight: torch.Tensor, lr: float, momentum: float) -> None:
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.lerp_(weight.grad, 1 - momentum)
        direction = weight.grad.lerp(buffer, momentum).flatten(1)
        rows, columns = direction.shape
        step = orthogonalise(direction).view_as(weight)
        weight.add_(step, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _adam(self, weight: torch.Tensor, lr: float, _: float) -> None:
        state = self.state[weight]
        if not state:
            state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 0.1)
        state["square"].lerp_(weight.grad.square(), 0.05)
        mean = state["mean"] / (1 - 0.9 ** state["step"])
        square = state["square"] / (1 - 0.95 ** state["step"])
        weight.sub_(lr * mean / (square.sqrt() + 1e-8))


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return roughly ``U Vᵀ`` of a matrix ``U S Vᵀ`` by a quintic Newton-Schulz iteration; singular values end near 1.

    Every step multiplies from the left by a polynomial of the small square ``X Xᵀ``, so the polynomials are gathered
    there first and meet the long side of the matrix once: a quarter of the work for a convolution's kernel.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    eye = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    gathered = eye
    for _ in range(steps):
        factor = a * eye + b * gram + c * gram @ gram
        gathered = factor @ gathered
        gram = factor @ gram @ factor
    x = gathered @ x
    return x.T if tall else x
