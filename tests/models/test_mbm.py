"""Masked brain modelling: what is masked and what is learned, windows, several subjects, going on after a stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ModelError
from core.progress import listening
from models.encoders.mbm_network import Aligned, MaskedBrainModel, Patches, compiled, draw_visible
from models.encoders.mbm_stages import RepeatPairs, align, fill_in, masked_error, pretrain
from models.encoders.settings import AlignConfig, MbmConfig, PretrainConfig
from models.training.checkpoints import Checkpoints
from models.training.loop import Context

ROIS = ["V1", "V2", "V3", "V4"]
TINY = MbmConfig(patch=4, width=16, depth=2, heads=2, decoder_width=8, decoder_depth=1)


def patches_of(voxels: int = 30, size: int = 4) -> Patches:
    return Patches.of([ROIS[v * 4 // voxels] for v in range(voxels)], voxels, size, ROIS)


def network(subjects: dict[str, Patches] | None = None, times: int = 1, **changes: Any) -> MaskedBrainModel:
    torch.manual_seed(0)
    return MaskedBrainModel(TINY.model_copy(update=changes), subjects or {"a": patches_of()}, times)


def rows_of(rows: int, voxels: int = 30, times: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, times, voxels)).astype(np.float32))


def visible_of(rows: int, seed: int = 0, of: Patches | None = None) -> torch.Tensor:
    return torch.from_numpy(draw_visible(of or patches_of(), rows, 0.75, np.random.default_rng(seed)))


def everything_of(brain: MaskedBrainModel, rows: torch.Tensor, visible: torch.Tensor, name: str = "a") -> torch.Tensor:
    """The reconstruction (row, time, patch, size)."""
    return brain.decode(name, brain.encode(name, brain.cut(name, rows), visible), visible)


def of_causes(stimuli: int, repeats: int, voxels: int, seed: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Rows of three hidden causes and noise, (row, 1, voxel), their stimuli, and the causes of each row."""
    rng = np.random.default_rng(seed)
    causes = np.repeat(rng.normal(size=(stimuli, 3)), repeats, axis=0)
    rows = causes @ rng.normal(size=(3, voxels)) / 3**0.5 + 0.5 * rng.normal(size=(len(causes), voxels))
    rows = ((rows - rows.mean(axis=0)) / rows.std(axis=0)).astype(np.float32)[:, None]
    return rows, [f"s{row // repeats}" for row in range(len(rows))], causes.astype(np.float32)


def twins_of(stimuli: int = 60, repeats: int = 3, voxels: int = 30, seed: int = 0, share: float = 0.2) -> RepeatPairs:
    rows, names, _ = of_causes(stimuli, repeats, voxels, seed)
    return RepeatPairs.of(rows, names, share, np.random.default_rng(5))


# patches


@pytest.mark.parametrize(("voxels", "count", "padding"), [(32, 8, 0), (30, 8, 2), (33, 9, 3), (3, 1, 1)])
def test_patches_are_cut_and_joined_without_loss(voxels: int, count: int, padding: int):
    patches, rows = patches_of(voxels), rows_of(5, voxels, 3)
    assert (patches.count, patches.padding, int(patches.filled().sum())) == (count, padding, voxels)
    cut = patches.cut(rows)
    assert cut.shape == (5, 3, count, 4)
    assert torch.equal(patches.join(cut), rows)
    assert not cut[torch.from_numpy(patches.filled() == 0).expand_as(cut)].any()
    assert np.allclose(patches.shares.sum(axis=1), 1)


