"""Two runs are compared pair by pair: the arithmetic, what is left out and said, what is refused, the picture."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import permutation_test

from core.errors import ConfigError, SourceError, SourceMissing
from core.files import read_json, write_json
from evaluation.config import EvaluationConfig
from evaluation.metrics import metric
from evaluation.report.charts.differences import difference_chart
from evaluation.report.wording import difference
from evaluation.statistics.candidates import kept_bytes
from evaluation.statistics.table import Table
from studies.comparison.compare import compare_runs, compare_values
from studies.runs import Run, file_digests, find, read_run

Write = Callable[..., Path]
STIMULI = [f"{index:02d}" for index in range(12)]


@pytest.fixture
def write(home: Path) -> Write:
    """Write a run's values, and what it was made from."""

    def write(
        run: str,
        rows: dict[str, dict[str, Sequence[float | None]]],
        stimuli: Sequence[str] = STIMULI,
        subject: str = "sub-01",
        **manifest: Any,
    ) -> Path:
        folder = home / "outputs" / run
        study, name = run.removeprefix("evaluations/").split("/")
        values = {"schema": 1, "study": study, "run": name, "subject": subject, "stimuli": list(stimuli)}
        directions = {name: not name.endswith("epe") for scored in rows.values() for name in scored}
        write_json(folder / "values.json", {**values, "rows": rows, "directions": directions})
        write_json(folder / "manifest.json", manifest)
        return folder

    return write


def scored(**metrics: Sequence[float | None] | np.ndarray) -> dict[str, dict[str, Any]]:
    """Return rows of one run; ``pixels__ssim`` stands for the metric's name."""
    return {"reconstruction": {name.replace("__", "."): list(values) for name, values in metrics.items()}}


def test_differences_are_paired_and_second_minus_first(write: Write, rng: np.random.Generator) -> None:
    first, effect = rng.normal(0.5, 0.2, 12), rng.normal(0.05, 0.03, 12)
    write("demo/one", scored(pixels__correlation=first, frames__psnr=10 * first))
    write("demo/two", scored(pixels__correlation=first + effect, frames__psnr=10 * first))
    made = compare_runs("demo/one", "demo/two")
    entry = made.report["metrics"]["pixels.correlation"]
    assert entry["first"]["value"] == pytest.approx(first.mean())
    assert entry["second"]["value"] == pytest.approx((first + effect).mean())
    assert entry["value"] == pytest.approx(effect.mean())
    low, high = entry["ci95"]
    assert low < effect.mean() < high
    assert low > 0, "what makes a stimulus hard for both does not widen the interval"
    same = made.report["metrics"]["frames.psnr"]
    assert (same["value"], same["ci95"], same["p"]) == (0.0, [0.0, 0.0], 1.0)
    assert entry["p_adjusted"] == pytest.approx(2 * entry["p"])
    assert made.report["n"] == 12
    assert made.report["notes"] == []


