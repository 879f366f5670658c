"""The encoder of kind `mbm`: standardised voxels through the pretrained and aligned network, for regressors to read.

The network is trained on all subjects together, so their rows are in memory together, and what it takes grows with
subjects.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import ModelError
from core.seeds import rng_for, seed_for
from models.decoders.rows import BrainRows, array_of, in_memory
from models.encoders.linear import Standardise, mean_over_time, signal_share
from models.encoders.mbm_network import Aligned, MaskedBrainModel, Patches, rois_of
from models.encoders.mbm_stages import RepeatPairs, align, fill_in, pretrain
from models.encoders.settings import MbmConfig, StandardiseConfig
from models.training.distributed import workers
from models.training.loop import Context
from models.training.settings import LoopConfig
from models.weights.tensor_file import Stored, Tensors, common, prefixed, writable

Array = NDArray[Any]

ROWS = 256
"""Rows encoded at once."""


@dataclass
class Mbm:
    """A trained masked brain model.

    Attributes
    ----------
    standardise : what the network's input was made by, per time point and voxel
    patches : per subject
    times : time points of a row
    scale : per subject, (2, feature): mean and standard deviation of the embedding over the training trials
    variance : per subject, that of all betas together over the training trials
    held_out : per subject, `loss` and `variance` of masked patches of held-out trials; empty without pretraining
    """

    config: MbmConfig
    standardise: Standardise
    patches: dict[str, Patches]
    times: int
    model: MaskedBrainModel | Aligned
    scale: dict[str, Array] = field(default_factory=dict)
    variance: dict[str, float] = field(default_factory=dict)
    held_out: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """The subjects that the encoder knows."""
        return list(self.patches)

    @property
    def widths(self) -> tuple[int, int]:
        """Voxels that go in and features that come out; -1 where subjects differ."""
        betas = [of.voxels if self.config.hands_on == "both" else 0 for of in self.patches.values()]
        widths = [self.scale[name].shape[1] + width for name, width in zip(self.patches, betas, strict=True)]
        return self.standardise.widths[0], common(widths)

    @classmethod
    def fit(cls, config: MbmConfig, rows: dict[str, BrainRows], context: Context) -> "Mbm":
        """Pretrain and align on training trials, as far as the config asks for either.

        Raises
        ------
        ModelError
            Alignment is asked for and there is nothing to align with, or the subjects' time points differ.
        """
        rows = {name: in_memory(one) for name, one in rows.items()}
        made, data = cls._new(config, rows, context.seed), {}
        for name, one in rows.items():
            parts = [made.inputs(name, array_of(part)) for part in (one.responses, one.unlabelled) if part is not None]
            share = (config.pretraining or config.alignment or LoopConfig()).validation
            rng = rng_for(context.seed, "held out")  # the same stimuli of every subject
            data[name] = RepeatPairs.of(np.concatenate(parts), one.stimuli, share, rng, one.times)
        if config.pretraining is not None:
            made.held_out = pretrain(made.brain, config.pretraining, data, context)
        if config.alignment is not None:
            made._align(config, rows, data, context)
        for name, one in rows.items():
            responses = array_of(one.responses)
            embedding, betas = made.embed(name, responses), made.standardise.encode(name, responses)
            made.variance[name] = float(betas.var(axis=0, dtype=np.float64).sum())
            made.scale[name] = np.stack([embedding.mean(axis=0), embedding.std(axis=0).clip(1e-6)])
        return made

    @classmethod
    def _new(cls, config: MbmConfig, rows: dict[str, BrainRows], seed: int) -> "Mbm":
        times = {1 if one.responses.ndim == 2 else one.responses.shape[1] for one in rows.values()}
        if len(times) > 1:
            raise ModelError(f"mbm: subjects with {sorted(times)} time points; one network needs one number")
        standardise = Standardise.fit(StandardiseConfig(), {name: _as_windows(one) for name, one in rows.items()})
        if config.reliability:
            shares = {
                name: signal_share(
                    name, mean_over_time(array_of(one.responses))[:, standardise.kept[name]], one.stimuli
                )
                for name, one in rows.items()
            }
            weight = {name: (share**config.reliability).astype(np.float32) for name, share in shares.items()}
            standardise = replace(standardise, weight=weight)
        names, patches = rois_of(rows), {}
        for name, one in rows.items():
            kept = standardise.kept[name]
            rois = [roi for roi, keep in zip(one.rois, kept, strict=True) if keep] if one.rois else []
            patches[name] = Patches.of(rois, int(kept.sum()), config.patch, names)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "mbm", "weights"))
            model = MaskedBrainModel(config, patches, times.pop())
        return cls(config, standardise, patches, model.times, model)

    @property
    def brain(self) -> MaskedBrainModel:
        """The network, without what alignment added."""
        return self.model.brain if isinstance(self.model, Aligned) else self.model

    def _align(
        self, config: MbmConfig, rows: dict[str, BrainRows], data: dict[str, RepeatPairs], context: Context
    ) -> None:
        wanted = next(iter(rows.values())).align
        if not wanted or config.alignment is None:
            raise ModelError(
                "mbm: alignment is asked for and the study names nothing to align with; name targets in roles.align, "
                "or set the encoder's alignment to null"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(context.seed, "align", "weights"))
            widths = {name: values.shape[1] for name, values in wanted.items()}
            self.model = Aligned(self.brain, config, config.alignment, widths)
        targets = {
            name: {target: (values - values.mean(axis=0)).astype(np.float32) for target, values in one.align.items()}
            for name, one in rows.items()
        }
        align(self.model, config.alignment, data, targets, context)

    def inputs(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return what the network reads, (row, time, kept voxel) float32."""
        times = 1 if responses.ndim == 2 else responses.shape[1]
        if times != self.times:
            raise ModelError(f"{subject}: {times} time points a row; the encoder was trained on {self.times}")
        flat = np.asarray(responses).reshape(-1, responses.shape[-1])
        return self.standardise.standardised(subject, flat).reshape(len(responses), times, -1)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def embed(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return the embedding as the network gives it, (row, feature) float32."""
        parts = []
        self.model.to(workers().device).eval()
        for first in range(0, len(responses), ROWS):
            rows = torch.from_numpy(self.inputs(subject, responses[first : first + ROWS])).to(workers().device)
            tokens = self.brain.encode(subject, self.brain.cut(subject, rows))
            found = [self.brain.pooled(tokens, self.config.pool)]
            if isinstance(self.model, Aligned):
                found.append(self.model.embed(subject, rows, tokens))
            parts.append(torch.cat(found, dim=1).float().cpu().numpy())
        return np.concatenate(parts)

    def encode(self, subject: str, responses: Array) -> NDArray[np.float32]:
        """Return features (trial, feature) float32: the embedding, beside the betas where both are handed on.

        Beside betas, the embedding has the config's `share` of the features' variance.

        Raises `ModelError`: as `Standardise.encode`, or another number of time points than in training.
        """
        betas = self.standardise.encode(subject, responses)
        mean, deviation = self.scale[subject]
        embedding = (self.embed(subject, responses) - mean) / deviation
        if self.config.hands_on == "embedding":
            return np.asarray(embedding, dtype=np.float32)
        share = self.config.share
        weight = np.sqrt(share / (1 - share) * self.variance[subject] / embedding.shape[1])
        return np.concatenate([betas, weight * embedding], axis=1).astype(np.float32)

    def fill_in(self, subject: str, responses: Array, seed: int) -> dict[str, Any]:
        """Return what the network makes of masked rows; see `models.encoders.mbm_stages.fill_in`."""
        masked = self.config.pretraining.masked if self.config.pretraining else 0.75
        made: dict[str, Any] = fill_in(self.brain, subject, self.inputs(subject, responses), masked, seed)
        return made

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Return config and tensors for `models.weights.tensor_file.save_weights`; the decoder is kept."""
        inner, tensors = self.standardise.state()
        tensors = {f"standardise.{name}": value for name, value in tensors.items()}
        tensors |= {f"model.{name}": value.cpu().numpy() for name, value in self.model.state_dict().items()}
        for name, patches in self.patches.items():
            tensors |= {f"shares.{name}": patches.shares, f"scale.{name}": self.scale[name]}
        align = {name: linear.out_features for name, linear in self.model.targets.items()} if self._aligned else None
        return {
            "part": "encoder",
            "kind": "mbm",
            "subjects": self.subjects,
            "config": self.config.model_dump(mode="json"),
            "standardise": inner,
            "times": self.times,
            "voxels": {name: patches.voxels for name, patches in self.patches.items()},
            "align": align,
            "variance": self.variance,
            "held_out": self.held_out,
        }, tensors

    @property
    def _aligned(self) -> bool:
        return isinstance(self.model, Aligned)

    @classmethod
    def from_state(cls, config: dict[str, Any], tensors: Stored) -> "Mbm":
        """Return the encoder that `state` described."""
        settings, tensors = MbmConfig.model_validate(config["config"]), writable(tensors)
        patches = {
            name: Patches(config["voxels"][name], settings.patch, tensors[f"shares.{name}"])
            for name in config["subjects"]
        }
        model: MaskedBrainModel | Aligned = MaskedBrainModel(settings, patches, config["times"])
        if config["align"] is not None and settings.alignment is not None:
            model = Aligned(model, settings, settings.alignment, config["align"])
        model.load_state_dict({name: torch.from_numpy(value) for name, value in prefixed(tensors, "model").items()})
        scale = {name: tensors[f"scale.{name}"] for name in config["subjects"]}
        standardise = Standardise.from_state(config["standardise"], prefixed(tensors, "standardise"))
        times, variance, held_out = config["times"], config["variance"], config["held_out"]
        return cls(settings, standardise, patches, times, model.eval(), scale, variance, held_out)


def _as_windows(rows: BrainRows) -> BrainRows:
    """Return windows as rows of single time points, whose mean and deviation are then those of all of them."""
    if rows.responses.ndim == 2:
        return rows
    times = rows.responses.shape[1]
    flat = array_of(rows.responses).reshape(-1, rows.responses.shape[-1])
    return BrainRows(flat, [name for name in rows.stimuli for _ in range(times)], rows.rois)
