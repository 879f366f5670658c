"""The encoder around the masked brain model: what it hands on, from which voxels and times, and that it is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import ModelError
from core.progress import listening
from models.decoders.build import fit_encoder, load_encoder, save_part
from models.decoders.rows import BrainRows
from models.encoders.mbm import Mbm
from models.encoders.settings import AlignConfig, MbmConfig, PretrainConfig
from models.regressors.ridge import fit_ridge
from models.training.checkpoints import Checkpoints
from models.training.loop import Context, History

SHORT: dict[str, Any] = {"steps": 12, "batch": 32, "validate_every": 5, "checkpoint_every": 4}
PRETRAINING, ALIGNMENT = PretrainConfig(**SHORT), AlignConfig(**SHORT, width=6)


def config(**changed: Any) -> MbmConfig:
    tiny: dict[str, Any] = {"patch": 4, "width": 16, "depth": 1, "heads": 2, "decoder_width": 8}
    return MbmConfig(**{**tiny, "pretraining": PRETRAINING, "alignment": None, **changed})


def recorded(
    voxels: int = 22, stimuli: int = 30, *, times: int = 0, unlabelled: int = 0, seed: int = 0
) -> tuple[BrainRows, np.ndarray]:
    """Trials of three causes, each stimulus shown twice, and the causes; windows where there are `times`."""
    rng = np.random.default_rng([seed, voxels])
    every = np.random.default_rng(seed).normal(size=(stimuli, 3))  # all subjects see the same
    causes = np.concatenate([np.repeat(every, 2, axis=0), rng.normal(size=(unlabelled, 3))])
    clean = causes @ rng.normal(size=(3, voxels)) / 3**0.5
    if times:
        clean = clean[:, None] * np.linspace(0.5, 1.5, times)[None, :, None]
    rows = (10 + clean + 0.4 * rng.normal(size=clean.shape)).astype(np.float32)
    labelled = 2 * stimuli
    return (
        BrainRows(
            rows[:labelled],
            [f"s{row // 2}" for row in range(labelled)],
            ["V1"] * (voxels // 2) + ["V2"] * (voxels - voxels // 2),
            rows[labelled:] if unlabelled else None,
            {"image": causes[:labelled].astype(np.float32)},
        ),
        causes[:labelled],
    )


def fit(settings: MbmConfig, rows: BrainRows | dict[str, BrainRows], context: Context | None = None) -> Mbm:
    per_subject = rows if isinstance(rows, dict) else {"sub-01": rows}
    encoder = fit_encoder(settings, per_subject, context or Context())
    assert isinstance(encoder, Mbm)
    return encoder


def test_the_embedding_is_handed_on_beside_the_betas_with_its_share_of_the_variance() -> None:
    rows, _ = recorded()
    encoder = fit(config(share=0.3), rows)
    features = encoder.encode("sub-01", rows.responses)
    assert features.shape == (60, 22 + 32)
    assert encoder.widths == (22, 54)
    betas = (rows.responses - rows.responses.mean(0)) / rows.responses.std(0)
    assert np.allclose(features[:, :22], betas, atol=1e-3)
    variance = features.var(axis=0)
    assert variance[22:].sum() / variance.sum() == pytest.approx(0.3, abs=0.01)
    embedding = replace(encoder, config=config(hands_on="embedding")).encode("sub-01", rows.responses)
    assert embedding.shape == (60, 32)
    assert np.allclose(embedding.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(embedding.std(axis=0), 1, atol=1e-3)
    weight = features[:, 22:].std(axis=0).mean()
    assert np.allclose(features[:, 22:], weight * embedding, atol=1e-3)


def test_every_token_may_be_handed_on_and_an_aligned_embedding_beside_them() -> None:
    rows, _ = recorded()
    tokens = fit(config(hands_on="embedding", pool="tokens"), rows)
    assert tokens.encode("sub-01", rows.responses).shape == (60, 7 * 16)
    aligned = fit(config(hands_on="embedding", alignment=ALIGNMENT), rows)
    assert aligned.encode("sub-01", rows.responses).shape == (60, 2 * 16 + 6)
    assert aligned.widths == (22, 38)


def test_pretraining_carries_over_and_rows_without_a_stimulus_take_part() -> None:
    rows, _ = recorded(stimuli=60, unlabelled=200)
    long = PretrainConfig(steps=250, batch=64, validate_every=50, masked=0.5)
    encoder = fit(config(pretraining=long), rows)
    told = encoder.held_out["sub-01"]
    assert told["loss"] < 0.8 * told["variance"], "masked voxels of held-out trials are told from visible ones"
    fewer = fit(config(), replace(rows, unlabelled=None))
    assert not np.allclose(fewer.embed("sub-01", rows.responses), fit(config(), rows).embed("sub-01", rows.responses))


def test_an_aligned_embedding_tells_what_it_is_aligned_with() -> None:
    """Of held-out trials a straight line reads the causes off the few numbers of the embedding."""
    rows, causes = recorded(stimuli=100)
    first = replace(rows, responses=rows.responses[:140], stimuli=rows.stimuli[:140])
    first = replace(first, align={"image": rows.align["image"][:140]})
    longer = ALIGNMENT.model_copy(update={"steps": 120, "lr": 3e-3, "width": 3, "patience": 20})
    encoder = fit(config(pretraining=None, alignment=longer), first)
    embedding = encoder.embed("sub-01", rows.responses)[:, -3:]
    ridge = fit_ridge(embedding[:140], causes[:140], first.stimuli, [1e-3, 1e-1])
    made = ridge.predict(embedding[140:])
    assert np.corrcoef(made.ravel(), causes[140:].ravel())[0, 1] > 0.8


def test_either_stage_may_be_left_out() -> None:
    rows, _ = recorded()
    heard: dict[str, History] = {}
    neither = fit(config(pretraining=None), rows, Context(log=heard.__setitem__))
    assert (neither.held_out, heard) == ({}, {})
    assert np.isfinite(neither.encode("sub-01", rows.responses)).all()
    fit(config(pretraining=None, alignment=ALIGNMENT), rows, Context(log=heard.__setitem__))
    assert list(heard) == ["align"]
    fit(config(alignment=ALIGNMENT), rows, Context(log=heard.__setitem__))
    assert set(heard) == {"align", "mbm"}
    assert len(heard["mbm"].losses) == 12


def test_aligning_with_nothing_is_one_line() -> None:
    rows, _ = recorded()
    with pytest.raises(ModelError, match=r"mbm: alignment is asked for .* name targets in roles.align, or set the enc"):
        fit(config(pretraining=None, alignment=ALIGNMENT), replace(rows, align={}))


def test_windows_are_read_with_their_times() -> None:
    rows, _ = recorded(times=3, unlabelled=10)
    encoder = fit(config(hands_on="embedding", alignment=ALIGNMENT), rows)
    assert (encoder.times, encoder.brain.times) == (3, 3)
    features = encoder.encode("sub-01", rows.responses)
    assert features.shape == (60, 38)
    turned = encoder.encode("sub-01", rows.responses[:, ::-1])
    assert not np.allclose(features, turned, atol=1e-2), "a window backwards is another window"
    with pytest.raises(ModelError, match="sub-01: 1 time points a row; the encoder was trained on 3"):
        encoder.encode("sub-01", rows.responses.mean(axis=1))
    with pytest.raises(ModelError, match="sub-01: 2 time points a row; the encoder was trained on 3"):
        encoder.encode("sub-01", rows.responses[:, :2])
    with pytest.raises(ModelError, match=r"mbm: subjects with \[1, 3\] time points; one network needs one number"):
        fit(config(), {"sub-01": rows, "sub-02": recorded()[0]})


def test_subjects_of_unequal_voxels_share_one_network() -> None:
    rows = {"sub-01": recorded(22)[0], "sub-02": recorded(31)[0]}
    encoder = fit(config(alignment=ALIGNMENT), rows)
    assert encoder.subjects == ["sub-01", "sub-02"]
    assert encoder.widths == (-1, -1)
    assert encoder.encode("sub-02", rows["sub-02"].responses).shape == (60, 31 + 38)
    assert replace(encoder, config=config(hands_on="embedding")).widths == (-1, 38)


def test_voxels_that_say_nothing_are_left_out() -> None:
    rows, _ = recorded(24)
    rows.responses[:, 3] = 7
    rows.responses[5, 15] = np.nan
    encoder = fit(config(), rows)
    assert encoder.patches["sub-01"].voxels == 22
    assert encoder.encode("sub-01", rows.responses).shape == (60, 22 + 32)
    without = replace(rows, responses=np.delete(rows.responses, [3, 15], axis=1))
    without = replace(without, rois=[roi for voxel, roi in enumerate(rows.rois) if voxel not in (3, 15)])
    other = fit(config(), without)
    assert np.array_equal(encoder.encode("sub-01", rows.responses), other.encode("sub-01", without.responses)), (
        "regions and patches are those of the voxels that are kept"
    )


def test_masked_rows_are_filled_in_for_a_picture() -> None:
    rows, _ = recorded()
    made = fit(config(), rows).fill_in("sub-01", rows.responses[:5], 0)
    assert {name: value.shape for name, value in made.items()} == dict.fromkeys(("truth", "made", "hidden"), (5, 22))
    assert 0.6 < made["hidden"].mean() < 0.9


def test_it_is_kept_without_loss_and_fitted_again_to_the_same_bytes(tmp_path: Path) -> None:
    rows = {"sub-01": recorded(22)[0], "sub-02": recorded(31, unlabelled=9)[0]}
    settings = config(alignment=ALIGNMENT, reliability=0.5)
    one = fit(settings, rows, Context(1))
    digest = save_part(tmp_path / "one", one)
    loaded = load_encoder(tmp_path / "one")
    assert (loaded.subjects, loaded.widths) == (one.subjects, one.widths)
    for name, of in rows.items():
        assert np.array_equal(loaded.encode(name, of.responses), one.encode(name, of.responses))
    assert isinstance(loaded, Mbm)
    pictures = [of.fill_in("sub-01", rows["sub-01"].responses[:3], 0)["made"] for of in (one, loaded)]
    assert np.array_equal(*pictures), "the decoder is kept"
    again = save_part(tmp_path / "two", fit(settings, rows, Context(1)))
    assert again == save_part(tmp_path / "three", loaded) == digest
    assert save_part(tmp_path / "four", fit(settings, rows, Context(2))) != digest


@pytest.mark.parametrize("stage", ["masked brain modelling", "contrastive alignment"])
def test_an_interrupted_fit_goes_on_to_the_same_bytes(tmp_path: Path, stage: str) -> None:
    rows, _ = recorded()
    settings = config(alignment=ALIGNMENT)

    def stop(what: str, done: int, total: int, note: str) -> None:
        if stage in what and done == 6:
            raise KeyboardInterrupt

    context = Context(checkpoints=Checkpoints(tmp_path / "kept"))
    with pytest.raises(KeyboardInterrupt), listening(stop):
        fit(settings, rows, context)
    heard: list[tuple[str, int]] = []
    with listening(lambda what, done, total, note: heard.append((what, done))):
        resumed = fit(settings, rows, context)
    assert min(done for what, done in heard if stage in what) == 4, "it goes on where its last checkpoint was"
    assert save_part(tmp_path / "a", resumed) == save_part(tmp_path / "b", fit(settings, rows))


def test_what_does_not_fit_is_refused() -> None:
    rows, _ = recorded()
    encoder = fit(config(pretraining=None), rows)
    with pytest.raises(ModelError, match="does not know the subject 'sub-02'; did you mean 'sub-01'"):
        encoder.encode("sub-02", rows.responses)
    with pytest.raises(ModelError, match="have 21 voxels and the encoder was trained on 22"):
        encoder.encode("sub-01", rows.responses[:, :21])
    damaged = rows.responses.copy()
    damaged[0, 0] = np.inf
    with pytest.raises(ModelError, match="1 voxels hold NaN that had none in training"):
        encoder.encode("sub-01", damaged)
    with pytest.raises(ModelError, match="sub-01: 2 time points a row; the encoder was trained on 1"):
        fit(config(), replace(rows, unlabelled=np.zeros((4, 2, 22), np.float32)))


def test_time_points_of_a_window_are_no_repetitions() -> None:
    rows, _ = recorded(times=3)
    encoder = fit(config(reliability=0.5, share=0.3, pretraining=None), rows)
    features = encoder.encode("sub-01", rows.responses)
    variance = features.var(axis=0)
    assert variance[22:].sum() / variance.sum() == pytest.approx(0.3, abs=0.01)
    once = replace(rows, stimuli=[f"s{row}" for row in range(len(rows.stimuli))])
    with pytest.raises(ModelError, match="sub-01: no training stimulus was repeated"):
        fit(config(reliability=0.5, pretraining=None), once)
