"""What `simulate --form` and `--routes` refuse, in one line; `tests/journeys` runs the example studies."""

from pathlib import Path

import pytest

from .conftest import CHECKOUT, Here


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--form", "bid"], "--form: found 'bid', expected arrays or bids; did you mean 'bids'?"),
        (["x", "--form", "bids", "-c", "configs/small.yaml"], "writes recordings of no study, and replaces none"),
        (["x", "--form", "arrays", "--set", "seed=2"], "leave out -c, --set and --replace"),
        (["x", "--seed", "2"], "--seed: goes with --form; a study's own seed is --set simulation.seed=N"),
        (["recordings", "--form", "arrays"], "recordings: is not empty; name a folder that is empty or not there"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(here: Here, cli_home: Path, arguments: list[str], message: str) -> None:
    done = here("simulate", *arguments)
    assert done.code == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert not (cli_home / "x").exists()


def test_routes_that_a_study_lacks_are_refused_with_those_that_it_has(here: Here) -> None:
    for command in ("run", "train"):
        done = here(command, "-c", str(CHECKOUT / "configs" / "arrays_example.yaml"), "--routes", "ridge,pac")
        assert done.code == 2
        assert "--routes: arrays_example has no route 'pac'; it has ridge, matched, pca" in done.stderr
