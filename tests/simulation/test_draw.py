"""Clips show what their combination says: colour, size, motion, texture."""

import numpy as np
import pytest
from numpy.typing import NDArray

from simulation.world import (
    MOTIONS,
    PALETTE,
    RADIUS,
    SHAPES,
    TEXTURES,
    WORLDS,
    Combination,
    draw_clips,
    draw_jitter,
    render,
)

STILL = np.zeros((1, 4), dtype=np.float32)


def clip_of(side: int = 32, frames: int = 8, **attributes: str) -> NDArray[np.uint8]:
    words = {"shape": "circle", "colour": "red", "size": "large", "motion": "growing", "texture": "plain"}
    return render([Combination(**{**words, "background": "white", **attributes})], STILL, frames, side, side)[0]


def mask(clip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((clip != np.asarray(PALETTE["white"])).any(axis=-1))


def centroids(clip: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (frame, 2): x and y of the object."""
    return np.asarray([np.argwhere(frame).mean(axis=0)[::-1] for frame in mask(clip)])


@pytest.mark.parametrize("colour", [name for name in PALETTE if name != "white"])
def test_colours(colour: str) -> None:
    clip = clip_of(colour=colour)
    assert tuple(clip[4, 16, 16]) == PALETTE[colour]
    assert tuple(clip[4, 0, 0]) == PALETTE["white"]


@pytest.mark.parametrize(
    ("motion", "axis", "sign"),
    [("moving left", 0, -1), ("moving right", 0, 1), ("moving up", 1, -1), ("moving down", 1, 1)],
)
def test_directions(motion: str, axis: int, sign: int) -> None:
    path = centroids(clip_of(motion=motion, side=64))
    assert (np.diff(path[:, axis]) * sign > 1).all()
    assert np.ptp(path[:, 1 - axis]) < 0.5


def test_growing_and_shrinking_mirror_each_other() -> None:
    areas = mask(clip_of(motion="growing")).sum(axis=(1, 2))
    assert (np.diff(areas) > 0).all()
    np.testing.assert_array_equal(clip_of(motion="shrinking")[::-1], clip_of(motion="growing"))


def test_circle_has_the_area_of_a_circle() -> None:
    side = 256
    red = clip_of(side=side, motion="moving left", colour="black")[0].mean(axis=-1)
    covered = (red < 128).sum() / (side / 2) ** 2
    assert covered == pytest.approx(np.pi * (0.95 * RADIUS["large"]) ** 2, rel=0.01)


@pytest.mark.parametrize("shape", SHAPES)
def test_large_objects_fill_a_third_of_the_width_and_small_ones_are_smaller(shape: str) -> None:
    large = mask(clip_of(shape=shape, motion="moving left"))[4].any(axis=0).sum()
    small = mask(clip_of(shape=shape, motion="moving left", size="small"))[4].any(axis=0).sum()
    assert large >= 32 / 3
    assert small < large


def test_shapes_textures_and_motions_all_differ() -> None:
    for attribute, words in (("shape", SHAPES), ("motion", MOTIONS), ("texture", TEXTURES)):
        clips = {clip_of(**{attribute: word}).tobytes() for word in words}
        assert len(clips) == len(words)


def test_edges_are_smooth() -> None:
    """Rendered large and averaged, a clip is what it is when rendered small."""
    words = {"shape": "star", "motion": "moving right", "texture": "checkered"}
    large = clip_of(side=256, **words).astype(float).reshape(8, 32, 8, 32, 8, 3).mean(axis=(2, 4))
    assert np.abs(large - clip_of(**words)).mean() < 2


def test_frames_show_the_same_instants_at_any_rate() -> None:
    np.testing.assert_array_equal(clip_of(frames=24, motion="circling")[1::3], clip_of(motion="circling"))


def test_not_square() -> None:
    clip = render([Combination("circle", "red", "large", "growing", "striped", "blue")], STILL, 4, 24, 48)[0]
    assert clip.shape == (4, 24, 48, 3)
    assert tuple(clip[2, 12, 24]) == PALETTE["red"]


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, combinations = draw_clips(WORLDS["full"], "zoo", 9, 1, 4, 16, 16)
    monkeypatch.setattr("simulation.world.CHUNK_PIXELS", 1)
    np.testing.assert_array_equal(draw_clips(WORLDS["full"], "zoo", 9, 1, 4, 16, 16)[0], whole)
    assert (whole.dtype, whole.shape, len(combinations)) == (np.uint8, (9, 4, 16, 16, 3), 9)


def test_seeds() -> None:
    first, second = (draw_clips(WORLDS["easy"], "zoo", 5, seed, 4, 16, 16)[0] for seed in (0, 1))
    assert (first != second).any()
    assert np.abs(draw_jitter(100, 0, 0.1)[:, :3]).max() <= 0.1
