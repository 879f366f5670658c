"""The picture of regions: a PNG of one width, with any number of ROIs, odd names and missing scores."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.report.charts.regions import best_first, region_chart_png
from evaluation.report.wording import number

METRIC = "latents_centred.correlation"


def entry(value: float | None, half: float = 0.05, chance: float | None = 0.0) -> dict[str, Any]:
    interval = [None, None] if value is None else [value - half, value + half]
    return {"value": value, "ci95": interval, "chance": chance, "higher_is_better": True}


def report(values: dict[str, float | None], roles: tuple[str, ...] = ("z",)) -> dict[str, Any]:
    regions = {
        roi: {"alone": {METRIC: entry(value)}, "without": None, "lost": {METRIC: entry(0.01, 0.005)}}
        for roi, value in values.items()
    }
    rows = {"all_voxels": {METRIC: entry(0.6)}, "shuffled_brain": {METRIC: entry(0.02)}}
    return {
        "regions": {roi: {"voxels": {"sub-01": 40, "sub-02": 43}} for roi in values},
        "targets": {role: {"target": "latents", "rows": rows, "regions": regions} for role in roles},
    }


def pixels(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def test_it_is_1200_pixels_wide_and_grows_with_the_rois() -> None:
    few = pixels(region_chart_png(report({"V1": 0.5, "V2": 0.1})))
    many = pixels(region_chart_png(report({f"ROI {index}": index / 80 for index in range(60)})))
    both = pixels(region_chart_png(report({"V1": 0.5, "V2": 0.1}, ("z", "b"))))
    assert few.shape[1] == many.shape[1] == both.shape[1] == 1200
    assert few.shape[0] < 300
    assert 1000 < many.shape[0] < 1600
    assert both.shape[0] == 2 * few.shape[0]


def test_bars_that_are_clear_of_chance_have_another_colour() -> None:
    blue = np.array([0x5B, 0x9B, 0xCF])
    clear = (abs(pixels(region_chart_png(report({"V1": 0.5})))[:, 150:520] - blue).sum(axis=-1) < 6).sum()
    unclear = (abs(pixels(region_chart_png(report({"V1": 0.04})))[:, 150:520] - blue).sum(axis=-1) < 6).sum()
    assert clear > 1000 > 10 > unclear


def test_the_best_is_first_and_what_has_no_score_last() -> None:
    made = report({"low": 0.1, "none": None, "high": 0.5})
    assert best_first(made["targets"]["z"]["regions"], METRIC) == ["high", "low", "none"]


def test_odd_names_missing_scores_and_no_other_voxels_are_drawn() -> None:
    made = report({"a very long name of a region, inferior part": 0.3, "$x_1^": None, "V1": 0.2})
    made["targets"]["z"]["regions"]["V1"]["lost"] = None
    made["targets"]["z"]["rows"] = {"all_voxels": {METRIC: entry(None, chance=None)}}
    assert pixels(region_chart_png(made)).shape[1] == 1200


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no target or no ROI"):
        region_chart_png({"regions": {}, "targets": {}})
    with pytest.raises(ValueError, match="latents: not scored by 'two_way'; found latents_centred.correlation"):
        region_chart_png(report({"V1": 0.5}), "two_way")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, ".012"), (-0.003, "−.003"), (-0.0001, ".000"), (1.0, "1.000"), (None, "–")]
)
def test_small_differences_are_written_with_three_decimals(value: float | None, text: str) -> None:
    assert number(value, 3) == text
