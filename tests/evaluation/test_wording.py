"""Figures, names, orders, and how a comparison is said to have come out."""

import pytest

from evaluation.report.wording import (
    FOLDED,
    RESIDUAL_MEANS,
    ROW_MEANINGS,
    adjusted_p,
    comparisons_words,
    headline,
    is_above,
    metric_label,
    number,
    ordered_metrics,
    ordered_rows,
    outcome,
    p_words,
    row_group,
    row_label,
    row_meaning,
    short_label,
    spaces_explained,
)
from evaluation.statistics.scores import REFERENCES, ROWS


def entry(value, low=None, high=None, *, chance=0.5, higher=True, **more):
    return {"value": value, "ci95": [low, high], "chance": chance, "higher_is_better": higher, **more}


def test_lower_may_be_better():
    assert is_above(entry(1, 0.9, 1.1, higher=False), entry(2, 1.9, 2.1, higher=False))
    assert not is_above(entry(2, 1.9, 2.1, higher=False), entry(1, 0.9, 1.1, higher=False))


def test_the_headline():
    names = ["text.two_way", "latents.two_way", "frames.ssim", "pixels.correlation"]
    assert headline({"reconstruction": {name: {} for name in names}}) == "latents.two_way"
    assert headline({"reconstruction": {name: {} for name in names[2:]}}) == "pixels.correlation"
    assert headline({}) is None


def test_with_classes_the_headline_is_within_class():
    scored = {"pixels.two_way": {}, "latents.two_way_within_class": {}, "pixels.two_way_within_class": {}}
    assert headline({"reconstruction": scored}) == "pixels.two_way_within_class"
    alone = {**scored, "pixels.two_way_within_class": {"n": 0}, "latents.two_way_within_class": {"n": 0}}
    assert headline({"reconstruction": alone}) == "pixels.two_way", "no clip shares its class with another"


def test_figures_and_names():
    written = [number(x) for x in (0.934, -0.12, 1, 18.44, 9.996, -0.001, None, float("nan"))]
    assert written == [".93", "−.12", "1.00", "18.4", "10.0", ".00", "–", "–"]
    assert [number(x) for x in (0.994, 0.996, 0.9994, 1.0, -0.997)] == [".99", ".996", ".999", "1.00", "−.997"]
    assert [number(x, 3) for x in (0.9991, 0.9996, 1.0)] == [".999", ".9996", "1.000"]
    assert metric_label("frames.ssim") == "frames, SSIM (RGB, 7×7 uniform)"
    assert short_label("frames.ssim") == "frames SSIM"
    assert metric_label("pixels.new_one") == "pixels, new one"
    assert short_label("latents_centred.two_way") == "centred latents two-way"
    assert metric_label("latents_centred.retrieval_50") == "centred latents, 50-way retrieval"
    assert short_label("latents_residual.two_way") == "latents beyond low-level features two-way"
    assert row_label("noise_ceiling") == "noise ceiling"
    assert row_label("caption_only") == "caption alone"


@pytest.mark.parametrize(
    ("p", "words"), [(0.0004, "p < .001"), (0.0123, "p = .012"), (0.43, "p = .43"), (1.0, "p = 1.00")]
)
def test_p_values_in_words(p, words):
    assert p_words(p) == words


def compared(low, high, p, *, higher=True):
    return {"value": 0.0, "ci95": [low, high], "higher_is_better": higher, "p": p / 2, "p_adjusted": p}


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (compared(0.1, 0.3, 0.01), "better"),
        (compared(-0.3, -0.1, 0.01), "worse"),
        (compared(-0.3, -0.1, 0.01, higher=False), "better"),
        (compared(0.1, 0.3, 0.01, higher=False), "worse"),
        (compared(-0.01, 0.3, 0.01), "open"),
        (compared(0.0, 0.3, 0.01), "open"),
        (compared(0.1, 0.3, 0.05), "open"),
        ({**compared(0.1, 0.3, 0.01), "p": None, "p_adjusted": None}, None),
        (compared(None, None, 0.01), None),
        (None, None),
    ],
)
def test_a_difference_is_claimed_where_interval_and_adjusted_p_agree(comparison, expected):
    assert outcome(comparison) == expected


def test_an_old_report_without_adjusted_p_has_its_own():
    assert adjusted_p({"p": 0.01}) == 0.01
    assert adjusted_p({"p": 0.01, "p_adjusted": 0.04}) == 0.04
    assert adjusted_p({"p": 0.01, "p_adjusted": None}) is None
    assert adjusted_p({}) is None


def test_the_number_of_tests_is_stated():
    two = {"pixels.two_way": {"p": 0.1}, "frames.ssim": {"p": 0.2}}
    report = {"comparisons": {"shuffled_brain": two, "prior": {"pixels.two_way": {"p": 0.1}, "x": {"p": None}}}}
    adjusted = "p is adjusted over the metrics of each row."
    assert comparisons_words(report) == f"3 paired tests against 2 rows; {adjusted}"
    one = {"comparisons": {"prior": {"x": {"p": 0.1}}, "oracle": {}}}
    assert comparisons_words(one) == f"1 paired test against 1 row; {adjusted}"
    assert comparisons_words({}) == comparisons_words({"comparisons": {"oracle": {"x": {"p": None}}}}) == ""


def test_order():
    rows = ["noise_ceiling", "oracle", "ridge", "shuffled_brain", "mlp", "mean_predictor", "reconstruction", "still"]
    assert ordered_rows(rows) == [
        "reconstruction",
        "ridge",
        "mlp",
        "mean_predictor",
        "shuffled_brain",
        "still",
        "noise_ceiling",
        "oracle",
    ]
    names = ["clip.two_way", "latents_centred.r2", "latents_centred.retrieval_10", "latents.correlation"]
    assert ordered_metrics(names) == [names[3], names[2], names[1], names[0]]
    assert ordered_metrics(["clip.two_way", "frames.psnr", "pixels.correlation", "pixels.two_way"]) == [
        "pixels.two_way",
        "pixels.correlation",
        "frames.psnr",
        "clip.two_way",
    ]


def test_spaces_are_explained_where_they_occur():
    assert spaces_explained(["pixels.two_way", "latents.two_way"]) == []
    (centred,) = spaces_explained(["latents_centred.r2", "latents.two_way"])
    assert centred.startswith("Centred: less the training mean")
    assert spaces_explained(["latents_residual.r2", "z_centred.r2"]) == [centred, RESIDUAL_MEANS]
    names = ["latents_residual.two_way", "latents_centred.two_way", "latents.two_way"]
    assert ordered_metrics(names) == names[::-1]


def test_every_row_belongs_to_a_group_and_is_explained():
    groups = {row: row_group(row) for row in (*ROWS, "ridge", *FOLDED)}
    assert groups["reconstruction"] == groups["ridge"] == "model"
    assert {row for row, group in groups.items() if group == "ceiling"} == {"noise_ceiling", "oracle"}
    assert {groups[row] for row in FOLDED} == {"control"}
    assert set(REFERENCES) <= set(ROW_MEANINGS)
    assert row_meaning("ridge") == "another model"
    assert "may be below 0 here" in row_meaning("mean_predictor")
    assert "0 by definition" in row_meaning("mean_predictor", in_training=True)
