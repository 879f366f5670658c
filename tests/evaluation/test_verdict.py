"""The verdict: what its sentences claim, and what they do not."""

import numpy as np
import pytest

from evaluation.report.verdict import is_equivalent, verdict
from evaluation.statistics import scores

from .test_wording import entry

NAME = "pixels.two_way"


def rows(name=NAME, **entries):
    return {"rows": {row: {name: one} for row, one in entries.items()}}


HIGH, MIDDLE, LOW = entry(0.93, 0.90, 0.96), entry(0.5, 0.44, 0.56), entry(0.52, 0.47, 0.57)
BEST = entry(0.99, 0.98, 1.0)
KNOWN = {"reconstruction": HIGH, "mean_predictor": MIDDLE, "shuffled_brain": LOW}
BEGINNING = "Reconstructions are identified .93 of the time (pixels, two-way; chance .50)"


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            rows(**KNOWN, oracle=BEST),
            f"{BEGINNING}: above the shuffled brain and the mean predictor, below the oracle's .99.",
        ),
        (
            rows(reconstruction=LOW, mean_predictor=MIDDLE, shuffled_brain=LOW, oracle=BEST),
            "Reconstructions are not shown to be above the shuffled brain: they are identified .52 of the time "
            "(pixels, two-way; chance .50), the shuffled brain .52.",
        ),
        (
            rows(reconstruction=HIGH, mean_predictor=entry(0.9, 0.88, 0.92), shuffled_brain=LOW, oracle=HIGH),
            f"{BEGINNING}: above the shuffled brain but not shown to be above the mean predictor, "
            "not told apart from the oracle's .93.",
        ),
        (
            rows("clip.correlation", reconstruction=entry(0.42, 0.4, 0.44, chance=None), mean_predictor=MIDDLE),
            "Reconstructions score .42 (CLIP, correlation): "
            "not shown to be above the mean predictor, no shuffled brain was run.",
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
def test_a_report_without_paired_comparisons_is_read_by_its_intervals(report, sentence):
    assert verdict(report) == sentence


def test_a_noise_ceiling_is_named_only_where_it_is_exceeded():
    assert verdict(rows(**KNOWN, noise_ceiling=BEST)) == verdict(rows(**KNOWN))
    assert verdict(rows(noise_ceiling=BEST)) == "Nothing was reconstructed, so there is nothing to judge."
    assert "above the noise ceiling's .50, which is no bound here" in verdict(rows(**KNOWN, noise_ceiling=MIDDLE))
    assert "(centred latents, two-way" in verdict(rows("latents_centred.two_way", **KNOWN))


def difference(value, low, high, p, *, higher=True):
    return {"value": value, "ci95": [low, high], "higher_is_better": higher, "p": p, "p_adjusted": p}


CLEAR, OPEN = difference(0.4, 0.3, 0.5, 0.0001), difference(0.02, -0.01, 0.05, 0.2)


def compared(report, name=NAME, **comparisons):
    return {**report, "comparisons": {row: {name: one} for row, one in comparisons.items()}}


def test_clips_and_subjects_are_named():
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=difference(0.4, 0.3, 0.5, 0.02))
    claim = "above the shuffled brain and the mean predictor (adjusted p = .020)."
    said = BEGINNING.removesuffix(")")
    assert verdict({**report, "n_test": 48, "subject": "sub-01"}) == f"{said}; 48 clips of one subject): {claim}"
    assert "; 48 clips of 3 subjects): " in verdict({**report, "n_test": 48, "subjects": ["a", "b", "c"]})
    assert verdict({**report, "n_test": 1}).startswith(f"{said}; 1 clip): ")
    assert "; 48 clips by a group decoder of 2 subjects): " in verdict(
        {**report, "n_test": 48, "subject": "group:a+b", "group_decoder": ["a", "b"]}
    )
    missing = {**report, "rows": {**report["rows"], "reconstruction": {NAME: {**HIGH, "n": 40}}}}
    assert "; 40 clips): " in verdict({**missing, "n_test": 48})
    missing["rows"]["reconstruction"] = {NAME: {**HIGH, "block_length": 6}}
    assert "; 48 clips in blocks of 6): " in verdict({**missing, "n_test": 48})


