"""Which metrics a study computes: what it names is added to the defaults, unless they are to be replaced."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from core.errors import ConfigError
from evaluation.config import ONLY_WHERE_NAMED, EvaluationConfig, default_metrics
from evaluation.metrics import metric_names, registry
from evaluation.metrics.registry import register

SLOW = ONLY_WHERE_NAMED[0]


def chosen(value: Any) -> tuple[str, ...]:
    config = EvaluationConfig.model_validate({"metrics": value})
    for mode in ("json", "python"):
        assert EvaluationConfig.model_validate(config.model_dump(mode=mode)) == config, "it is read as it was written"
    return config.metrics


@pytest.mark.parametrize("value", [[SLOW], {"add": [SLOW]}, {"add": [SLOW, "two_way"]}])
def test_a_metric_that_is_named_is_computed_beside_the_defaults(value: Any) -> None:
    assert chosen(value) == (*default_metrics(), SLOW)


def test_the_defaults_are_replaced_where_that_is_said() -> None:
    assert chosen({"replace": ["two_way", "pixels.ssim", "two_way"]}) == ("two_way", "pixels.ssim")
    assert chosen([]) == EvaluationConfig().metrics == default_metrics()
    assert EvaluationConfig(metrics=("psnr",)).metrics == ("psnr",)
    assert {*default_metrics(), *ONLY_WHERE_NAMED} == set(metric_names())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"add": ["two_way"], "replace": ["psnr"]}, "either 'add' or 'replace'"),
        ({}, "expected a list, which adds to the defaults"),
        ({"replace": []}, "at least 1 item"),
        ({"remove": ["psnr"]}, "Extra inputs are not permitted"),
        (["psnrr"], "unknown metric 'psnrr'; did you mean 'psnr'"),
    ],
)
def test_other_forms_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluationConfig.model_validate({"metrics": value})


@pytest.mark.parametrize(
    ("name", "function", "more", "message"),
    [
        (
            "mine",
            lambda prediction, truth: truth,
            {},
            r"takes \(prediction, truth\), expected \(prediction, truth, gro",
        ),
        ("mine", lambda p, t, g: t, {"view": "vector"}, "no view 'vector'; did you mean 'vectors'"),
        ("mine", lambda p, t, g: t, {"influence": lambda p: p}, r"influence takes \(p\)"),
        ("my.own", lambda p, t, g: t, {}, "holds a '.'"),
        ("two_way", lambda p, t, g: t, {}, "is registered twice"),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused_where_it_is_registered(
    name: str, function: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        register(name, label="mine", chance=None, span=(0, 1), **more)(function)
    assert name not in metric_names() or name == "two_way"


def test_a_metric_that_returns_something_else_than_a_value_each_is_named() -> None:
    mean = registry.Metric("mine", "mine", None, lambda p, t, g: np.asarray(t.mean()))
    with pytest.raises(ConfigError, match=r"metric 'mine' returns the shape \(\) for 3 stimuli; return one value each"):
        mean.per_stimulus(np.zeros((3, 2)), np.zeros((3, 2)))
