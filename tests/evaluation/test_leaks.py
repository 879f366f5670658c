"""Clips in other files are found and distinct clips are not: on drawn clips, and on real ones where they are."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from core.clips import ClipConfig, read_clip, read_frames
from evaluation.diagnoses.leaks import (
    FLAT,
    THRESHOLD,
    clip_distances,
    near_duplicates,
    plain_words,
    shared_captions,
    shared_stimuli,
    thumbnails,
)

READ = ClipConfig(frames=8, height=32, width=32, window_s=3.0)


def moving(rng: np.random.Generator, frames: int = 24, side: int = 64) -> np.ndarray:
    """A disc that crosses a pattern as coloured as photographs are, (frame, height, width, 3)."""
    low = (rng.uniform(50, 200, (8, 8, 1)) + rng.uniform(-30, 30, (8, 8, 3))).astype(np.uint8)
    ground = np.asarray(Image.fromarray(low).resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    start, end = rng.uniform(0.2, 0.8, (2, 2)) * side
    colour = rng.uniform(0, 255, 3)
    clip = np.repeat(ground[None], frames, axis=0)
    y, x = np.mgrid[:side, :side]
    for index, part in enumerate(np.linspace(0, 1, frames)):
        centre = start + (end - start) * part
        clip[index, np.hypot(y - centre[0], x - centre[1]) < side / 6] = colour
    return clip.astype(np.uint8)


def resized(clip: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in clip])


def cropped(clip: np.ndarray) -> np.ndarray:
    height, width = clip.shape[1:3]
    y, x = round(0.025 * height), round(0.025 * width)
    return resized(clip[:, y : height - y, x : width - x], (width, height))


def curved(clip: np.ndarray, curve: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.rint(255 * curve(np.arange(256) / 255).clip(0, 1)).astype(np.uint8)[clip]


def encode(path: Path, clip: np.ndarray, fps: float, crf: int = 23) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return path


def gif(path: Path, clip: np.ndarray, fps: float) -> Path:
    first, *others = [Image.fromarray(frame).quantize(64) for frame in clip]
    first.save(path, save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return path


def other_files(folder: Path, clip: np.ndarray, fps: float) -> dict[str, Path]:
    """Write a clip in the ways in which it may turn up a second time."""
    height, width = clip.shape[1:3]
    half = clip[np.arange(0, len(clip), 2)]
    made = {
        "compressed": (clip, fps, 40),
        "half the size": (resized(clip, (width // 4 * 2, height // 4 * 2)), fps, 23),
        "twice the size": (resized(clip, (width * 2, height * 2)), fps, 23),
        "half the frame rate": (half, fps / 2, 23),
        "a frame late": (np.concatenate([clip[:1], clip[:-1]]), fps, 23),
        "a frame early": (clip[1:], fps, 23),
        "brighter": (curved(clip, lambda x: 1.1 * x + 0.03), fps, 23),
        "darker": (curved(clip, lambda x: 0.88 * x), fps, 23),
        "gamma": (curved(clip, lambda x: x**0.8), fps, 23),
        "cropped": (cropped(clip), fps, 23),
    }
    files = {name: encode(folder / f"{name}.mp4", *how) for name, how in made.items()}
    return {**files, "gif": gif(folder / "clip.gif", clip, fps)}


def looked_at(*clips: np.ndarray) -> np.ndarray:
    return thumbnails(np.stack(clips))


def nearest(test: np.ndarray, train: np.ndarray, **settings) -> dict:
    names = {
        "test_names": [f"test {i}" for i in range(len(test))],
        "train_names": [f"train {i}" for i in range(len(train))],
    }
    return near_duplicates(test, train, **names, **settings)


def test_other_files_of_a_clip_are_found_and_other_clips_are_not(tmp_path, rng):
    clips = [moving(rng, side=128) for _ in range(12)]
    originals = looked_at(
        *[read_clip(encode(tmp_path / f"{k}.mp4", one, 8.0, 16), READ) for k, one in enumerate(clips)]
    )
    for name, file in other_files(tmp_path, clips[4], 8.0).items():
        found = nearest(looked_at(read_clip(file, READ)), originals)
        assert found["count"] == 1, name
        assert found["examples"] == [{"test": "test 0", "train": "train 4", "distance": found["nearest"]}], name
    distinct = nearest(originals[:6], originals[6:])
    assert (distinct["count"], distinct["examples"], distinct["threshold"]) == (0, [], THRESHOLD)
    assert distinct["nearest"] > 1.5 * THRESHOLD


def test_real_clips_in_other_files_are_found_and_other_signs_before_the_same_wall_are_not(tmp_path, shared_data):
    files = sorted((shared_data / "clips" / "asl").glob("*.mkv"))
    assert len(files) == 8
    originals = looked_at(*[read_clip(file, READ) for file in files])
    apart = clip_distances(originals, originals) + 9 * np.eye(len(files))
    assert apart.min() > 1.1 * THRESHOLD
    for number in (1, 5):
        frames = np.stack(list(read_frames(files[number])))
        made = other_files(tmp_path, resized(frames, (320, 240)), 30.0)
        again = looked_at(*[read_clip(file, READ) for file in made.values()])
        distances = clip_distances(again, originals)
        assert (distances.argmin(axis=1) == number).all()
        assert distances[:, number].max() < 0.8 * THRESHOLD, dict(zip(made, distances[:, number], strict=True))


def test_all_that_is_found_is_counted_and_the_nearest_are_shown(rng):
    clips = np.stack([moving(rng, 8, 32) for _ in range(7)])
    noisy = (clips + rng.integers(0, 30, clips.shape)).clip(0, 255).astype(np.uint8)
    noisy[3] = clips[3]
    found = nearest(thumbnails(noisy), thumbnails(clips[::-1]))
    assert found["count"] == 7
    assert len(found["examples"]) == 5
    assert found["examples"][0]["test"] == "test 3"
    assert found["examples"][0]["train"] == "train 3"
    assert found["examples"][0]["distance"] == found["nearest"] == pytest.approx(0, abs=1e-3)
    distances = [one["distance"] for one in found["examples"]]
    assert distances == sorted(distances)
    assert nearest(thumbnails(noisy), thumbnails(clips), threshold=0.0)["count"] <= 1


def test_motion_alone_tells_clips_apart(rng):
    clip = moving(rng)
    assert clip_distances(looked_at(clip), looked_at(clip[::-1]))[0, 0] > THRESHOLD


def test_plain_clips_are_told_apart_by_their_colour():
    black, white, red = (np.full((3, 8, 8, 3), colour, np.uint8) for colour in (0, 255, (226, 45, 45)))
    noise = np.random.default_rng(0).integers(0, 3, black.shape).astype(np.uint8)
    shown = looked_at(black, white, red)
    assert (clip_distances(shown, shown) + np.eye(3)).min() > THRESHOLD
    assert noise.std() / 255 < FLAT
    assert clip_distances(shown[:1], looked_at(black + noise))[0, 0] < THRESHOLD


def test_thumbnails_are_averages_of_areas(rng):
    clip = moving(rng, 8, 64)
    small = looked_at(clip)
    assert small.shape == (1, 2, 4 * 16 * 16 * 3 + 3)
    assert small.dtype == np.float32
    averages = clip.reshape(4, 2, 16, 4, 16, 4, 3).mean(axis=(1, 3, 5)) / 255
    pattern = averages - averages.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(small[0, 0, :-3], pattern.ravel() / pattern.std() / np.sqrt(pattern.size), atol=1e-6)
    np.testing.assert_allclose(small[0, 0, -3:], averages.mean(axis=(0, 1, 2)) / np.sqrt(3), atol=1e-6)
    assert np.isfinite(looked_at(clip[:1, :5, :7])).all(), "fewer frames and pixels than a thumbnail has"


def test_without_clips_there_is_no_distance(rng):
    one = looked_at(moving(rng, 8, 32))
    for test, train in ((one[:0], one), (one, one[:0])):
        assert nearest(test, train) == {"count": 0, "threshold": THRESHOLD, "nearest": None, "examples": []}


def test_names_in_both_splits_are_counted():
    assert shared_stimuli(["a", "b", "c"], ["d", "b", "c"]) == {"count": 2, "examples": ["b", "c"]}
    assert shared_stimuli(list("abcdefgh"), list("hgfedcba"))["examples"] == list("abcde")
    assert shared_stimuli([], ["a"]) == {"count": 0, "examples": []}


def test_captions_are_compared_by_their_words():
    assert plain_words("  A dog's\tball —  it's RED! ") == "a dogs ball its red"
    assert plain_words("CAFÉ") == plain_words("cafe\u0301") == "café"
    assert plain_words("...") == ""
    test = [["A dog runs.", "a dog is running"], ["a cat"], ["", "!"], ["the sea", "The Sea!"]]
    train = [["a bird"], ["a dog  runs", "", "?"], ["the sea"]]
    assert shared_captions(test, train) == {"count": 2, "examples": ["A dog runs.", "the sea"]}
    assert shared_captions([["a six"]] * 9, [["a six"]]) == {"count": 9, "examples": ["a six"]}