def test_the_paired_comparison_decides_and_not_the_two_intervals():
    report = rows(reconstruction=LOW, mean_predictor=MIDDLE, shuffled_brain=LOW, prior=LOW, oracle=BEST)
    report = compared(
        report,
        shuffled_brain=CLEAR,
        mean_predictor=difference(0.02, 0.001, 0.04, 0.02),
        prior=OPEN,
        oracle=difference(-0.47, -0.51, -0.43, 0.0001),
    )
    assert verdict(report) == (
        "Reconstructions are identified .52 of the time (pixels, two-way; chance .50): above the shuffled brain and "
        "the mean predictor (adjusted p = .020) but not shown to be above the prior, "
        "below the oracle's .99 by .47 [.43, .51]."
    )


def test_the_control_that_is_named_is_the_one_that_was_tested():
    """Of what is not above the shuffled brain nothing is said about a prior, which may not have been run."""
    report = compared(rows(**KNOWN, oracle=BEST), shuffled_brain=OPEN, mean_predictor=CLEAR)
    assert verdict({**report, "n_test": 30}) == (
        "Reconstructions are not shown to be above the shuffled brain: they are identified .93 of the time (pixels, "
        "two-way; chance .50; 30 clips), the shuffled brain .52, difference .020 [−.010, .050], adjusted p = .20."
    )


def test_below_is_said_where_it_is_below():
    worse = difference(-0.1, -0.15, -0.05, 0.001)
    report = compared(rows(**KNOWN), shuffled_brain=worse, mean_predictor=worse)
    assert verdict(report).startswith("Reconstructions are below the shuffled brain: they ")
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=worse)
    assert verdict(report).endswith("above the shuffled brain (adjusted p < .001) but below the mean predictor.")


def test_lower_is_better_reads_rightly():
    name = "frames.epe"
    low, high = entry(1.3, 1.2, 1.4, chance=None, higher=False), entry(2.9, 2.5, 3.3, chance=None, higher=False)
    best = entry(0.8, 0.7, 0.9, chance=None, higher=False)
    report = rows(name, reconstruction=low, shuffled_brain=high, mean_predictor=high, oracle=best)
    report = compared(
        report,
        name,
        shuffled_brain=difference(-1.6, -1.9, -1.3, 0.0001, higher=False),
        mean_predictor=difference(-0.1, -0.3, 0.1, 0.3, higher=False),
        oracle=difference(0.5, 0.4, 0.6, 0.0001, higher=False),
    )
    said = verdict(report)
    assert "lower is better): better than the shuffled brain (adjusted p < .001)" in said
    assert "not shown to be better than the mean predictor" in said
    assert said.endswith(", worse than the oracle's .80 by .50 [.40, .60].")
    assert "above" not in said
    assert "below" not in said
    report["comparisons"]["shuffled_brain"][name] = difference(0.1, -0.3, 0.1, 0.3, higher=False)
    assert verdict(report).startswith("Reconstructions are not shown to be better than the shuffled brain: they score")


def test_a_comparison_with_missing_values_is_not_claimed():
    report = compared(rows(**KNOWN), shuffled_brain=difference(None, None, None, None), mean_predictor=CLEAR)
    assert "with too few clips to compare with the shuffled brain" in verdict(report)


def test_many_controls_are_counted_and_the_ones_that_are_not_beaten_are_named():
    names = ("prior", "nearest_training_clip", "category", "still", "shuffled_frames", "z_only", "caption_only")
    report = rows(**KNOWN, **dict.fromkeys(names, LOW))
    beaten = dict.fromkeys(("shuffled_brain", "mean_predictor", *names[:3]), CLEAR)
    said = verdict(compared(report, **beaten, still=OPEN, shuffled_frames=OPEN, z_only=OPEN, caption_only=OPEN))
    assert "above the shuffled brain, the mean predictor, the nearest training clip and 2 other controls" in said
    assert "not shown to be above the still frame, the shuffled frames, the caption alone or z alone." in said


ORACLE_IS_NEAR = rows(**KNOWN, oracle=entry(0.94, 0.9, 0.98))


