"""Names of a training's scores in MLflow, the same for all trainings and routes, so that they can be compared.

``validation.z.two_way`` and ``test.z.two_way`` are one metric of one role on held-out training stimuli and on the test
stimuli, both of targets minus their training mean; ``test.z.uncentred.two_way`` is of the targets themselves, and
``test.z.shuffled_brain.two_way`` of a control.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.statistics.spaces import is_centred

TEST, VALIDATION, UNCENTRED = "test", "validation", "uncentred"


def scores_on_test(scores: Mapping[str, Any], route: str, *, baselines: bool) -> dict[str, float]:
    """Return the test scores of one route and of the controls that it is compared with, by name.

    Parameters
    ----------
    scores : the content of `scores.json`
    baselines : whether to add targets that this route does not predict, by the route that does
    """
    values: dict[str, float] = {}
    for role, scored in scores["targets"].items():
        if route not in scored["routes"] and not baselines:
            continue
        own = route if route in scored["routes"] else scored["routes"][0]
        of_routes = {*scored["routes"], *(row for rows in scored["controls"].values() for row in rows)}
        shared = {row: entries for row, entries in scored["rows"].items() if row not in of_routes}
        for row, entries in {"": scored["rows"][own], **shared, **scored["controls"].get(own, {})}.items():
            for name in sorted(entries, key=lambda name: (not is_centred(name.rpartition(".")[0]), name)):
                if entries[name]["value"] is not None:
                    values[".".join([TEST, role, *filter(None, [row]), *_short(name)])] = float(entries[name]["value"])
    return values


def metrics_by_route(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return every route's test scores, with the validation score that it was compared by; nothing for a single route.

    That score is ``validation.correlation``, or what `selection.criterion` names: the mean over the roles.
    """
    routes = next(iter(scores["targets"].values()))["routes"]
    selection = scores["selection"]
    compared = {name: own["value"] for name, own in selection["routes"].items()}
    return {
        route: ({f"{VALIDATION}.{selection['criterion']}": float(compared[route])} if route in compared else {})
        | scores_on_test(scores, route, baselines=False)
        for route in routes
        if len(routes) > 1
    }


def reported_criterion(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the validation score that a training reports, the mean over the roles; nothing where it has none."""
    selection = scores["selection"]
    reported = selection.get("reported")
    return {f"{VALIDATION}.{selection['criterion']}": float(reported["value"])} if reported else {}


def _short(name: str) -> list[str]:
    space, _, metric = name.rpartition(".")
    return [metric] if is_centred(space) else [UNCENTRED, metric]
