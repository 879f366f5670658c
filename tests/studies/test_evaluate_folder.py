"""A folder of videos is scored as a run is: its controls, its notes, its files, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, SourceError, SourceMissing
from core.files import read_json
from evaluation.metrics import metric, metric_names
from models.classifiers.settings import JudgesConfig
from studies.comparison.evaluate import EvaluationRef, EvaluationRequest, evaluate_folder, name_of
from studies.comparison.videos import pair, read_made, read_shown, sampling_of
from studies.runs import file_digests
from studies.scoring import Viewer, load_judges

from .peer import draw, names, noisy, write_captions, write_mp4s

JUDGE = Path(__file__).resolve().parents[2] / "models" / "small_world" / "judge"
QUICK = ("two_way", "correlation", "r2", "ssim", "psnr", "retrieval_10")


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_mp4s(tmp_path / "truth", draw(8))


@pytest.fixture
def peer(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Another rate and another size, right but noisy."""
    large = draw(8, frames=24).repeat(2, axis=2).repeat(2, axis=3)
    return write_mp4s(tmp_path / "peer", noisy(large, rng), fps=24.0)


def evaluate(peer: Path, truth: Path | None, **more: object) -> EvaluationRef:
    return evaluate_folder(EvaluationRequest(folder=peer, truth=truth, **{"metrics": QUICK, **more}))


def notes_of(made: EvaluationRef) -> str:
    return "\n".join(made.metrics["notes"])


def test_a_folder_is_scored_and_a_run_is_written(home: Path, peer: Path, truth: Path) -> None:
    made = evaluate(peer, truth)
    assert (made.name, made.fresh) == ("peer", False)
    assert made.path == home / "outputs" / "evaluations" / "peer" / made.run
    assert (made.path.parent / "latest").resolve() == made.path
    there = {path.name for path in made.path.iterdir()}
    assert there == {
        "metrics.json",
        "values.json",
        "candidates.npz",
        "manifest.json",
        "gallery.html",
        "sheet.png",
        "videos",
        "seen",
    }
    metrics = made.metrics
    assert metrics["n_test"] == 8
    assert list(metrics["rows"]) == ["reconstruction", "shuffled_brain", "shuffled_frames", "still"]
    rows = metrics["rows"]["reconstruction"]
    assert rows["pixels.two_way"]["value"] > 0.9
    assert rows["pixels.two_way"]["chance"] == 0.5
    assert metrics["comparisons"]["shuffled_brain"]["pixels.correlation"]["p"] < 0.01
    values = read_json(made.path / "values.json")
    assert values["stimuli"] == names(8)
    assert np.mean(values["rows"]["reconstruction"]["frames.ssim"]) == pytest.approx(rows["frames.ssim"]["value"])
    assert values["directions"]["frames.ssim"] is True


def test_scores_are_those_of_the_aligned_clips(home: Path, peer: Path, truth: Path) -> None:
    values = read_json(evaluate(peer, truth).path / "values.json")["rows"]["reconstruction"]
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    ours, shown = read_made(paired, sampling), read_shown(paired, sampling)
    for name in ("pixels.two_way", "pixels.correlation", "frames.ssim", "frames.psnr"):
        np.testing.assert_allclose(values[name], metric(name).per_stimulus(ours, shown))


def test_what_was_aligned_and_left_out_is_said(home: Path, peer: Path, truth: Path) -> None:
    said = notes_of(evaluate(peer, truth))
    assert "sampled at the truth's 8 instants: 8 clips of 24 frames at 24 per second" in said
    assert "resized to 32 × 32 pixels: 8 clips of 64 × 64 pixels" in said
    assert "skipped r2, retrieval_10: needs training clips (--training)" in said
    assert "no prior, oracle and noise ceiling" in said
    assert "name the training clips with --training" in said


def test_all_metrics_that_apply_are_scored_and_every_other_is_named(home: Path, truth: Path) -> None:
    made = evaluate(truth, truth, metrics=())
    scored = {name.rpartition(".")[2] for name in made.metrics["rows"]["reconstruction"]}
    said = notes_of(made)
    for name in metric_names():
        assert name in scored or name in said, name
    assert {"two_way", "correlation", "ssim", "psnr"} <= scored
    protocols = made.metrics["protocols"]
    assert set(protocols) == {name for name in made.metrics["rows"]["reconstruction"] if metric(name).protocol}
    assert protocols["frames.hue_pcc"].startswith("as published: Mind-Animator")
    apart = "8 frames a clip instead of 6; frames of 32 × 32 instead of 256 × 256"
    assert protocols["frames.ssim"].endswith(f"except: {apart}")