@pytest.mark.parametrize(
    ("against_oracle", "words"),
    [
        (difference(-0.06, -0.08, -0.04, 0.0001), "below the oracle's .94 by .060 [.040, .080]."),
        (
            difference(-0.004, -0.012, 0.004, 0.4),
            "not clearly below the oracle's .94 (within .02: difference −.004 [−.012, .004]).",
        ),
        (
            difference(-0.01, -0.03, 0.01, 0.4),
            "not told apart from the oracle's .94 with 48 clips (difference −.010 [−.030, .010]).",
        ),
        (
            difference(-0.03, -0.05, -0.01, 0.06),
            "not told apart from the oracle's .94 with 48 clips (difference −.030 [−.050, −.010]).",
        ),
        (difference(0.0, 0.0, 0.0, 1.0), "equal to the oracle's .94 in every clip."),
        (difference(0.06, 0.04, 0.08, 0.0001), "above the oracle's .94 by .060 [.040, .080]."),
    ],
)
def test_the_oracle_is_equalled_only_where_equivalence_is_shown(against_oracle, words):
    report = compared(ORACLE_IS_NEAR, shuffled_brain=CLEAR, mean_predictor=CLEAR, oracle=against_oracle)
    assert verdict({**report, "n_test": 48}).endswith(words)


def test_equivalence_needs_a_metric_whose_scale_is_known():
    near = difference(0.0, -0.01, 0.01, 0.9)
    assert is_equivalent("pixels.two_way", near)
    assert not is_equivalent("frames.psnr", near), "a fiftieth of a decibel is no margin"
    assert not is_equivalent("pixels.unknown", near)
    assert not is_equivalent("pixels.two_way", difference(0.0, -0.021, 0.01, 0.9))


def test_with_classes_it_is_judged_within_class_and_the_other_figure_is_explained():
    report = rows("pixels.two_way_within_class", reconstruction=entry(0.875, 0.72, 1.0), **{"shuffled_brain": MIDDLE})
    report["rows"]["reconstruction"]["pixels.two_way"] = entry(0.944, 0.88, 1.0)
    report["rows"]["mean_predictor"] = {"pixels.two_way_within_class": MIDDLE}
    report = compared(report, "pixels.two_way_within_class", shuffled_brain=CLEAR, mean_predictor=CLEAR)
    report |= {"n_test": 10, "subject": "sub-01"}
    assert verdict(report) == (
        "Reconstructions are identified .88 of the time among clips of their own class (pixels, two-way; among all "
        "clips .94, where knowing the class helps; chance .50; 10 clips of one subject): above the shuffled brain and "
        "the mean predictor (adjusted p < .001)."
    )
    report["rows"]["category"] = {"pixels.two_way": entry(0.778, 0.7, 0.85)}
    assert "among all clips .94, where the true class alone reaches .78;" in verdict(report)


def leaks(count, kind="clips"):
    return {"leaks": {"stimuli": {"count": 0}, "clips": {"count": 0}} | {kind: {"count": count}}}


def test_the_sentence_begins_with_test_clips_that_are_training_clips():
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=CLEAR) | {"n_test": 48}
    said = verdict({**report, "diagnoses": leaks(2)})
    assert said.startswith("2 of 48 test clips are training clips; with them, reconstructions are identified .93 of")
    assert "above the shuffled brain" in said
    said = verdict({**report, "diagnoses": leaks(1, "stimuli")})
    assert said.startswith("1 of 48 test clip is a training clip; with it, reconstructions ")
    assert verdict({**report, "diagnoses": leaks(0)}) == verdict(report)
    assert verdict({**report, "diagnoses": {"leaks": {"clips": {"count": None}}}}) == verdict(report)


def test_where_all_test_clips_are_training_clips_nothing_is_claimed():
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=CLEAR) | {"n_test": 48}
    assert verdict({**report, "diagnoses": leaks(48)}) == (
        "All 48 test clips are training clips, so nothing is shown about unseen ones: reconstructions are identified "
        ".93 of the time (pixels, two-way; chance .50; 48 clips), and recall of training clips would be too."
    )


