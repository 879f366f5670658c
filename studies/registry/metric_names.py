"""Names of a training's scores in MLflow, the same for all trainings, routes and controls, so that they are comparable.

``validation.z.two_way`` and ``test.z.two_way`` are one metric of one role on held-out training stimuli and on the test
stimuli, both of targets minus their training mean; ``test.z.uncentred.two_way`` is of the targets themselves.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.statistics.spaces import is_centred

TEST, VALIDATION, UNCENTRED = "test", "validation", "uncentred"


def scores_on_test(scores: Mapping[str, Any], row: str) -> dict[str, float]:
    """Return the test scores of one row of the content of `scores.json`, a route or a control, by name."""
    return {
        ".".join([TEST, role, *_short(name)]): float(entry["value"])
        for role, scored in scores["targets"].items()
        for name, entry in sorted(scored["rows"].get(row, {}).items(), key=lambda item: _short(item[0]))
        if entry["value"] is not None
    }


def scores_of_training(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return what a training reports: the validation score that it was chosen by, free of the choice; its test scores.

    Targets that the registered route does not predict, such as baselines, have the scores of the route that does.
    """
    selection = scores["selection"]
    reported = selection.get("reported")
    validation = {f"{VALIDATION}.{selection['criterion']}": float(reported["value"])} if reported else {}
    baselines = [scored["routes"][0] for scored in scores["targets"].values()]
    merged: dict[str, float] = {}
    for row in [selection["chosen"], *baselines]:
        merged = scores_on_test(scores, row) | merged
    return validation | merged


def scores_by_route(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return every route's test scores, with the validation score that it was compared by; nothing for a single route.

    That score is ``validation.correlation``, or what `selection.criterion` names: the mean over the roles.
    """
    routes, selection = _routes(scores), scores["selection"]
    compared = {name: own["value"] for name, own in selection["routes"].items()}
    return {
        route: ({f"{VALIDATION}.{selection['criterion']}": float(compared[route])} if route in compared else {})
        | scores_on_test(scores, route)
        for route in routes
        if len(routes) > 1
    }


def scores_by_control(scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return the test scores of every control and ceiling, those of the registered route where each has its own."""
    rows = dict.fromkeys(row for scored in scores["targets"].values() for row in scored["rows"])
    return {row: scores_on_test(scores, row) for row in rows if row not in _routes(scores)}


def _routes(scores: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(route for scored in scores["targets"].values() for route in scored["routes"]))


def _short(name: str) -> list[str]:
    space, _, metric = name.rpartition(".")
    return [metric] if is_centred(space) else [UNCENTRED, metric]
