"""Extraction and ingest by several workers: the bytes of one process, whoever computes and whoever dies."""

import shutil
import threading
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from core.errors import ServerError, SourceError
from core.executors import IN_PROCESS, ExecutorConfig, open_executor
from core.files import digest_folder
from core.progress import listening
from feature_store import schema, verify
from studies.stores import responses as ingest_module
from studies.stores.responses import ingest, simulate_source
from studies.stores.targets import extract
from studies.study import Study, load_study

from ..conftest import write_arrays
from ..dask_cluster import CHECKOUT, dask_cluster
from .conftest import write_study
from .test_simulated import CONFIG, TINY

TWO = ExecutorConfig(kind="processes", workers=2)
SHIPPED = CHECKOUT / "models" / "small_world"
SUBJECTS = ("sub-01", "sub-02")


def small_world(home: Path) -> Study:
    """Simulate the tiny world, with the models that come with the project."""
    if not (SHIPPED / "text_to_video").is_dir():
        pytest.skip("the small world's models are not here")
    (home / "models").mkdir()
    (home / "models" / "small_world").symlink_to(SHIPPED)
    study = load_study(CONFIG, TINY)
    simulate_source(study)
    return study


@pytest.fixture
def world(home: Path) -> Study:
    """The small world, in chunks of a few stimuli."""
    return small_world(home)


@pytest.fixture
def subjects(home: Path, tmp_path: Path, rng, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Two subjects, ingested in small chunks, by workers too."""
    monkeypatch.syspath_prepend(CHECKOUT)
    from tests.studies.fan_out_work import ingest_subject

    monkeypatch.setattr(ingest_module, "_ingest_subject", ingest_subject)
    monkeypatch.setattr(schema, "CHUNK_BYTES", schema.CHUNK_BYTES)  # what workers do here is undone
    return load_study(write_study(home, write_arrays(tmp_path / "two", rng, subjects=SUBJECTS)))


def extracted(study: Study, target: str, executor: ExecutorConfig) -> str:
    """Return the digest of a group, manifest and all, and remove it again."""
    reference = extract(study, target, executor)
    assert not reference.fresh
    group = study.store / "targets" / target
    assert list(verify(group)) == []
    assert len(list((group / "train" / "values" / "c").iterdir())) > 2
    found = digest_folder(group)
    shutil.rmtree(group)
    return found


@pytest.mark.servers
def test_extraction_gives_the_same_bytes_whoever_does_it(
    world: Study, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 200)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # more than a worker has by itself: latents would differ in their last bits
    try:
        expected = {target: extracted(world, target, IN_PROCESS) for target in ("latents", "clip", "blip")}
        with open_executor(TWO):
            assert {target: extracted(world, target, TWO) for target in expected} == expected
        with dask_cluster(tmp_path / "cluster", BRAIN2VIDEO_HOME=str(home)) as running:
            dask = ExecutorConfig(kind="dask", address=running.address)
            assert {target: extracted(world, target, dask) for target in expected} == expected
    finally:
        torch.set_num_threads(before)


def test_a_clip_in_both_splits_is_found_over_all_workers(
    study: Study, arrays_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 400)
    with Image.open(arrays_folder / "stimuli" / "s003.png") as image:
        image.copy().save(arrays_folder / "stimuli" / "s045.png")
    message = r"'s045' \(test\) shows the same pixels as 's003' \(train\)"
    for executor in (IN_PROCESS, TWO):
        with pytest.raises(SourceError, match=message):
            extract(study, "pixels", executor)
        assert not [path for path in (study.folder / ".staging").rglob("*") if path.is_file()]


def test_a_clip_in_both_splits_is_found_where_one_was_written_before_a_kill(
    study: Study, arrays_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "CHUNK_BYTES", 400)

    def stop(what: str, done: int, total: int, note: str) -> None:
        if what == "extracting pixels: test":
            raise KeyboardInterrupt

    with Image.open(arrays_folder / "stimuli" / "s003.png") as image:
        image.copy().save(arrays_folder / "stimuli" / "s045.png")
    with pytest.raises(KeyboardInterrupt), listening(stop):
        extract(study, "pixels")
    with pytest.raises(SourceError, match="shows the same pixels as 's003'"):
        extract(study, "pixels")


def ingested(study: Study, executor: ExecutorConfig) -> dict[str, str]:
    """Ingest all subjects at once, each asked for by a thread, and return the groups' digests; they are removed."""
    threads = [threading.Thread(target=ingest, args=(study, subject, executor)) for subject in SUBJECTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(verify(study.store)) == []
    found = {subject: digest_folder(study.store / "responses" / subject) for subject in SUBJECTS}
    shutil.rmtree(study.store)
    return found


def chunks_written(home: Path) -> list[str]:
    """Return every chunk that was written since this was last asked."""
    lines = (home / "chunks.log").read_text().splitlines()
    (home / "chunks.log").unlink()
    return [line.split(" ", 1)[1] for line in lines]


@pytest.mark.servers
def test_ingest_gives_the_same_bytes_whoever_does_it_and_whoever_dies(
    subjects: Study, home: Path, tmp_path: Path
) -> None:
    expected, heard = ingested(subjects, IN_PROCESS), list[str]()
    written = sorted(chunks_written(home))
    assert len([name for name in written if "betas" in name]) > 20
    with listening(lambda what, done, total, note: heard.append(what)):
        assert ingested(subjects, TWO) == expected
    assert {f"writing {subject}/train/betas" for subject in SUBJECTS} <= set(heard), "workers' own progress"
    assert sorted(chunks_written(home)) == written
    (home / "dies").touch()
    assert ingested(subjects, TWO) == expected
    assert (home / "died").exists()
    betas = [name for name in chunks_written(home) if "train/betas" in name]
    assert len(betas) == len(set(betas)), "no chunk was written twice"
    (home / "died").unlink()
    with dask_cluster(tmp_path / "cluster", BRAIN2VIDEO_HOME=str(home)) as running:
        dask = ExecutorConfig(kind="dask", address=running.address)
        assert ingested(subjects, dask) == expected
        assert sum(worker.poll() is not None for worker in running.workers) == 1
    betas = [name for name in chunks_written(home) if "train/betas" in name]
    assert len(betas) == len(set(betas))
    assert list((subjects.folder / ".staging").iterdir()) == []


def test_an_error_of_ingest_comes_back_as_it_was(study: Study, arrays_folder: Path) -> None:
    trials = pd.read_csv(arrays_folder / "sub-01" / "trials.csv")
    trials.iloc[:-1].to_csv(arrays_folder / "sub-01" / "trials.csv", index=False)
    with pytest.raises(SourceError, match="responses.npy has the shape") as here:
        ingest(study, "sub-01")
    with pytest.raises(SourceError) as there:
        ingest(study, "sub-01", TWO)
    assert str(there.value) == str(here.value)


@pytest.mark.servers
def test_a_worker_with_another_checkout_is_refused(study: Study, tmp_path: Path) -> None:
    with dask_cluster(tmp_path / "cluster", 1, BRAIN2VIDEO_HOME=str(tmp_path)) as running:
        dask = ExecutorConfig(kind="dask", address=running.address)
        for work in (lambda: ingest(study, "sub-01", dask), lambda: extract(study, "pixels", dask)):
            with pytest.raises(ServerError, match=f"a worker's checkout is {tmp_path}, that of .*BRAIN2VIDEO_HOME="):
                work()
