"""The commands that judge, as a person runs them: a peer's folder, one of our runs, two runs, and every mistake."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.files import read_json, write_json

from ..studies.peer import draw, names, noisy, write_captions, write_gifs, write_mp4s
from .conftest import Here

JUDGE = Path(__file__).resolve().parents[2] / "models" / "small_world" / "judge"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was shown, two peers' videos of it, training clips and captions."""
    root = tmp_path_factory.mktemp("peers")
    write_mp4s(root / "truth", draw(6))
    rng = np.random.default_rng(2)
    write_mp4s(root / "good", noisy(draw(6, frames=16).repeat(2, axis=2).repeat(2, axis=3), rng, 20.0), fps=16.0)
    write_gifs(root / "poor", noisy(draw(6)[:, ::2], rng, 120.0), fps=4.0)
    write_mp4s(root / "training", draw(10, seed=9), stimuli=[f"train{index}" for index in range(10)])
    write_mp4s(root / "partial", draw(3))
    write_mp4s(root / "strangers", draw(1), stimuli=["cat"])
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    for name in names(6):
        (root / "broken" / f"{name}.mp4").write_text("no video")
    write_captions(root / "captions.csv", 6)
    (root / "wrong.csv").write_text("name,words\n")
    return root


def words_of(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_a_peers_folder_is_scored_and_shown(here: Here, folders: Path, cli_home: Path) -> None:
    truth, training, captions = (str(folders / name) for name in ("truth", "training", "captions.csv"))
    more = ["--training", training, "--captions", captions, "--judge", str(JUDGE)]
    done = here("evaluate", str(folders / "good"), "--truth", truth, *more, "--full")
    assert done.code == 0, done.stderr
    said = words_of(done.stdout)
    for words in (
        "good: 6 videos",
        "pixels, two-way",
        "attributes right",
        "BLEU-4",
        "nearest training",
        "note sampled at the truth's 8 instants: 6 clips of 16 frames at 16 per second",
        "consistency_all: needs a CLIP model (--clip)",
        "Reconstructions are identified",
        "gallery outputs/evaluations/good/",
    ):
        assert words in said, words
    latest = cli_home / "outputs" / "evaluations" / "good" / "latest"
    assert read_json(latest / "metrics.json")["rows"]["reconstruction"]["pixels.two_way"]["value"] == 1.0
    again = here("evaluate", str(folders / "good"), "--truth", truth, *more, "--full")
    assert "is up to date" in again.stderr
    assert again.stdout == done.stdout


def test_two_peers_are_compared(here: Here, folders: Path, cli_home: Path) -> None:
    for name in ("good", "poor"):
        options = ["--metrics", "two_way,correlation,psnr", "--name", f"peer-{name}"]
        assert here("evaluate", str(folders / name), "--truth", str(folders / "truth"), *options).code == 0
    done = here("compare", "peer-poor/latest", "evaluations/peer-good/latest")
    assert done.code == 0, done.stderr
    said = words_of(done.stdout)
    for words in ("reconstruction, paired over 6 stimuli", "second − first", "adjusted p", "frames,", "PSNR"):
        assert words in said, words
    assert "the second run is better in" in said or "do not differ" in said
    (folder,) = (cli_home / "outputs" / "comparisons").iterdir()
    assert f"picture outputs/comparisons/{folder.name}/differences.png" in said
    assert Image.open(folder / "differences.png").width == 1200
    metrics = read_json(folder / "comparison.json")["metrics"]
    assert metrics["frames.psnr"]["value"] > 0


def test_one_of_our_runs_needs_no_truth(here: Here, folders: Path, tmp_path: Path) -> None:
    first, only = tmp_path / "first", ("--metrics", "psnr")
    done = here("evaluate", str(folders / "good"), "--truth", str(folders / "truth"), *only, "-o", str(first))
    assert done.code == 0, done.stderr
    again = here("evaluate", str(first), "-o", str(tmp_path / "again"), *only)
    assert again.code == 0, again.stderr
    assert read_json(tmp_path / "again" / "metrics.json")["n_test"] == 6


def test_leaks_are_shown(here: Here, folders: Path) -> None:
    truth = str(folders / "truth")
    done = here("evaluate", str(folders / "good"), "--truth", truth, "--training", truth, "--metrics", "psnr")
    assert done.code == 0, done.stderr
    assert "leak 6 test stimuli have the name of a training one: 0000" in done.stdout
    assert "leak 6 test clips are training clips in another file" in done.stdout


def test_missing_videos_can_be_allowed(here: Here, folders: Path) -> None:
    asked = ("evaluate", str(folders / "partial"), "--truth", str(folders / "truth"), "--metrics", "two_way,psnr")
    done = here(*asked, "--allow-missing")
    assert done.code == 0, done.stderr
    assert "note 3 of 6 videos missing (0003, 0004, 0005): every mean is over the 3" in done.stdout


MISTAKES = [
    (["nowhere"], "nowhere: no such folder"),
    (["good"], "holds no 'seen/'; name the folder of what was shown with --truth"),
    (["strangers", "--truth", "truth"], "no video in common (cat and 0000, 0001, 0002 and 3 more)"),
    (["partial", "--truth", "truth"], "3 of 6 videos are missing (0003, 0004, 0005); add them, or score without them"),
    (["empty", "--truth", "truth"], "holds no video"),
    (["broken", "--truth", "truth"], "0000.mp4: not a video that can be decoded"),
    (["good", "--truth", "truth", "--training", "none"], "none: no such folder"),
    (["good", "--truth", "truth", "--captions", "wrong.csv"], "has no column 'stimulus', found name, words"),
    (["good", "--truth", "truth", "--captions", "none.csv"], "none.csv: no such table of captions"),
    (["good", "--truth", "truth", "--metrics", "two_wey"], "unknown metric 'two_wey'; did you mean 'two_way'"),
    (["good", "--truth", "truth", "--metrics", "similarity"], "no metric can be computed: skipped similarity: needs"),
    (["good", "--truth", "truth", "--judge", "truth"], "holds no attribute classifier"),
    (["good", "--truth", "truth", "--clip", "empty"], "empty"),
    (["good", "--truth", "truth", "--video-classifier", "nobody/nothing"], "nobody/nothing"),
    (["good", "--truth", "truth", "-o", "truth"], "holds something else than an evaluation"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    here: Here, folders: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    there = {path.name for path in folders.iterdir()}
    placed = [str(folders / one) if one in there else one for one in arguments]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = here("evaluate", *placed)
    assert done.code == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_mistakes_of_a_comparison_are_one_line(here: Here, cli_home: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    write_json(old / "metrics.json", {})
    for arguments, message in (
        (["no/run", "no/other"], "no/run: no such run under outputs/"),
        (
            [str(old), str(old)],
            "holds no values.json, which earlier versions did not write; run 'brain2video reconstruct'",
        ),
    ):
        done = here("compare", *arguments)
        assert done.code == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
