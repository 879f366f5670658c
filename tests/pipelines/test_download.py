"""The commands that download: the plan, the tree, continuing after a failure, and one line for a mistake."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.clips import write_clip
from feature_store import remote

from ..feature_store.conftest import add, publish, s3  # noqa: F401 - a fixture
from ..models.hub_server import Hub, ask, serving
from .conftest import Here

BETAS = "derivatives/versionB/MNI152/prepared_allvoxel_pkl/{0}/{0}_roi-{1}_betas_normalized.pkl"
PREPARED = "derivatives/versionB/fsLR32k/GLM/{0}/prepared_betas/{0}_{1}.pkl"
AS_TARGETS = ["--set", "roles={z: z}", "--set", "clips={frames: 8, height: 32, width: 32, window_s: 2.0}"]
ALWAYS = ["dataset_description.json", "participants.tsv", "derivatives/stimuli_metadata/annotations.json"]
SURFACE = [f"organized_betas_task-{task}_normalized" for task in ("train", "test")] + [
    f"noiseceiling_task-{task}" for task in ("train_n-1", "train_n-3", "test_n-1", "test_n-10")
]


@pytest.fixture
def dataset(s3: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:  # noqa: F811
    """A small dataset under the published names, which the environment's endpoint serves."""
    keys = [BETAS.format(subject, roi) for subject in ("sub-01", "sub-02") for roi in ("lEBA", "rEBA", "lMT", "WB")]
    keys += [PREPARED.format("sub-01", name) for name in SURFACE]
    others = ["CHANGES", "sub-01/ses-02/func/sub-01_ses-02_task-test_run-1_bold.nii"]
    objects = {key: rng.bytes(int(rng.integers(1, 200_000))) for key in [*keys, *ALWAYS, *others]}
    publish(s3, objects)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
    monkeypatch.setattr(remote, "TRIES", 1)
    monkeypatch.setattr(remote, "BACKOFF_S", 0.0)
    return objects


@pytest.fixture
def bring(here: Here, tmp_path: Path) -> Here:
    return lambda *options: here("download", "bold-moments", str(tmp_path / "ds"), *options)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_region_of_a_subject(dataset: dict[str, bytes], bring: Here, tmp_path: Path) -> None:
    keys = [*ALWAYS, BETAS.format("sub-01", "lEBA"), BETAS.format("sub-01", "rEBA")]
    dry = bring("--subject", "1", "--roi", "EBA", "--dry-run")
    assert dry.code == 0, dry.stderr
    for words in (("wanted", "5 files"), ("already there", "0 files"), ("to be fetched", "5 files"), ("free",)):
        assert any(all(word in line for word in words) for line in dry.stdout.splitlines()), words
    assert not (tmp_path / "ds").exists()
    done = bring("--subject", "1", "--roi", "EBA")
    assert done.code == 0, done.stderr
    assert tree(tmp_path / "ds") == {key: dataset[key] for key in keys}
    assert "✓ megabytes fetched" in done.stderr
    assert "the clips are not on OpenNeuro: open https://boldmomentsdataset.csail.mit.edu" in done.stderr
    assert str(tmp_path / "ds/stimuli/train/0001.mp4") in done.stderr
    again = bring("--subject", "1", "--roi", "EBA", "--check")
    assert "✓ every file is there" in again.stderr
    assert " ".join(again.stdout.split()).startswith(f"download to {tmp_path / 'ds'} ")
    assert any("to be fetched" in line and "0 files" in line for line in again.stdout.splitlines())


def test_several_kinds_and_subjects(dataset: dict[str, bytes], bring: Here, tmp_path: Path) -> None:
    assert bring("--subject", "sub-01", "--roi", "lMT", "--responses", "fsLR32k", "--jobs", "2").code == 0
    assert bring("--subject", "2", "--roi", "WB").code == 0
    keys = [*ALWAYS, BETAS.format("sub-01", "lMT"), *(PREPARED.format("sub-01", name) for name in SURFACE)]
    assert tree(tmp_path / "ds") == {key: dataset[key] for key in [*keys, BETAS.format("sub-02", "WB")]}