def test_the_same_files_give_the_same_bytes(home: Path, tmp_path: Path, peer: Path, truth: Path) -> None:
    one = evaluate(peer, truth, output=tmp_path / "one" / "out")
    other = evaluate(peer, truth, output=tmp_path / "other" / "out")
    assert file_digests(one.path) == file_digests(other.path)
    assert not (home / "outputs").exists()


def test_an_evaluation_is_made_once_and_again_where_something_changed(home: Path, peer: Path, truth: Path) -> None:
    first = evaluate(peer, truth)
    assert evaluate(peer, truth).fresh
    assert not evaluate(peer, truth, seed=1).fresh
    (first.path / "metrics.json").write_text("{}")
    assert not evaluate(peer, truth).fresh, "a damaged one is no evaluation"
    shutil.copy(peer / "0000.mp4", peer / "0001.mp4")
    assert not evaluate(peer, truth).fresh


def test_a_named_folder_is_replaced_only_where_it_is_an_evaluation(
    home: Path, tmp_path: Path, peer: Path, truth: Path
) -> None:
    out = tmp_path / "out"
    evaluate(peer, truth, output=out)
    assert evaluate(peer, truth, output=out).fresh
    assert not evaluate(peer, truth, output=out, seed=1).fresh
    (out / "gallery.html").write_text("")
    assert not evaluate(peer, truth, output=out, seed=1).fresh
    with pytest.raises(ConfigError, match="holds something else than an evaluation"):
        evaluate(peer, truth, output=peer)
    with pytest.raises(ConfigError, match="is a file"):
        evaluate(peer, truth, output=peer / "0000.mp4")
    assert len(list(peer.iterdir())) == 8
    with pytest.raises(SourceMissing, match="nowhere: no such folder"):
        evaluate(peer, truth, training=tmp_path / "nowhere")


def test_missing_videos_are_null_and_counted(home: Path, peer: Path, truth: Path) -> None:
    (peer / "0002.mp4").unlink()
    with pytest.raises(SourceMissing, match=r"1 of 8 videos are missing \(0002\)"):
        evaluate(peer, truth)
    made = evaluate(peer, truth, allow_missing=True)
    metrics, values = made.metrics, read_json(made.path / "values.json")
    assert (metrics["n_test"], metrics["missing"]) == (7, ["0002"])
    assert values["stimuli"] == names(8)
    scores = values["rows"]["reconstruction"]["pixels.correlation"]
    assert [index for index, value in enumerate(scores) if value is None] == [2]
    entry = metrics["rows"]["reconstruction"]["pixels.correlation"]
    assert entry["n"] == 7
    assert entry["value"] == pytest.approx(np.mean([value for value in scores if value is not None]))
    assert metrics["comparisons"]["shuffled_brain"]["pixels.correlation"]["n"] == 7
    assert "1 of 8 videos missing (0002): every mean is over the 7 that are there" in notes_of(made)


def test_black_clips_and_single_frames_are_scored_and_said(home: Path, tmp_path: Path, truth: Path) -> None:
    clips = draw(8)
    clips[:3] = 0
    folder = write_mp4s(tmp_path / "black", clips)
    write_mp4s(folder, clips[3:4, :1], stimuli=["0003"])
    made = evaluate(folder, truth)
    assert "3 clips all black: 0000, 0001, 0002" in notes_of(made)
    assert "1 clip of one frame, which is repeated (0003)" in notes_of(made)
    values = read_json(made.path / "values.json")["rows"]["reconstruction"]
    assert values["pixels.two_way"][:3] == [0.5] * 3, "a constant clip is told from no other"
    assert values["pixels.correlation"][:3] == [0.0] * 3


def test_one_video_alone_is_scored_without_a_comparison(home: Path, tmp_path: Path) -> None:
    folder = write_mp4s(tmp_path / "one", draw(1))
    made = evaluate(folder, folder)
    assert set(made.metrics["rows"]) == {"reconstruction", "still", "shuffled_frames"}
    assert made.metrics["rows"]["reconstruction"]["pixels.two_way"]["value"] is None
    assert made.metrics["rows"]["reconstruction"]["frames.psnr"]["value"] == pytest.approx(58.9, abs=0.1)


@pytest.fixture
def training(tmp_path: Path) -> Path:
    return write_mp4s(tmp_path / "training", draw(24, seed=9), stimuli=[f"train{index}" for index in range(24)])