def scored(n=NAME, oracle=None, *, ours, shuffled, mean, **more):
    values = {"reconstruction": {n: ours}, "shuffled_brain": {n: shuffled}, "mean_predictor": {n: mean}}
    values |= {} if oracle is None else {"oracle": {n: oracle}}
    made = {"rows": scores.summarise(values), "comparisons": scores.comparisons(values, seed=0)}
    return {**made, "n_test": len(ours), **more}


@pytest.mark.parametrize("leaked", [0, 5])
def test_five_perfect_clips_do_not_read_as_above(leaked):
    """No difference of five values can be significant two-sided: 2 of 32 flips are as large, p = .0625."""
    rng = np.random.default_rng(0)
    values = {"ours": np.ones(5), "shuffled": rng.uniform(0.3, 0.7, 5), "mean": np.full(5, 0.5), "oracle": np.ones(5)}
    said = verdict(scored(**values, diagnoses=leaks(leaked)))
    assert "): above" not in said
    assert "not clearly below" not in said, "five equal clips show no equivalence"
    if leaked:
        assert said.startswith("All 5 test clips are training clips, so nothing is shown about unseen ones")


def test_an_interval_that_holds_zero_does_not_read_as_above():
    claims = 0
    for seed in range(40):
        ours = 0.518 + 0.06 * np.random.default_rng(seed).normal(size=30)
        report = scored(ours=ours, shuffled=np.full(30, 0.5), mean=np.full(30, 0.5))
        tested, said = report["comparisons"]["shuffled_brain"][NAME], verdict(report)
        if tested["ci95"][0] <= 0 or tested["p_adjusted"] >= 0.05:
            assert said.startswith("Reconstructions are not shown to be above the shuffled brain"), said
        else:
            claims += 1
            assert ": above the shuffled brain" in said, said
    assert 0 < claims < 40, "some of these samples are clear and some are not"


def test_what_equals_the_oracle_in_every_clip_is_equivalent_and_what_differs_is_below():
    rng = np.random.default_rng(0)
    best = 0.9 + 0.02 * rng.normal(size=40)
    values = {"shuffled": np.full(40, 0.5), "mean": np.full(40, 0.5), "oracle": best}
    same = verdict(scored(**values, ours=best + 0.002 * rng.normal(size=40)))
    assert "not clearly below the oracle's .90 (within .02: difference " in same
    lower = verdict(scored(**values, ours=best - 0.004 + 0.002 * rng.normal(size=40)))
    assert "below the oracle's .90 by .004 [.00" in lower, "their own intervals overlap, the paired difference is clear"


TIME = {"count": 40, "of": 48, "within_s": 8.0, "dense": True, "allowed": True, "note": ""}


def test_test_trials_near_training_trials_in_time_have_a_sentence():
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=CLEAR)
    assert verdict({**report, "diagnoses": {"time": TIME}}) == (
        f"{verdict(report)} 40 of 48 test trials lie within 8 s of a training trial of the same run or movie, so the "
        "score cannot be told from autocorrelation in time."
    )
    assert verdict({**report, "diagnoses": {"time": {**TIME, "count": 3, "dense": False}}}) == verdict(report)


def by_distance(low, high):
    far = {"name": "far", "n": 16, "value": 0.71, "ci95": [0.6, 0.82]}
    return {"metrics": {NAME: {"parts": [far], "rank_correlation": {"value": -0.4, "ci95": [low, high]}}}}


def test_scores_that_fall_with_the_distance_to_training_have_a_sentence():
    report = compared(rows(**KNOWN), shuffled_brain=CLEAR, mean_predictor=CLEAR)
    assert verdict({**report, "diagnoses": {"distance": by_distance(-0.6, -0.1)}}) == (
        f"{verdict(report)} Scores get worse with the distance to the training clips, as in recall: rank correlation "
        "−.40 [−.60, −.10], the far third .71 [.60, .82]."
    )
    for low, high in ((-0.6, 0.1), (0.1, 0.6), (None, None)):
        assert verdict({**report, "diagnoses": {"distance": by_distance(low, high)}}) == verdict(report)
    both = verdict({**report, "diagnoses": {"time": TIME, "distance": by_distance(-0.6, -0.1)}})
    assert both.index("test trials lie within") < both.index("Scores get worse")
