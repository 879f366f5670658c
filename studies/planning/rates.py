"""Rates by which work becomes hours: measured by `benchmarks/scale.py`, or stated of a GPU and never run by us.

`benchmarks/rates.json` comes with the checkout; where `.state/rates.json` is there, measured on one's own machine, the
plan goes by that. `fit_growth` says how a measured cost grows with a size.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationError

from core.checkout import project_root, relative_to_root
from core.config import Config, explain
from core.errors import ConfigError

OWN, SHIPPED = Path(".state/rates.json"), Path("benchmarks/rates.json")
FEWEST = 4
"""Sizes that a growth is fitted on, at least."""


class Machine(Config):
    """Where the rates were measured; nothing that names it."""

    cores: PositiveInt
    memory_bytes: PositiveInt
    threads: PositiveInt
    """Threads of the numerical libraries while it was measured."""


class Growth(Config):
    """How a measured cost grows with a size.

    `sizes` and `seconds` (or bytes) are what was measured, medians of repeated runs; `exponent` ± `error` is that of a
    power law through them; `constant` + `slope` · size is the line; `better` says which of the two is nearer to them.
    """

    of: str
    unit: str
    sizes: tuple[float, ...] = Field(min_length=FEWEST)
    seconds: tuple[float, ...] = Field(min_length=FEWEST)
    factor: float
    exponent: float
    error: NonNegativeFloat
    constant: NonNegativeFloat
    slope: float
    better: str

    def at(self, size: float) -> float:
        """Return what the better of the two gives at a size."""
        return self.constant + self.slope * size if self.better == "line" else self.factor * size**self.exponent


class Rates(Config):
    """What one unit of work takes, in seconds, and what a process needs before it does any, in bytes.

    Every rate is the slope, and every `…_s` without a unit the constant, of a line through measured times.
    """

    schema_version: int = Field(1, ge=1, le=1)
    date: str
    machine: Machine
    ingest_subject_s: NonNegativeFloat
    ingest_voxel_s: NonNegativeFloat
    ingest_value_s: PositiveFloat
    target_s: NonNegativeFloat
    """To load an extractor, publish its target and draw it, however many clips there are."""
    clip_s: NonNegativeFloat
    """To read a clip and hand its values on, whatever its size."""
    pixel_s: PositiveFloat
    """To read one pixel of a clip, as the study's `clips` ask for it."""
    network_flops: PositiveFloat
    """Products a second of a vision transformer of ViT-B's size in float32."""
    frame_s: NonNegativeFloat
    """What a frame costs a small network beyond its products."""
    forward_s: NonNegativeFloat
    """The same for one forward of a denoiser, for each clip."""
    response_s: NonNegativeFloat
    """To read one value of a trial, fit an encoder to it and encode it."""
    algebra_flops: PositiveFloat
    """Products a second of a whole ridge, its eigenvalues and its penalties."""
    fit_s: NonNegativeFloat
    """A route for one role and subject, whatever its size: fitted, scored and drawn."""
    step_s: NonNegativeFloat
    """A step of a brain model's network beyond its products."""
    score_clip_s: NonNegativeFloat
    score_pixel_s: PositiveFloat
    """To score a row of a report, for each clip and for each of its pixels."""
    video_pixel_bytes: PositiveFloat
    """Bytes that H.264 takes for a pixel of a frame."""
    base_bytes: dict[str, PositiveInt]
    """By stage, the peak of a process that has hardly any work."""
    subject_bytes: dict[str, float] = Field(default_factory=dict)
    """By stage, by how much that peak grew with each further subject, as measured."""
    two_workers: PositiveFloat | None = None
    """How many times as fast two workers extract as one."""
    growth: tuple[Growth, ...] = ()


