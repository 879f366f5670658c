"""What networks take in memory, found by running them on torch's fake tensors: shapes without values.

Every tensor counts while it is alive. Weights are exact. What is worked with beside them is what torch asks its
allocator for: an estimate on a GPU, see docs/plan.md. `models.generator.footprint` has the networks that are loaded.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.initialization import no_init_weights

from models.encoders.mbm import ROWS
from models.encoders.mbm_network import Aligned, MaskedBrainModel, Patches, kept_of
from models.encoders.settings import MbmConfig
from models.regressors.mlp import Perceptron
from models.regressors.settings import MlpConfig, ResidualConfig
from models.training.settings import LoopConfig
from models.weights.load import autocast

CPU = torch.device("cpu")
Run = Callable[[Any], object]


@dataclass(frozen=True)
class Footprint:
    """Bytes of a network.

    Attributes
    ----------
    weights : its parameters and buffers, exactly
    working : all else that is alive at once, at most
    kept : the weights with what training keeps of them all along: the optimiser's state, the moving average, the best
    """

    weights: int
    working: int
    kept: int = 0


class _Alive(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of tensors that are alive, except those of a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        storages = [tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())]
        self.weights = sum({storage._cdata: storage.nbytes() for storage in storages}.values())
        self._sizes: dict[int, tuple[int, Any]] = {storage._cdata: (0, storage) for storage in storages}
        self._now = self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes(), weakref.ref(storage, lambda _: self._gone(key))
            self._now += storage.nbytes()
            self.most = max(self.most, self._now)

    def _gone(self, key: int) -> None:
        self._now -= self._sizes.pop(key)[0]


def trace(
    build: Callable[[], torch.nn.Module],
    *runs: Run,
    dtype: str = "float32",
    computed: str = "float32",
    training: bool = False,
) -> Footprint:
    """Return what a network takes.

    Parameters
    ----------
    build : callable
        Returns the network; its weights are of `dtype` and get no values.
    runs : callables
        What is done with the network, one after the other; each makes its inputs itself, so that they count.
    computed : str
        What products are computed in.
    training : bool
        Whether the network is trained: what a run needs for gradients is then kept, and the gradients are.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.set_grad_enabled(training):
        with no_init_weights(), _default_dtype(getattr(torch, dtype)):
            network = build().train(training)
        with _Alive(network) as alive:
            for run in runs:
                with autocast(CPU, computed):  # type: ignore[arg-type]
                    result = run(network)
                if training:
                    result.backward()  # type: ignore[attr-defined]
                del result
        return Footprint(alive.weights, alive.most)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def of_perceptron(
    config: MlpConfig | ResidualConfig, widths: Mapping[str, int], components: dict[str, int], held: int
) -> Footprint:
    """Return what training a perceptron takes.

    Parameters
    ----------
    widths : by subject, the number of features
    components : by role, how many components are predicted
    held : rows of a subject that are held out and predicted together
    """
    hints = max(components.values()) if config.kind == "residual" else 0

    def error(network: Any, rows: int) -> Any:
        parts = []
        for name, width in widths.items():
            predicted = network(name, torch.empty(rows, width), torch.empty(rows, hints) if hints else None)
            parts += [(role.float() - torch.empty(role.shape)).square().sum() for role in predicted.values()]
        return torch.stack(parts).sum()

    def build() -> torch.nn.Module:
        return Perceptron(config, dict(widths), components, hints)

    share = max(1, config.batch // len(widths))
    return _trained(config, build, lambda network: error(network, share), lambda network: error(network, held))


def of_masked_brain_model(
    config: MbmConfig, voxels: Mapping[str, int], times: int, rois: list[str], align: Mapping[str, int], held: int
) -> list[Footprint]:
    """Return what pretraining and alignment of a masked brain model take, as far as the config asks for either.

    Parameters
    ----------
    voxels : by subject
    times : time points of a row
    rois : the ROIs of all subjects
    align : by target, the width of what is aligned with
    held : stimuli of a subject that are held out, which are embedded together
    """
    patches = {name: Patches.of([], count, config.patch, rois) for name, count in voxels.items()}
    pretraining, alignment = config.pretraining, config.alignment

    def brain() -> MaskedBrainModel:
        return MaskedBrainModel(config, patches, times)

    def rows_of(name: str, batch: int) -> torch.Tensor:
        return torch.empty(batch, times, patches[name].voxels)

    def fill_in(model: Any, masked: float, batch: int) -> Any:
        total = torch.zeros(())
        for name, cut in patches.items():
            rows = model.cut(name, rows_of(name, batch))
            visible = torch.zeros(batch, kept_of(cut, masked), dtype=torch.long)
            filled = model.decode(name, model.encode(name, rows, visible), visible)
            total = total + (filled.float() - rows).square().mean()
        return total

    def embed(model: Any) -> object:
        name = max(voxels, key=lambda subject: voxels[subject])
        return model.encode(name, model.cut(name, rows_of(name, ROWS)))

    def contrast(model: Any, batch: int) -> Any:
        total = torch.zeros(())
        for name in patches:
            embedding = model.embed(name, rows_of(name, batch))
            total = total + sum(model.targets[target](embedding).float().square().mean() for target in align)
        return total

    found = []
    if pretraining is not None:
        masked, batch = pretraining.masked, pretraining.batch
        share = max(1, batch // len(patches))
        step, look = lambda model: fill_in(model, masked, share), lambda model: fill_in(model, masked, batch)
        found.append(_trained(pretraining, brain, step, look, embed))
    if alignment is not None:
        pairs = max(2, alignment.batch // len(patches))
        step, look = lambda model: contrast(model, pairs), lambda model: contrast(model, held)
        found.append(_trained(alignment, lambda: Aligned(brain(), config, alignment, dict(align)), step, look))
    return found


def _trained(config: LoopConfig, build: Callable[[], torch.nn.Module], step: Run, *looks: Run) -> Footprint:
    """Return what a training loop takes: a step, and looks at held-out rows, for which it copies weights."""
    stepped = trace(build, step, computed=config.precision, training=True)
    looked, weights = trace(build, *looks, computed=config.precision), stepped.weights
    states = 1 if config.optimiser == "muon" else 2
    copies = 3 * weights  # gradients, the weights that are trained, and those that are looked with
    working, kept = max(stepped.working, copies + looked.working), 2 + states + (config.ema is not None)
    return Footprint(weights, working, kept * weights)
