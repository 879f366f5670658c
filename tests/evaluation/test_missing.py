"""A stimulus without a score: which it is, why, and what becomes of the others."""

import numpy as np
import pytest

from evaluation.config import EvaluationConfig
from evaluation.diagnoses.recall import split_by_distance
from evaluation.metrics import metric, metric_names
from evaluation.report.notes import in_order, missing_notes
from evaluation.report.verdict import verdict
from evaluation.statistics.scores import MEAN, NEAREST, RECONSTRUCTION, SHUFFLED, report
from evaluation.statistics.spaces import NEEDS_OF_A_FOLDER, NEEDS_OF_A_STUDY, why_skipped
from evaluation.statistics.table import Table

N = 6
STIMULI = [f"clip-{index}" for index in range(N)]


def coloured(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (N, 3, 16, 16, 3), dtype=np.uint8)


def grey(clips: np.ndarray, *which: int) -> np.ndarray:
    changed = clips.copy()
    for index in which:
        changed[index] = changed[index, ..., :1]
    return changed


def hues(truth: np.ndarray, rng: np.random.Generator) -> Table:
    table = Table({"pixels": truth}, EvaluationConfig(metrics=("hue", "psnr")), seed=0)
    for row in (RECONSTRUCTION, NEAREST, MEAN):
        table.add(row, {"pixels": coloured(rng)})
    return table


def test_a_truth_that_gives_a_metric_no_value_is_named_and_the_others_are_scored(rng: np.random.Generator) -> None:
    table = hues(grey(coloured(rng), 2), rng)
    made = table.report()
    for row in (RECONSTRUCTION, NEAREST, MEAN, SHUFFLED):
        entry = made["rows"][row]["frames.hue"]
        assert None not in (entry["value"], *entry["ci95"]), row
        assert (entry["n"], "undefined" in entry) == (5, False), "paired tests need common stimuli"
        assert "n" not in made["rows"][row]["frames.psnr"]
    for compared in made["comparisons"].values():
        assert compared["frames.hue"]["p"] is not None
        assert compared["frames.hue"]["n"] == 5
    values = table.values[RECONSTRUCTION]["frames.hue"]
    assert made["rows"][RECONSTRUCTION]["frames.hue"]["value"] == pytest.approx(np.delete(values, 2).mean())
    assert missing_notes(table, STIMULI) == [
        "frames, hue (circular, by saturation): 1 of 6 stimuli not scored (clip-2: shows no colour); n = 5 in every row"
    ]
    distance = np.arange(1.0, N + 1)
    split = split_by_distance(table.values[RECONSTRUCTION], distance, seed=0, defined=table.defined)["frames.hue"]
    assert sum(part["n"] for part in split["parts"]) == 5
    assert all(part["value"] is not None for part in split["parts"])
    assert table.record(STIMULI)["rows"][RECONSTRUCTION]["frames.hue"][2] is None


def test_scores_of_whole_truths_do_not_change(rng: np.random.Generator) -> None:
    table = hues(coloured(rng), rng)
    assert table.defined == {}
    assert missing_notes(table, STIMULI) == []
    assert all("n" not in entry for row in table.report()["rows"].values() for entry in row.values())


def test_where_no_truth_gives_a_value_the_reason_is_given(rng: np.random.Generator) -> None:
    table = hues(grey(coloured(rng), *range(N)), rng)
    assert table.report()["rows"][RECONSTRUCTION]["frames.hue"]["value"] is None
    assert missing_notes(table, STIMULI) == [
        "frames, hue (circular, by saturation): missing, every stimulus shows no colour"
    ]


def test_a_prediction_that_is_not_finite_is_named_and_never_left_out(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(N, 9))
    table = Table({"latents": truth}, EvaluationConfig(metrics=("two_way", "correlation")), seed=0)
    broken = rng.normal(size=(N, 9))
    broken[4] = np.nan
    table.add(RECONSTRUCTION, {"latents": broken})
    table.add(MEAN, {"latents": rng.normal(size=(N, 9))})
    rows = table.report()["rows"]
    assert rows[RECONSTRUCTION]["latents.correlation"]["value"] is None
    assert rows[MEAN]["latents.correlation"]["value"] is not None
    assert missing_notes(table, STIMULI) == [
        "reconstruction: missing in latents, two-way identification, latents, correlation, since the prediction of "
        "clip-4 is not finite"
    ]