class Gpu(Config):
    """A GPU as its maker states it, and how much of that is supposed to be reached; no run of ours stands behind it."""

    name: str = "A100"
    half_flops: PositiveFloat = 312e12
    """Stated peak of dense products in half precision."""
    single_flops: PositiveFloat = 19.5e12
    """Stated peak in float32, in which extractors work unless their `dtype` says otherwise."""
    efficiency: float = Field(0.3, gt=0, le=1)
    """Part of the peak that a network is supposed to reach."""
    hour_price: NonNegativeFloat = 2.0
    """Of one GPU for an hour, with the machine around it."""
    gb_month_price: NonNegativeFloat = 0.02
    """Of 10⁹ bytes kept for a month."""


def fit_growth(of: str, unit: str, sizes: Sequence[float], seconds: Sequence[float]) -> Growth:
    """Fit a power law and a line to measured costs.

    The power law by least squares of logarithms, its exponent with the standard error that the residuals leave; the
    line, with a constant that is not negative, by least squares of relative errors, so that small sizes count too.

    Parameters
    ----------
    of, unit : what was measured, and over what
    sizes, seconds : at least `FEWEST` of each, positive

    Raises
    ------
    ConfigError
        Fewer sizes, or values that are not positive.
    """
    x, y = np.asarray(sizes, np.float64), np.asarray(seconds, np.float64)
    if len(x) < FEWEST or len(x) != len(y) or (x <= 0).any() or (y <= 0).any():
        raise ConfigError(f"{of}: {len(x)} sizes and {len(y)} costs; expected {FEWEST} of each at least, all positive")
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    left = np.log(y) - (slope * np.log(x) + intercept)
    spread = float(((np.log(x) - np.log(x).mean()) ** 2).sum())
    error = float(np.sqrt((left**2).sum() / (len(x) - 2) / spread))
    constant, rise = relative_rates(np.stack([np.ones(len(x)), x], axis=1), y)
    line = float((np.log(y / (constant + rise * x)) ** 2).sum()) if constant + rise * x.min() > 0 else np.inf
    return Growth(
        of=of,
        unit=unit,
        sizes=tuple(x),
        seconds=tuple(y),
        factor=float(np.exp(intercept)),
        exponent=float(slope),
        error=error,
        constant=constant,
        slope=rise,
        better="line" if line <= float((left**2).sum()) else "power law",
    )


def relative_rates(counts: NDArray[np.float64], costs: NDArray[np.float64]) -> tuple[float, ...]:
    """Return rates, not negative, one for each count, that explain costs with the least squares of relative errors.

    A rate of 0 says that its count does not show in the costs.

    Parameters
    ----------
    counts : (run, count)
    costs : (run,), positive
    """
    scaled = counts / costs[:, None]
    norms = np.linalg.norm(scaled, axis=0)
    found, _ = scipy.optimize.nnls(scaled / norms, np.ones(len(costs)))
    return tuple((found / norms).tolist())


@dataclass(frozen=True)
class Found:
    """Rates and the file they are from, relative to the checkout."""

    rates: Rates
    file: str


def find_rates(file: Path | None = None) -> Found | None:
    """Return one's own rates, else those of the checkout; None where there are neither.

    Raises
    ------
    ConfigError
        The file is none of rates; one line says what is wrong with it.
    """
    places = (
        [file]
        if file is not None
        else [project_root() / OWN, project_root() / SHIPPED, Path(__file__).parents[2] / SHIPPED]
    )
    there = next((place for place in places if place.is_file()), None)
    if there is None:
        if file is not None:
            raise ConfigError(
                f"{file}: no such file; run 'python benchmarks/scale.py --write {file}', which measures them"
            )
        return None
    try:
        return Found(Rates.model_validate(json.loads(there.read_text(encoding="utf-8"))), relative_to_root(there))
    except (ValidationError, ValueError, UnicodeDecodeError) as error:
        told = (
            explain(error, Rates, relative_to_root(there))
            if isinstance(error, ValidationError)
            else f"{relative_to_root(there)}: no JSON ({error})"
        )
        raise ConfigError(f"{told}; measure again with 'python benchmarks/scale.py', or remove the file") from error