def test_training_clips_bring_the_rows_without_a_brain(home: Path, peer: Path, truth: Path, training: Path) -> None:
    made = evaluate(peer, truth, training=training)
    metrics = made.metrics
    controls = {"shuffled_brain", "mean_predictor", "nearest_training_clip", "category", "still", "shuffled_frames"}
    assert set(metrics["rows"]) == {"reconstruction", *controls}
    assert controls <= set(metrics["comparisons"])
    residuals = {row: entries["pixels_residual.two_way"]["value"] for row, entries in metrics["rows"].items()}
    assert residuals["reconstruction"] > 0.8
    assert 0.3 < residuals["mean_predictor"] < 0.7
    mean = metrics["rows"]["mean_predictor"]
    assert mean["pixels_centred.correlation"]["value"] == 0.0
    assert mean["pixels_centred.r2"]["value"] == pytest.approx(0.0)
    assert mean["pixels_centred.two_way"]["value"] == 0.5
    assert "name the training clips" not in notes_of(made)
    assert "8 stimuli" not in notes_of(made)
    assert "skipped retrieval_10: needs 10 stimuli, found 8" in notes_of(made)
    diagnoses = metrics["diagnoses"]
    assert diagnoses["distance"]["space"] == "pixels_centred"
    assert [part["n"] for part in diagnoses["distance"]["metrics"]["pixels.two_way"]["parts"]] == [3, 3, 2]
    assert diagnoses["dimension"]["pixels"]["n"] == 8
    assert diagnoses["leaks"]["stimuli"]["count"] == 0
    assert (made.path / "diagnoses.png").is_file()


def test_recalled_training_clips_and_leaks_are_found(home: Path, tmp_path: Path, truth: Path, training: Path) -> None:
    write_mp4s(training, draw(8)[5:6].repeat(2, axis=2).repeat(2, axis=3), fps=10.0, stimuli=["again"])
    shutil.copy(truth / "0000.mp4", training / "0000.mp4")
    recalled = write_mp4s(tmp_path / "recalled", draw(8, seed=9))
    made = evaluate(recalled, truth, training=training)
    leaks = made.metrics["diagnoses"]["leaks"]
    assert leaks["stimuli"] == {"count": 1, "examples": ["0000"]}
    assert {(one["test"], one["train"]) for one in leaks["clips"]["examples"]} == {("0000", "0000"), ("0005", "again")}
    rows = made.metrics["rows"]
    ours, theirs = (rows[row]["frames.psnr"]["value"] for row in ("reconstruction", "nearest_training_clip"))
    assert ours == pytest.approx(theirs, abs=0.1), "what is recalled is the nearest training clip"


def test_captions_are_scored_where_there_are_some(home: Path, tmp_path: Path, peer: Path, truth: Path) -> None:
    file = write_captions(tmp_path / "captions.csv", 8)
    made = evaluate(peer, truth, captions=file, metrics=("bleu_4", "meteor", "two_way"))
    rows = made.metrics["rows"]
    assert rows["reconstruction"]["captions.bleu_4"]["value"] == pytest.approx(1.0)
    assert rows["shuffled_brain"]["captions.bleu_4"]["value"] == pytest.approx(1.0), "all were given one caption"
    kept = pd.read_csv(made.path / "captions.csv")
    assert list(kept.columns) == ["stimulus", "seen", "decoded"]
    assert "a red circle moving left" in (made.path / "gallery.html").read_text()


def test_captions_that_are_not_there_for_all_are_said(home: Path, tmp_path: Path, peer: Path, truth: Path) -> None:
    file = write_captions(tmp_path / "captions.csv", 7)
    made = evaluate(peer, truth, captions=file, metrics=("bleu_4", "two_way"))
    entry = made.metrics["rows"]["reconstruction"]["captions.bleu_4"]
    assert (entry["value"], entry["n"]) == (pytest.approx(1.0), 7), "the others are scored"
    assert "captions: 1 of 8 videos have none (0007)" in notes_of(made)
    assert "captions of what was seen: 1 of 8 videos have none (0007)" in notes_of(made)
    assert "1 of 8 stimuli not scored (0007: has no true caption); n = 7 in every row" in notes_of(made)


def test_captions_that_clip_cuts_are_counted_and_named() -> None:
    weights = str(JUDGE.parent / "clip")
    viewer = Viewer(load_judges(JudgesConfig.model_validate({"clip": {"weights": weights}})))
    long, short = "large red circle " * 40, "a red circle"
    (note,) = viewer.cut_notes(["a", "b", "c"], [short, long, long], [[short], [short], [""]])
    tokens = load_judges(JudgesConfig.model_validate({"clip": {"weights": weights}})).clip.max_tokens
    assert note.startswith(f"2 of 3 decoded captions have more than {tokens} tokens (b, c): CLIPScore")
    assert "1 of 3 true captions" in viewer.cut_notes(["a", "b", "c"], [short] * 3, [[long], [short], [short]])[0]
    assert Viewer(load_judges(JudgesConfig())).cut_notes(["a"], [long]) == []