def test_a_single_stimulus_has_nothing_to_be_compared_with(rng: np.random.Generator) -> None:
    table = Table({"latents": rng.normal(size=(1, 9))}, EvaluationConfig(metrics=("two_way",)), seed=0)
    table.add(RECONSTRUCTION, {"latents": rng.normal(size=(1, 9))})
    (note,) = missing_notes(table, ["only"])
    assert note == ("latents, two-way identification: missing, a single stimulus has nothing to be compared with")


def test_siblings_attributes_that_do_not_apply_and_captions_that_are_not_there(rng: np.random.Generator) -> None:
    attributes = rng.integers(0, 3, (N, 4))
    attributes[1] = -1
    captions = np.array(["a dog runs in a field", "", *["a cat sleeps on the mat"] * 4], object)
    truth = {"caption_attributes": attributes, "captions": captions, "pixels": coloured(rng)}
    wanted = ("attribute_accuracy", "all_attributes", "bleu_4", "meteor", "correlation", "epe", "hue_pcc")
    table = Table(truth, EvaluationConfig(metrics=wanted), seed=0)
    still = np.repeat(coloured(rng)[:, :1], 3, axis=1)  # EPE of stills and correlations of constants have values
    still[0] = 7
    table.add(RECONSTRUCTION, {**truth, "caption_attributes": rng.integers(0, 3, (N, 4)), "pixels": still,
                               "captions": np.array(["", *captions[1:]], object)})  # fmt: skip
    rows = table.report()["rows"][RECONSTRUCTION]
    assert all(entry["value"] is not None for entry in rows.values())
    assert {name for name, entry in rows.items() if entry.get("n") == 5} == {
        *("caption_attributes.attribute_accuracy", "caption_attributes.all_attributes"),
        *("captions.bleu_4", "captions.meteor"),
    }
    assert rows["frames.epe"].get("n") is None
    notes = missing_notes(table, STIMULI)
    assert "(clip-1: has none of the attributes)" in notes[0]
    assert "(clip-1: has no true caption)" in notes[1]


def test_a_skipped_metric_needs_what_it_needs_itself() -> None:
    """No reason of another metric, such as the size of frames, is given for one that looks at no frames."""
    tiny = {"pixels": np.zeros((2, 1, 1, 1, 3), np.uint8), "captions": np.array(["a", "b"], object),
            "video_classes": np.zeros((2, 1)), "caption_attributes": np.zeros((2, 1), int)}  # fmt: skip
    for needs in (NEEDS_OF_A_FOLDER, NEEDS_OF_A_STUDY):
        for name in metric_names():
            line = why_skipped([name], [], tiny, needs)[0]
            if metric(name).view != "frames":
                assert "pixels a side" not in line, line
            assert "needs frames of 1 pixels" not in line, line


def test_notes_on_what_was_asked_for_come_before_what_was_skipped() -> None:
    notes = ["skipped epe: needs 2 frames", "not computed: z_only", "skipped, no such stimulus was shown: x", "a leak"]
    assert in_order([*notes, "a leak"]) == [notes[2], notes[3], notes[0], notes[1]]


@pytest.mark.parametrize("n", [2, 3, 6, 12])
def test_the_verdict_of_a_folder_names_the_control_that_it_failed_against(n: int) -> None:
    """A folder has no prior: nothing is said of it, whatever fails."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 256, (n, 2, 8, 8, 3), dtype=np.uint8)
        table = Table({"pixels": truth}, EvaluationConfig(metrics=("two_way",)), seed=0)
        table.add(RECONSTRUCTION, {"pixels": rng.integers(0, 256, truth.shape, dtype=np.uint8)})
        words = verdict(report("folder", "r", n, **table.report()))
        assert words.startswith("Reconstructions are not shown to be above the shuffled brain:"), words
        assert "prior" not in words
