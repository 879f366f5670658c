"""The training loop: resumed bit for bit, stopped early by held-out rows, shared by processes, never past a NaN."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ModelError
from core.progress import listening
from core.seeds import rng_for
from models.decoders.rows import split_stimuli
from models.training.checkpoints import Checkpoints, difference
from models.training.distributed import local_shard, workers
from models.training.loop import Context, History, Validation, fit, optimiser_of
from models.training.settings import LoopConfig


def problem(steps: int = 40, **changed: object) -> tuple[torch.nn.Module, LoopConfig]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))
    return model, LoopConfig.model_validate({"steps": steps, "lr": 0.01, "checkpoint_every": 7, **changed})


def train(folder: Path | None, *, steps: int = 40, seed: int = 3, poison: int | None = None, **changed: object):
    model, config = problem(steps, **changed)
    rng = np.random.default_rng(0)
    rows = torch.from_numpy(rng.normal(size=(64, 6)).astype(np.float32))
    wanted = rows[:, :2].abs()

    def loss(step: int) -> torch.Tensor:
        chosen = local_shard(rng_for(seed, "batch", step).integers(0, 48, 16))
        return (model(rows[chosen]) - wanted[chosen]).square().mean() * (float("nan") if step == poison else 1)

    def held_out() -> torch.Tensor:
        return (model(rows[48:]) - wanted[48:]).square().mean()

    history = fit(
        "stage",
        "training",
        model,
        optimiser_of(config, model),
        loss,
        config.steps,
        seed=seed,
        checkpoints=Checkpoints(folder, config.checkpoint_every, {"settings": config.model_dump(mode="json")}),
        clip=config.clip,
        ema=config.ema,
        validation=Validation(held_out, 5, config.patience),
    )
    return model, history


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    there = other.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
@pytest.mark.parametrize("at", [1, 7, 20, 39])
def test_a_stopped_training_goes_on_to_the_same_weights(
    tmp_path: Path, at: int, optimiser: str, ema: float | None
) -> None:
    whole, told = train(None, optimiser=optimiser, ema=ema)

    def stop(what: str, done: int, total: int, note: str) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        train(tmp_path, optimiser=optimiser, ema=ema)
    resumed, again = train(tmp_path, optimiser=optimiser, ema=ema)
    assert equal(whole, resumed)
    assert again == told


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first, _ = train(tmp_path)
    heard = []
    with listening(lambda what, done, total, note: heard.append(done)):
        second, _ = train(tmp_path)
    assert equal(first, second)
    assert heard == [40]


def test_another_seed_gives_other_weights_and_the_caller_keeps_its_random_numbers() -> None:
    one, _ = train(None, seed=1)
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    other, _ = train(None, seed=2)
    torch.set_rng_state(state)
    assert torch.rand(1) == expected
    assert not equal(one, other)


def test_the_best_weights_are_kept_and_training_stops_when_held_out_rows_get_worse() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(weight.weight, 0.0)
    optimiser = torch.optim.SGD(weight.parameters(), lr=0.5)

    def loss(step: int) -> torch.Tensor:
        return (weight(torch.ones(1)) - 1).square().sum()  # pulls towards 1

    def held_out() -> torch.Tensor:
        return (weight(torch.ones(1)) - 0.3).square().sum()  # best on the way there

    history = fit(
        "s", "w", weight, optimiser, loss, 400, seed=0, checkpoints=Checkpoints(), validation=Validation(held_out, 1, 5)
    )
    values = [value for _, value in history.validation]
    assert history.best == 1 + values.index(min(values))
    assert len(history.losses) == history.best + 5 < 400
    assert held_out().item() == min(values)


def test_a_moving_average_is_what_is_kept() -> None:
    plain, _ = train(None, patience=100)
    averaged, _ = train(None, patience=100, ema=0.99)
    assert not equal(plain, averaged)
    started, _ = problem()
    moved = [(a - b).abs().sum() for a, b in zip(plain.parameters(), started.parameters(), strict=True)]
    lagged = [(a - b).abs().sum() for a, b in zip(averaged.parameters(), started.parameters(), strict=True)]
    assert all(slow < fast for slow, fast in zip(lagged, moved, strict=True)), "an average lags behind"


def test_a_loss_that_is_no_number_stops_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"training: the loss is not a number at step 16; the checkpoint of step 14 is"
    ):
        train(tmp_path, poison=16)
    kept = torch.load(tmp_path / "stage.pt", weights_only=True)
    assert len(kept["losses"]) == 14
    assert all(torch.isfinite(value).all() for value in kept["model"].values())
    resumed, _ = train(tmp_path)
    assert equal(resumed, train(None)[0])


def test_a_checkpoint_of_another_training_is_refused_with_the_difference(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(
        ModelError, match=r"stage\.pt: a checkpoint of another training: settings\.lr was 0\.01, is 0\.02"
    ):
        train(tmp_path, lr=0.02)
    (tmp_path / "stage.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"stage\.pt: not a checkpoint of this project"):
        train(tmp_path)


def test_differences_are_named_by_their_place() -> None:
    found = {"stores": {"responses/sub-01": "abc"}, "seed": 0}
    assert difference(found, {**found, "stores": {"responses/sub-01": "abd"}}) == (
        "stores.responses/sub-01 was abc, is abd"
    )
    assert difference(found, {"seed": 0}) == "stores was {'responses/sub-01': 'abc'}, is None"


def test_parts_of_a_training_have_seeds_folders_and_names_of_their_own(tmp_path: Path) -> None:
    heard: dict[str, History] = {}
    whole = Context(5, checkpoints=Checkpoints(tmp_path), log=heard.__setitem__)
    one, other = whole.within("mbm").within("encoder"), whole.within("mlp").within("encoder")
    assert one.seed != other.seed != whole.seed
    assert one.checkpoints.folder == tmp_path / "mbm" / "encoder"
    assert one.name == "mbm encoder"
    one.log("pretraining", History())
    assert list(heard) == ["mbm/encoder/pretraining"]


def test_rows_are_held_out_by_stimulus() -> None:
    names = [f"s{row % 20}" for row in range(60)]
    held = split_stimuli(names, 0.25, np.random.default_rng(0))
    inside, outside = (
        {n for n, h in zip(names, held, strict=True) if not h},
        {n for n, h in zip(names, held, strict=True) if h},
    )
    assert not inside & outside
    assert len(outside) == 5
    assert held.sum() == 15


def test_one_process_has_all_rows() -> None:
    assert workers().num_processes == 1
    assert local_shard(np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_a_launcher_whose_processes_do_not_take_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch --cpu --num_processes 2` runs one process and says two."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    workers.cache_clear()
    monkeypatch.setattr("models.training.distributed.Accelerator", lambda **_: type("One", (), {"num_processes": 1})())
    with pytest.raises(ModelError, match="2 processes were launched and 1 take part; launch with 'brain2video"):
        workers()
    workers.cache_clear()


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_part_may_learn_more_slowly_under_either_optimiser(optimiser: str) -> None:
    model, config = problem(optimiser=optimiser)
    groups = optimiser_of(config, model, slower=model[0], by=0.25).param_groups
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    assert set(rates) == {id(weight) for weight in model.parameters()}
    for slow, usual in zip(model[0].parameters(), model[3].parameters(), strict=True):
        assert rates[id(slow)] == pytest.approx(0.25 * rates[id(usual)])
