"""The small world: what there is, how it is said, and that its pools share nothing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from simulation.world import COLOURS, MOTIONS, SHAPES, SIZES, TEXTURES, WORLDS, Combination, Pool, World

POOLS: tuple[Pool, ...] = ("zoo", "train", "test")
SEEN = Combination("triangle", "red", "large", "moving left", "striped", "black")


def test_canonical_caption() -> None:
    assert SEEN.captions()[0] == "a large red triangle moving left over a striped black background"
    assert len(set(SEEN.captions())) == 5


def test_every_caption_names_every_attribute() -> None:
    for caption in SEEN.captions():
        assert all(word in caption for word in vars(SEEN).values())


def test_a_caption_is_read_back() -> None:
    for caption in SEEN.captions():
        assert Combination.read(caption) == SEEN
        assert Combination.read(f" {caption.upper()} ") == SEEN
    for other in (
        "a red triangle",
        f"{SEEN.captions()[0]} and more",
        "a large red dog moving left over a plain blue sky",
    ):
        assert Combination.read(other) is None


def test_full_world_counts() -> None:
    everything = [c for pool in POOLS for c in WORLDS["full"].combinations(pool)]
    expected = len(SHAPES) * len(COLOURS) * len(SIZES) * len(MOTIONS) * len(TEXTURES) * (len(COLOURS) - 1)
    assert len(everything) == len(set(everything)) == expected
    assert all(c.colour != c.background for c in everything)


@pytest.mark.parametrize("name", ["easy", "full"])
def test_pools_are_disjoint_and_large_enough_for_a_study(name: str) -> None:
    world = WORLDS[name]  # type: ignore[index]
    pools = {pool: set(world.combinations(pool)) for pool in POOLS}
    for one, other in itertools.combinations(POOLS, 2):
        assert not pools[one] & pools[other]
    assert len(pools["train"]) >= 400
    assert len(pools["test"]) >= 102


def test_easy_world_lies_in_the_full_one_pool_by_pool() -> None:
    for pool in POOLS:
        assert set(WORLDS["easy"].combinations(pool)) <= set(WORLDS["full"].combinations(pool))


def test_partition_never_moves() -> None:
    """Shipped generators were trained on the zoo pool: a moved partition would let them know test clips."""
    assert SEEN.pool == "zoo"
    assert [len(WORLDS["easy"].combinations(pool)) for pool in POOLS] == [1482, 788, 418]


@given(st.integers(0, 2**32), st.integers(1, 1000))
def test_draw_repeats_nothing_before_all_were_drawn(seed: int, n: int) -> None:
    world = World(shapes=("circle", "square"), motions=("growing",), sizes=("large",))
    members = world.combinations("test")
    drawn = world.draw("test", n, seed=seed)
    assert len(drawn) == n
    assert len(set(drawn)) == min(n, len(members))
    assert drawn == world.draw("test", n, seed=seed)


def test_unknown_pool() -> None:
    with pytest.raises(ConfigError, match="no such pool of the small world; known: zoo, train, test"):
        WORLDS["easy"].draw("valid", 1, seed=0)  # type: ignore[arg-type]
