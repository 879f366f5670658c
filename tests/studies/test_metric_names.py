"""Names of scores in MLflow: the same for every training and route, and what is of the test set says so."""

from typing import Any

from studies.registry.metric_names import scores_by_control, scores_by_route, scores_of_training


def row(value: float | None, space: str = "latents") -> dict[str, Any]:
    return {
        f"{space}.two_way": {"value": value},
        f"{space}_centred.two_way": {"value": None if value is None else -value},
    }


def scores(*routes: str, target: str = "latents") -> dict[str, Any]:
    """Return the content of a `scores.json` whose last route is chosen; a value tells the row that it is of."""
    own = {route: row(number, target) for number, route in enumerate(routes, start=1)}
    controls = {route: {"shuffled_brain": row(10 + number, target)} for number, route in enumerate(routes, start=1)}
    shared = {"mean_predictor": row(20, target), **controls[routes[-1]]}
    z = {"target": target, "routes": list(routes), "rows": own | shared, "controls": controls}
    baseline = {"target": "pixels", "routes": [routes[0]], "rows": {routes[0]: row(30, "pixels")}, "controls": {}}
    selection = {
        "chosen": routes[-1],
        "criterion": "correlation",
        "routes": {route: {"value": number / 10} for number, route in enumerate(routes)},
        "reported": {"value": 0.05},
    }
    return {"targets": {"z": z, "pixels": baseline}, "selection": selection}


def test_no_route_and_no_target_is_part_of_a_name() -> None:
    one = scores_of_training(scores("ridge"))
    other = scores_of_training(scores("pca", "mlp", target="vae"))
    assert list(one) == list(other), "the compare page shows two trainings in the same rows"
    assert next(iter(one)) == "validation.correlation"
    assert all(name.startswith("test.") for name in list(one)[1:])
    assert (other["test.z.two_way"], other["test.z.uncentred.two_way"]) == (-2, 2)
    assert other["test.pixels.two_way"] == -30
    assert other["validation.correlation"] == 0.05


def test_every_route_and_control_has_its_own_values_under_the_same_names() -> None:
    content = scores("ridge", "mlp")
    routes, controls = scores_by_route(content), scores_by_control(content)
    assert (routes["ridge"]["test.z.two_way"], routes["mlp"]["test.z.two_way"]) == (-1, -2)
    assert [routes[name]["validation.correlation"] for name in ("ridge", "mlp")] == [0, 0.1]
    assert "test.pixels.two_way" in routes["ridge"]
    assert "test.pixels.two_way" not in routes["mlp"]
    assert set(controls) == {"mean_predictor", "shuffled_brain"}
    assert controls["shuffled_brain"] == {"test.z.two_way": -12, "test.z.uncentred.two_way": 12}, "the chosen route's"
    names = set(scores_of_training(content))
    assert all(set(own) <= names for own in [*routes.values(), *controls.values()])
    assert scores_by_route(scores("ridge")) == {}, "a single route is the training itself"


def test_what_is_missing_is_left_out() -> None:
    missing = scores("ridge")
    missing["targets"]["z"]["rows"]["ridge"] = row(None)
    missing["selection"]["reported"] = None
    assert set(scores_of_training(missing)) == {"test.pixels.two_way", "test.pixels.uncentred.two_way"}
