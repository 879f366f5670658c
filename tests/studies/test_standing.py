"""What stands is asked about without ever ending a run: what cannot be told does not stand, and the step says why."""

import pytest

from core.errors import SourceMissing
from studies.status.standing import NOTHING_STANDS, Standing, asked, group_standing
from studies.study import Study

from .routes_source import make_stores


def test_a_group_stands_until_a_byte_of_it_differs(study: Study) -> None:
    assert not group_standing(study, "responses", "sub-01").stands
    make_stores(study)
    found = group_standing(study, "responses", "sub-01")
    assert found.stands
    chunk = study.store / "responses" / "sub-01" / "train" / "betas" / "c" / "0" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert group_standing(study, "responses", "sub-01") == Standing(found.made_from, False)


def test_its_picture_is_part_of_what_stands(study: Study) -> None:
    make_stores(study)
    for picture in (study.outputs / "stores").glob("responses-*.png"):
        picture.unlink()
    assert not group_standing(study, "responses", "sub-01").stands


@pytest.mark.parametrize("error", [SourceMissing("no such folder"), PermissionError("not yours")])
def test_what_cannot_be_told_does_not_stand(error: Exception) -> None:
    @asked
    def look() -> Standing:
        raise error

    assert look() == NOTHING_STANDS


def test_a_bug_is_no_answer() -> None:
    @asked
    def look() -> Standing:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        look()
