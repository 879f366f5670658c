"""The picture of all routes: its size, what is written and drawn in it, and what may be missing."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from evaluation.report.charts.training import route_table_png


def entry(value, half=0.03, chance=0.0):
    bounds = [None, None] if value is None else [value - half, value + half]
    return {"value": value, "ci95": bounds, "chance": chance, "higher_is_better": True}


def target(space="latents", **routes):
    rows = {
        name: {f"{space}_centred.correlation": entry(r), f"{space}_centred.two_way": entry(0.5 + r, chance=0.5)}
        for name, r in {**routes, "mean_predictor": 0.0, "shuffled_brain": 0.001}.items()
    }
    rows["noise_ceiling"] = {f"{space}_centred.correlation": entry(0.4)}
    return {"target": space, "rows": rows, "chosen": next(iter(routes))}


@pytest.fixture
def drawn(figures):
    """Return a function that draws a report and returns the figure and the image."""

    def draw(targets):
        png = route_table_png({"targets": targets})
        with Image.open(BytesIO(png)) as image:
            return figures[-1], image.convert("RGB")

    return draw


def written(axes):
    return [text.get_text() for text in axes.texts]


def points(axes):
    """Return the marks by marker: (x, y), filled or not."""
    lines = [line for line in axes.lines if line.get_linestyle() == "None"]
    return {
        (line.get_marker(), float(line.get_ydata()[0])): (float(line.get_xdata()[0]), line.get_markerfacecolor())
        for line in lines
    }


def test_every_target_has_a_line_of_two_panels(drawn):
    figure, image = drawn({"z": target(ridge=0.2, mlp=0.25), "c": target("text", ridge=0.3)})
    assert image.width == 1200
    assert [axes.get_title("left") for axes in figure.axes] == [
        f"{metric}, centred {space}"
        for space in ("latents", "caption embedding")
        for metric in ("Pearson r", "two-way identification")
    ]
    assert [text.get_text() for text in figure.texts] == ["z: latents", "c: text"]


def test_the_chosen_route_is_marked_by_shape_and_words_and_references_lie_below(drawn):
    figure, _ = drawn({"z": target(mlp=0.25, ridge=0.2)})
    correlation, two_way = figure.axes
    labels = [label.get_text() for label in correlation.get_yticklabels()]
    assert labels == ["mlp (chosen)", "ridge", "mean predictor", "shuffled brain"]
    found = points(correlation)
    assert {key: x for key, (x, _) in found.items()} == {
        ("D", 0.0): 0.25, ("o", 1.0): 0.2, ("s", 2.0): 0.0, ("s", 3.0): 0.001,
    }  # fmt: skip
    assert found["o", 1.0][1] == "white"
    assert len({label.get_color() for label in correlation.get_yticklabels()}) == 3
    assert ".25  [.22, .28]" in written(correlation)
    assert ".75  [.72, .78]" in written(two_way)
    assert correlation.yaxis_inverted()


def test_the_oracle_does_not_stretch_the_axis(drawn):
    with_oracle = target(ridge=0.2)
    with_oracle["rows"]["oracle"] = {"latents_centred.correlation": entry(1.0)}
    figure, _ = drawn({"z": with_oracle})
    assert "oracle" not in [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert figure.axes[0].get_xlim()[1] < 0.6


def test_chance_and_ceiling_are_drawn_and_named(drawn):
    figure, _ = drawn({"z": target(ridge=0.2)})
    correlation, two_way = figure.axes
    assert {"chance .00", "noise ceiling .40"} <= set(written(correlation))
    assert {"chance .50"} <= set(written(two_way))
    assert "noise ceiling" not in " ".join(written(two_way))
    dashed = [line.get_xdata()[0] for axes in figure.axes for line in axes.lines if line.is_dashed()]
    assert dashed == [0.0, 0.5]


def test_names_of_lines_do_not_overlap_and_nothing_leaves_the_picture(drawn):
    near = target(a_very_long_route_name_that_goes_on_and_on=0.02, **{"route" * 8: 0.01})
    near["rows"]["noise_ceiling"]["latents_centred.correlation"] = entry(0.01)
    figure, image = drawn({"z": near, "y": target(ridge=-0.2, mlp=0.3)})
    for axes in figure.axes:
        labels = [text for text in (*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels()) if text.get_text()]
        boxes = [text.get_window_extent() for text in labels]
        for index, box in enumerate(boxes):
            assert box.x0 >= 4
            assert box.x1 <= image.width
            assert box.y0 >= 0
            assert not any(box.overlaps(other) for other in boxes[index + 1 :]), labels[index]


def test_what_is_missing_is_left_out(drawn):
    null, absent = target(ridge=0.1, mlp=0.2), target(ridge=0.1)
    null["rows"]["ridge"]["latents_centred.correlation"] = entry(None)
    null["rows"]["mlp"].pop("latents_centred.correlation")
    for row in absent["rows"].values():
        row.pop("latents_centred.two_way", None)
        row["latents.correlation"] = row.pop("latents_centred.correlation")
    del absent["chosen"]
    figure, _ = drawn({"z": null, "y": absent})
    first, _, third, fourth = figure.axes
    assert "–" in written(first)
    assert sorted(key[0] for key in points(first)) == ["s", "s"]
    assert third.get_title("left") == "Pearson r, latents"
    assert written(fourth) == ["not scored"]
    assert third.get_yticklabels()[0].get_text() == "ridge"


def test_equal_reports_give_equal_bytes():
    report = {"targets": {"z": target(ridge=0.2)}}
    assert route_table_png(report) == route_table_png(report)
    with pytest.raises(ValueError, match="no target"):
        route_table_png({"targets": {}})
    assert np.asarray(Image.open(BytesIO(route_table_png(report))).convert("L")).std() > 5