def test_p_is_that_of_an_exact_two_sided_permutation(write: Write, rng: np.random.Generator) -> None:
    first, second = rng.normal(0.5, 0.2, 12), rng.normal(0.6, 0.2, 12)
    write("demo/one", scored(pixels__correlation=first))
    write("demo/two", scored(pixels__correlation=second))
    p = compare_runs("demo/one", "demo/two").report["metrics"]["pixels.correlation"]["p"]
    wanted = permutation_test(
        (second - first,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert p == pytest.approx(wanted.pvalue)
    back = compare_runs("demo/two", "demo/one").report["metrics"]["pixels.correlation"]
    assert back["p"] == pytest.approx(p)
    assert back["value"] == pytest.approx(-(second - first).mean())


def test_stimuli_are_joined_by_name_and_the_others_are_said(write: Write) -> None:
    values = np.arange(12) / 12
    write("demo/one", scored(pixels__correlation=values))
    write("demo/two", scored(pixels__correlation=values[::-1][:9]), [*STIMULI[::-1][:8], "other"])
    made = compare_runs("demo/one", "demo/two")
    assert made.report["n"] == 8
    assert made.report["metrics"]["pixels.correlation"]["value"] == 0.0
    assert made.report["only"] == {
        "first": {"count": 4, "examples": ["00", "01", "02"]},
        "second": {"count": 1, "examples": ["other"]},
    }
    assert made.report["notes"] == [
        "in the first run alone and not compared, 4 of its stimuli: 00, 01, 02 and 1 more",
        "in the second run alone and not compared, 1 of its stimuli: other",
    ]


def test_missing_values_are_left_out_and_counted(write: Write) -> None:
    write("demo/one", scored(pixels__correlation=[None, *[0.5] * 11], frames__psnr=[20.0] * 12))
    write("demo/two", scored(pixels__correlation=[0.1, None, *[0.6] * 10], frames__psnr=[21.0] * 12))
    made = compare_runs("demo/one", "demo/two")
    entry = made.report["metrics"]["pixels.correlation"]
    assert entry["n"] == 10
    assert entry["value"] == pytest.approx(0.1)
    assert made.report["notes"] == [
        "without a value in one of the runs and not compared, 2 of 12 stimuli: pixels.correlation"
    ]
    write("demo/none", scored(pixels__correlation=[None] * 12, frames__psnr=[21.0] * 12))
    entry = compare_runs("demo/one", "demo/none").report["metrics"]["pixels.correlation"]
    assert (entry["n"], entry["value"], entry["p"], entry["ci95"]) == (0, None, None, [None, None])


def test_where_lower_is_better_the_direction_is_kept(write: Write) -> None:
    write("demo/one", scored(frames__epe=np.full(12, 3.0)))
    write("demo/two", scored(frames__epe=np.full(12, 2.0)))
    entry = compare_runs("demo/one", "demo/two").report["metrics"]["frames.epe"]
    assert entry["higher_is_better"] is False
    assert entry["value"] == -1.0
    assert entry["p"] == pytest.approx(2 / 2**12)


def test_what_differs_between_the_runs_is_said(write: Write) -> None:
    rows = scored(video_classes__top_1_of_2=[0.5] * 12)
    write("demo/one", rows)
    write("peer/two", scored(video_classes__top_1_of_2=[0.5] * 12, frames__psnr=[9.0] * 12), subject="sub-02")
    assert compare_runs("demo/one", "peer/two").report["notes"] == [
        "the studies differ: demo and peer",
        "the subjects differ: sub-01 and sub-02",
        "scored in one of the runs alone: frames.psnr",
    ]
    assert "both are the same run" in compare_runs("demo/one", "demo/one").report["notes"]


def test_pixels_of_other_sizes_are_left_out(write: Write) -> None:
    rows = scored(frames__ssim=[0.5] * 12, pixels_centred__r2=[0.5] * 12, video_classes__top_1_of_2=[0.5] * 12)
    clips = {"frames": 8, "height": 32, "width": 32}
    write("demo/one", rows, clips=clips)
    write("demo/two", rows, sampling={**clips, "height": 64})
    made = compare_runs("demo/one", "demo/two")
    assert list(made.report["metrics"]) == ["video_classes.top_1_of_2"]
    assert made.report["notes"] == [
        "clips of other sizes, 8 × 32 × 32 and 8 × 64 × 32, so not compared: frames, pixels"
    ]
    write("demo/three", rows, sampling=clips)
    assert len(compare_runs("demo/one", "demo/three").report["metrics"]) == 3


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.004, "+.004"), (-0.004, "−.004"), (0.0, ".000"), (0.12, "+.12"), (-1.5, "−1.50"), (None, "–")],
)
def test_differences_are_written_with_their_sign(value: float | None, words: str) -> None:
    assert difference(value, signed=True) == words


