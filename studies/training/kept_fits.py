"""Fits that an earlier training made of the same settings, inputs and code: changing one route fits it alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from core.code import code_digest
from core.files import read_json, write_json
from models.training.loop import Context, History
from studies.decoding.training_data import read_training_data
from studies.stores.kept import NOTHING_KEPT, Kept
from studies.study import RouteConfig

LOSSES = "losses.json"


class Keepable(Protocol):
    """What a fit gives, as a folder holds it."""

    def write(self, folder: Path) -> None:
        """Write it into an empty folder."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return what `write` has written, which predicts the same bit for bit."""


Fit = TypeVar("Fit", bound=Keepable)


class KeptFits:
    """The fits of a study's trainings; see `studies.stores.kept`.

    Parameters
    ----------
    kept : made from all that every route is fitted on; by default nothing is kept, and every route is fitted
    """

    def __init__(self, kept: Kept = NOTHING_KEPT) -> None:
        self._kept = kept

    def once(
        self,
        what: str,
        kind: type[Fit],
        route: RouteConfig,
        inputs: Mapping[str, Any],
        context: Context,
        fit: Callable[[Context], Fit],
    ) -> Fit:
        """Return a fit, made now or before, and log its losses.

        Parameters
        ----------
        what : what is reported to be unchanged, where it is
        kind : the class of what is fitted, whose module fits it
        route : the route's settings
        inputs : JSON-able, what it is made from beside these and what all routes are made from
        context : of the fit; its name, hence its seed, counts
        """
        losses: list[tuple[str, History]] = []

        def make() -> tuple[Fit, list[tuple[str, History]]]:
            return fit(replace(context, log=lambda stage, history: losses.append((stage, history)))), losses

        made_from = {
            "fit": kind.__name__,
            "name": context.name,
            "seed": context.seed,
            "route": route.model_dump(mode="json"),
            "code": code_digest(kind, read_training_data, [route.encoder, route.regressor]),
            **inputs,
        }
        made, logged = self._kept.once(
            what, made_from, make, _write, lambda folder: (kind.read(folder), _losses(folder))
        )
        for stage, history in logged:
            context.log(stage, history)
        return made

    def tidy(self) -> None:
        """Remove what the latest trainings had no use for."""
        self._kept.tidy()


NO_KEPT_FITS = KeptFits()
"""Fits every route anew."""


def _write(folder: Path, made: tuple[Keepable, list[tuple[str, History]]]) -> None:
    fit, losses = made
    fit.write(folder)
    write_json(folder / LOSSES, [[stage, vars(history)] for stage, history in losses])


def _losses(folder: Path) -> list[tuple[str, History]]:
    return [
        (stage, History(kept["losses"], [(int(at), loss) for at, loss in kept["validation"]], kept["best"]))
        for stage, kept in read_json(folder / LOSSES)
    ]
