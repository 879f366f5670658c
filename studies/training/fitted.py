"""Fits one route from the brain to the targets; what is fitted can be written and read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.files import read_json, write_json
from models.decoders.build import (
    Encoder,
    Regressor,
    fit_encoder,
    fit_regressors,
    load_encoder,
    load_regressor,
    save_part,
)
from models.training.loop import Context
from studies.decoding.training_data import TrainingData
from studies.study import RouteConfig


@dataclass(frozen=True)
class FittedRoute:
    """An encoder and one regressor per role, fitted together."""

    encoder: Encoder
    regressors: dict[str, Regressor]

    def write(self, folder: Path) -> None:
        """Write its parts into an empty folder."""
        save_part(folder / "encoder", self.encoder)
        for role, regressor in self.regressors.items():
            save_part(folder / f"regressor-{role}", regressor)
        write_json(folder / "roles.json", list(self.regressors))

    @classmethod
    def read(cls, folder: Path) -> "FittedRoute":
        """Return what `write` has written."""
        roles = read_json(folder / "roles.json")
        return cls(
            load_encoder(folder / "encoder"), {role: load_regressor(folder / f"regressor-{role}") for role in roles}
        )


@dataclass(frozen=True)
class FittedBaseline:
    """A regressor of a target that is there for comparison alone."""

    regressor: Regressor

    def write(self, folder: Path) -> None:
        """Write it into an empty folder."""
        save_part(folder / "regressor", self.regressor)

    @classmethod
    def read(cls, folder: Path) -> "FittedBaseline":
        """Return what `write` has written."""
        return cls(load_regressor(folder / "regressor"))


def fit_route(route: RouteConfig, roles: Mapping[str, str], data: TrainingData, context: Context) -> FittedRoute:
    """Fit one route on training data; `roles` names the target that is regressed for each role."""
    data = data.of(pooled=route.pooled).with_targets(roles)
    encoder = fit_encoder(route.encoder, data.brains, context.within("encoder"))
    features = data.features(route.regressor, encoder)
    rows = data.roles(route.regressor, features, roles)
    regressors = fit_regressors(route.regressor, rows, context, joint=route.joint, features=features)
    return FittedRoute(encoder, regressors)


def fit_baseline(
    route: RouteConfig, encoder: Encoder, data: TrainingData, target: str, context: Context
) -> FittedBaseline:
    """Fit a target that is there for comparison alone, on the features of a route."""
    data = data.of(pooled=route.pooled)
    rows = data.roles(route.regressor, data.features(route.regressor, encoder), {target: target})
    return FittedBaseline(fit_regressors(route.regressor, rows, context.within("baselines"))[target])
