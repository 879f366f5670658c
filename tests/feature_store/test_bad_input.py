"""Bad input: each case is one clear line that says what was found and what to do, and nothing is written or lost."""

import os
from pathlib import Path

import numpy as np
import pytest

from core.errors import Brain2VideoError, NoSpace, NotAllowed
from core.files import digest_folder
from feature_store import Store, chunks
from feature_store.writer import GroupWriter

from .conftest import write_responses
from .faults import Fault, arrays, bids, bids_doubles, bold_moments, bold_moments_rest, store

FAULTS: list[Fault] = [
    *bold_moments.FAULTS,
    *bold_moments_rest.FAULTS,
    *bids.FAULTS,
    *bids_doubles.FAULTS,
    *arrays.FAULTS,
    *store.FAULTS,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_bad_input_is_one_line(fault: Fault, tmp_path: Path) -> None:
    fault.make(tmp_path)
    fault.read(tmp_path)
    fault.spoil(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Brain2VideoError, match=fault.message) as caught:
        fault.read(tmp_path)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before, "reading writes nothing"


def test_there_are_cases_enough_and_each_has_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 30


@pytest.fixture
def published(tmp_path: Path, betas: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "data" / "features.zarr"
    write_responses(path, betas)
    return path


def test_a_full_disk_leaves_what_was_published(
    published: Path, betas: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = digest_folder(published), os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 100:
            raise OSError(28, "No space left on device")
        return write(handle, data)

    monkeypatch.setattr(chunks.os, "write", full)
    with pytest.raises(
        NoSpace, match="responses/sub-01: the disk is full; nothing was published; make room and run ag"
    ):
        write_responses(published, betas, fingerprint="another")
    monkeypatch.undo()
    assert digest_folder(published) == before
    write_responses(published, betas, fingerprint="another")
    assert np.array_equal(Store(published).responses("sub-01").values("train")[0], betas["train"])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere
        monkeypatch.setattr(Path, "mkdir", _refuse)
    with (
        pytest.raises(NotAllowed, match=r"the system refuses \(Permission denied\); change its permissions, or choose"),
        GroupWriter(tmp_path / "data/features.zarr", "targets/t", encoding_type="targets", fingerprint="f"),
    ):
        pass
    monkeypatch.undo()
    (tmp_path / "data").chmod(0o755)
    assert list((tmp_path / "data").iterdir()) == []


def _refuse(path: Path, *_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", str(path))
