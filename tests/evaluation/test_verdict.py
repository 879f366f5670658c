"""The one sentence: what it claims, and what it does not."""

import pytest

from evaluation.report.wording import (
    headline,
    is_above,
    metric_label,
    number,
    ordered_metrics,
    ordered_rows,
    p_words,
    row_label,
    short_label,
    verdict,
)


def entry(value, low=None, high=None, *, chance=0.5, higher=True, **more):
    return {"value": value, "ci95": [low, high], "chance": chance, "higher_is_better": higher, **more}


def rows(name="pixels.two_way", **entries):
    return {"rows": {row: {name: one} for row, one in entries.items()}}


HIGH, MIDDLE, LOW = entry(0.93, 0.90, 0.96), entry(0.5, 0.44, 0.56), entry(0.52, 0.47, 0.57)
BEST = entry(0.99, 0.98, 1.0)


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            rows(reconstruction=HIGH, mean_predictor=MIDDLE, shuffled_brain=LOW, oracle=BEST),
            "Reconstructions are identified .93 of the time (pixels, two-way; chance .50): "
            "above the shuffled brain and the mean predictor, below the oracle's .99.",
        ),
        (
            rows(reconstruction=LOW, mean_predictor=MIDDLE, shuffled_brain=LOW, oracle=BEST),
            "Reconstructions are identified .52 of the time (pixels, two-way; chance .50): "
            "not above the shuffled brain or the mean predictor, below the oracle's .99.",
        ),
        (
            rows(reconstruction=HIGH, mean_predictor=entry(0.9, 0.88, 0.92), shuffled_brain=LOW, oracle=HIGH),
            "Reconstructions are identified .93 of the time (pixels, two-way; chance .50): "
            "above the shuffled brain but not above the mean predictor, not clearly below the oracle's .93.",
        ),
        (
            rows("clip.correlation", reconstruction=entry(0.42, 0.4, 0.44, chance=0.0), mean_predictor=LOW),
            "Reconstructions score .42 (CLIP, correlation; chance .00): "
            "not above the mean predictor, no shuffled brain was run.",
        ),
        (
            rows(reconstruction=entry(1.0), mean_predictor=entry(0.0), shuffled_brain=entry(0.0)),
            "Reconstructions are identified 1.00 of the time (pixels, two-way; chance .50): "
            "with too few clips to compare with the shuffled brain and the mean predictor.",
        ),
        (
            rows(reconstruction=entry(None, undefined=2)),
            "Reconstructions have no score (pixels, two-way identification): "
            "2 of them are not finite or have nothing to be compared with.",
        ),
        (rows(oracle=BEST), "Nothing was reconstructed, so there is nothing to judge."),
    ],
)
def test_the_sentence(report, sentence):
    assert verdict(report) == sentence


def test_a_noise_ceiling_changes_nothing():
    entries = {"reconstruction": HIGH, "mean_predictor": MIDDLE, "shuffled_brain": LOW}
    assert verdict(rows(**entries, noise_ceiling=BEST)) == verdict(rows(**entries))
    assert verdict(rows(noise_ceiling=BEST)) == "Nothing was reconstructed, so there is nothing to judge."
    assert "(centred latents, two-way" in verdict(rows("latents_centred.two_way", **entries))


def test_lower_may_be_better():
    assert is_above(entry(1, 0.9, 1.1, higher=False), entry(2, 1.9, 2.1, higher=False))
    assert not is_above(entry(2, 1.9, 2.1, higher=False), entry(1, 0.9, 1.1, higher=False))


def test_the_headline():
    names = ["text.two_way", "latents.two_way", "frames.ssim", "pixels.correlation"]
    assert headline({"reconstruction": {name: {} for name in names}}) == "latents.two_way"
    assert headline({"reconstruction": {name: {} for name in names[2:]}}) == "pixels.correlation"
    assert headline({}) is None


def test_figures_and_names():
    written = [number(x) for x in (0.934, -0.12, 1, 18.44, 9.996, -0.001, None, float("nan"))]
    assert written == [".93", "−.12", "1.00", "18.4", "10.0", ".00", "–", "–"]
    assert metric_label("frames.ssim") == "frames, SSIM (RGB, 7×7 uniform)"
    assert short_label("frames.ssim") == "frames SSIM"
    assert metric_label("pixels.new_one") == "pixels, new one"
    assert short_label("latents_centred.two_way") == "centred latents two-way"
    assert metric_label("latents_centred.retrieval_50") == "centred latents, 50-way retrieval"
    assert row_label("noise_ceiling") == "noise ceiling"


def compared(**p):
    return {control: {"pixels.two_way": {"value": 0.4, "ci95": [0.3, 0.5], "p": one}} for control, one in p.items()}


def test_the_test_and_not_the_intervals_decides():
    report = rows(reconstruction=LOW, mean_predictor=MIDDLE, shuffled_brain=LOW, prior=LOW, oracle=BEST)
    report["comparisons"] = compared(shuffled_brain=0.0001, mean_predictor=0.02, prior=0.3)
    assert verdict(report) == (
        "Reconstructions are identified .52 of the time (pixels, two-way; chance .50): above the shuffled brain and "
        "the mean predictor (p = .020) but not above the prior, below the oracle's .99."
    )


def test_what_does_not_beat_the_shuffled_brain_is_the_generators():
    report = rows(reconstruction=HIGH, mean_predictor=MIDDLE, shuffled_brain=HIGH, oracle=BEST)
    report["comparisons"] = compared(shuffled_brain=0.43, mean_predictor=0.0001)
    assert verdict(report) == (
        "Reconstructions are not above the generator's prior: they are identified .93 of the time (pixels, two-way; "
        "chance .50), the shuffled brain .93 (p = .43)."
    )


def test_a_control_with_missing_values_is_not_claimed():
    report = rows(reconstruction=HIGH, mean_predictor=MIDDLE, shuffled_brain=LOW)
    report["comparisons"] = compared(shuffled_brain=None, mean_predictor=0.001)
    assert "with too few clips to compare with the shuffled brain" in verdict(report)


@pytest.mark.parametrize(
    ("p", "words"), [(0.0004, "p < .001"), (0.0123, "p = .012"), (0.43, "p = .43"), (1.0, "p = 1.00")]
)
def test_p_values_in_words(p, words):
    assert p_words(p) == words


def test_order():
    rows = ["noise_ceiling", "oracle", "ridge", "shuffled_brain", "mlp", "mean_predictor", "reconstruction"]
    assert ordered_rows(rows) == [
        "reconstruction",
        "ridge",
        "mlp",
        "mean_predictor",
        "shuffled_brain",
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