MISTAKES = [
    (["--roi", "EBA"], "no subject is named: say --subject 1"),
    (["--subject", "1"], "no responses are named: say --roi EBA"),
    (["--subject", "0", "--all"], "--subject 0: no such subject; BOLD Moments has 1 to 10"),
    (["--subject", "1", "--roi", "EBB"], "--roi EBB: no such region; did you mean 'EBA'?"),
    (["--subject", "1", "--responses", "fslr"], "--responses fslr: no such responses"),
    (["--subject", "3", "--roi", "EBA"], "sub-03: no sub-03_roi-lEBA_betas_normalized.pkl and 1 more among 0 files"),
    (["--subject", "1", "--responses", "rois"], "and 42 more among 4 files there; check the subjects"),
    (["--subject", "1", "--roi", "EBA", "--endpoint-url", "http://127.0.0.1:9"], "could not reach s3://openneuro.org"),
    (["--subject", "1", "--roi", "EBA", "--endpoint-url", "nonsense"], "Invalid endpoint: nonsense"),
    (["--clips-only"], "ds/stimuli: no such folder; the clips are not on OpenNeuro"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[" ".join(case[0][-3:]) for case in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(
    dataset: dict[str, bytes], bring: Here, tmp_path: Path, options: list[str], message: str
) -> None:
    done = bring(*options)
    assert done.code == 2, done.stderr
    assert [message in line for line in done.stderr.splitlines() if line.startswith("error:")] == [True], done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "ds").exists()


def test_a_failure_names_the_command_that_goes_on(
    s3: str,  # noqa: F811
    dataset: dict[str, bytes],
    bring: Here,
    tmp_path: Path,
) -> None:
    denied = BETAS.format("sub-01", "lEBA")
    add(s3, {denied: dataset[denied]}, public=False)
    done = bring("--subject", "1", "--roi", "EBA", "--roi", "lMT")
    assert done.code == 2
    error = done.stderr.splitlines()[-1]
    assert f"{tmp_path}/ds: 1 of 6 files are missing" in error
    assert "lEBA_betas_normalized.pkl: access denied (403)" in error
    assert error.endswith(f"run again: brain2video download bold-moments {tmp_path}/ds --subject 1 --roi EBA --roi lMT")
    assert len([path for path in (tmp_path / "ds").rglob("*") if path.is_file()]) == 5
    add(s3, {denied: dataset[denied]})
    assert bring("--subject", "1", "--roi", "EBA", "--roi", "lMT").code == 0
    assert (tmp_path / "ds" / denied).read_bytes() == dataset[denied]


def test_a_disk_without_room_is_one_line(
    dataset: dict[str, bytes], bring: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    done = bring("--subject", "1", "--roi", "EBA")
    assert done.code == 2
    assert "are to be written and 0 MB are free; make room" in done.stderr
    assert not tree(tmp_path / "ds")


def test_an_interruption_says_how_to_go_on(
    dataset: dict[str, bytes], bring: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remote, "wait", interrupt)
        done = bring("--subject", "1", "--roi", "EBA")
    assert done.code == 130
    assert "interrupted; what was downloaded is kept; run again: brain2video download bold-moments" in done.stderr
    assert "Traceback" not in done.stderr
    assert bring("--subject", "1", "--roi", "EBA").code == 0


def test_clips_are_checked_where_they_are(dataset: dict[str, bytes], bring: Here, tmp_path: Path) -> None:
    write_clip(tmp_path / "ds/stimuli/train/0001.mp4", np.zeros((6, 16, 16, 3), np.uint8), 2.0, min_side=16)
    for options in (["--clips-only"], ["--subject", "1", "--roi", "lMT"]):
        done = bring(*options)
        assert done.code == 2
        assert "stimuli/train/0002.mp4: no such clip (1 of 1,000 are there)" in done.stderr
        assert "stimuli/test/1001.mp4: no such clip (0 of 102 are there)" in done.stderr
    assert (tmp_path / "ds" / BETAS.format("sub-01", "lMT")).is_file()


def test_help_names_the_options(here: Here) -> None:
    said = here("download", "bold-moments", "--help").stdout
    assert all(
        option in said for option in ("--subject", "--roi", "--responses", "--all", "--coordinates", "--dry-run")
    )
    assert "--endpoint-url" not in said
    assert "bold-moments" in here("download", "--help").stdout


def test_published_weights_come_by_the_studys_names(
    here: Here, cli_home: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    parts = {"vae/config.json": b"{}", "vae/diffusion_pytorch_model.bin": rng.bytes(1000)}
    clip = {"config.json": b"{}", "preprocessor_config.json": b"{}", "model.safetensors": rng.bytes(2_000_000)}
    targets = "targets={z: {extractor: latents, weights: they/video}, c: {extractor: clip, weights: they/clip}}"
    options = [
        "download",
        "weights",
        "-c",
        "configs/small.yaml",
        "--set",
        targets,
        *AS_TARGETS,
    ]
    with serving(Hub({"they/video": parts, "they/clip": clip})) as hub:
        ask(hub, monkeypatch)
        dry = here(*options, "--dry-run")
        assert dry.code == 0, dry.stderr
        assert "they/video 0123456789ab: 2 files, 0.0 MB, pickled weights" in dry.stdout
        assert "they/clip 0123456789ab: 3 files, 2.0 MB, safetensors → data/weights/they/clip" in dry.stdout
        assert not (cli_home / "data" / "weights").exists()
        refused = here(*options)
        assert refused.code == 2
        assert "which can run code when they are loaded" in refused.stderr
        del hub.models["they/video"]["vae/diffusion_pytorch_model.bin"]
        hub.models["they/video"]["vae/diffusion_pytorch_model.safetensors"] = rng.bytes(1000)
        assert here(*options).code == 0
    for file, content in clip.items():
        assert (cli_home / "data" / "weights" / "they" / "clip" / file).read_bytes() == content
    assert (cli_home / "data" / "weights" / "they" / "video" / "vae" / "config.json").is_file()
    shutil.rmtree(cli_home / "data" / "weights")


def test_nothing_to_fetch_and_no_hub_are_one_line(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    done = here("download", "weights", "-c", "configs/small.yaml")
    assert done.code == 0, done.stderr
    assert "nothing to fetch" in done.stdout
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    targets = "targets={z: {extractor: latents, weights: they/video}}"
    gone = here("download", "weights", "-c", "configs/small.yaml", "--set", targets, *AS_TARGETS)
    assert gone.code == 2
    assert len([line for line in gone.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "they/video: the hub does not answer for it" in gone.stderr