def test_spaces_that_were_made_with_other_weights_are_left_out(write: Write) -> None:
    rows = scored(
        pixels__correlation=[0.5] * 12, latents_centred__correlation=[0.1] * 12, clip_frames__similarity=[0.5] * 12
    )
    config = {"targets": {"z16": {"extractor": "latents"}}}
    write("demo/one", rows, config=config, made_from={"extractors": {"z16": "aa"}}, judges={"clip": "cc"})
    write("demo/two", rows, config=config, made_from={"extractors": {"z16": "bb"}}, judges={"clip": "cc"})
    made = compare_runs("demo/one", "demo/two")
    assert set(made.report["metrics"]) == {"pixels.correlation", "clip_frames.similarity"}
    assert made.report["notes"] == ["looked at with other weights in the two runs, so not compared: latents"]
    write("demo/three", scored(clip_frames__similarity=[0.5] * 12), judges={"clip": "dd"})
    with pytest.raises(ConfigError, match=r"no metric in common: looked at with other weights .*: clip_frames"):
        compare_runs("demo/one", "demo/three")


def test_another_row_can_be_compared(write: Write) -> None:
    rows = {**scored(pixels__correlation=[0.5] * 12), "mean_predictor": {"pixels.correlation": [0.2] * 12}}
    write("demo/one", rows)
    write("demo/two", rows)
    made = compare_runs("demo/one", "demo/two", row="mean_predictor")
    assert made.report["metrics"]["pixels.correlation"]["first"]["value"] == pytest.approx(0.2)
    assert made.folder.name == "demo-one--demo-two--mean_predictor"
    with pytest.raises(ConfigError, match="demo/one: has no row 'mean_predicter'; did you mean 'mean_predictor'"):
        compare_runs("demo/one", "demo/two", row="mean_predicter")


def test_runs_without_anything_in_common_are_one_line(write: Write) -> None:
    write("demo/one", scored(pixels__correlation=[0.5] * 12))
    write("demo/two", scored(pixels__correlation=[0.5] * 2), ["a", "b"])
    write("demo/three", scored(frames__psnr=[20.0] * 12))
    with pytest.raises(ConfigError, match=r"no stimulus in common \(00, 01, 02 and 9 more; a, b\)"):
        compare_runs("demo/one", "demo/two")
    with pytest.raises(ConfigError, match="no metric in common"):
        compare_runs("demo/one", "demo/three")