@pytest.mark.parametrize("masked", [0.01, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("whole", [0.0, 0.5, 1.0])
def test_every_row_keeps_just_as_many_patches_and_others_than_the_next(masked: float, whole: float):
    patches, rng = patches_of(160), np.random.default_rng(0)
    first, second = (draw_visible(patches, 400, masked, rng, whole) for _ in range(2))
    kept = min(max(1, round((1 - masked) * 40)), 39)
    assert first.shape == second.shape == (400, kept)
    for rows in (first, second):
        assert all(len(set(row)) == kept and set(row) < set(range(40)) for row in rows.tolist())
    choices = {frozenset(row) for row in first.tolist()}
    assert len(choices) > (30 if kept in (1, 39) else 150), "masks are drawn afresh for every row"
    assert (np.sort(first) != np.sort(second)).any(axis=1).mean() > 0.5, "and every time"
    assert len(np.unique(np.concatenate([first, second]))) == 40, "every patch is visible at times"


def test_regions_are_masked_as_wholes():
    patches = patches_of(160)
    for row in draw_visible(patches, 50, 0.5, np.random.default_rng(0), 1.0):
        kept = np.bincount(patches.main_roi[row], minlength=4)
        assert sorted(kept) == [0, 0, 10, 10]
    for row in draw_visible(patches, 50, 0.6, np.random.default_rng(0), 1.0):
        assert sorted(np.bincount(patches.main_roi[row], minlength=4)) == [0, 0, 6, 10]
    mixed = draw_visible(patches, 400, 0.5, np.random.default_rng(0), 0.5)
    whole = [sorted(np.bincount(patches.main_roi[row], minlength=4)) == [0, 0, 10, 10] for row in mixed]
    assert 0.4 < np.mean(whole) < 0.6


def test_one_patch_cannot_be_told_of_from_others():
    with pytest.raises(ModelError, match="3 voxels are one patch of 4.*make the encoder's patch smaller"):
        draw_visible(patches_of(3), 2, 0.75, np.random.default_rng(0))


# what the loss reads


class Told(MaskedBrainModel):
    """A network whose decoder says what it is told."""

    def decode(self, subject: str, tokens: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        self.seen = visible
        return self.answer(visible)


def loss_of(brain: MaskedBrainModel, data: RepeatPairs, **changes: Any) -> float:
    config = PretrainConfig(targets="same", **changes)
    with torch.no_grad():
        return float(masked_error(brain, config, "a", data, np.arange(6), np.random.default_rng(3)))


def test_the_loss_is_the_masked_voxels_alone():
    data, patches = twins_of(), patches_of()
    brain = Told(TINY, {"a": patches})
    truth = patches.cut(torch.from_numpy(data.rows[:6]))

    def hidden_of(visible: torch.Tensor) -> torch.Tensor:
        return torch.ones(6, patches.count).scatter(1, visible, 0.0)[:, None, :, None]

    def with_errors(hidden: float, visible: float, padding: float) -> None:
        filled = torch.from_numpy(patches.filled())
        brain.answer = lambda at: (
            truth + filled * (hidden_of(at) * hidden + (1 - hidden_of(at)) * visible) + ((1 - filled) * padding)
        )

    with_errors(2.0, 0.0, 0.0)
    assert loss_of(brain, data) == pytest.approx(4, rel=1e-5)
    with_errors(2.0, 1e3, 0.0)
    assert loss_of(brain, data) == pytest.approx(4, rel=1e-5), "visible patches do not count"
    with_errors(2.0, 0.0, 1e3)
    assert loss_of(brain, data) == pytest.approx(4, rel=1e-5), "padding does not count"
    with_errors(2.0, 3.0, 1e3)
    assert loss_of(brain, data, visible=0.5) == pytest.approx(4 + 0.5 * 9, rel=1e-5)


def test_the_heads_of_the_padding_learn_nothing():
    brain, data = network(), twins_of()
    masked_error(brain, PretrainConfig(), "a", data, np.arange(20), np.random.default_rng(0)).backward()
    gradient = brain.layers("a").outwards.bias.grad
    assert not gradient[-1, -2:].any()
    assert gradient[-1, :-2].any()
    before = loss_of(brain, data)
    with torch.no_grad():
        brain.layers("a").outwards.bias[-1, -2:] += 100
        brain.layers("a").outwards.weight[-1, :, -2:] += 100
    assert loss_of(brain, data) == before


def test_other_trials_are_the_truth_where_the_config_says_so():
    data, brain = twins_of(), Told(TINY, {"a": patches_of()})
    patches, rows = patches_of(), np.arange(6)
    other = data.twin(rows, np.random.default_rng(3))
    brain.answer = lambda at: patches.cut(torch.from_numpy(data.rows[other]))
    config = PretrainConfig(targets="other_repeat")
    assert float(masked_error(brain, config, "a", data, rows, np.random.default_rng(3))) == 0
    assert loss_of(brain, data) > 0.1


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_masked_patches_are_not_read(weights: Any):
    brain, rows, visible = network(patch_weights=weights), rows_of(6), visible_of(6)
    hidden = torch.ones(6, 8).scatter(1, visible, 0.0).repeat_interleave(4, dim=1)[:, None, :30] > 0
    before = everything_of(brain, rows, visible)
    assert torch.equal(everything_of(brain, torch.where(hidden, 1e3, rows), visible), before)
    assert not torch.allclose(everything_of(brain, torch.where(hidden, rows, rows + 1), visible), before)
    leaf = rows.clone().requires_grad_()
    everything_of(brain, leaf, visible).square().sum().backward()
    assert torch.equal(leaf.grad != 0, ~hidden)


def test_only_visible_tokens_are_encoded_and_put_back_where_they_were():
    brain, rows, visible = network(), rows_of(6), visible_of(6)
    assert brain.encode("a", brain.cut("a", rows), visible).shape == (6, 1 + visible.shape[1], 16)
    assert brain.encode("a", brain.cut("a", rows)).shape == (6, 9, 16)
    every = torch.stack([torch.randperm(8) for _ in range(6)])
    shuffled, in_order = everything_of(brain, rows, every), brain.decode("a", brain.encode("a", brain.cut("a", rows)))
    assert torch.allclose(shuffled, in_order, atol=1e-5), "the order of the tokens does not count"
    again = visible.flip(1)
    assert torch.allclose(everything_of(brain, rows, again), everything_of(brain, rows, visible), atol=1e-5)


@pytest.mark.parametrize("weights", ["own", "shared"])
def test_patches_are_embedded_by_their_own_weights_or_all_by_one(weights: Any):
    layer = network(patch_weights=weights).layers("a").inwards
    patches, codes = rows_of(3, 4, 8), rows_of(8, 16)[:, 0]
    of = range(8) if weights == "own" else [0] * 8
    for index, which in enumerate(of):
        expected = patches[:, index] @ layer.weight[which] + layer.bias[which] + codes[index]
        assert torch.allclose(layer(patches, codes)[:, index], expected, atol=1e-5)


# subjects and windows


def test_subjects_of_unequal_voxels_share_the_blocks():
    brain = network({"a": patches_of(30), "b": patches_of(51)})
    for name, voxels in (("a", 30), ("b", 51)):
        visible = visible_of(2, of=brain.patches[name])
        assert brain.patches[name].join(everything_of(brain, rows_of(2, voxels), visible, name)).shape == (2, 1, voxels)
    everything_of(brain, rows_of(2, 51), visible_of(2, of=patches_of(51)), "b").sum().backward()
    assert all(weight.grad is None for weight in brain.layers("a").parameters())
    assert all(weight.grad is not None for weight in brain.encoder.parameters())


def test_windows_begin_as_independent_times_and_are_mixed_once_trained():
    brain, rows, visible = network(times=3), rows_of(4, times=3), visible_of(4)
    brain.moments.zero_()  # else each time has a code of its own
    other = rows.clone()
    other[:, 1] += 1

    def others_move() -> bool:
        before, after = everything_of(brain, rows, visible), everything_of(brain, other, visible)
        assert not torch.allclose(before[:, 1], after[:, 1])
        return not torch.equal(before[:, [0, 2]], after[:, [0, 2]])

    assert not others_move()
    single = network()
    single.load_state_dict(brain.state_dict(), strict=False)
    one_by_one = torch.cat([everything_of(single, rows[:, [time]], visible) for time in range(3)], dim=1)
    assert torch.allclose(everything_of(brain, rows, visible), one_by_one, atol=1e-5)
    optimiser = torch.optim.AdamW(brain.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        (everything_of(brain, rows, visible) - brain.cut("a", rows)).square().mean().backward()
        optimiser.step()
    assert others_move()


# twins


def test_twins_are_other_trials_of_the_same_stimulus():
    names = ["a", "b", "a", "c", "a", "b"]
    data = RepeatPairs.of(np.zeros((9, 1, 4), np.float32), names, 0.3, np.random.default_rng(0))
    rows, rng = np.arange(9).repeat(200), np.random.default_rng(0)
    twins = data.twin(rows, rng)
    drawn = {row: set(twins[rows == row].tolist()) for row in range(9)}
    assert drawn == {0: {2, 4}, 1: {5}, 2: {0, 4}, 3: {3}, 4: {0, 2}, 5: {1}, 6: {6}, 7: {7}, 8: {8}}
    assert sorted([*data.train, *data.held]) == list(range(9))
    assert not {names[row] for row in data.held} & {names[row] for row in data.train if row < 6}


# training


def settings_of(**changes: Any) -> PretrainConfig:
    return PretrainConfig(**{"steps": 12, "batch": 16, "validate_every": 4, "checkpoint_every": 4, **changes})


def weights_of(brain: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in brain.state_dict().items()}


@pytest.mark.parametrize("targets", ["same", "other_repeat"])
def test_what_is_learned_carries_over_to_held_out_stimuli_of_every_subject(targets: Any):
    rows = {"a": twins_of(200), "b": twins_of(200, voxels=51, seed=1)}
    brain = network({"a": patches_of(30), "b": patches_of(51)})
    config = settings_of(steps=300, validate_every=50, batch=32, lr=1e-2, masked=0.5, targets=targets)
    found = pretrain(brain, config, rows, Context())
    for name in rows:
        assert found[name]["variance"] == pytest.approx(1, abs=0.25)
        assert found[name]["loss"] < 0.6 * found[name]["variance"], name
    shown = fill_in(brain, "a", rows["a"].rows[rows["a"].held], 0.5, 0)
    assert shown["hidden"].shape == shown["made"].shape == shown["truth"].shape
    error = (shown["made"] - shown["truth"])[shown["hidden"]] ** 2
    assert error.mean() < 0.8 * (shown["truth"][shown["hidden"]] ** 2).mean()


def test_masks_differ_from_step_to_step(monkeypatch: pytest.MonkeyPatch):
    drawn = []

    def spy(*args: Any) -> np.ndarray:
        drawn.append(draw_visible(*args))
        return drawn[-1]

    monkeypatch.setattr("models.encoders.mbm_stages.draw_visible", spy)
    pretrain(network(), settings_of(steps=3), {"a": twins_of()}, Context())
    assert len({np.sort(one, axis=1).tobytes() for one in drawn[:3]}) == 3


@pytest.mark.parametrize("ema", [None, 0.9])
def test_an_interrupted_pretraining_goes_on_to_the_same_weights(tmp_path: Path, ema: float | None):
    rows, config = {"a": twins_of(), "b": twins_of(voxels=51, seed=1)}, settings_of(ema=ema)
    subjects = {"a": patches_of(30), "b": patches_of(51)}
    undisturbed = network(subjects)
    expected = pretrain(undisturbed, config, rows, Context())

    def stop(what: str, done: int, total: int, note: str) -> None:
        if done == 6:
            raise KeyboardInterrupt

    context, heard = Context(checkpoints=Checkpoints(tmp_path)), []
    with pytest.raises(KeyboardInterrupt), listening(stop):
        pretrain(network(subjects), config, rows, context)
    torch.manual_seed(99)
    brain = MaskedBrainModel(TINY, subjects)
    with listening(lambda what, done, total, note: heard.append(done)):
        assert pretrain(brain, config, rows, context) == expected
    assert heard[0] == 4
    ours, theirs = weights_of(brain), weights_of(undisturbed)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_value_that_is_not_a_number_stops_the_training():
    data = twins_of()
    data.rows[:, 0, 3] = np.nan
    with pytest.raises(ModelError, match="masked brain modelling: the loss is not a number at step 0"):
        pretrain(network(), settings_of(), {"a": data}, Context())


def test_bfloat16_is_near_float32():
    data, config = twins_of(), PretrainConfig(targets="same")
    exact, near = (
        masked_error(
            network(),
            config.model_copy(update={"precision": precision}),
            "a",
            data,
            np.arange(9),
            np.random.default_rng(0),
        )
        for precision in ("float32", "bfloat16")
    )
    assert near.item() != exact.item()
    assert near.item() == pytest.approx(exact.item(), rel=0.02)


def test_compiled_blocks_keep_their_names_and_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch):
    brain = network()
    names, called = list(brain.state_dict()), []
    monkeypatch.setattr(torch, "compile", lambda call, **how: lambda *args: called.append(how) or call(*args))
    with compiled(brain, True):
        assert list(brain.state_dict()) == names
        everything_of(brain, rows_of(2), visible_of(2))
    assert called == [{"dynamic": True}] * 3, "every block of encoder and decoder"
    everything_of(brain, rows_of(2), visible_of(2))
    with compiled(brain, False):
        everything_of(brain, rows_of(2), visible_of(2))
    assert len(called) == 3


# alignment


def test_alignment_finds_held_out_stimuli():
    rows, names, causes = of_causes(240, 2, 30, 0)
    data = RepeatPairs.of(rows, names, 0.1, np.random.default_rng(5))
    config = AlignConfig(steps=200, lr=3e-3, batch=64, width=8, validate_every=30)
    torch.manual_seed(0)
    model = Aligned(network(), TINY, config, {"image": 3})
    held = data.held[::2]  # one trial of each stimulus

    def two_way() -> float:
        with torch.no_grad():
            made = model.targets["image"](model.embed("a", torch.from_numpy(rows[held])))
        scores = torch.nn.functional.cosine_similarity(made[:, None], torch.from_numpy(causes[held])[None], dim=2)
        return float((scores.diagonal()[:, None] > scores).float().sum() / (len(held) * (len(held) - 1)))

    before = two_way()
    align(model, config, {"a": data}, {"a": {"image": causes - causes.mean(axis=0)}}, Context())
    assert len(held) == 24
    assert before < 0.65
    assert two_way() > 0.8


def test_with_one_held_out_stimulus_alignment_keeps_its_last_weights():
    rows, names, causes = of_causes(6, 2, 30, 0)
    data, kept = RepeatPairs.of(rows, names, 0.1, np.random.default_rng(5)), []
    config = AlignConfig(steps=8, batch=4, width=8, validate_every=1, patience=2)
    model = Aligned(network(), TINY, config, {"image": 3})
    context = Context(log=lambda stage, history: kept.append(history))
    align(model, config, {"a": data}, {"a": {"image": causes}}, context)
    assert (len(kept[0].losses), kept[0].best) == (8, None)
