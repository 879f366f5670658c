"""The order of a whole run: everything that can be known is checked first, and production changes last."""

import shutil
from pathlib import Path

import pytest

from core.errors import SourceError
from models.registry.production import aliased
from pipelines.common import nothing_promoted

from .conftest import Here

PARTS = ["encoder", "regressor-z"]


def test_a_failure_says_that_production_is_unchanged() -> None:
    line = r"^no clip; demo: nothing was promoted, production is unchanged$"
    with pytest.raises(SourceError, match=line), nothing_promoted("demo"):
        raise SourceError("no clip")
    with pytest.raises(KeyError) as raised, nothing_promoted("demo"):
        raise KeyError("x")
    assert raised.value.__notes__ == ["demo: nothing was promoted, production is unchanged"]


@pytest.mark.full
def test_a_run_whose_reconstruction_fails_promotes_nothing_and_the_next_one_does(
    here: Here, cli_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ["-c", "configs/small.yaml", "--set", "study=ordered", "--no-commit"]

    def fails(*_: object) -> None:
        raise SourceError("the disk with the clips was pulled out")

    with monkeypatch.context() as patch:
        patch.setattr("steps.reconstruct_videos.reconstruct", fails)
        done = here("run", *named)
    assert done.code == 2
    assert "pulled out; ordered: nothing was promoted, production is unchanged" in done.stderr
    assert set(aliased("ordered", PARTS).values()) == {None}
    done = here("run", *named)
    assert (done.code, "gallery" in done.stdout) == (0, True), done.stderr
    assert None not in aliased("ordered", PARTS).values()


@pytest.mark.full
def test_a_run_stops_at_what_can_be_known_before_it_makes_anything(here: Here, cli_home: Path) -> None:
    shutil.rmtree(cli_home / "data" / "early", ignore_errors=True)
    done = here("run", "-c", "configs/small.yaml", "--set", "study=early", "--set", "reconstruction.subject=sub-9")
    assert done.code == 2
    assert "reconstruction.subject: 'sub-9' is not decoded" in done.stderr
    assert not (cli_home / "data" / "early").exists()


def test_check_shows_what_will_be_used_or_every_fault(here: Here, cli_home: Path) -> None:
    done = here("check", "-c", "configs/small.yaml", "--set", "study=looked")
    assert done.code == 0, done.stderr
    for words in ("40 training stimuli shown 2 ×", "48: 6 × 6, still pictures", "pixels, 1 × 1 × 6 × 6 a stimulus"):
        assert words in done.stdout
    faults = ["--set", "reconstruction.subject=sub-9", "--set", "training.rois=[V9]", "--set", "study=looked"]
    done = here("check", "-c", "configs/small.yaml", *faults)
    assert done.code == 2
    assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    assert not (cli_home / "data" / "looked").exists()
