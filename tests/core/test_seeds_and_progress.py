"""Seeds that depend on what draws; progress that reaches listeners only."""

from core.progress import listening, report, track
from core.seeds import rng_for, seed_for


def test_seeds_differ_by_use_and_repeat_by_name() -> None:
    seeds = [seed_for(0, "render", "0001"), seed_for(0, "render", "0002"), seed_for(1, "render", "0001")]
    assert len(set(seeds)) == 3
    assert seed_for(0, "render", "0001") == seeds[0]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_for(0, "a", "b") != seed_for(0, "ab")
    assert rng_for(0, "x").random() == rng_for(0, "x").random()


def test_progress_reaches_listeners_while_they_listen() -> None:
    heard: list[tuple[str, int, int, str]] = []
    with listening(lambda *said: heard.append(said)):
        assert list(track(["a", "b"], "work")) == ["a", "b"]
        report("training", 3, 9, "loss 0.5")
    report("later", 0, 1)
    assert heard == [("work", 0, 2, ""), ("work", 1, 2, ""), ("work", 2, 2, ""), ("training", 3, 9, "loss 0.5")]
