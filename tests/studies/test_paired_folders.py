"""Two folders of videos: found, paired and brought to one sampling, whatever their rate, size and form."""

import json
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from core.clips import probe_video, write_clip
from core.errors import ConfigError, SourceError, SourceMissing
from studies.comparison.videos import (
    Sampling,
    alignment_notes,
    black_note,
    folders_of,
    fps_of,
    pair,
    read_made,
    read_shown,
    sampling_of,
    videos_in,
)

from .peer import draw, names, write_frames, write_gifs, write_mp4s

CLOSE = 6.0
"""Grey levels that H.264 may cost a clip of the small world, on average."""


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_mp4s(tmp_path / "truth", draw())


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def test_videos_are_paired_by_stem_whatever_their_form(tmp_path: Path, truth: Path) -> None:
    peer = write_gifs(tmp_path / "peer", draw(4))
    paired = pair(peer, truth, allow_missing=True)
    assert paired.stimuli == names(4)
    assert paired.missing == names(6)[4:]
    assert paired.extra == []
    assert paired.made["0000"].path.suffix == ".gif"


def test_our_own_runs_hold_both(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_mp4s(run / "videos", draw(2))
    write_mp4s(run / "seen", draw(2))
    assert folders_of(run, None) == (run / "videos", run / "seen")
    assert folders_of(run / "videos", run) == (run / "videos", run / "seen")


def test_without_a_truth_the_line_says_what_to_name(truth: Path) -> None:
    with pytest.raises(ConfigError, match="holds no 'seen/'; name the folder of what was shown with --truth"):
        folders_of(truth, None)
    with pytest.raises(SourceMissing, match="no such folder"):
        folders_of(truth, truth / "nowhere")


def test_missing_videos_are_named_unless_they_are_allowed(tmp_path: Path, truth: Path) -> None:
    peer = write_mp4s(tmp_path / "peer", draw(6)[:4], stimuli=[*names(3), "more"])
    with pytest.raises(SourceMissing, match=r"3 of 6 videos are missing \(0003, 0004, 0005\).*--allow-missing"):
        pair(peer, truth)
    paired = pair(peer, truth, allow_missing=True)
    notes = alignment_notes(paired, sampling_of(paired)[0])
    assert any("3 of 6 videos missing (0003, 0004, 0005): every mean is over the 3 that are there" in n for n in notes)
    assert "skipped, no such stimulus was shown: more" in notes


def test_folders_with_nothing_in_common_are_one_line(tmp_path: Path, truth: Path) -> None:
    peer = write_mp4s(tmp_path / "peer", draw(1), stimuli=["cat"])
    with pytest.raises(SourceError, match=r"no video in common \(cat and 0000, 0001, 0002 and 3 more\)"):
        pair(peer, truth)


def test_a_stem_stands_for_one_video(truth: Path) -> None:
    write_gifs(truth / "more", draw(1))
    (truth / "more" / "0000.gif").rename(truth / "0000.gif")
    with pytest.raises(SourceError, match=r"0000.gif and 0000.mp4 are both '0000'; remove one"):
        videos_in(truth)


def test_what_is_no_video_is_one_line(tmp_path: Path, truth: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceMissing, match="holds no video; expected files such as NAME.mp4"):
        pair(tmp_path / "empty", truth)
    for name in ("0000.mp4", "0000.gif", "0000.png"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("no video")
        with pytest.raises(SourceError, match=f"{name}: not a video that can be decoded"):
            pair(folder, truth, allow_missing=True)


def test_hidden_files_and_others_are_not_looked_at(truth: Path) -> None:
    (truth / "._0000.mp4").write_text("left by another system")
    (truth / "readme.txt").write_text("words")
    (truth / "notes").mkdir()
    assert list(videos_in(truth)) == names(6)


def test_probing_tells_frames_size_and_length(tmp_path: Path) -> None:
    clips = draw(1, frames=9)
    mp4 = probe_video(write_mp4s(tmp_path / "mp4", clips, fps=12.0) / "0000.mp4")
    assert (mp4.frames, mp4.height, mp4.width) == (9, 32, 32)
    assert mp4.duration_s == pytest.approx(0.75)
    gif = probe_video(write_gifs(tmp_path / "gif", clips, fps=10.0) / "0000.gif")
    assert gif.frames == 9
    assert gif.duration_s == pytest.approx(0.9, abs=0.02)
    folder = probe_video(write_frames(tmp_path / "png", clips) / "0000")
    assert (folder.frames, folder.height, folder.width, folder.duration_s) == (9, 32, 32, None)
    still = write_mp4s(tmp_path / "one", clips[:, :1]) / "0000.mp4"
    assert (probe_video(still).frames, probe_video(still).duration_s) == (1, None)


def test_clips_are_read_as_the_truth_is(truth: Path) -> None:
    paired = pair(truth, truth)
    sampling, notes = sampling_of(paired)
    assert sampling == Sampling(frames=8, height=32, width=32)
    assert notes == []
    assert fps_of(paired, sampling) == pytest.approx(8.0)
    seen = read_shown(paired, sampling)
    assert difference(seen, draw()) < CLOSE
    np.testing.assert_array_equal(read_made(paired, sampling), seen)
    assert alignment_notes(paired, sampling) == []


def test_another_rate_and_size_are_aligned_by_time_and_said(tmp_path: Path, truth: Path) -> None:
    peer = write_mp4s(tmp_path / "peer", draw(frames=24).repeat(2, axis=2).repeat(2, axis=3), fps=24.0)
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    assert difference(read_made(paired, sampling), draw()) < CLOSE
    assert alignment_notes(paired, sampling) == [
        "sampled at the truth's 8 instants: 6 clips of 24 frames at 24 per second",
        "resized to 32 × 32 pixels: 6 clips of 64 × 64 pixels",
    ]


def test_a_slower_video_is_cut_unless_it_is_stretched(tmp_path: Path, truth: Path) -> None:
    peer = write_mp4s(tmp_path / "peer", draw(), fps=4.0)
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    cut = read_made(paired, sampling)
    assert difference(cut[:, ::2], cut[:, 1::2]) < 1e-9, "each frame is there for two instants"
    assert alignment_notes(paired, sampling) == [
        "6 clips longer than the truth (0000, 0001, 0002 and 3 more; 2 s for 1 s): the rest is not scored"
    ]
    assert difference(read_made(paired, sampling, whole=True), draw()) < CLOSE
    assert alignment_notes(paired, sampling, whole=True) == ["stretched over the truth's length, as asked for: 6 clips"]


def test_a_shorter_video_holds_its_last_frame(tmp_path: Path, truth: Path) -> None:
    peer = write_mp4s(tmp_path / "peer", draw()[:, :4])
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    made = read_made(paired, sampling)
    for instant in range(4, 8):
        np.testing.assert_array_equal(made[:, instant], made[:, 3])
    notes = alignment_notes(paired, sampling)
    assert any("shorter than the truth" in note and "0.5 s for 1 s): the last frame is held" in note for note in notes)


def test_a_truth_of_several_lengths_is_sampled_clip_by_clip(tmp_path: Path) -> None:
    for folder in ("truth", "peer"):
        write_mp4s(tmp_path / folder, draw(2))
        write_mp4s(tmp_path / folder, draw(4)[2:], fps=4.0, stimuli=names(4)[2:])
    paired = pair(tmp_path / "peer", tmp_path / "truth")
    sampling, _ = sampling_of(paired)
    assert difference(read_made(paired, sampling), draw(4)) < CLOSE
    assert alignment_notes(paired, sampling) == ["truth: clips last from 1 to 2 s; each is sampled over its own length"]


def test_folders_of_frames_are_spread_over_the_truth(tmp_path: Path, truth: Path) -> None:
    peer = write_frames(tmp_path / "peer", draw(frames=24))
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    np.testing.assert_array_equal(read_made(paired, sampling), draw())
    assert "6 clips of frames without a rate, spread over the truth's length" in alignment_notes(paired, sampling)


def test_folders_of_frames_can_be_the_truth(tmp_path: Path) -> None:
    shown = write_frames(tmp_path / "truth", draw(frames=12))
    peer = write_gifs(tmp_path / "peer", draw(frames=12), fps=5.0)
    paired = pair(peer, shown)
    sampling, _ = sampling_of(paired)
    assert sampling.frames == 12
    np.testing.assert_array_equal(read_shown(paired, sampling), draw(frames=12))
    assert difference(read_made(paired, sampling), draw(frames=12)) < 2 * CLOSE


@pytest.mark.parametrize("form", ["png", "mp4"])
def test_one_frame_is_repeated_and_said(tmp_path: Path, truth: Path, form: str) -> None:
    peer = tmp_path / "peer"
    peer.mkdir()
    for name, clip in zip(names(6), draw(), strict=True):
        if form == "png":
            Image.fromarray(clip[3]).save(peer / f"{name}.png")
        else:
            write_clip(peer / f"{name}.mp4", clip[3:4], 8.0, min_side=1)
    paired = pair(peer, truth)
    sampling, _ = sampling_of(paired)
    made = read_made(paired, sampling)
    assert difference(made, draw()[:, 3:4].repeat(8, axis=1)) < CLOSE
    (note,) = alignment_notes(paired, sampling)
    assert note.startswith("6 clips of one frame, which is repeated")
    assert "scores of motion mean nothing" in note


def test_what_shows_nothing_is_said() -> None:
    clips = draw(3)
    clips[1] = 2
    assert black_note(clips, names(3)) == ["1 clip all black: 0001"]
    assert black_note(draw(2), names(2)) == []


def test_a_video_of_ours_is_read_as_it_was_made(tmp_path: Path) -> None:
    said = {"comment": json.dumps({"config": {"clips": {"frames": 8, "height": 32, "width": 32}}})}
    for name, clip in zip(names(3), draw(3), strict=True):
        write_clip(tmp_path / "seen" / f"{name}.mp4", clip, 8.0, metadata=said)  # enlarged to 256 pixels
    paired = pair(tmp_path / "seen", tmp_path / "seen")
    sampling, notes = sampling_of(paired)
    assert sampling == Sampling(frames=8, height=32, width=32)
    assert "8 frames of 32 × 32 pixels, as they were made" in notes[0]
    assert difference(read_shown(paired, sampling), draw(3)) < CLOSE / 2


def test_another_sampling_can_be_asked_for(truth: Path) -> None:
    sampling, _ = sampling_of(pair(truth, truth), frames=4, height=16)
    assert sampling == Sampling(frames=4, height=16, width=32)


def test_clips_that_memory_cannot_hold_are_refused_with_a_size_that_fits(
    truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paired = pair(truth, truth)
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=1_600_000))
    with pytest.raises(ConfigError, match=r"score them smaller \(--height 18 --width 18\) or with fewer --frames"):
        sampling_of(paired)
    sampling_of(paired, height=18, width=18)