def test_one_black_and_white_clip_is_named_and_the_others_have_a_hue(home: Path, tmp_path: Path) -> None:
    clips = draw(6)
    clips[2] = clips[2, ..., 1:2]
    seen = write_mp4s(tmp_path / "seen", clips)
    made = evaluate(write_mp4s(tmp_path / "made", draw(6)[::-1]), seen, metrics=("hue", "bleu_4", "psnr"))
    for row in made.metrics["rows"].values():
        assert (row["frames.hue"]["n"], "undefined" in row["frames.hue"]) == (5, False)
    assert made.metrics["comparisons"]["shuffled_brain"]["frames.hue"]["p"] is not None
    notes = made.metrics["notes"]
    assert any("1 of 6 stimuli not scored (0002: shows no colour); n = 5 in every row" in note for note in notes)
    skipped = [note.startswith("skipped ") for note in notes]
    assert skipped == sorted(skipped), "what was asked for comes first"
    assert "skipped bleu_4: needs captions, decoded and seen (--captions)" in notes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stimulus,caption\n0000,a cat\n", "has no column 'decoded', found stimulus, caption"),
        ("stimulus,decoded\n0000,a cat\n0000,a dog\n", "has '0000' twice"),
        ("stimulus,decoded\ncat,a cat\n", r"has none of the videos \(cat, not 0000, 0001, 0002 and 5 more\)"),
        ("", "not a CSV"),
        ("\x00\x01", "captions.csv: "),
    ],
)
def test_a_wrong_table_of_captions_is_one_line(
    home: Path, tmp_path: Path, peer: Path, truth: Path, content: str, message: str
) -> None:
    file = tmp_path / "captions.csv"
    file.write_text(content)
    with pytest.raises(SourceError, match=message):
        evaluate(peer, truth, captions=file)
    with pytest.raises(SourceMissing, match="no such table of captions"):
        evaluate(peer, truth, captions=tmp_path / "none.csv")


def test_a_judge_reads_what_is_shown(home: Path, truth: Path) -> None:
    judges = JudgesConfig(small_world=str(JUDGE))
    made = evaluate(truth, truth, judges=judges, metrics=("attribute_accuracy", "two_way"))
    assert made.metrics["rows"]["reconstruction"]["video_attributes.attribute_accuracy"]["value"] == 1.0
    assert "small_world" in read_json(made.path / "manifest.json")["judges"]


def test_metrics_that_are_none_or_cannot_be_had_are_one_line(home: Path, peer: Path, truth: Path) -> None:
    with pytest.raises(ConfigError, match="unknown metric 'two_wey'; did you mean 'two_way'"):
        evaluate(peer, truth, metrics=("two_wey",))
    with pytest.raises(ConfigError, match="did you mean 'frames.ssim'"):
        evaluate(peer, truth, metrics=("pixels.ssim",))
    with pytest.raises(ConfigError, match=r"no metric can be computed: skipped .*: needs a CLIP model \(--clip\)"):
        evaluate(peer, truth, metrics=("clip_frames.similarity",))
    assert not (home / "outputs").exists()


def test_one_of_our_runs_is_scored_as_it_was(home: Path, tmp_path: Path, peer: Path, truth: Path) -> None:
    first = evaluate(peer, truth, output=tmp_path / "outputs" / "first")
    again = evaluate(first.path, None)
    assert again.name == "outputs-first"
    assert again.metrics["sampling"] == {"frames": 8, "height": 32, "width": 32}
    for name, entry in first.metrics["rows"]["reconstruction"].items():
        assert again.metrics["rows"]["reconstruction"][name]["value"] == pytest.approx(entry["value"], rel=0.05), name


def test_an_evaluation_is_called_after_its_folder(tmp_path: Path) -> None:
    assert name_of(tmp_path / "my peer (v2)") == "my-peer-v2"
    assert name_of(tmp_path / "peer" / "videos") == "peer"
    assert name_of(tmp_path / "…") == "folder"


def test_a_name_leads_to_no_other_folder(home: Path, truth: Path) -> None:
    made = evaluate(truth, truth, metrics=("psnr",), name="../../else where")
    assert made.path.parent == home / "outputs" / "evaluations" / "else-where"
