"""The picture of the diagnoses: its size, what is written and drawn in it, and what may be missing."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from evaluation.diagnoses.recall import effective_dimension, split_by_distance
from evaluation.report.charts.diagnoses import diagnosis_chart

NAME = "latents_centred.two_way"


@pytest.fixture
def drawn(figures):
    """Return a function that draws and returns the two panels and the image."""

    def draw(*args, **settings):
        png = diagnosis_chart(*args, **settings)
        with Image.open(BytesIO(png)) as image:
            return figures[-1], image.convert("RGB")

    return draw


@pytest.fixture
def scored(rng):
    """Predictions of few dimensions, targets, distances and scores that fall with them."""
    truth = rng.normal(size=(24, 50))
    predicted = truth[:, :3] @ rng.normal(size=(3, 50))
    distance = rng.uniform(0.1, 0.9, 24)
    return predicted, truth, distance, 1 - distance / 2 + 0.02 * rng.normal(size=24)


def written(axes):
    return [text.get_text() for text in axes.texts]


def test_both_panels_say_what_they_show(drawn, scored):
    predicted, truth, distance, values = scored
    split = split_by_distance({NAME: values}, distance, seed=0)[NAME]
    figure, image = drawn(*scored, label="latents, two-way", chance=0.5, split=split)
    assert image.width == 1200
    spread, scores = figure.axes
    assert [text.get_text() for text in spread.get_legend().get_texts()] == [
        f"true targets: effective dimension {effective_dimension(truth):.1f}",
        f"predictions: effective dimension {effective_dimension(predicted):.1f}",
    ]
    assert "24 test stimuli, which span 23 at most" in written(spread)
    assert scores.get_ylabel() == "latents, two-way"
    text = " | ".join(written(scores))
    assert "worse the farther: rank correlation of score and distance −" in text
    assert "chance .50" in text
    assert all(f"{name}: ." in text for name in ("near", "middle", "far"))
    assert len(scores.collections[0].get_offsets()) == 24
    solid = [line for line in scores.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 2]
    assert [line.get_ydata()[0] for line in solid] == [part["value"] for part in split["parts"]]
    assert scores.get_ylim()[0] < 0.5, "the chance level is within the axes"


def test_nothing_leaves_the_picture_or_overlaps(drawn, scored):
    values = scored[3].copy()
    values[3] = np.nan
    split = split_by_distance({NAME: -scored[3]}, scored[2], seed=0)[NAME]
    figure, image = drawn(*scored[:3], values, label="a very long name " * 6, chance=-0.7, split=split)
    for axes in figure.axes:
        labels = [text for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
        boxes = [text.get_window_extent() for text in labels]
        for index, box in enumerate(boxes):
            assert box.x0 >= 0
            assert box.x1 <= image.width
            assert box.y0 >= 0
            assert box.y1 <= image.height
            assert not any(box.overlaps(other) for other in boxes[index + 1 :]), labels[index]
    assert "1 without a score" in written(figure.axes[1])


def test_what_is_missing_is_left_out(drawn, scored):
    predicted, truth, distance, values = scored
    figure, _ = drawn(predicted[:2], truth[:2], distance[:2], values[:2], label="error", higher_is_better=False)
    spread, scores = figure.axes
    assert "too few stimuli" in written(spread)
    assert "lower is better" in written(scores)
    assert not any("chance" in text or "rank" in text for text in written(scores))
    split = split_by_distance({NAME: np.full(24, np.nan)}, distance, seed=0)[NAME]
    figure, _ = drawn(predicted, truth, distance, np.full(24, np.nan), label="none", chance=0.5, split=split)
    assert "no rank correlation" in written(figure.axes[1])
    assert "near: –" in written(figure.axes[1])


def test_equal_inputs_give_equal_bytes(scored):
    assert diagnosis_chart(*scored, label="a $ sign_") == diagnosis_chart(*scored, label="a $ sign_")