def test_a_run_is_found_by_folder_by_name_and_as_latest(
    write: Write, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write("demo/20260101-000000-aaaaaa", scored(pixels__correlation=[0.5] * 12))
    (home / "outputs" / "demo" / "latest").symlink_to(folder.name)
    peer = write("evaluations/peer/20260102-000000-bbbbbb", scored(pixels__correlation=[0.5] * 12))
    (peer.parent / "latest").symlink_to(peer.name)
    for name in (folder, "demo/latest", "20260101-000000-aaaaaa", "demo/20260101-000000-aaaaaa"):
        assert find(name) == folder
    for name in ("peer/latest", "evaluations/peer/latest", "20260102-000000-bbbbbb"):
        assert find(name) == peer
    with pytest.raises(
        ConfigError, match="latest: several runs have this name; name one of demo/latest, evaluations/peer/latest"
    ):
        find("latest")
    with pytest.raises(SourceMissing, match="no such run under outputs/; did you mean 'demo/20260101-000000-aaaaaa'"):
        find("demo/20260101-000000-aaaaab")


def test_runs_without_values_say_what_to_do(write: Write, home: Path) -> None:
    folder = write("demo/one", scored(pixels__correlation=[0.5] * 12))
    (folder / "values.json").unlink()
    with pytest.raises(SourceMissing, match=r"holds no values.json.*run 'brain2video reconstruct' again"):
        compare_runs("demo/one", "demo/one")
    for content in (
        "{}",
        "[1]",
        "no json",
        '{"schema": 1, "study": "a", "run": "b", "stimuli": ["x"], "rows": {"r": 1}}',
    ):
        (folder / "values.json").write_text(content)
        with pytest.raises(SourceError, match="holds no values of a run"):
            compare_runs("demo/one", "demo/one")
    (folder / "values.json").write_text('{"schema": 2}')
    with pytest.raises(SourceError, match="has schema 2, expected 1"):
        compare_runs("demo/one", "demo/one")
    write("demo/one", scored(pixels__correlation=[0.5] * 11))
    with pytest.raises(SourceError, match="a metric lacks the value of a stimulus"):
        compare_runs("demo/one", "demo/one")


def test_the_same_runs_give_the_same_files(write: Write, home: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    write("demo/one", scored(pixels__correlation=rng.random(12), frames__psnr=rng.random(12)))
    write("demo/two", scored(pixels__correlation=rng.random(12), frames__psnr=rng.random(12)))
    made = compare_runs("demo/one", "demo/two")
    assert made.folder == home / "outputs" / "comparisons" / "demo-one--demo-two"
    assert read_json(made.folder / "comparison.json") == made.report
    again = compare_runs("demo/one", "demo/two", output=tmp_path / "out")
    assert file_digests(again.folder) == file_digests(made.folder)
    with pytest.raises(ConfigError, match="holds something else than a comparison"):
        compare_runs("demo/one", "demo/two", output=home)


def test_the_picture_shows_every_metric(write: Write, rng: np.random.Generator) -> None:
    first = {"pixels__correlation": rng.random(12), "frames__psnr": rng.random(12), "frames__epe": rng.random(12)}
    write("demo/one", scored(**first, pixels__two_way=[None] * 12))
    write("demo/two", scored(**{name: values + 0.2 for name, values in first.items()}, pixels__two_way=[None] * 12))
    report = compare_runs("demo/one", "demo/two").report
    image = Image.open(BytesIO(difference_chart(report)))
    assert image.width == 1200
    fewer = {**report, "metrics": {"frames.psnr": report["metrics"]["frames.psnr"]}}
    assert Image.open(BytesIO(difference_chart(fewer))).height < image.height
    with pytest.raises(ValueError, match="no metric; nothing to draw"):
        difference_chart({**report, "metrics": {}})


def clustered(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions and truths of 100 stimuli of 5 classes: classes are told apart well, stimuli of one class poorly."""
    centres, kind = rng.normal(size=(5, 20)) * 1.5, np.arange(100) % 5
    truth = centres[kind] + rng.normal(size=(100, 20))
    return centres[kind] + 0.15 * truth + 0.8 * rng.normal(size=truth.shape), truth, kind


def run_of_table(
    write: Write, name: str, arrays: tuple[np.ndarray, np.ndarray, np.ndarray], which: np.ndarray, *, kept: bool
) -> None:
    """Write a run of some of the stimuli, as reconstruct does, with or without what it takes to score fewer of them."""
    predicted, truth, kind = (array[which] for array in arrays)
    stimuli = [f"{index:03d}" for index in which]
    metrics = ("two_way", "two_way_within_class", "retrieval_10", "retrieval_50", "correlation", "r2")
    spaces = {"z": truth, "z_centred": truth}
    table = Table(
        spaces, EvaluationConfig(metrics=metrics, permutations=2), seed=0, groups=[f"class {k}" for k in kind]
    )
    table.add("reconstruction", {"z": predicted, "z_centred": predicted})
    record = table.record(stimuli)
    folder = write(name, {}, stimuli)
    write_json(folder / "values.json", {**read_json(folder / "values.json"), **record})
    if kept:
        (folder / "candidates.npz").write_bytes(kept_bytes(table.kept(stimuli)))


def test_the_same_predictions_among_other_candidates_do_not_differ(write: Write, rng: np.random.Generator) -> None:
    """The audit's case: among all 100 stimuli .94 of comparisons are won, among the 20 of one class .67."""
    arrays = clustered(rng)
    one_class = np.flatnonzero(arrays[2] == 0)
    run_of_table(write, "demo/all", arrays, np.arange(100), kept=True)
    run_of_table(write, "demo/one", arrays, one_class, kept=True)
    values = [read_run(find(f"demo/{name}")).values["rows"]["reconstruction"]["z.two_way"] for name in ("all", "one")]
    assert np.mean([values[0][k] for k in one_class]) - np.mean(values[1]) > 0.2
    for order in (("demo/all", "demo/one"), ("demo/one", "demo/all")):
        made = compare_runs(*order).report
        assert set(made["metrics"]) == {
            *("z.two_way", "z_centred.two_way", "z.two_way_within_class", "z_centred.two_way_within_class"),
            *("z_centred.retrieval_10", "z.correlation", "z_centred.correlation", "z_centred.r2"),
        }
        for name, entry in made["metrics"].items():
            assert entry["value"] == pytest.approx(0.0, abs=1e-12), name
            assert (entry["n"], entry["p"]) == (20, 1.0), name
            assert entry["first"]["value"] == pytest.approx(entry["second"]["value"]), name
        again = next(note for note in made["notes"] if note.startswith("computed again among the stimuli that both"))
        assert "z.two_way" in again
        assert "z_centred.r2" in again
        assert "correlation" not in again
        assert "20 in common" in again
    alone = compare_runs("demo/all", "demo/one").report["metrics"]["z.two_way"]["second"]
    assert alone["value"] == pytest.approx(np.mean(values[1]))


def test_overlapping_sets_are_scored_again_among_what_is_common(write: Write, rng: np.random.Generator) -> None:
    predicted, truth, kind = clustered(rng)
    better = predicted + 0.5 * truth
    first, second = np.arange(0, 70), np.arange(30, 100)
    both = np.arange(30, 70)
    run_of_table(write, "demo/one", (predicted, truth, kind), first, kept=True)
    run_of_table(write, "demo/two", (better, truth, kind), second, kept=True)
    made = compare_runs("demo/one", "demo/two").report["metrics"]
    labels = np.array([f"class {k}" for k in kind])
    for name in ("two_way", "two_way_within_class", "retrieval_10", "r2"):
        space = "z" if name.startswith("two") else "z_centred"
        wanted = [metric(name).per_stimulus(own[both], truth[both], labels[both]).mean() for own in (predicted, better)]
        entry = made[f"{space}.{name}"]
        assert [entry["first"]["value"], entry["second"]["value"]] == pytest.approx(wanted), name
        assert entry["n"] == 40


def test_where_nothing_was_kept_such_metrics_are_left_out_with_the_reason(
    write: Write, rng: np.random.Generator
) -> None:
    arrays = clustered(rng)
    run_of_table(write, "demo/all", arrays, np.arange(100), kept=False)
    run_of_table(write, "demo/one", arrays, np.flatnonzero(arrays[2] == 0), kept=True)
    made = compare_runs("demo/all", "demo/one").report
    assert set(made["metrics"]) == {"z.correlation", "z_centred.correlation"}
    notes = "\n".join(made["notes"])
    assert "not compared, as values depend on which stimuli are scored together" in notes
    assert "(100 and 20, 20 in common); first run: what it takes was not kept: z.two_way" in notes
    alone = {name: Run(name, read_run(find(f"demo/{name}")).values, {}) for name in ("all", "one")}
    for run in alone.values():
        scored = run.values["rows"]["reconstruction"]
        run.values["rows"] = {"reconstruction": {"z.two_way": scored["z.two_way"]}}
    with pytest.raises(ConfigError, match=r"no metric in common: .*what it takes was not kept: z.two_way"):
        compare_values(alone["all"], alone["one"])


def test_too_few_common_stimuli_and_other_classes_are_reasons(write: Write, rng: np.random.Generator) -> None:
    predicted, truth, kind = clustered(rng)
    run_of_table(write, "demo/one", (predicted, truth, kind), np.arange(60), kept=True)
    run_of_table(write, "demo/two", (predicted, truth, (kind + 1) % 4), np.arange(20, 80), kept=True)
    made = compare_runs("demo/one", "demo/two").report
    notes = "\n".join(made["notes"])
    assert "z_centred.retrieval_50" not in made["metrics"]
    assert "first run: needs 50 stimuli, found 40: z_centred.retrieval_50" in notes
    assert "z.two_way_within_class" not in made["metrics"]
    assert "not compared, stimuli are of other classes in the two runs: z.two_way_within_class" in notes


def test_a_missing_video_makes_another_set_of_candidates(write: Write, rng: np.random.Generator) -> None:
    """The values list every stimulus that was shown; those without a video have none, and were no candidates."""
    arrays = clustered(rng)
    run_of_table(write, "demo/all", arrays, np.arange(100), kept=True)
    run_of_table(write, "demo/some", arrays, np.arange(5, 100), kept=True)
    values = read_json(find("demo/some") / "values.json")
    absent = [f"{index:03d}" for index in range(5)]
    padded = {"stimuli": [*absent, *values["stimuli"]], "groups": ["?"] * 5 + values["groups"]}
    for part in ("rows", "influences"):
        scored = values[part]["reconstruction"]
        padded[part] = {"reconstruction": {name: [None] * 5 + own for name, own in scored.items()}}
    write_json(find("demo/some") / "values.json", {**values, **padded})
    for run in ("all", "some"):
        content = read_json(find(f"demo/{run}") / "values.json")
        content["groups"][:5] = ["?"] * 5
        write_json(find(f"demo/{run}") / "values.json", content)
    made = compare_runs("demo/all", "demo/some").report
    assert made["metrics"]["z.two_way"]["n"] == 95
    assert made["metrics"]["z.two_way"]["value"] == pytest.approx(0.0, abs=1e-12)


def test_a_damaged_file_of_candidates_is_one_line(write: Write, rng: np.random.Generator) -> None:
    run_of_table(write, "demo/all", clustered(rng), np.arange(100), kept=True)
    (find("demo/all") / "candidates.npz").write_bytes(b"no archive")
    with pytest.raises(SourceError, match=r"candidates.npz: damaged \(.*\); make the run again"):
        compare_runs("demo/all", "demo/all")


def test_stimuli_in_order_of_time_are_compared_by_blocks(write: Write, rng: np.random.Generator) -> None:
    """A difference that lasts over neighbours is that of few blocks; the other order of the run's stimuli is undone."""
    names = [f"{index:03d}" for index in range(120)]
    slow = np.repeat(rng.normal(size=12), 10)
    first, second = rng.normal(size=120), rng.permutation(120)
    order = {"segment": ["run"] * 120, "start_s": np.arange(120.0).tolist()}
    for run, values, rows in (("one", first, np.arange(120)), ("two", first + slow, second)):
        folder = write(f"demo/{run}", scored(z__correlation=values[rows]), [names[row] for row in rows])
        content = read_json(folder / "values.json")
        if run == "two":
            write_json(folder / "values.json", {**content, "order": {**order, "start_s": rows.astype(float).tolist()}})
    timed = compare_runs("demo/one", "demo/two").report
    entry = timed["metrics"]["z.correlation"]
    assert entry["block_length"] > 3
    assert entry["value"] == pytest.approx(slow.mean())
    assert "blocks" in timed["intervals"]
    content = read_json(folder / "values.json")
    write_json(folder / "values.json", {name: own for name, own in content.items() if name != "order"})
    free = compare_runs("demo/one", "demo/two").report["metrics"]["z.correlation"]
    assert "block_length" not in free
    assert np.ptp(entry["ci95"]) > 1.5 * np.ptp(free["ci95"])
    assert entry["p"] > free["p"]


def test_other_training_means_are_told(write: Write, rng: np.random.Generator) -> None:
    predicted, truth, kind = clustered(rng)
    everything = np.arange(100)
    run_of_table(write, "demo/one", (predicted, truth, kind), everything, kept=True)
    run_of_table(write, "demo/two", (predicted - 0.5, truth - 0.5, kind), everything, kept=True)
    told = "centred by other training means in the two runs, on which their scores depend: z_centred"
    assert told in compare_runs("demo/one", "demo/two").report["notes"]
    assert told not in compare_runs("demo/one", "demo/one").report["notes"]
